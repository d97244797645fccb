// Curves of both sides, and the images where they disagree, A beside B.
const LETTERS = ["A", "B"];
const KINDS = { all: "all disagreements", better: "fewer errors in B", worse: "more errors in B", other: "as many, but other errors" };
const group = (rows) => {
  const groups = data.images.map(() => []);
  rows.forEach((row) => groups[row.image].push(row));
  return groups;
};
const objectsIn = group(data.objects);
const sides = data.sides.map((side) => ({ ...side, detectionsIn: group(side.detections) }));

/** The missed objects and the wrong detections of a side in an image, of one class or of all (-1). */
function findErrors(side, image, category = -1) {
  const counts = (row) => category < 0 || row.category === category;
  return {
    missed: objectsIn[image].filter((object) => !object.found[sides.indexOf(side)] && counts(object)),
    wrong: side.detectionsIn[image].filter((detection) => !detection.correct && counts(detection)),
  };
}

const countErrors = (side, image, category) => {
  const { missed, wrong } = findErrors(side, image, category);
  return missed.length + wrong.length;
};

function describe(image) {
  return sides.map((side, index) => {
    const { missed, wrong } = findErrors(side, image);
    return `${LETTERS[index]}: ${missed.length} missed, ${wrong.length} wrong`;
  }).join(" · ");
}

function collectBoxes(side, image) {
  const { missed } = findErrors(side, image);
  const truth = objectsIn[image].map((object) => ({ box: object.box, style: "truth", emphasized: missed.includes(object),
    label: data.classes[object.category] }));
  const predictions = side.detectionsIn[image].map((detection) => ({ box: detection.box, style: "prediction",
    emphasized: !detection.correct, label: `${data.classes[detection.category]} ${detection.score.toFixed(2)}` }));
  return [...truth, ...predictions].sort((a, b) => a.emphasized - b.emphasized);
}

function drawPair(image, large) {
  const [file, width, height] = data.images[image];
  return sides.map((side, index) => element("span", { class: "half" },
    element("span", { class: "letter" }, LETTERS[index]),
    drawImage(image, [0, 0, width, height], collectBoxes(side, image), `${LETTERS[index]}, ${file}`, large ? [520, 500] : [195, 146])));
}

function createCard(image, index, items) {
  const file = element("span", { class: "file" }, data.images[image][0].split("/").pop());
  const pair = element("span", { class: "pair" }, ...drawPair(image, false));
  const text = element("span", { class: "text" }, describe(image), file);
  return element("li", {}, element("button", { type: "button", onclick: () => openPair(items, index) }, pair, text));
}

let opened = [[], 0];
function openPair(items, index) {
  if (!(index in items)) return;
  opened = [items, index];
  $("picture-title").textContent = describe(items[index]);
  $("picture-large").replaceChildren(...drawPair(items[index], true));
  $("picture-text").textContent = `${data.images[items[index]][0]} · ${index + 1} of ${items.length}`;
  $("previous").disabled = index === 0;
  $("next").disabled = index === items.length - 1;
  if (!$("picture-dialog").open) $("picture-dialog").showModal();
}

function showGallery() {
  const kind = $("filter-kind").value;
  const category = Number($("filter-class").value);
  const items = data.images.map((_, image) => image).filter((image) => {
    const [a, b] = sides.map((side) => countErrors(side, image, category));
    if (category >= 0 && a + b === 0) return false;
    return kind === "all" || (kind === "better" ? b < a : kind === "worse" ? b > a : a === b);
  });
  $("picture-count").textContent = items.length
    ? `${items.length.toLocaleString("en")} image${items.length === 1 ? "" : "s"}: ${KINDS[kind]}` : "No images match.";
  fillGallery($("gallery"), $("more"), items, createCard);
}

function showCurves() {
  const category = Number($("curve-class").value);
  const objects = data.objectCounts.reduce((sum, count, index) => sum + (category < 0 || index === category ? count : 0), 0);
  const tag = (rows, index) => rows.map((row) => ({ ...row, side: LETTERS[index] }));
  const curves = sides.flatMap((side, index) => tag(computeCurve(side, category, objects), index));
  const points = sides.flatMap((side, index) => tag(computePoint(side, category, objects), index));
  for (const id of ["pr-chart", "f1-chart", "precision-chart", "recall-chart"]) {
    setChartData(id, "curve", curves);
    setChartData(id, "threshold", points);
  }
}

/** Precision, recall and F1 of a side at its thresholds, as a list; empty without a detection. */
function computePoint(side, category, objects) {
  const chosen = side.category.map((_, detection) => detection).filter((detection) =>
    (category < 0 || side.category[detection] === category)
    && side.scores[detection] >= side.thresholds[side.category[detection]]);
  if (!chosen.length) return [];
  const tp = chosen.reduce((sum, detection) => sum + side.truePositive[detection], 0);
  const limits = category < 0 ? side.thresholds : [side.thresholds[category]];
  const score = limits.reduce((sum, limit) => sum + limit, 0) / limits.length;
  return [{ score, precision: tp / chosen.length, recall: tp / Math.max(1, objects), F1: (2 * tp) / (chosen.length + objects) }];
}

await drawCharts();
setOptions($("curve-class"), [[-1, "all classes"], ...data.classes.map((name, index) => [index, name])]);
setOptions($("filter-kind"), Object.entries(KINDS));
setOptions($("filter-class"), [[-1, "any"], ...data.classes.map((name, index) => [index, name])]);
$("curve-class").addEventListener("change", showCurves);
$("filters").addEventListener("input", showGallery);
$("filters").addEventListener("submit", (event) => event.preventDefault());
$("filters").addEventListener("reset", () => setTimeout(showGallery));
$("previous").addEventListener("click", () => openPair(opened[0], opened[1] - 1));
$("next").addEventListener("click", () => openPair(opened[0], opened[1] + 1));
$("picture-dialog").addEventListener("keydown", (event) => {
  if (event.key === "ArrowLeft") openPair(opened[0], opened[1] - 1);
  if (event.key === "ArrowRight") openPair(opened[0], opened[1] + 1);
});
document.querySelector("dialog .close").addEventListener("click", () => $("picture-dialog").close());
showCurves();
showGallery();
document.documentElement.dataset.ready = "yes";
