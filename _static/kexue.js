// Conveniences; the pages are complete without them, but for the interactive figures.
document.addEventListener("DOMContentLoaded", () => {
  // A link without a script's tag, so that it is right in a page opened from a disk, too.
  const root = new URL(document.documentElement.dataset.content_root || "./", document.baseURI).href;
  const loaded = {};
  const load = (name) => loaded[name] ??= new Promise((resolve) => {
    const script = document.createElement("script");
    script.src = `${root}_static/${name}`;
    script.onload = resolve;
    document.head.append(script);
  });

  // An interactive figure is drawn when it comes near, or all of them before the page is printed.
  const draw = async (div) => {
    if (div.drawn) return;
    div.drawn = true;
    await Promise.all([load("plotly.min.js"), load(`figures/${div.id}.js`)]);
    const { data, layout, config, frames } = div.figure;
    await Plotly.newPlot(div, data, layout, config);
    if (frames) Plotly.addFrames(div, frames);
  };
  const figures = document.querySelectorAll(".plotly-graph-div");
  const near = new IntersectionObserver((entries) => entries.forEach((e) => e.isIntersecting && draw(e.target)),
    { rootMargin: "300px" });
  figures.forEach((div) => near.observe(div));
  window.addEventListener("beforeprint", () => figures.forEach(draw));

  // Formulas are set as they come near; the others later, a few whenever nothing else happens, for those who
  // listen to the page or look for something in it.
  const rest = async () => {
    const math = window.MathJax?.startup?.document, waiting = [...document.querySelectorAll("mjx-lazy")].slice(0, 4);
    if (!math || !waiting.length) return;
    waiting.forEach((one) => math.lazySet.add(one.getAttribute("data-mjx-lazy")));
    math.lazyHandleSet();
    await math.lazyPromise;
    idle(rest);
  };
  const idle = window.requestIdleCallback || ((action) => setTimeout(action, 200));
  window.addEventListener("load", () => setTimeout(() => idle(rest), 3000));

  // A card shows what a link leads to: while the pointer is on it or on the card, or the link has the focus;
  // until Escape. Equations of this page are taken from it, all else was collected when the book was built.
  const card = document.createElement("div");
  let owner = null, timer = 0;
  card.className = "kexue-card mathjax_process";
  card.id = "kexue-card";
  card.hidden = true;
  (document.querySelector("article") || document.body).append(card);
  const content = async (link) => {
    const aim = link.hash && link.href.split("#")[0] === location.href.split("#")[0]
      && document.getElementById(decodeURIComponent(link.hash.slice(1)));
    if (aim) {
      const list = aim.matches("div.math") && window.MathJax?.startup?.document?.getMathItemsWithin([aim]);
      return list && list.length ? `<div class="math">\\[${new Option(list[0].math).innerHTML}\\]</div>` : null;
    }
    if (!link.hash || !link.href.startsWith(root)) return null;
    await load("cards.js");
    return window.kexueCards[link.href.slice(root.length)];
  };
  const hide = () => {
    clearTimeout(timer);
    card.hidden = true;
    owner?.removeAttribute("aria-describedby");
    owner = null;
  };
  const show = async (link) => {
    const found = await content(link);
    if (!found || !(link.matches(":hover") || link === document.activeElement)) return;
    hide();
    owner = link;
    card.innerHTML = found;
    card.hidden = false;
    link.setAttribute("aria-describedby", card.id);
    if (card.textContent.includes("\\")) await window.MathJax?.typesetPromise?.([card]);
    place(link);
  };
  const place = (link) => {
    const [at, size, origin] = [link, card, card.offsetParent].map((element) => element.getBoundingClientRect());
    const left = Math.max(8, Math.min(at.left, document.documentElement.clientWidth - size.width - 8));
    const above = at.bottom + size.height + 8 > innerHeight && at.top > size.height;
    card.style.left = `${left - origin.left}px`;
    card.style.top = `${(above ? at.top - size.height - 4 : at.bottom + 4) - origin.top}px`;
  };
  new ResizeObserver(() => owner && place(owner)).observe(card.parentElement);
  const soon = (action, wait) => { clearTimeout(timer); timer = setTimeout(action, wait); };
  document.querySelectorAll("article a[href*='#']:not(.headerlink)").forEach((link) => {
    link.addEventListener("pointerenter", (event) => event.pointerType === "mouse" && soon(() => show(link), 150));
    link.addEventListener("pointerleave", () => soon(hide, 250));
    link.addEventListener("focus", () => link.matches(":focus-visible") && soon(() => show(link), 150));
    link.addEventListener("blur", () => soon(hide, 0));
  });
  card.addEventListener("pointerenter", () => clearTimeout(timer));
  card.addEventListener("pointerleave", () => soon(hide, 250));
  document.addEventListener("keydown", (event) => event.key === "Escape" && hide());

  // Link each verdict to its row in the ledger.
  document.querySelectorAll(".kexue-verdict[data-row] strong").forEach((name) => {
    const link = document.createElement("a");
    link.href = `${root}pages/ledger.html#${name.textContent.replace(".", "-")}`;
    name.replaceWith(link);
    link.append(name);
  });

  // A link to something folded unfolds it; while formulas above it are set, the reader stays where the link led.
  let reading = false;
  const unfold = () => {
    const aim = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!aim) return;
    for (let e = aim.closest("details"); e; e = e.parentElement.closest("details")) e.open = true;
    aim.scrollIntoView({ behavior: "instant" });
  };
  for (const act of ["wheel", "touchstart", "pointerdown", "keydown"])
    window.addEventListener(act, () => { reading = true; }, { once: true, passive: true });
  new ResizeObserver(() => reading || unfold()).observe(card.parentElement);
  window.addEventListener("hashchange", unfold);
  unfold();

  // Filter the ledger's rows by verdict.
  const rows = [...document.querySelectorAll(".ledger-row")];
  if (!rows.length) return;
  const verdict = (row) => row.querySelector(".ledger-outcome").textContent.trim().split(/\s/).pop();
  const names = ["all", ...new Set(rows.map(verdict))];
  const bar = document.createElement("div");
  bar.className = "ledger-filter";
  bar.setAttribute("role", "group");
  bar.setAttribute("aria-label", "Show rows by verdict");
  names.forEach((name) => {
    const button = document.createElement("button");
    const count = name === "all" ? rows.length : rows.filter((row) => verdict(row) === name).length;
    button.textContent = `${name} (${count})`;
    button.setAttribute("aria-pressed", String(name === "all"));
    button.addEventListener("click", () => {
      rows.forEach((row) => { row.hidden = name !== "all" && verdict(row) !== name; });
      document.querySelectorAll(".ledger-equations").forEach((fold) => {
        fold.hidden = [...fold.querySelectorAll(".ledger-row")].every((row) => row.hidden);
        fold.open = name !== "all" && !fold.hidden;
      });
      bar.querySelectorAll("button").forEach((other) => other.setAttribute("aria-pressed", String(other === button)));
    });
    bar.append(button);
  });
  rows[0].closest("section").before(bar);
});
