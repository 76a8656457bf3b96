// Filters of the index: by text and by method. A dataset without a match is hidden with its heading.
(() => {
  'use strict';
  const find = document.getElementById('find'), method = document.getElementById('method'), budget = document.getElementById('budget');
  const narrow = () => {
    const text = find.value.trim().toLowerCase();
    let shown = 0;
    for (const section of document.querySelectorAll('section[data-dataset]')) {
      let here = 0;
      for (const card of section.querySelectorAll('.result')) {
        const fits = card.dataset.text.toLowerCase().includes(text) && (!method.value || card.dataset.method === method.value)
          && (!budget.value || card.dataset.budget === budget.value);
        card.hidden = !fits;
        here += fits ? 1 : 0;
      }
      section.hidden = !here;
      shown += here;
    }
    document.getElementById('found').textContent = `${shown} shown`;
  };
  find.addEventListener('input', narrow);
  method.addEventListener('change', narrow);
  budget.addEventListener('change', narrow);
  document.body.dataset.ready = 'yes';
})();
