// Sorting, filtering and copying for tables that are complete without it.
"use strict";

const value = (row, index) => {
  const cell = row.cells[index];
  const text = cell.dataset.sort ?? cell.textContent.trim();
  return text === "" || text === "–" ? null : isNaN(text) ? text.toLowerCase() : Number(text);
};

const compare = (a, b) =>
  typeof a === typeof b ? (a < b ? -1 : a > b ? 1 : 0) : typeof a === "number" ? -1 : 1;

function sortBy(table, index, button) {
  const head = button.parentElement;
  const down = head.getAttribute("aria-sort") === "ascending";
  const rows = [...table.tBodies[0].rows].map((row) => [value(row, index), row]);
  rows.sort(([a], [b]) => (a === null || b === null ? (a === null) - (b === null) : (down ? -1 : 1) * compare(a, b)));
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", down ? "descending" : "ascending");
  table.tBodies[0].append(...rows.map(([, row]) => row));
}

function addFilter(table) {
  const rows = [...table.tBodies[0].rows];
  const box = document.createElement("div");
  box.className = "filter";
  const text = Object.assign(document.createElement("input"), { type: "search", placeholder: "Filter rows" });
  text.setAttribute("aria-label", "Filter rows by words");
  const choice = document.createElement("select");
  choice.setAttribute("aria-label", "Filter rows by verdict");
  choice.append(new Option("all states", ""));
  for (const state of new Set(rows.map((row) => row.dataset.state))) choice.append(new Option(state, state));
  const count = document.createElement("output");
  const apply = () => {
    const words = text.value.toLowerCase().split(/\s+/);
    let shown = 0;
    for (const row of rows) {
      const content = row.textContent.toLowerCase();
      const hit = (!choice.value || row.dataset.state === choice.value) && words.every((word) => content.includes(word));
      row.hidden = !hit;
      shown += hit;
    }
    count.textContent = `${shown} of ${rows.length}`;
  };
  text.addEventListener("input", apply);
  choice.addEventListener("change", apply);
  apply();
  box.append(text, choice, count);
  table.parentElement.before(box);
}

for (const table of document.querySelectorAll("table[data-filter]")) {
  [...table.tHead.rows[0].cells].forEach((head, index) => {
    const button = Object.assign(document.createElement("button"), { type: "button", className: "sort" });
    button.append(...head.childNodes);
    button.addEventListener("click", () => sortBy(table, index, button));
    head.append(button);
  });
  if (table.tBodies[0].rows.length > 5) addFilter(table);
}

// The asynchronous clipboard is not offered to pages opened from disk everywhere; copying a selection is.
for (const code of document.querySelectorAll("code.command")) {
  const button = Object.assign(document.createElement("button"), { type: "button", className: "copy" });
  button.textContent = "copy";
  button.setAttribute("aria-label", `Copy the command ${code.textContent}`);
  button.addEventListener("click", () => {
    getSelection().selectAllChildren(code);
    button.textContent = document.execCommand("copy") ? "copied" : "press Ctrl+C";
    setTimeout(() => (button.textContent = "copy"), 1500);
  });
  code.after(button);
}
