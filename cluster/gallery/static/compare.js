// Results side by side: each at the step of the slider (its last frame up to it) or as published.
(() => {
  const data = JSON.parse(document.getElementById('data').textContent);
  const steps = scrubber(data.steps, () => stages.refresh());
  const view = (element) => {
    const own = data.results[element.dataset.result], step = steps.step();
    const frame = step === null ? null : Math.max(0, own.steps.filter((s) => s <= step).length - 1);
    return { frame: own.steps.length ? frame : null, cell: null, down: 1, across: 1 };
  };
  const stages = new Stages(document.querySelectorAll('.stage'), view);
  for (const box of document.querySelectorAll('input[name="column"]')) box.addEventListener('change', () => {
    for (const cell of document.querySelectorAll(`[data-column="${box.value}"]`)) cell.hidden = !box.checked;
  });
  document.body.dataset.ready = 'yes';
})();
