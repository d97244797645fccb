// Confusion matrices whose cells open their pictures.
const FEW = 14; // classes that a matrix shows without being asked for all

/** Counts and the items of a cell: rows what was there, columns what was found, background last. */
function classCells() {
  const cells = new Map();
  const add = (row, column, item) => {
    const key = row * (BACKGROUND + 1) + column;
    if (!cells.has(key)) cells.set(key, []);
    cells.get(key).push(item);
  };
  data.partner.forEach((partner, detection) => {
    if (counts(detection)) {
      add(partner < 0 ? BACKGROUND : data.objects.category[partner], data.category[detection], { detection });
    }
  });
  foundObjects().forEach((found, object) => {
    if (!found && !data.objects.absent[object]) add(data.objects.category[object], BACKGROUND, { object });
  });
  return (row, column) => cells.get(row * (BACKGROUND + 1) + column) ?? [];
}

function stateCells() {
  const cells = data.states.map(() => data.states.map(() => []));
  data.partner.forEach((partner, detection) => {
    const kind = data.kinds[data.kind[detection]];
    if (!counts(detection) || (kind !== "right" && kind !== "state")) return;
    const [truth, told] = [data.objects.state[partner], data.state[detection]];
    if (truth && told) cells[truth - 1][told - 1].push({ detection });
  });
  return (row, column) => cells[row][column];
}

/** A table of buttons of which one is a tab stop; the arrow keys go on from there. */
function matrix(places, names, cellsOf, label) {
  const table = element("table", { class: `matrix${places.length > 7 ? " dense" : ""}` });
  table.append(element("caption", {}, label));
  const head = element("tr", {}, element("td"));
  places.forEach((place) => head.append(element("th", { scope: "col", title: names[place] }, names[place])));
  const body = element("tbody");
  for (const row of places) {
    const cells = places.map((column) => cellsOf(row, column));
    const total = Math.max(1, cells.reduce((sum, cell) => sum + cell.length, 0));
    const line = element("tr", {}, element("th", { scope: "row", title: names[row] }, names[row]));
    cells.forEach((items, index) => {
      const column = places[index];
      const title = `there: ${names[row]}, found: ${names[column]}`;
      const inner = items.length
        ? element("button", { type: "button", tabindex: "-1", title, "aria-label": `${title}: ${items.length}`,
            "data-row": row, "data-column": column, onclick: () => openCell(`${title} (${items.length})`, items) },
          items.length.toLocaleString("en"))
        : element("span", { class: "zero" }, "·");
      const cell = element("td", { style: `--share: ${(items.length / total).toFixed(3)}`,
        class: row === column && names[row] !== "background" ? "right" : "" }, inner);
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
  const cellsOf = classCells();
  const names = [...data.classes, "background"];
  const confused = [];
  const trouble = names.map(() => 0);
  for (let row = 0; row < names.length; row++) {
    for (let column = 0; column < names.length; column++) {
      const items = cellsOf(row, column);
      if (row === column || !items.length) continue;
      confused.push([items.length, row, column, items]);
      trouble[row] += items.length;
      trouble[column] += items.length;
    }
  }
  confused.sort((a, b) => b[0] - a[0] || a[1] - b[1] || a[2] - b[2]);
  let places = names.map((_, place) => place);
  if (data.classes.length > FEW && !$("matrix-all").checked) {
    const worst = places.slice(0, -1).sort((a, b) => trouble[b] - trouble[a] || a - b).slice(0, FEW);
    places = [...worst.sort((a, b) => a - b), BACKGROUND];
  }
  $("class-matrix").replaceChildren(matrix(places, names, cellsOf, "there in rows, found in columns"));
  $("confusion-list").replaceChildren(...confused.slice(0, 20).map(([count, row, column, items]) => {
    const text = row === BACKGROUND ? `${names[column]} where nothing is`
      : column === BACKGROUND ? `${names[row]} missed` : `${names[row]} taken for ${names[column]}`;
    return element("li", {}, element("button", { type: "button", onclick: () => openCell(`${text} (${count})`, items) },
      `${text}: ${count}`));
  }));
  if (data.states.length) {
    $("state-matrix-part").hidden = false;
    $("state-matrix").replaceChildren(
      matrix(data.states.map((_, place) => place), data.states, stateCells(), "true in rows, told in columns"));
  }
}

function startConfusions() {
  $("matrix-controls").hidden = data.classes.length <= FEW;
  $("matrix-all").addEventListener("change", showMatrices);
  followers.push(showMatrices);
  showMatrices();
}
