// Garments as meshes, and a renderer in plain JavaScript: no WebGL, so it is as fast without a graphics card.
//
// Two passes. trace() turns the mesh, projects it in parallel and keeps for each pixel what is in front: texture
// coordinates and light. paint() looks the texture up for every pixel that is covered. A new scale or rotation of the
// texture needs the second alone. Parallel projection makes straight interpolation within a triangle exact.
'use strict';

const TAU = 2 * Math.PI;

// A grid of (nu + 1) x (nv + 1) points of f(u, v) -> [x, y, z, s, t]; s, t are lengths along the cloth.
function sheet(nu, nv, f) {
  const points = [], faces = [], at = (i, j) => j * (nu + 1) + i;
  for (let j = 0; j <= nv; j++) for (let i = 0; i <= nu; i++) points.push(f(i / nu, j / nv));
  for (let j = 0; j < nv; j++) for (let i = 0; i < nu; i++) {
    faces.push(at(i, j), at(i + 1, j), at(i + 1, j + 1), at(i, j), at(i + 1, j + 1), at(i, j + 1));
  }
  return { points, faces };
}

function mesh(sheets, scale = 1) {
  const count = sheets.reduce((n, s) => n + s.points.length, 0);
  const out = { position: new Float32Array(3 * count), normal: new Float32Array(3 * count), cloth: new Float32Array(2 * count), faces: [] };
  let base = 0;
  for (const { points, faces } of sheets) {
    points.forEach(([x, y, z, s, t], i) => { out.position.set([x * scale, y * scale, z * scale], 3 * (base + i)); out.cloth.set([s * scale, t * scale], 2 * (base + i)); });
    const merged = new Map(), p = points;  // points at one place share their normal: no crease where a tube closes
    const key = (i) => p[i].slice(0, 3).map((v) => Math.round(v * 1e4)).join();
    for (let f = 0; f < faces.length; f += 3) {
      const [a, b, c] = [p[faces[f]], p[faces[f + 1]], p[faces[f + 2]]];
      const u = [b[0] - a[0], b[1] - a[1], b[2] - a[2]], v = [c[0] - a[0], c[1] - a[1], c[2] - a[2]];
      const n = [u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0]];
      for (let e = 0; e < 3; e++) {
        const k = key(faces[f + e]), m = merged.get(k) || [0, 0, 0];
        merged.set(k, [m[0] + n[0], m[1] + n[1], m[2] + n[2]]);
        out.faces.push(base + faces[f + e]);
      }
    }
    p.forEach((_, i) => {
      const n = merged.get(key(i)) || [0, 0, 1], l = Math.hypot(...n) || 1;
      out.normal.set(n.map((v) => v / l), 3 * (base + i));
    });
    base += points.length;
  }
  out.faces = Uint32Array.from(out.faces);
  return out;
}

// A smooth curve through [x, y] points with rising x (Catmull-Rom, flat ends).
function through(points) {
  return (x) => {
    let i = 0;
    while (i < points.length - 2 && x > points[i + 1][0]) i++;
    const slope = (k) => (k <= 0 || k >= points.length - 1 ? 0 : (points[k + 1][1] - points[k - 1][1]) / (points[k + 1][0] - points[k - 1][0]));
    const [x0, y0] = points[i], [x1, y1] = points[i + 1], d = x1 - x0, t = Math.min(1, Math.max(0, (x - x0) / d));
    const a = 2 * t ** 3 - 3 * t ** 2 + 1, b = t ** 3 - 2 * t ** 2 + t, c = -2 * t ** 3 + 3 * t ** 2, e = t ** 3 - t ** 2;
    return a * y0 + b * d * slope(i) + c * y1 + e * d * slope(i + 1);
  };
}

