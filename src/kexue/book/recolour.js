// A network whose nodes can be recoloured, and what a walk on it then costs. `root` is the figure that
// kexue.book.recolour wrote; `links` pairs of places in `names`, `partitions` the modules of all nodes, from 1 on.
(root, {names, links, partitions, colours, chart}) => {
  const nodes = [...root.querySelectorAll('.node')], slider = root.querySelector('input');
  const near = nodes.map(() => []);
  for (const [a, b] of links) { near[a].push(b); near[b].push(a); }
  const f = x => x > 0 ? x * Math.log2(x) : 0, sum = values => values.reduce((a, b) => a + b, 0);
  let module;

  const bits = () => {  // the map equation, with visits in proportion to degrees
    const used = [...new Set(module)], ends = 2 * links.length;
    const parts = used.map(i => {
      const inside = nodes.map((_, v) => v).filter(v => module[v] === i);
      const visits = inside.map(v => near[v].length / ends);
      const exit = sum(inside.map(v => near[v].filter(w => module[w] !== i).length)) / ends;
      return {exit, cost: f(exit + sum(visits)) - f(exit) - sum(visits.map(f))};
    });
    const exits = parts.map(part => part.exit);
    return {count: used.length, index: f(sum(exits)) - sum(exits.map(f)), modules: sum(parts.map(part => part.cost))};
  };

  const draw = () => {
    nodes.forEach((node, v) => {
      const [fill, ink] = colours[module[v] % colours.length], number = module[v] + 1;
      node.querySelector('circle').setAttribute('fill', fill);
      Object.assign(node.querySelector('text'), {textContent: number}).setAttribute('fill', ink);
      node.setAttribute('aria-label', `node ${names[v]}, module ${number}`);
    });
    const {count, index, modules} = bits(), total = Math.abs(index) + modules;
    root.querySelector('output').textContent = `${count} ${count === 1 ? 'module' : 'modules'}: ${Math.abs(index).toFixed(3)}`
      + ` bits in the index + ${modules.toFixed(3)} in the modules = ${total.toFixed(3)} per step`;
    const here = root.querySelector('.here');
    here.setAttribute('cx', chart.left + (count - 1) * chart.across);
    here.setAttribute('cy', chart.bottom - total * chart.up);
  };

  // As a step of the search: into the next of the neighbours' modules, or out into a module of its own.
  const move = v => {
    const alone = module.filter(i => i === module[v]).length === 1;
    const choice = new Set([module[v], ...near[v].map(w => module[w])]);
    if (!alone) choice.add([...nodes.keys(), nodes.length].find(i => !module.includes(i)));
    const order = [...choice].sort((a, b) => a - b);
    module[v] = order[(order.indexOf(module[v]) + 1) % order.length];
    draw();
  };

  nodes.forEach((node, v) => {
    node.addEventListener('click', () => move(v));
    node.addEventListener('keydown', event => {
      const step = {ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1}[event.key];
      if (step) nodes[(v + step + nodes.length) % nodes.length].focus();
      else if (event.key === 'Enter' || event.key === ' ') move(v);
      else return;
      event.preventDefault();
    });
    node.addEventListener('focus', () => nodes.forEach(e => e.setAttribute('tabindex', e === node ? 0 : -1)));
  });
  const begin = () => { module = [...partitions[slider.value - 1]]; draw(); };
  slider.addEventListener('input', begin);
  begin();
}
