// What tools/printed_book.py lets Chromium do with the one document of all pages.

// Each interactive figure becomes a picture of what it shows first, or of a story's end, and its caption says so.
const stills = async format => {
  const note = (figure, at) => {
    const {live} = figure.dataset;
    figure.querySelector('figcaption').insertAdjacentHTML('beforeend',
      ` Still (${at}) of an interactive figure, which moves at <a href="${live}">${live}</a>.`);
    for (const name of ['role', 'aria-label', 'data-live', 'data-still']) figure.removeAttribute(name);
  };
  for (const figure of document.querySelectorAll('.kexue-interactive[data-still]')) {
    const svg = figure.querySelector('svg');
    for (const e of svg.querySelectorAll('[role]'))
      for (const name of ['role', 'tabindex', 'aria-label', 'style']) e.removeAttribute(name);
    svg.setAttribute('role', 'img');
    svg.setAttribute('aria-label', figure.getAttribute('aria-label'));
    note(figure, figure.dataset.still);
  }
  for (const plot of document.querySelectorAll('.plotly-graph-div')) {
    await Plotly.newPlot(plot, plot.figure.data, plot.figure.layout);
    const figure = plot.closest('figure'), [slider] = plot.layout.sliders, [menu] = plot.layout.updatemenus ?? [];
    const step = menu ? slider.steps.at(-1) : slider.steps[slider.active];
    if (menu) await Plotly[step.method](plot, ...step.args);
    const {width, height, _size} = plot._fullLayout;
    const layout = {...plot.layout, sliders: [], updatemenus: [], paper_bgcolor: '#fff'};
    for (const axis of ['xaxis', 'yaxis']) layout[axis] = {...layout[axis], automargin: true};
    const size = {format, width, height: height - _size.b + 60, scale: 3};  // without the slider
    const src = await Plotly.toImage({data: plot.data, layout}, size);
    const img = Object.assign(document.createElement('img'), {alt: figure.getAttribute('aria-label'), src});
    await img.decode();
    const at = [menu?.buttons[0].label, slider.currentvalue.prefix + step.label].filter(Boolean).join(", ");
    figure.querySelectorAll('script').forEach(e => e.remove());
    note(figure, at);
    plot.replaceWith(img);
  }
};

// What is wider than the text becomes smaller. What then still sticks out is returned.
const fit = width => {
  const all = s => [...document.querySelectorAll(s)];
  for (const line of all('div.math')) {
    const formula = line.querySelector('mjx-container'), number = line.querySelector('.eqno');
    const room = line.clientWidth - (number ? 2 * number.offsetWidth + 8 : 0);
    const wide = formula.querySelector('mjx-math').getBoundingClientRect().width;
    if (wide > room) formula.style.fontSize = `${parseFloat(formula.style.fontSize || 100) * room / wide}%`;
  }
  for (const i of all('.cell_output :not(.kexue-interactive) > img'))  // all at one scale, 181 pixels an inch, unless too tall
    i.style.width = `${i.naturalWidth * Math.min(0.529, 790 / i.naturalHeight)}px`;
  for (const table of all('table')) {
    const room = table.parentElement.clientWidth;
    if (table.offsetWidth > room) table.style.zoom = room / table.offsetWidth;
  }
  return all('body *').filter(e => e.getBoundingClientRect().right > width + 1).map(e => e.outerHTML.slice(0, 200));
};

// The anchors of the contents.
const places = () => [...document.querySelectorAll('#contents a')].map(e => e.hash.slice(1));

// The numbers of the sheets into the contents, by anchor; without numbers nothing is painted but the contents.
const number = numbers => {
  document.body.classList.toggle('draft', numbers === null);
  for (const e of document.querySelectorAll('#contents .number')) e.textContent = numbers?.[e.dataset.to] ?? '000';
  document.body.style.display = 'none';  // or Chromium reuses parts of its last layout, and breaks sheets elsewhere
  document.body.offsetHeight;
  document.body.style.display = '';
};

// Formulas as MathML, with their TeX for readers that show none; then each page as XHTML.
const pages = () => {
  for (const item of MathJax.startup.document.math) {
    const text = MathJax.startup.toMML(item.root);
    const math = document.importNode(new DOMParser().parseFromString(text, 'application/xml').documentElement, true);
    for (const e of [math, ...math.querySelectorAll('*')])
      for (const {name} of [...e.attributes]) if (name.startsWith('data-') || name === 'class') e.removeAttribute(name);
    math.setAttribute('alttext', item.math.trim());
    item.typesetRoot.replaceWith(math);
  }
  document.querySelectorAll('script, #contents .number').forEach(e => e.remove());
  const serial = new XMLSerializer();
  const title = e => e.querySelector('h1:not(.part), h2')?.textContent ?? document.title;
  return [...document.querySelectorAll('section.page')].map(e => [e.id, title(e), serial.serializeToString(e)]);
};
