"use strict";
// Tables sort by their headings: numbers by the full number kept in data-sort, the rest as text.
const key = (row, k) => row.cells[k].dataset.sort ?? row.cells[k].textContent;
const compare = (a, b) => (isFinite(a) && isFinite(b) && a !== "" && b !== "" ? a - b : String(a).localeCompare(String(b)));

function sortBy(table, k) {
  const heading = table.tHead.rows[0].cells[k];
  const down = heading.getAttribute("aria-sort") === "ascending";
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", down ? "descending" : "ascending");
  const missing = (row) => key(row, k) === "–"; // these stay at the end, whichever way
  const rows = [...table.tBodies[0].rows].sort((a, b) => missing(a) - missing(b) || (down ? -1 : 1) * compare(key(a, k), key(b, k)));
  table.tBodies[0].append(...rows);
}

for (const table of document.querySelectorAll("table.sortable")) {
  [...table.tHead.rows[0].cells].forEach((heading, k) => {
    const button = document.createElement("button");
    button.type = "button";
    button.title = "Sort by this column";
    button.append(...heading.childNodes);
    button.addEventListener("click", () => sortBy(table, k));
    heading.append(button);
  });
}

// A table wider than the window scrolls in its own box, by keyboard too.
for (const box of document.querySelectorAll(".box")) {
  if (box.scrollWidth <= box.clientWidth) continue;
  box.tabIndex = 0;
  box.setAttribute("role", "group");
  box.setAttribute("aria-label", box.querySelector("caption").textContent);
}

// A figure opens in a dialog; Escape, its button or a click beside it closes.
const dialog = document.getElementById("enlarged");
for (const button of document.querySelectorAll("button.enlarge")) {
  button.addEventListener("click", () => {
    const image = button.querySelector("img");
    dialog.querySelector("img").src = image.src;
    dialog.querySelector("img").alt = image.alt;
    dialog.querySelector("p").textContent = button.parentElement.querySelector("figcaption").textContent;
    dialog.showModal();
  });
}
dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
