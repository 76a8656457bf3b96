// Textures on a garment: texture, garment, scale and rotation are chosen, the garment turns, the picture is saved.
(() => {
  const data = JSON.parse(document.getElementById('data').textContent), $ = (id) => document.getElementById(id);
  const canvas = $('garment'), screen = canvas.getContext('2d'), meshes = {};
  // What moves is drawn smaller if this machine would take more than a frame for it, and again in full when it rests.
  const full = new Cloth(canvas.width, canvas.height), quick = new Cloth(0.65 * canvas.width, 0.65 * canvas.height);
  const BUDGET = 11;  // milliseconds, of the 16.7 between two frames
  const state = { garment: 'dress', texture: 0, levels: null, yaw: -0.35, pitch: 0.08, cost: 0 };
  const rotation = () => Number($('rotation').value) * Math.PI / 180, size = () => 2 ** Number($('scale').value);
  let waiting = false, last = 0, rest = 0, frames = [];

  function draw(cloth) {
    if (!state.levels) return;
    const pose = `${state.garment} ${state.yaw.toFixed(4)} ${state.pitch.toFixed(4)}`, start = performance.now();
    if (cloth.pose !== pose) {
      meshes[state.garment] ??= GARMENTS[state.garment]();
      cloth.trace(meshes[state.garment], state.yaw, state.pitch);
      cloth.pose = pose;
    }
    cloth.paint(state.levels, size(), rotation());
    screen.clearRect(0, 0, canvas.width, canvas.height);
    screen.drawImage(cloth.canvas, 0, 0, canvas.width, canvas.height);
    if (cloth === full) state.cost = state.cost ? 0.7 * state.cost + 0.3 * (performance.now() - start) : performance.now() - start;
    canvas.setAttribute('aria-label', `${data.textures[state.texture].name} on a ${state.garment}`);
    canvas.dataset.drawn = pose;
  }

  function tick(time) {
    waiting = false;
    const turning = $('turn').checked, passed = Math.min(50, time - last);
    if (turning) state.yaw += passed * 0.0006;
    last = time;
    const slow = state.cost > BUDGET;
    draw(slow ? quick : full);
    clearTimeout(rest);
    if (slow) rest = setTimeout(() => draw(full), 150);
    if (!turning) { frames = []; return; }
    frames.push(time);
    while (frames.length && time - frames[0] > 1000) frames.shift();
    canvas.dataset.fps = String(frames.length);
    request();
  }
  function request() { if (!waiting) { waiting = true; requestAnimationFrame(tick); } }

  async function choose(i) {
    state.texture = i;
    const about = data.textures[i], image = new Image();
    for (const button of document.querySelectorAll('.thumbs button')) button.setAttribute('aria-pressed', String(Number(button.value) === i));
    $('name').textContent = about.name;
    image.src = about.url;
    await image.decode();
    if (state.texture !== i) return;
    state.levels = pyramid(image);
    request();
  }

  for (const button of document.querySelectorAll('.thumbs button')) button.addEventListener('click', () => choose(Number(button.value)));
  for (const input of document.querySelectorAll('input[name="garment"]')) input.addEventListener('change', () => { state.garment = input.value; request(); });
  const say = () => {
    $('scale-out').textContent = `${Math.round(100 * size())} %`;
    $('rotation-out').textContent = `${$('rotation').value}°`;
    request();
  };
  $('scale').addEventListener('input', say);
  $('rotation').addEventListener('input', say);
  $('view').addEventListener('input', () => { state.yaw = Number($('view').value) * Math.PI / 180; $('turn').checked = false; request(); });
  $('turn').addEventListener('change', request);
  canvas.addEventListener('pointermove', (event) => {
    if (!(event.buttons & 1)) return;
    $('turn').checked = false;
    state.yaw += event.movementX * 0.01;
    state.pitch = Math.max(-0.5, Math.min(0.5, state.pitch + event.movementY * 0.005));
    request();
  });
  $('save').addEventListener('click', () => { draw(full); canvas.toBlob((blob) => {
    const link = document.createElement('a');
    link.href = URL.createObjectURL(blob);
    link.download = `${data.textures[state.texture].file}-${state.garment}.png`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }); });

  const asked = Number((location.hash.match(/^#class-(\d+)$/) || [])[1]);
  const start = data.textures.findIndex((t) => t.class === asked);
  say();
  choose(Math.max(0, start)).then(() => { document.body.dataset.ready = 'yes'; });
})();
