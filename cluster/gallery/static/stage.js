// A stage shows the still picture of a class; another view of it (a step, copies, a sample) is drawn on a canvas above.
// Sprites hold the frames of a class below each other; they are loaded when they are first needed and on screen.
'use strict';

const loaded = new Map();

function load(url) {
  if (!loaded.has(url)) {
    const image = new Image();
    image.src = url;
    loaded.set(url, image.decode().then(() => image));
  }
  return loaded.get(url);
}

async function still(image) {
  if (!image.complete || !image.naturalWidth) image.loading = 'eager';
  await image.decode();
  return image;
}

class Stage {
  constructor(element) {
    this.element = element;
    this.image = element.querySelector('img');
    this.canvas = element.querySelector('canvas');
    this.sprite = element.dataset.sprite || null;
    this.frames = Number(element.dataset.frames || 0);
    this.wanted = 0;
  }

  // view: {frame: number or null, cell: [row, column, rows, columns] or null, down, across: copies}
  async show(view) {
    const turn = ++this.wanted;
    const part = await this.part(view);
    if (turn !== this.wanted) return;
    const plain = part.image === this.image && view.down === 1 && view.across === 1;
    this.element.classList.toggle('drawn', !plain);
    this.canvas.hidden = plain;
    if (plain) return;
    const { image, x, y, w, h } = part, c = this.canvas;
    c.width = w * view.across;
    c.height = h * view.down;
    c.classList.toggle('pixel', this.image.classList.contains('pixel'));
    const g = c.getContext('2d');
    for (let i = 0; i < view.down; i++) for (let k = 0; k < view.across; k++) g.drawImage(image, x, y, w, h, k * w, i * h, w, h);
  }

  async part(view) {
    if (view.cell && this.element.dataset.cells) {
      const image = await load(this.element.dataset.cells), [row, column, rows, columns] = view.cell;
      const w = image.naturalWidth / columns, h = image.naturalHeight / rows;
      return column === null ? { image, x: 0, y: row * h, w: image.naturalWidth, h } : { image, x: column * w, y: row * h, w, h };
    }
    if (view.frame !== null && this.sprite) {
      const image = await load(this.sprite), h = image.naturalHeight / this.frames;
      return { image, x: 0, y: Math.min(view.frame, this.frames - 1) * h, w: image.naturalWidth, h };
    }
    const image = await still(this.image);
    return { image, x: 0, y: 0, w: image.naturalWidth, h: image.naturalHeight };
  }
}

// Draws only the stages on screen, and the others when they get there.
class Stages {
  constructor(elements, view) {
    this.view = view;
    this.all = new Map([...elements].map((element) => [element, new Stage(element)]));
    this.seen = new Set();
    this.touched = false;
    const watch = new IntersectionObserver((entries) => {
      for (const entry of entries) {
        if (entry.isIntersecting) { this.seen.add(entry.target); if (this.touched) this.draw(entry.target); }
        else this.seen.delete(entry.target);
      }
    }, { rootMargin: '200px' });
    for (const element of this.all.keys()) watch.observe(element);
  }

  draw(element) { return this.all.get(element).show(this.view(element)).catch(() => {}); }

  refresh() {
    this.touched = true;
    return Promise.all([...this.seen].map((element) => this.draw(element)));
  }
}

// A slider over steps with a button that plays them, and a checkbox for the set that is published.
function scrubber(steps, changed) {
  const slider = document.getElementById('step'), best = document.getElementById('best');
  if (!slider) return { frame: () => null, step: () => null };
  const out = document.getElementById('step-out'), play = document.getElementById('play');
  let timer = 0;
  const say = () => {
    const text = best.checked ? best.dataset.text : `step ${steps[slider.value]}`;
    out.textContent = text;
    slider.setAttribute('aria-valuetext', `step ${steps[slider.value]}`);
    changed();
  };
  const stop = () => { clearInterval(timer); timer = 0; play.setAttribute('aria-pressed', 'false'); };
  slider.addEventListener('input', () => { best.checked = false; say(); });
  slider.addEventListener('pointerdown', stop);
  best.addEventListener('change', () => { stop(); say(); });
  play.addEventListener('click', () => {
    if (timer) return stop();
    best.checked = false;
    if (Number(slider.value) >= steps.length - 1) slider.value = 0;
    play.setAttribute('aria-pressed', 'true');
    say();
    timer = setInterval(() => {
      if (Number(slider.value) >= steps.length - 1) return stop();
      slider.value = Number(slider.value) + 1;
      say();
    }, 180);
  });
  return { frame: () => (best.checked ? null : Number(slider.value)), step: () => (best.checked ? null : steps[slider.value]) };
}
