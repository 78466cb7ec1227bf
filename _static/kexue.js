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

  // Filter the ledger's rows by verdict.
  const tables = [...document.querySelectorAll(".ledger-table table")];
  if (!tables.length) return;
  const rows = tables.flatMap((table) => [...table.tBodies[0].rows]);
  const verdict = (row) => row.cells[2].textContent.trim().split(/\s/).pop();
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
      bar.querySelectorAll("button").forEach((other) => other.setAttribute("aria-pressed", String(other === button)));
    });
    bar.append(button);
  });
  document.querySelector(".ledger-table").closest("section").before(bar);
});