const GARMENTS = {
  dress() {
    const radius = through([[0, 0.335], [0.1, 0.345], [0.24, 0.285], [0.33, 0.262], [0.45, 0.36], [0.65, 0.53], [1, 0.8]]);
    const deep = through([[0, 0.6], [0.3, 0.68], [0.55, 0.8], [1, 0.9]]);
    const fold = through([[0, 0], [0.34, 0], [0.6, 0.035], [1, 0.085]]);
    const body = sheet(140, 56, (u, v) => {
      const angle = TAU * u - Math.PI / 2;  // the seam is at the back
      const waves = fold(v) * (Math.cos(11 * angle + 0.8 * Math.sin(2 * angle)) + 0.35 * Math.cos(5 * angle + 1 + 2 * v));
      const r = radius(v) + waves;
      const top = 0.83 - 0.045 * Math.cos(4 * angle), y = top + (-1.02 - top) * v;  // high at the straps
      return [r * Math.cos(angle), y, r * Math.sin(angle) * deep(v), (0.5 - u) * TAU * 0.42, -1.95 * v];
    });
    const strap = (side, depth) => sheet(6, 24, (u, v) => {
      const bend = Math.sin(Math.PI * v), width = 0.05;
      const x = side * (0.2 - 0.03 * bend) + (u - 0.5) * width * 2 * side;
      return [x, 0.85 + 0.2 * bend ** 0.75, depth * (0.175 * Math.cos(Math.PI * v)), (u - 0.5) * width * 2, v * 0.6];
    });
    return mesh([body, strap(1, 1), strap(-1, 1)]);
  },
  shirt() {
    const half = through([[0, 0.185], [0.035, 0.25], [0.12, 0.475], [0.2, 0.535], [0.4, 0.53], [0.65, 0.515], [1, 0.55]]);
    const deep = through([[0, 0.15], [0.06, 0.17], [0.2, 0.25], [0.5, 0.255], [1, 0.27]]);
    const body = sheet(110, 64, (u, v) => {
      const a = TAU * u - Math.PI / 2, c = Math.cos(a), s = Math.sin(a), power = 0.8;
      const x = half(v) * Math.sign(c) * Math.abs(c) ** power;
      const wrinkle = 0.016 * Math.min(1, 4 * v) * (Math.sin(7 * x + 9 * v + 1) + 0.7 * Math.sin(13 * x - 11 * v) + 0.6 * Math.sin(21 * v + 5 * x));
      const z = deep(v) * Math.sign(s) * Math.abs(s) ** power + wrinkle * Math.sign(s) * Math.abs(s);
      const neck = s > 0 ? 0.14 * Math.max(0, 1 - v / 0.14) * (1 - (x / 0.26) ** 2) : 0.03 * Math.max(0, 1 - v / 0.14);
      return [x, 0.9 - 1.78 * v - neck, z, (0.5 - u) * TAU * 0.42, -1.78 * v];
    });
    const sleeve = (side) => sheet(44, 26, (u, v) => {
      const a = side * TAU * u - Math.PI / 2, r = 0.235 - 0.035 * v, out = 0.2 + 0.72 * v;
      const along = [0.842 * side, -0.54], across = [0.54 * side, 0.842];
      const sag = 0.01 * Math.sin(16 * v + 3 * Math.cos(a)) * Math.sin(Math.PI * Math.min(1, v * 1.2));
      const w = (r + sag) * Math.cos(a), start = [0.075 * side, 0.672];
      return [start[0] + along[0] * out + across[0] * w, start[1] + along[1] * out + across[1] * w, (r * 0.82 + sag) * Math.sin(a), (0.5 - u) * 1.35, -0.66 * v];
    });
    return mesh([body, sleeve(1), sleeve(-1)], 1.12);
  },
  cushion() {
    const face = (side) => sheet(56, 56, (u, v) => {
      const x = side * (2 * u - 1), y = 2 * v - 1, puff = Math.max(0, (1 - x * x) * (1 - y * y));
      const rim = 1 - 0.085 * (1 - y * y), rimY = 1 - 0.085 * (1 - x * x);
      const crease = 0.012 * Math.sin(26 * Math.atan2(y, x)) * (x * x + y * y) * Math.min(1, 4 * puff);
      return [0.93 * x * rim, 0.93 * y * rimY, side * (0.52 * puff ** 0.55 + crease), side * x * 0.98, y * 0.98];
    });
    return mesh([face(1), face(-1)]);
  },
};

