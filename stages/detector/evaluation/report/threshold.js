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

/** Precision and recall at each score, highest score first; at most 400 points. */
function computePrecisionRecall(category) {
  const objects = Math.max(1, countObjects(category));
  const points = [];
  let tp = 0;
  let detections = 0;
  data.scores.forEach((score, detection) => {
    if (category >= 0 && data.category[detection] !== category) return;
    detections++;
    tp += data.truePositive[detection];
    points.push({ score, recall: tp / objects, precision: tp / detections });
  });
  const step = Math.max(1, points.length / 400);
  const sampled = [];
  for (let index = 0; index < points.length; index += step) sampled.push(points[Math.floor(index)]);
  if (points.length) sampled.push(points[points.length - 1]);
  return sampled;
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
  setChartData("pr-chart", "threshold", tp + fp ? [{ precision, recall, score: currentThreshold() }] : []);
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
    setChartData("pr-chart", "curve", computePrecisionRecall(selectedClass()));
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
  setChartData("pr-chart", "curve", computePrecisionRecall(-1));
  showThreshold();
  showCounts();
}
