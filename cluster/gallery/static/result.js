// The page of a result: every class at any step, tiled, or sampled; the viewer; posters with their lens.
(() => {
  const data = JSON.parse(document.getElementById('data').textContent);
  const $ = (id) => document.getElementById(id);
  const checked = (name) => document.querySelector(`input[name="${name}"]:checked`)?.value;

  const steps = scrubber(data.steps, () => refresh());
  const frame = () => steps.frame();
  const copies = () => Number(checked('copies') || 1);
  const cell = () => {
    if (!data.samples) return null;
    const column = checked('seeds') === 'all' ? null : Number($('seed').value);
    return [Number($('truncation').value), column, data.samples.truncations.length, data.samples.seeds];
  };
  const view = () => ({
    frame: frame(), cell: frame() === null ? cell() : null,
    down: data.wraps[0] ? copies() : 1, across: data.wraps[1] ? copies() : 1,
  });
  const stages = new Stages(document.querySelectorAll('.card .stage'), view);
  const posters = [...document.querySelectorAll('.poster')].map((element, i) => poster(element, data.posters[i]));
  function refresh() {
    stages.refresh();
    for (const one of posters) one.step(frame());
    const picture = $('forming');
    if (picture) picture.src = data.pictures[frame() ?? data.pictures.length - 1];
  }
  for (const input of document.querySelectorAll('input[name="copies"], input[name="seeds"]')) input.addEventListener('change', refresh);

  if (data.samples) {
    const say = () => {
      $('seed-out').textContent = String(Number($('seed').value));
      const t = data.samples.truncations[$('truncation').value];
      $('truncation-out').textContent = t.toFixed(2);
      $('truncation').setAttribute('aria-valuetext', t.toFixed(2));
      refresh();
    };
    for (const id of ['seed', 'truncation']) $(id).addEventListener('input', say);
    stages.touched = true;
    say();
  }

  const find = $('find');
  if (find) find.addEventListener('input', () => {
    const text = find.value.trim().toLowerCase();
    let shown = 0;
    for (const card of document.querySelectorAll('.card')) {
      card.hidden = !card.dataset.name.toLowerCase().includes(text);
      shown += card.hidden ? 0 : 1;
    }
    $('found').textContent = text ? `${shown} of ${data.classes.length}` : '';
  });

  // ------------------------------------------------------------ the viewer: one class over the whole page
  const viewer = $('viewer');
  let current = 0;
  const cards = () => [...document.querySelectorAll('.card:not([hidden])')];
  for (const stage of document.querySelectorAll('button.stage')) stage.addEventListener('click', () => {
    current = cards().indexOf(stage.closest('.card'));
    viewer.showModal();
    fill();
  });
  const fillButton = $('fill');
  if (fillButton) fillButton.addEventListener('click', () => { current = 0; viewer.showModal(); fill(); });
  $('close').addEventListener('click', () => viewer.close());
  const go = (by) => { const n = cards().length; current = (current + by + n) % n; fill(); };
  $('previous').addEventListener('click', () => go(-1));
  $('next').addEventListener('click', () => go(1));
  viewer.addEventListener('keydown', (event) => {
    if (event.target.type === 'range') return;
    if (event.key === 'ArrowLeft') go(-1);
    if (event.key === 'ArrowRight') go(1);
  });
  $('zoom').addEventListener('input', () => fill());
  addEventListener('resize', () => { if (viewer.open) fill(); });

  async function fill() {
    const card = cards()[current], stage = stages.all.get(card.querySelector('.stage')), name = card.dataset.name;
    $('viewer-name').textContent = name;
    const { image, x, y, w, h } = await stage.part({ ...view(), down: 1, across: 1 });
    const c = viewer.querySelector('canvas'), dpr = Math.min(devicePixelRatio || 1, 2), g = c.getContext('2d');
    c.width = Math.round(c.clientWidth * dpr);
    c.height = Math.round(c.clientHeight * dpr);
    c.setAttribute('aria-label', `${name}, over the whole page`);
    const zoom = 2 ** Number($('zoom').value), tiles = data.wraps[0] || data.wraps[1];
    $('zoom-out').textContent = `${zoom.toFixed(zoom < 1 ? 2 : 1)}×`;
    g.imageSmoothingEnabled = !data.pixelated;
    if (!tiles) {
      const most = Math.min(c.width / w, (c.height - 130 * dpr) / h) * Math.min(zoom, 1);
      const s = most > 2 && data.pixelated ? Math.floor(most) : most;
      g.drawImage(image, x, y, w, h, (c.width - w * s) / 2, Math.max(0, (c.height - 110 * dpr - h * s) / 2), w * s, h * s);
      return;
    }
    const piece = document.createElement('canvas');
    if (data.colours) layOut(piece, image, w, data.colours, c.width / (zoom * dpr), c.height / (zoom * dpr));
    else {
      piece.width = w; piece.height = h;
      piece.getContext('2d').drawImage(image, x, y, w, h, 0, 0, w, h);
    }
    const s = zoom * dpr, repeat = data.wraps[0] ? (data.wraps[1] ? 'repeat' : 'repeat-y') : 'repeat-x';
    g.scale(s, s);
    g.fillStyle = g.createPattern(piece, data.colours ? 'no-repeat' : repeat);
    g.fillRect(0, 0, c.width / s, c.height / s);
  }

  // Wang tiles laid out at random so that neighbours have the same colour along their edge (distill/tiles.py).
  function layOut(piece, image, size, k, width, height) {
    const a = [];
    for (let first = 0; first < k; first++) { a.push(first); for (let s = first + 1; s < k; s++) a.push(first, s); }
    const place = {}, side = size / (k * k), pick = () => Math.floor(Math.random() * k);
    a.forEach((colour, i) => { place[`${colour},${a[(i + 1) % a.length]}`] = i; });
    const down = Math.ceil(height / side), across = Math.ceil(width / side);
    piece.width = across * side; piece.height = down * side;
    const g = piece.getContext('2d');
    let above = Array.from({ length: across }, pick);
    for (let i = 0; i < down; i++) {
      const below = Array.from({ length: across }, pick);
      let left = pick();
      for (let j = 0; j < across; j++) {
        const right = pick(), row = place[`${above[j]},${below[j]}`], column = place[`${left},${right}`];
        g.drawImage(image, column * side, row * side, side, side, j * side, i * side, side, side);
        left = right;
      }
      above = below;
    }
  }

  // ------------------------------------------------------------ posters
  function poster(element, about) {
    const sheet = element.querySelector('.sheet'), stage = new Stage(sheet);
    const lens = element.querySelector('.lens canvas'), list = element.querySelector('.labels');
    const mark = element.querySelector('rect'), slider = element.querySelector('.patch'), out = element.querySelector('output');
    const [ph, pw] = about.patch;
    let now = null;
    for (const box of element.querySelectorAll('input[type="checkbox"]')) box.addEventListener('change', () => {
      if (box.value === 'lens') { element.querySelector('.lens').hidden = !box.checked; mark.toggleAttribute('hidden', !box.checked); }
      else element.querySelector(`.${box.value}`).toggleAttribute('hidden', !box.checked);
    });
    lens.width = lens.height = 256;
    slider.addEventListener('input', () => look(Number(slider.value)));
    sheet.addEventListener('pointermove', (event) => {
      const box = sheet.getBoundingClientRect();
      const x = (event.clientX - box.left) / box.width * about.width, y = (event.clientY - box.top) / box.height * about.height;
      let best = 0, least = Infinity;
      about.patches.forEach(([top, left], i) => {
        let dx = Math.abs(x - left - pw / 2), dy = Math.abs(y - top - ph / 2);
        dx = Math.min(dx, Math.abs(about.width - dx)); dy = Math.min(dy, Math.abs(about.height - dy));
        if (dx * dx + dy * dy < least) { least = dx * dx + dy * dy; best = i; }
      });
      if (best !== now) { slider.value = best; look(best); }
    });

    async function look(i) {
      now = i;
      const [top, left, labels] = about.patches[i];
      for (const [name, value] of [['x', left], ['y', top], ['width', pw], ['height', ph]]) mark.setAttribute(name, value);
      out.textContent = `${i + 1} of ${about.patches.length}`;
      slider.setAttribute('aria-valuetext', `${i + 1} of ${about.patches.length}: ${data.classes[labels[0]?.[0]] ?? 'no class'}`);
      list.replaceChildren(...labels.map(([k, share]) => {
        const item = document.createElement('li'), name = document.createElement('span'), value = document.createElement('span');
        name.textContent = data.classes[k];
        value.textContent = `${(100 * share).toFixed(share > 0.995 ? 0 : 1)} %`;
        item.append(name, value, bar(share));
        return item;
      }));
      const source = await stage.part({ frame: frame(), cell: null }), g = lens.getContext('2d');
      if (now !== i) return;
      const s = lens.width / Math.max(ph, pw);
      g.imageSmoothingEnabled = false;
      g.clearRect(0, 0, lens.width, lens.height);
      for (const dy of [0, about.height]) for (const dx of [0, about.width]) {  // a patch may continue at the other edge
        g.drawImage(source.image, source.x, source.y, source.w, source.h, (dx - left) * s, (dy - top) * s, source.w * s, source.h * s);
      }
      lens.setAttribute('aria-label', `patch ${i + 1}: ${labels.map(([k, p]) => `${data.classes[k]} ${Math.round(100 * p)} %`).join(', ')}`);
    }

    function bar(share) {
      const ns = 'http://www.w3.org/2000/svg', svg = document.createElementNS(ns, 'svg');
      svg.setAttribute('viewBox', '0 0 100 6'); svg.setAttribute('preserveAspectRatio', 'none'); svg.setAttribute('aria-hidden', 'true');
      for (const [kind, width] of [['track', 100], ['bar', 100 * share]]) {
        const rect = document.createElementNS(ns, 'rect');
        rect.setAttribute('class', kind); rect.setAttribute('width', width); rect.setAttribute('height', 6); rect.setAttribute('rx', 3);
        svg.append(rect);
      }
      return svg;
    }

    look(0);
    return { step: async (at) => { await stage.show({ frame: at, cell: null, down: 1, across: 1 }); look(now); } };
  }

  document.body.dataset.ready = 'yes';
})();
