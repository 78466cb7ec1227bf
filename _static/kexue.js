// Two conveniences; the pages are complete without them.
document.addEventListener("DOMContentLoaded", () => {
  // Link each verdict to its row in the ledger.
  const root = document.documentElement.dataset.content_root || "";
  document.querySelectorAll(".kexue-verdict[data-row] strong").forEach((name) => {
    const link = document.createElement("a");
    link.href = `${root}pages/ledger.html#${name.textContent.replace(".", "-")}`;
    name.replaceWith(link);
    link.append(name);
  });

  // A link to something folded unfolds it.
  const unfold = () => {
    const aim = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!aim) return;
    for (let e = aim.closest("details"); e; e = e.parentElement.closest("details")) e.open = true;
    aim.scrollIntoView();
  };
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