// Halved copies of a texture that wraps round, as [{w, h, rgb: Uint8}] from large to small.
function pyramid(image) {
  const canvas = document.createElement('canvas'), levels = [];
  let w = image.naturalWidth, h = image.naturalHeight;
  canvas.width = w; canvas.height = h;
  const g = canvas.getContext('2d', { willReadFrequently: true });
  g.drawImage(image, 0, 0);
  let rgba = g.getImageData(0, 0, w, h).data;
  for (;;) {
    levels.push({ w, h, rgba });
    if (w < 8 || h < 8) return levels;
    const nw = w >> 1, nh = h >> 1, next = new Uint8ClampedArray(4 * nw * nh);
    for (let y = 0; y < nh; y++) for (let x = 0; x < nw; x++) for (let c = 0; c < 3; c++) {
      const at = (dx, dy) => rgba[4 * ((2 * y + dy) * w + 2 * x + dx) + c];
      next[4 * (y * nw + x) + c] = (at(0, 0) + at(1, 0) + at(0, 1) + at(1, 1)) / 4;
    }
    rgba = next; w = nw; h = nh;
  }
}

class Cloth {
  constructor(width, height) {
    this.canvas = document.createElement('canvas');
    this.canvas.width = width;
    this.canvas.height = height;
    this.context = this.canvas.getContext('2d');
    const n = width * height;
    this.depth = new Float32Array(n);
    this.s = new Float32Array(n);
    this.t = new Float32Array(n);
    this.light = new Float32Array(n);
    this.pixels = this.context.createImageData(width, height);
    this.words = new Uint32Array(this.pixels.data.buffer);
  }

  // What is in front at each pixel of the mesh, turned by `yaw` and `pitch`.
  trace({ position, normal, cloth, faces }, yaw, pitch) {
    const { width, height } = this.canvas, count = position.length / 3, scale = Math.min(width, height * 0.8) * 0.49;
    const cy = Math.cos(yaw), sy = Math.sin(yaw), cp = Math.cos(pitch), sp = Math.sin(pitch);
    if (!this.points || this.points.length < 5 * count) this.points = new Float32Array(5 * count);
    const points = this.points;  // x, y on the screen, z towards the viewer, light on the front, light on the back
    for (let i = 0, k = 0, o = 0; i < count; i++, k += 3, o += 5) {
      const z = position[k + 2] * cy - position[k] * sy, y = position[k + 1];
      points[o] = width / 2 + (position[k] * cy + position[k + 2] * sy) * scale;
      points[o + 1] = height / 2 - (y * cp - z * sp) * scale;
      points[o + 2] = y * sp + z * cp;
      const nz = normal[k + 2] * cy - normal[k] * sy, ny = normal[k + 1];
      const a = normal[k] * cy + normal[k + 2] * sy, b = ny * cp - nz * sp, c = ny * sp + nz * cp;
      points[o + 3] = shade(a, b, c);
      points[o + 4] = 0.4 * shade(-a, -b, -c);
    }
    this.depth.fill(-1e9);
    this.light.fill(0);
    for (let f = 0; f < faces.length; f += 3) this.triangle(faces[f], faces[f + 1], faces[f + 2], points, cloth, width, height);
  }

