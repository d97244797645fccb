// Confusion matrices whose cells open their pictures.
const MAX_CLASSES = 20; // larger matrices show only the most confused classes
const MAX_ALL_CLASSES = 100; // up to so many, all can be shown

/** The cells of a matrix with `size` rows (true) and columns (predicted): the items of those that are not empty.
 *  background: the index of its row and column, -1 for none. */
class Cells {
  constructor(size, background) {
    this.size = size;
    this.background = background;
    this.items = new Map();
    this.highest = 1; // number of items of the fullest cell
    this.rowTotals = new Array(size).fill(0);
    this.columnTotals = new Array(size).fill(0);
  }

  add(row, column, item) {
    const key = row * this.size + column;
    if (!this.items.has(key)) this.items.set(key, []);
    this.highest = Math.max(this.highest, this.items.get(key).push(item));
    this.rowTotals[row]++;
    this.columnTotals[column]++;
  }

  get(row, column) {
    return this.items.get(row * this.size + column) ?? [];
  }

  /** What shades a cell; null in a row or column that has no total of objects or detections: background. */
  share(row, column, unit) {
    const count = this.get(row, column).length;
    if (unit === "row") return row === this.background ? null : count / Math.max(1, this.rowTotals[row]);
    if (unit === "column") return column === this.background ? null : count / Math.max(1, this.columnTotals[column]);
    return Math.sqrt(count / this.highest);
  }
}

/** True and predicted classes; background is last. */
function collectClassCells() {
  const cells = new Cells(BACKGROUND + 1, BACKGROUND);
  data.matchedObject.forEach((object, detection) => {
    if (isAboveThreshold(detection)) {
      cells.add(object < 0 ? BACKGROUND : data.objects.category[object], data.category[detection], { detection });
    }
  });
  findDetectedObjects().forEach((detected, object) => {
    if (!detected && !data.objects.absent[object]) cells.add(data.objects.category[object], BACKGROUND, { object });
  });
  return cells;
}

/** The same for true and predicted states of the objects that are detected with the correct class. */
function collectStateCells() {
  const cells = new Cells(data.states.length, -1);
  data.matchedObject.forEach((object, detection) => {
    if (!isAboveThreshold(detection) || ![CORRECT, WRONG_STATE].includes(errorType(detection))) return;
    const [truth, predicted] = [data.objects.state[object], data.state[detection]];
    if (truth && predicted) cells.add(truth - 1, predicted - 1, { detection });
  });
  return cells;
}

const UNITS = { count: "counts", row: "% of each row", column: "% of each column" };
const matrixUnit = () => document.querySelector("[name=matrix-unit]:checked").value;

/** A table of buttons, of which one is a tab stop; shown: the indices of its rows and columns. */
function buildMatrix(shown, cells, names, label) {
  const unit = matrixUnit();
  const size = shown.length > 24 ? " dense tiny" : shown.length > 7 ? " dense" : "";
  const table = element("table", { class: `matrix${size}` });
  table.append(element("caption", {}, `${label}; ${UNITS[unit]}`));
  const kind = (index) => (index === cells.background ? "background" : "");
  const head = element("tr", {}, element("td"));
  shown.forEach((index) => head.append(element("th", { scope: "col", title: names[index], class: kind(index) }, names[index])));
  const body = element("tbody");
  for (const row of shown) {
    const line = element("tr", { class: kind(row) }, element("th", { scope: "row", title: names[row] }, names[row]));
    for (const column of shown) {
      const share = cells.share(row, column, unit);
      const correct = row === column && !kind(row) ? "correct" : "";
      line.append(element("td", { style: `--share: ${(share ?? 0).toFixed(3)}`, class: `${correct} ${kind(column)}`.trim() },
        createCell(row, column, cells, names, unit)));
    }
    body.append(line);
  }
  table.append(element("thead", {}, head), body);
  body.querySelector("button")?.setAttribute("tabindex", "0");
  table.addEventListener("keydown", (event) => moveInMatrix(event, body));
  return table;
}

function createCell(row, column, cells, names, unit) {
  const items = cells.get(row, column);
  const count = items.length.toLocaleString("en");
  if (!items.length) return element("span", { class: "zero", "aria-hidden": "true" }, "·");
  const share = cells.share(row, column, unit);
  const percent = share !== null && share < 0.005 ? "<1%" : `${Math.round(100 * share)}%`;
  const text = unit === "count" ? count : share === null ? `(${count})` : percent;
  const title = `true: ${names[row]}, predicted: ${names[column]}`;
  const described = `${title}: ${count}${unit === "count" || share === null ? "" : `, ${percent}`}`;
  return element("button", { type: "button", tabindex: "-1", title: described, "aria-label": described,
    "data-row": row, "data-column": column, onclick: () => openCell(`${title} (${count})`, items) }, text);
}

function moveInMatrix(event, body) {
  const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
  if (!step || event.target.tagName !== "BUTTON") return;
  event.preventDefault();
  const cell = event.target.closest("td");
  let [row, column] = [cell.parentNode.sectionRowIndex, cell.cellIndex];
  for (;;) {
    row += step[0];
    column += step[1];
    const next = body.rows[row]?.cells[column];
    if (!next) return;
    const button = next.querySelector("button");
    if (button) {
      event.target.setAttribute("tabindex", "-1");
      button.setAttribute("tabindex", "0");
      button.focus();
      return;
    }
  }
}

function showMatrices() {
  const cells = collectClassCells();
  const names = [...data.classes, "background"];
  const confusions = [];
  const errors = names.map(() => 0);
  for (const [key, items] of cells.items) {
    const [row, column] = [Math.floor(key / names.length), key % names.length];
    if (row === column) continue;
    confusions.push([items.length, row, column, items]);
    errors[row] += items.length;
    errors[column] += items.length;
  }
  confusions.sort((a, b) => b[0] - a[0] || a[1] - b[1] || a[2] - b[2]);
  let indices = names.map((_, index) => index);
  if (data.classes.length > MAX_CLASSES && !$("matrix-all").checked) {
    const worst = indices.slice(0, -1).sort((a, b) => errors[b] - errors[a] || a - b).slice(0, MAX_CLASSES);
    indices = [...worst.sort((a, b) => a - b), BACKGROUND];
  }
  const shown = indices.length < names.length ? `the ${MAX_CLASSES} most confused of ${data.classes.length.toLocaleString("en")} classes; ` : "";
  $("class-matrix").replaceChildren(buildMatrix(indices, cells, names, `${shown}true class in rows, predicted class in columns`));
  $("confusion-list").replaceChildren(...confusions.slice(0, 20).map(([count, row, column, items]) => {
    const text = row === BACKGROUND ? `${names[column]}: ${count} false positive${count === 1 ? "" : "s"} on background`
      : column === BACKGROUND ? `${names[row]}: ${count} missed` : `${names[row]} predicted as ${names[column]}: ${count}`;
    return element("li", {}, element("button", { type: "button", onclick: () => openCell(text, items) }, text));
  }));
  if (data.states.length) {
    $("state-matrix-part").hidden = false;
    $("state-matrix").replaceChildren(buildMatrix(data.states.map((_, index) => index), collectStateCells(), data.states,
      "true state in rows, predicted state in columns"));
  }
}

function startConfusions() {
  $("matrix-all-label").hidden = data.classes.length <= MAX_CLASSES || data.classes.length > MAX_ALL_CLASSES;
  $("matrix-controls").addEventListener("change", showMatrices);
  listeners.push(showMatrices);
  showMatrices();
}
