// The threshold slider: recounts true positives, false positives and false negatives.
const slider = $("slider");
const sliderNumber = $("slider-number");
const selectedClass = () => Number($("pr-class").value); // -1: all

/** True positives, false positives and false negatives at the thresholds, of one class or of all (-1). */
function countMatches(category) {
  let tp = 0;
  let fp = 0;
  for (let detection = 0; detection < data.scores.length; detection++) {
    if ((category >= 0 && data.category[detection] !== category) || !isAboveThreshold(detection)) continue;
    if (data.truePositive[detection]) tp++;
    else fp++;
  }
  return { tp, fp, fn: countObjects(category) - tp };
}

function countObjects(category) {
  const { category: categories, absent } = data.objects;
  return categories.reduce((sum, one, object) => sum + (!absent[object] && (category < 0 || one === category)), 0);
}

function showCounts() {
  const { tp, fp, fn } = countMatches(selectedClass());
  const divide = (part, whole) => (whole ? part / whole : 0);
  const precision = divide(tp, tp + fp);
  const recall = divide(tp, tp + fn);
  $("count-tp").textContent = tp.toLocaleString("en");
  $("count-fp").textContent = fp.toLocaleString("en");
  $("count-fn").textContent = fn.toLocaleString("en");
  $("count-precision").textContent = tp + fp ? precision.toFixed(3) : "—";
  $("count-recall").textContent = tp + fn ? recall.toFixed(3) : "—";
  $("count-f1").textContent = divide(2 * tp, 2 * tp + fp + fn).toFixed(3);
  const f1 = divide(2 * tp, 2 * tp + fp + fn);
  const point = { precision, recall, F1: f1, score: currentThreshold() };
  setChartData("pr-chart", "threshold", tp + fp ? [point] : []);
  setChartData("confidence-chart", "threshold", [point]);
}

function showCurves() {
  const curve = computeCurve(data, selectedClass(), countObjects(selectedClass()));
  setChartData("pr-chart", "curve", curve);
  setChartData("confidence-chart", "curve", curve.flatMap((row) =>
    ["precision", "recall", "F1"].map((metric) => ({ ...row, metric, value: row[metric] }))));
}

/** Threshold, precision, recall and F1 of each class in the Classes table. */
function showClassRows() {
  const table = $("class-table");
  if (!table || table.dataset.live === undefined) return;
  const [tp, detections, objects] = [0, 0, 0].map(() => new Float64Array(data.classes.length));
  data.scores.forEach((_, detection) => {
    if (!isAboveThreshold(detection)) return;
    detections[data.category[detection]]++;
    tp[data.category[detection]] += data.truePositive[detection];
  });
  data.objects.category.forEach((category, object) => { objects[category] += !data.objects.absent[object]; });
  const divide = (part, whole) => (whole ? part / whole : null);
  for (const row of table.tBodies[0].rows) {
    const index = Number(row.dataset.class);
    const values = {
      threshold: thresholds[index],
      precision: divide(tp[index], detections[index]),
      recall: divide(tp[index], objects[index]),
      F1: objects[index] ? (2 * tp[index]) / (detections[index] + objects[index]) : null,
    };
    for (const cell of row.querySelectorAll("[data-live]")) {
      const value = values[cell.dataset.live];
      cell.dataset.value = value ?? "";
      cell.textContent = value === null ? "—" : value.toFixed(3);
    }
  }
}

/** The slider's value: the threshold of the selected class, or the mean over the classes. */
function currentThreshold() {
  const category = selectedClass();
  if (category >= 0) return thresholds[category];
  const same = thresholds.every((one) => one === thresholds[0]);
  return same ? thresholds[0] : thresholds.reduce((sum, one) => sum + one, 0) / thresholds.length;
}

function showThreshold() {
  slider.value = currentThreshold();
  sliderNumber.value = Number(currentThreshold().toFixed(5));
}

function setThreshold(value) {
  if (Number.isNaN(value)) return;
  thresholds = thresholds.map(() => Math.min(1, Math.max(0, value)));
  updateThreshold();
}

let timer = 0;
function updateThreshold() {
  showCounts();
  clearTimeout(timer); // update pictures and matrices once the slider has stopped
  timer = setTimeout(() => listeners.forEach((listener) => listener()), 120);
}

function startThreshold() {
  setOptions($("pr-class"), [[-1, "all classes"], ...data.classes.map((name, index) => [index, name])]);
  $("pr-class").addEventListener("change", () => {
    showThreshold();
    showCurves();
    showCounts();
  });
  slider.addEventListener("input", () => {
    sliderNumber.value = slider.value;
    setThreshold(Number(slider.value));
  });
  sliderNumber.addEventListener("input", () => {
    slider.value = sliderNumber.value;
    setThreshold(sliderNumber.value === "" ? NaN : Number(sliderNumber.value));
  });
  $("slider-reset").addEventListener("click", () => {
    thresholds = [...data.thresholds];
    showThreshold();
    updateThreshold();
  });
  listeners.push(showClassRows);
  showCurves();
  showThreshold();
  showCounts();
}