  triangle(a, b, c, points, cloth, width, height) {
    const A = 5 * a, B = 5 * b, C = 5 * c, { depth, s, t, light } = this;
    const ax = points[A], ay = points[A + 1], bx = points[B], by = points[B + 1], cx = points[C], cy = points[C + 1];
    const area = (bx - ax) * (cy - ay) - (cx - ax) * (by - ay);
    if (area > -1e-6 && area < 1e-6) return;
    const side = area < 0 ? 3 : 4;  // y points down on a screen: the front of a face has a negative area
    const x0 = Math.max(0, Math.ceil(Math.min(ax, bx, cx) - 0.5)), x1 = Math.min(width - 1, Math.floor(Math.max(ax, bx, cx) - 0.5));
    const y0 = Math.max(0, Math.ceil(Math.min(ay, by, cy) - 0.5)), y1 = Math.min(height - 1, Math.floor(Math.max(ay, by, cy) - 0.5));
    if (x0 > x1 || y0 > y1) return;
    const k = 1 / area, stepB = (cy - ay) * k, stepC = -(by - ay) * k;
    const az = points[A + 2], dzb = points[B + 2] - az, dzc = points[C + 2] - az;
    const as = cloth[2 * a], dsb = cloth[2 * b] - as, dsc = cloth[2 * c] - as;
    const at = cloth[2 * a + 1], dtb = cloth[2 * b + 1] - at, dtc = cloth[2 * c + 1] - at;
    const al = points[A + side], dlb = points[B + side] - al, dlc = points[C + side] - al;
    for (let y = y0; y <= y1; y++) {
      const px = x0 + 0.5 - ax, py = y + 0.5 - ay;
      let wb = (px * (cy - ay) - (cx - ax) * py) * k, wc = ((bx - ax) * py - px * (by - ay)) * k;
      for (let i = y * width + x0, end = y * width + x1; i <= end; i++, wb += stepB, wc += stepC) {
        if (wb < -1e-4 || wc < -1e-4 || wb + wc > 1.0001) continue;
        const z = az + wb * dzb + wc * dzc;
        if (z <= depth[i]) continue;
        depth[i] = z;
        s[i] = as + wb * dsb + wc * dsc;
        t[i] = at + wb * dtb + wc * dtc;
        light[i] = al + wb * dlb + wc * dlc;
      }
    }
  }

  // The texture on all pixels that are covered; `size` is the width of a copy on the cloth, `turn` its rotation.
  paint(levels, size, turn) {
    const scale = Math.min(this.canvas.width, this.canvas.height * 0.8) * 0.49;
    const texels = levels[0].w / (size * scale);  // of the first level, per pixel of the screen
    const level = levels[Math.min(levels.length - 1, Math.max(0, Math.floor(Math.log2(texels) + 0.3)))];
    const { w, h, rgba } = level, { s, t, light, words } = this, high = size * levels[0].h / levels[0].w;
    const c = Math.cos(turn), n = Math.sin(turn), far = 256;  // copies that keep u and v positive
    for (let i = 0; i < words.length; i++) {
      const shadeOf = light[i];
      if (shadeOf === 0) { words[i] = 0; continue; }
      const u = ((s[i] * c - t[i] * n) / size + far) * w, v = ((-s[i] * n - t[i] * c) / high + far) * h;
      const iu = u | 0, iv = v | 0, fu = u - iu, fv = v - iv;
      const x0 = iu % w, x1 = (iu + 1) % w, y0 = (iv % h) * w, y1 = ((iv + 1) % h) * w;
      const p = 4 * (y0 + x0), q = 4 * (y0 + x1), r = 4 * (y1 + x0), o = 4 * (y1 + x1);
      const wp = (1 - fu) * (1 - fv), wq = fu * (1 - fv), wr = (1 - fu) * fv, wo = fu * fv;
      const red = (rgba[p] * wp + rgba[q] * wq + rgba[r] * wr + rgba[o] * wo) * shadeOf;
      const green = (rgba[p + 1] * wp + rgba[q + 1] * wq + rgba[r + 1] * wr + rgba[o + 1] * wo) * shadeOf;
      const blue = (rgba[p + 2] * wp + rgba[q + 2] * wq + rgba[r + 2] * wr + rgba[o + 2] * wo) * shadeOf;
      words[i] = 0xff000000 | (Math.min(255, blue) << 16) | (Math.min(255, green) << 8) | Math.min(255, red);
    }
    this.context.putImageData(this.pixels, 0, 0);
  }
}

// Light on a normal: a soft key from the left above, a weak fill from the right, and what comes from everywhere.
function shade(x, y, z) {
  const key = Math.max(0, -0.42 * x + 0.55 * y + 0.72 * z), fill = Math.max(0, 0.85 * x + 0.1 * y + 0.5 * z);
  return 0.34 + 0.72 * key + 0.16 * fill + 0.05 * Math.max(0, y);
}
