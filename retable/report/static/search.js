// Search over everything that the site holds, by MiniSearch, in the page: nothing is sent anywhere.
"use strict";

const MOST = 100;
const index = new MiniSearch({
  fields: ["name", "about", "kind"],
  storeFields: ["kind", "name", "about", "page", "state"],
  searchOptions: { prefix: true, fuzzy: (word) => (word.length > 4 ? 0.2 : false), combineWith: "AND", boost: { name: 2 } },
});
index.addAll(ENTRIES.map((entry, id) => ({ id, ...entry })));

const input = document.getElementById("words");
const hits = document.getElementById("hits");
const count = document.getElementById("count");

function search() {
  const found = index.search(input.value);
  count.textContent = input.value ? `${found.length} found${found.length > MOST ? `, the first ${MOST} are shown` : ""}` : `${ENTRIES.length} entries`;
  hits.replaceChildren(
    ...found.slice(0, MOST).map((entry) => {
      const item = document.createElement("li");
      const kind = Object.assign(document.createElement("small"), { textContent: entry.kind });
      const link = Object.assign(document.createElement("a"), { href: entry.page, textContent: entry.name });
      const about = Object.assign(document.createElement("small"), { textContent: [entry.about, entry.state].filter(Boolean).join(" · ") });
      item.append(kind, " ", link, " ", about);
      return item;
    }),
  );
}

input.value = chosen.get("q") || "";
input.form.addEventListener("submit", (event) => event.preventDefault());
input.addEventListener("input", () => {
  keep("q", input.value);
  search();
});
input.focus();
search();
