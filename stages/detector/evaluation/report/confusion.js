// Confusion matrices whose cells open their pictures.
const MAX_CLASSES = 14; // larger matrices show only the most confused classes
const MAX_ALL_CLASSES = 100; // up to so many, all can be shown

/** A function from row (true class) and column (predicted class) to the cell's items; background is last.
 *  Its `cells` are those that are not empty, by row * number of names + column. */
function collectClassCells() {
  const cells = new Map();
  const add = (row, column, item) => {
    const key = row * (BACKGROUND + 1) + column;
    if (!cells.has(key)) cells.set(key, []);
    cells.get(key).push(item);
  };
  data.matchedObject.forEach((object, detection) => {
    if (isAboveThreshold(detection)) {
      add(object < 0 ? BACKGROUND : data.objects.category[object], data.category[detection], { detection });
    }
  });
  findDetectedObjects().forEach((detected, object) => {
    if (!detected && !data.objects.absent[object]) add(data.objects.category[object], BACKGROUND, { object });
  });
  return Object.assign((row, column) => cells.get(row * (BACKGROUND + 1) + column) ?? [], { cells });
}

/** The same for true and predicted states of the objects that are detected with the correct class. */
function collectStateCells() {
  const cells = data.states.map(() => data.states.map(() => []));
  data.matchedObject.forEach((object, detection) => {
    if (!isAboveThreshold(detection) || ![CORRECT, WRONG_STATE].includes(errorType(detection))) return;
    const [truth, predicted] = [data.objects.state[object], data.state[detection]];
    if (truth && predicted) cells[truth - 1][predicted - 1].push({ detection });
  });
  return (row, column) => cells[row][column];
}

/** A table of buttons, of which one is a tab stop; the arrow keys move between them. */
function buildMatrix(indices, names, getCell, label) {
  const table = element("table", { class: `matrix${indices.length > 7 ? " dense" : ""}` });
  table.append(element("caption", {}, label));
  const head = element("tr", {}, element("td"));
  indices.forEach((index) => head.append(element("th", { scope: "col", title: names[index] }, names[index])));
  const body = element("tbody");
  for (const row of indices) {
    const cells = indices.map((column) => getCell(row, column));
    const total = Math.max(1, cells.reduce((sum, cell) => sum + cell.length, 0));
    const line = element("tr", {}, element("th", { scope: "row", title: names[row] }, names[row]));
    cells.forEach((items, position) => {
      const column = indices[position];
      const title = `true: ${names[row]}, predicted: ${names[column]}`;
      const inner = items.length
        ? element("button", { type: "button", tabindex: "-1", title, "aria-label": `${title}: ${items.length}`,
            "data-row": row, "data-column": column, onclick: () => openCell(`${title} (${items.length})`, items) },
          items.length.toLocaleString("en"))
        : element("span", { class: "zero" }, "·");
      const cell = element("td", { style: `--share: ${(items.length / total).toFixed(3)}`,
        class: row === column && names[row] !== "background" ? "correct" : "" }, inner);
      line.append(cell);
    });
    body.append(line);
  }
  table.append(element("thead", {}, head), body);
  body.querySelector("button")?.setAttribute("tabindex", "0");
  table.addEventListener("keydown", (event) => moveInMatrix(event, body));
  return table;
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
  const getCell = collectClassCells();
  const names = [...data.classes, "background"];
  const confusions = [];
  const errors = names.map(() => 0);
  for (const [key, items] of getCell.cells) {
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
  $("class-matrix").replaceChildren(
    buildMatrix(indices, names, getCell, `${shown}true class in rows, predicted class in columns`));
  $("confusion-list").replaceChildren(...confusions.slice(0, 20).map(([count, row, column, items]) => {
    const text = row === BACKGROUND ? `${names[column]}: ${count} false positive${count === 1 ? "" : "s"} on background`
      : column === BACKGROUND ? `${names[row]}: ${count} missed` : `${names[row]} predicted as ${names[column]}: ${count}`;
    return element("li", {}, element("button", { type: "button", onclick: () => openCell(text, items) }, text));
  }));
  if (data.states.length) {
    const states = data.states.map((_, index) => index);
    $("state-matrix-part").hidden = false;
    $("state-matrix").replaceChildren(
      buildMatrix(states, data.states, collectStateCells(), "true state in rows, predicted state in columns"));
  }
}

function startConfusions() {
  $("matrix-controls").hidden = data.classes.length <= MAX_CLASSES || data.classes.length > MAX_ALL_CLASSES;
  $("matrix-all").addEventListener("change", showMatrices);
  listeners.push(showMatrices);
  showMatrices();
}
