// Textures on a garment: texture, garment, scale and rotation are chosen, the garment turns, the picture is saved.
(() => {
  const data = JSON.parse(document.getElementById('data').textContent), $ = (id) => document.getElementById(id);
  const canvas = $('garment'), cloth = new Cloth(canvas), meshes = {};
  const state = { garment: 'dress', texture: 0, levels: null, yaw: -0.35, pitch: 0.08, traced: null };
  const rotation = () => Number($('rotation').value) * Math.PI / 180, size = () => 2 ** Number($('scale').value);
  let waiting = false, last = 0, frames = [];

  function draw() {
    if (!state.levels) return;
    const pose = `${state.garment} ${state.yaw.toFixed(4)} ${state.pitch.toFixed(4)}`;
    if (state.traced !== pose) {
      meshes[state.garment] ??= mesh_of(state.garment);
      cloth.trace(meshes[state.garment], state.yaw, state.pitch);
      state.traced = pose;
    }
    cloth.paint(state.levels, size(), rotation());
    canvas.setAttribute('aria-label', `${data.textures[state.texture].name} on a ${state.garment}`);
    canvas.dataset.drawn = pose;
  }
  function mesh_of(name) { return GARMENTS[name](); }

  function tick(time) {
    waiting = false;
    const turning = $('turn').checked, passed = Math.min(50, time - last);
    if (turning) state.yaw += passed * 0.0006;
    last = time;
    draw();
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
    $('scale-out').textContent = `${size().toFixed(2)}×`;
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
  $('save').addEventListener('click', () => canvas.toBlob((blob) => {
    const link = document.createElement('a');
    link.href = URL.createObjectURL(blob);
    link.download = `${data.textures[state.texture].file}-${state.garment}.png`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }));

  const asked = Number((location.hash.match(/^#class-(\d+)$/) || [])[1]);
  const start = data.textures.findIndex((t) => t.class === asked);
  say();
  choose(Math.max(0, start)).then(() => { document.body.dataset.ready = 'yes'; });
})();
