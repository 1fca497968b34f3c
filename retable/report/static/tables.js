// Sorting, filtering, paging, comparing and copying for tables that are complete without it. What a reader chose is
// kept in the address, after "#?", so that a view can be sent to somebody.
"use strict";

const PAGE = 100;
const chosen = new URLSearchParams(location.hash.startsWith("#?") ? location.hash.slice(2) : "");

function keep(key, value) {
  if (value) chosen.set(key, value);
  else chosen.delete(key);
  const text = chosen.toString();
  history.replaceState(null, "", text ? `#?${text}` : location.href.replace(/#.*$/, ""));
}

const value = (row, index) => {
  const cell = row.cells[index];
  const text = cell.dataset.sort ?? cell.textContent.trim();
  return text === "" || text === "–" ? null : isNaN(text) ? text.toLowerCase() : Number(text);
};

const compare = (a, b) =>
  typeof a === typeof b ? (a < b ? -1 : a > b ? 1 : 0) : typeof a === "number" ? -1 : 1;

class Table {
  constructor(table) {
    this.table = table;
    this.name = table.dataset.filter;
    this.rows = [...table.tBodies[0].rows];
    this.original = [...this.rows];
    this.page = Number(chosen.get(`${this.name}.page`) || 1);
    [...table.tHead.rows[0].cells].forEach((head, index) => this.addSort(head, index));
    if (this.rows.length > 5) this.addFilter();
    const sort = /^(\d+)([ad])$/.exec(chosen.get(`${this.name}.sort`) || "");
    if (sort && sort[1] < table.tHead.rows[0].cells.length) this.sortBy(Number(sort[1]), sort[2] === "d");
    this.show();
  }

  addSort(head, index) {
    const button = Object.assign(document.createElement("button"), { type: "button", className: "sort" });
    button.append(...head.childNodes);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      this.sortBy(index, down);
      keep(`${this.name}.sort`, `${index}${down ? "d" : "a"}`);
      this.turnTo(1);
    });
    head.append(button);
  }

  sortBy(index, down) {
    const rows = this.original.map((row) => [value(row, index), row]);
    rows.sort(([a], [b]) => (a === null || b === null ? (a === null) - (b === null) : (down ? -1 : 1) * compare(a, b)));
    for (const other of this.table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    this.table.tHead.rows[0].cells[index].setAttribute("aria-sort", down ? "descending" : "ascending");
    this.rows = rows.map(([, row]) => row);
    this.table.tBodies[0].append(...this.rows);
  }

  addFilter() {
    const box = document.createElement("div");
    box.className = "filter";
    this.text = Object.assign(document.createElement("input"), { type: "search", placeholder: "Filter rows" });
    this.text.setAttribute("aria-label", "Filter rows by words");
    this.text.value = chosen.get(`${this.name}.q`) || "";
    this.choice = document.createElement("select");
    this.choice.setAttribute("aria-label", "Filter rows by verdict");
    this.choice.append(new Option("all states", ""));
    for (const state of new Set(this.rows.map((row) => row.dataset.state))) this.choice.append(new Option(state, state));
    this.choice.value = chosen.get(`${this.name}.state`) || "";
    this.count = document.createElement("output");
    this.text.addEventListener("input", () => {
      keep(`${this.name}.q`, this.text.value);
      this.turnTo(1);
    });
    this.choice.addEventListener("change", () => {
      keep(`${this.name}.state`, this.choice.value);
      this.turnTo(1);
    });
    box.append(this.text, this.choice, this.count);
    if (this.rows.length > PAGE) {
      this.back = this.addTurn("‹", "Page before", -1);
      this.on = this.addTurn("›", "Next page", 1);
      box.append(this.back, this.on);
    }
    this.table.parentElement.before(box);
  }

  addTurn(text, label, step) {
    const button = Object.assign(document.createElement("button"), { type: "button", className: "turn", textContent: text });
    button.setAttribute("aria-label", label);
    button.addEventListener("click", () => this.turnTo(this.page + step));
    return button;
  }

  turnTo(page) {
    this.page = page;
    keep(`${this.name}.page`, page > 1 ? String(page) : "");
    this.show();
  }

  // All rows that the filter leaves.
  hits() {
    if (!this.text) return this.rows;
    const words = this.text.value.toLowerCase().split(/\s+/);
    return this.rows.filter((row) => {
      row.content ??= row.textContent.toLowerCase();
      return (!this.choice.value || row.dataset.state === this.choice.value) && words.every((word) => row.content.includes(word));
    });
  }

  show(all = false) {
    const hits = this.hits();
    const pages = Math.max(1, Math.ceil(hits.length / PAGE));
    this.page = Math.min(Math.max(this.page, 1), pages);
    const shown = new Set(all ? hits : hits.slice((this.page - 1) * PAGE, this.page * PAGE));
    for (const row of this.rows) row.hidden = !shown.has(row);
    if (!this.count) return;
    this.count.textContent = `${hits.length} of ${this.rows.length}` + (pages > 1 ? `, page ${this.page} of ${pages}` : "");
    if (this.back) {
      this.back.disabled = this.page === 1;
      this.on.disabled = this.page === pages;
    }
  }

  reveal(row) {
    if (this.text) this.text.value = this.choice.value = "";
    this.page = Math.floor(this.rows.indexOf(row) / PAGE) + 1;
    this.show();
  }
}

// Rows that are chosen are the rows and columns of the table of differences that stay.
function addSelection(table) {
  const details = document.getElementById(table.dataset.select);
  if (!details) return;
  const key = `${table.id}.pick`;
  const picked = new Set((chosen.get(key) || "").split(",").filter(Boolean));
  const pairs = details.querySelector("table");
  const apply = () => {
    const some = picked.size > 1;
    for (const cell of pairs.querySelectorAll("[data-of]")) cell.hidden = some && !picked.has(cell.dataset.of);
    if (some) details.open = true;
  };
  for (const row of table.tBodies[0].rows) {
    const head = row.querySelector("th");
    const box = Object.assign(document.createElement("input"), { type: "checkbox", className: "pick" });
    box.setAttribute("aria-label", `Compare ${head.textContent.trim()}, ${row.cells[3].textContent.trim()}`);
    box.checked = picked.has(row.dataset.of);
    box.addEventListener("change", () => {
      if (box.checked) picked.add(row.dataset.of);
      else picked.delete(row.dataset.of);
      keep(key, [...picked].join(","));
      apply();
    });
    head.prepend(box, " ");
  }
  apply();
}

const tables = new Map();
for (const table of document.querySelectorAll("table[data-filter]")) tables.set(table, new Table(table));
for (const table of document.querySelectorAll("table[data-select]")) addSelection(table);

// A permanent address may lead into what is folded, or to another page of a table.
function openTarget() {
  const target = location.hash.startsWith("#?") ? null : document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!target) return;
  for (let above = target; above; above = above.parentElement) {
    if (above.tagName === "DETAILS") above.open = true;
    if (above.tagName === "TABLE" && target.tagName === "TR") tables.get(above)?.reveal(target);
  }
  target.scrollIntoView();
}
addEventListener("hashchange", openTarget);
openTarget();

// On paper everything is there.
addEventListener("beforeprint", () => {
  for (const table of tables.values()) table.show(true);
});
addEventListener("afterprint", () => {
  for (const table of tables.values()) table.show();
});

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
