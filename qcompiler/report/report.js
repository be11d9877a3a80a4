// Sortable, filterable tables. The state lives in the address after '#', so a link keeps it:
//   #layers.sort=alone            ascending by the column whose key is `alone`; `-alone` descending
//   #layers.filter=conv           rows that contain every word
// A plain `#layer-12` is an ordinary anchor. Without this script the tables are complete and unsorted.
(() => {
  "use strict";
  const collator = new Intl.Collator("en", { numeric: true });
  const tables = [...document.querySelectorAll("table[data-tools]")].map(setUp);

  function setUp(table) {
    const rows = [...table.tBodies[0].rows];
    const heads = [...table.tHead.rows[0].cells];
    const tools = document.getElementById(table.id + "-tools");
    const t = {
      id: table.id, body: table.tBodies[0], rows, heads,
      input: tools.querySelector("input"), count: tools.querySelector("output"),
      order: rows.slice(), texts: rows.map((row) => row.textContent.toLowerCase()),
      sort: "", filter: "",
    };
    tools.hidden = false;
    heads.forEach((head) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      head.setAttribute("aria-sort", "none");
      button.addEventListener("click", () => {
        const key = head.dataset.key;
        const first = head.dataset.first === "desc" ? "-" + key : key;
        const second = first === key ? "-" + key : key;
        t.sort = t.sort === first ? second : t.sort === second ? "" : first;
        apply(t);
        save();
      });
    });
    t.input.addEventListener("input", () => { t.filter = t.input.value.trim(); apply(t); save(); });
    return t;
  }

  // A number for number columns (null when missing, so that it sorts last either way), else text.
  function value(row, column, numeric) {
    const cell = row.cells[column];
    if (!numeric) return cell.textContent.trim();
    const number = cell.dataset.v === "" ? NaN : Number(cell.dataset.v);
    return Number.isNaN(number) ? null : number;
  }

  function apply(t) {
    const down = t.sort.startsWith("-");
    const key = down ? t.sort.slice(1) : t.sort;
    const column = t.heads.findIndex((head) => head.dataset.key === key);
    t.heads.forEach((head, i) =>
      head.setAttribute("aria-sort", i !== column ? "none" : down ? "descending" : "ascending"));
    let rows = t.order;
    if (column >= 0) {
      const numeric = t.heads[column].classList.contains("num");
      const keyed = rows.map((row, i) => [value(row, column, numeric), i, row]);
      keyed.sort(([a, i], [b, j]) => {
        if (a === null || b === null) return (a === null) - (b === null) || i - j;
        const order = numeric ? (a < b ? -1 : a > b ? 1 : 0) : collator.compare(a, b);
        return (down ? -order : order) || i - j;
      });
      rows = keyed.map(([, , row]) => row);
    }
    t.body.append(...rows);
    const words = t.filter.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    t.rows.forEach((row, i) => {
      row.hidden = !words.every((word) => t.texts[i].includes(word));
      shown += !row.hidden;
    });
    t.count.textContent = words.length ? `${shown} of ${t.rows.length} rows` : `${t.rows.length} rows`;
  }

  function save() {
    const state = new URLSearchParams();
    for (const t of tables) {
      if (t.sort) state.set(t.id + ".sort", t.sort);
      if (t.filter) state.set(t.id + ".filter", t.filter);
    }
    history.replaceState(null, "", "#" + state);
  }

  function load() {
    const hash = location.hash.slice(1);
    const target = hash && document.getElementById(hash);
    if (hash.includes("=")) {
      const state = new URLSearchParams(hash);
      for (const t of tables) {
        t.sort = state.get(t.id + ".sort") || "";
        t.filter = t.input.value = state.get(t.id + ".filter") || "";
      }
    } else if (target && target.matches("tr")) {
      // A link to a row must reach it: show it even if a filter hides it.
      const t = tables.find((one) => one.rows.includes(target));
      if (t && target.hidden) t.filter = t.input.value = "";
    }
    tables.forEach(apply);
    for (const t of tables) {
      const details = t.body.closest("details");
      if (details && (t.sort || t.filter)) details.open = true;
    }
    if (target && target.matches("tr")) target.scrollIntoView({ block: "center" });
  }

  addEventListener("hashchange", load);
  load();
})();
