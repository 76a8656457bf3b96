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

function mesh(sheets) {
  const count = sheets.reduce((n, s) => n + s.points.length, 0);
  const out = { position: new Float32Array(3 * count), normal: new Float32Array(3 * count), cloth: new Float32Array(2 * count), faces: [] };
  let base = 0;
  for (const { points, faces } of sheets) {
    points.forEach(([x, y, z, s, t], i) => { out.position.set([x, y, z], 3 * (base + i)); out.cloth.set([s, t], 2 * (base + i)); });
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
    const body = sheet(180, 90, (u, v) => {
      const a = TAU * u + Math.PI / 2, front = Math.sin(a);  // u = 0 is the middle of the front... the seam is at the back
      const angle = a + Math.PI;
      const waves = fold(v) * (Math.cos(11 * angle + 0.8 * Math.sin(2 * angle)) + 0.35 * Math.cos(5 * angle + 1 + 2 * v));
      const r = radius(v) + waves;
      const neck = 0.07 * Math.cos(2 * angle) ** 2 * (front < 0 ? 1 : 0.7);
      const top = 0.86 - 0.05 + neck, y = top + (-1.02 - top) * v;
      return [r * Math.cos(angle), y, r * Math.sin(angle) * deep(v), (u - 0.5) * TAU * 0.42, -1.95 * v];
    });
    const strap = (side, depth) => sheet(6, 24, (u, v) => {
      const bend = Math.sin(Math.PI * v), width = 0.05;
      const x = side * (0.2 - 0.03 * bend) + (u - 0.5) * width * 2 * side;
      return [x, 0.83 + 0.3 * bend ** 0.8, depth * (0.2 * Math.cos(Math.PI * v)), (u - 0.5) * width * 2, v * 0.8];
    });
    return mesh([body, strap(1, 1), strap(-1, 1)]);
  },
  shirt() {
    const half = through([[0, 0.185], [0.035, 0.25], [0.12, 0.475], [0.2, 0.535], [0.4, 0.53], [0.65, 0.515], [1, 0.55]]);
    const deep = through([[0, 0.15], [0.06, 0.17], [0.2, 0.25], [0.5, 0.255], [1, 0.27]]);
    const body = sheet(160, 110, (u, v) => {
      const a = TAU * u - Math.PI / 2 + Math.PI, c = Math.cos(a), s = Math.sin(a), power = 0.8;
      const x = half(v) * Math.sign(c) * Math.abs(c) ** power;
      const wrinkle = 0.016 * Math.min(1, 4 * v) * (Math.sin(7 * x + 9 * v + 1) + 0.7 * Math.sin(13 * x - 11 * v) + 0.6 * Math.sin(21 * v + 5 * x));
      const z = deep(v) * Math.sign(s) * Math.abs(s) ** power + wrinkle * Math.sign(s) * Math.abs(s);
      const neck = s > 0 ? 0.14 * Math.max(0, 1 - v / 0.14) * (1 - (x / 0.26) ** 2) : 0.03 * Math.max(0, 1 - v / 0.14);
      return [x, 0.9 - 1.78 * v - neck, z, (u - 0.5) * TAU * 0.42, -1.78 * v];
    });
    const sleeve = (side) => sheet(70, 40, (u, v) => {
      const a = side * TAU * u + Math.PI / 2, r = 0.235 - 0.035 * v, out = 0.3 + 0.66 * v;
      const along = [0.8 * side, -0.6], across = [0.6 * side, 0.8];
      const sag = 0.01 * Math.sin(16 * v + 3 * Math.cos(a)) * Math.sin(Math.PI * Math.min(1, v * 1.2));
      const w = (r + sag) * Math.cos(a), start = [0.13 * side, 0.735];
      return [start[0] + along[0] * out + across[0] * w, start[1] + along[1] * out + across[1] * w, (r * 0.82 + sag) * Math.sin(a), (u - 0.5) * 1.35 * side, -0.66 * v];
    });
    return mesh([body, sleeve(1), sleeve(-1)]);
  },
  cushion() {
    const face = (side) => sheet(90, 90, (u, v) => {
      const x = side * (2 * u - 1), y = 2 * v - 1, puff = Math.max(0, (1 - x * x) * (1 - y * y));
      const rim = 1 - 0.13 * (1 - y * y), rimY = 1 - 0.13 * (1 - x * x);
      const crease = 0.012 * Math.sin(26 * Math.atan2(y, x)) * (x * x + y * y) * Math.min(1, 4 * puff);
      return [0.93 * x * rim, 0.93 * y * rimY, side * (0.4 * puff ** 0.42 + crease), side * x * 0.98, y * 0.98];
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
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext('2d');
    const n = canvas.width * canvas.height;
    this.depth = new Float32Array(n);
    this.s = new Float32Array(n);
    this.t = new Float32Array(n);
    this.light = new Float32Array(n);
    this.pixels = this.context.createImageData(canvas.width, canvas.height);
    this.words = new Uint32Array(this.pixels.data.buffer);
  }

  // What is in front at each pixel of the mesh, turned by `yaw` and `pitch`.
  trace({ position, normal, cloth, faces }, yaw, pitch) {
    const { width, height } = this.canvas, count = position.length / 3, scale = Math.min(width, height * 0.8) * 0.49;
    const cy = Math.cos(yaw), sy = Math.sin(yaw), cp = Math.cos(pitch), sp = Math.sin(pitch);
    const X = new Float32Array(count), Y = new Float32Array(count), Z = new Float32Array(count), L = new Float32Array(count), B = new Float32Array(count);
    for (let i = 0; i < count; i++) {
      const turn = (a, k) => {
        const x = a[k] * cy + a[k + 2] * sy, z0 = a[k + 2] * cy - a[k] * sy;
        return [x, a[k + 1] * cp - z0 * sp, a[k + 1] * sp + z0 * cp];
      };
      const [x, y, z] = turn(position, 3 * i), n = turn(normal, 3 * i);
      X[i] = width / 2 + x * scale; Y[i] = height / 2 - y * scale; Z[i] = z;
      L[i] = shade(n[0], n[1], n[2]);
      B[i] = 0.4 * shade(-n[0], -n[1], -n[2]);
    }
    this.depth.fill(-Infinity);
    this.light.fill(0);
    for (let f = 0; f < faces.length; f += 3) this.triangle(faces[f], faces[f + 1], faces[f + 2], X, Y, Z, L, B, cloth);
  }

  triangle(a, b, c, X, Y, Z, L, B, cloth) {
    const { width, height } = this.canvas, { depth, s, t, light } = this;
    const ax = X[a], ay = Y[a], bx = X[b], by = Y[b], cx = X[c], cy = Y[c];
    const area = (bx - ax) * (cy - ay) - (cx - ax) * (by - ay);
    if (Math.abs(area) < 1e-6) return;
    const shades = area < 0 ? L : B;  // y points down on a screen: the front of a face has a negative area
    const x0 = Math.max(0, Math.ceil(Math.min(ax, bx, cx) - 0.5)), x1 = Math.min(width - 1, Math.floor(Math.max(ax, bx, cx) - 0.5));
    const y0 = Math.max(0, Math.ceil(Math.min(ay, by, cy) - 0.5)), y1 = Math.min(height - 1, Math.floor(Math.max(ay, by, cy) - 0.5));
    const k = 1 / area, e = -1e-4;
    for (let y = y0; y <= y1; y++) for (let x = x0; x <= x1; x++) {
      const px = x + 0.5, py = y + 0.5;
      const wb = ((px - ax) * (cy - ay) - (cx - ax) * (py - ay)) * k, wc = ((bx - ax) * (py - ay) - (px - ax) * (by - ay)) * k, wa = 1 - wb - wc;
      if (wa < e || wb < e || wc < e) continue;
      const z = wa * Z[a] + wb * Z[b] + wc * Z[c], i = y * width + x;
      if (z <= depth[i]) continue;
      depth[i] = z;
      s[i] = wa * cloth[2 * a] + wb * cloth[2 * b] + wc * cloth[2 * c];
      t[i] = wa * cloth[2 * a + 1] + wb * cloth[2 * b + 1] + wc * cloth[2 * c + 1];
      light[i] = wa * shades[a] + wb * shades[b] + wc * shades[c];
    }
  }

  // The texture on all pixels that are covered; `size` is the width of a copy on the cloth, `turn` its rotation.
  paint(levels, size, turn) {
    const scale = Math.min(this.canvas.width, this.canvas.height * 0.8) * 0.49;
    const texels = levels[0].w / (size * scale);  // of the first level, per pixel of the screen
    const level = levels[Math.min(levels.length - 1, Math.max(0, Math.floor(Math.log2(texels) + 0.3)))];
    const { w, h, rgba } = level, { s, t, light, words } = this, high = size * levels[0].h / levels[0].w;
    const c = Math.cos(turn), n = Math.sin(turn), far = 64;
    for (let i = 0; i < words.length; i++) {
      const shadeOf = light[i];
      if (shadeOf === 0) { words[i] = 0; continue; }
      const u = ((s[i] * c - t[i] * n) / size + far) * w, v = ((-s[i] * n - t[i] * c) / high + far) * h;
      const iu = Math.floor(u), iv = Math.floor(v), fu = u - iu, fv = v - iv;
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
