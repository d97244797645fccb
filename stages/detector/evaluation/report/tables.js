// Tables: a click on a column's header sorts, and the search box hides rows that do not match.
function sortTable(button) {
  const head = button.closest("th");
  const table = head.closest("table");
  const column = [...head.parentNode.children].indexOf(head);
  const isNumber = (cell) => cell.dataset.value !== undefined;
  const rows = [...table.tBodies[0].rows];
  const numeric = rows.some((row) => isNumber(row.cells[column]));
  const before = head.getAttribute("aria-sort");
  const ascending = before ? before === "descending" : !numeric; // numbers: largest first
  for (const other of head.parentNode.children) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
  const key = (row) => {
    const cell = row.cells[column];
    if (!numeric) return cell.textContent.trim();
    return !isNumber(cell) || cell.dataset.value === "" ? null : Number(cell.dataset.value);
  };
  const keyed = rows.map((row) => [key(row), row]);
  keyed.sort(([a], [b]) => {
    if (a === null || b === null) return (a === null) - (b === null); // missing values stay last
    const order = numeric ? a - b : a.localeCompare(b, "en", { numeric: true });
    return ascending ? order : -order;
  });
  table.tBodies[0].append(...keyed.map(([, row]) => row));
}

function filterRows(input) {
  const query = input.value.trim().toLowerCase();
  for (const row of $(input.dataset.table).tBodies[0].rows) {
    row.hidden = query !== "" && !row.textContent.toLowerCase().includes(query);
  }
}

for (const button of document.querySelectorAll(".sort")) button.addEventListener("click", () => sortTable(button));
for (const input of document.querySelectorAll(".search")) input.addEventListener("input", () => filterRows(input));
