// The threshold: counts right, wrong and missed anew from the columns.
const slider = $("slider");
const sliderNumber = $("slider-number");
const chosenClass = () => Number($("pr-class").value); // -1: all

/** Right, wrong and missed at the thresholds, of a class or of all (-1). */
function recount(category) {
  let right = 0;
  let wrong = 0;
  for (let detection = 0; detection < data.scores.length; detection++) {
    if ((category >= 0 && data.category[detection] !== category) || !counts(detection)) continue;
    if (data.hit[detection]) right++;
    else wrong++;
  }
  return { right, wrong, missed: objectsOf(category) - right };
}

function objectsOf(category) {
  const { category: categories, absent } = data.objects;
  return categories.reduce((sum, one, place) => sum + (!absent[place] && (category < 0 || one === category)), 0);
}

/** Precision and recall at each score, best first; at most 400 points. */
function precisionRecallCurve(category) {
  const objects = Math.max(1, objectsOf(category));
  const points = [];
  let right = 0;
  let all = 0;
  data.scores.forEach((score, detection) => {
    if (category >= 0 && data.category[detection] !== category) return;
    all++;
    right += data.hit[detection];
    points.push({ score, recall: right / objects, precision: right / all });
  });
  const step = Math.max(1, points.length / 400);
  const thinned = [];
  for (let place = 0; place < points.length; place += step) thinned.push(points[Math.floor(place)]);
  if (points.length) thinned.push(points[points.length - 1]);
  return thinned;
}

function showCounts() {
  const category = chosenClass();
  const { right, wrong, missed } = recount(category);
  const share = (part, whole) => (whole ? part / whole : 0);
  const precision = share(right, right + wrong);
  const recall = share(right, right + missed);
  $("count-tp").textContent = right.toLocaleString("en");
  $("count-fp").textContent = wrong.toLocaleString("en");
  $("count-fn").textContent = missed.toLocaleString("en");
  $("count-precision").textContent = right + wrong ? precision.toFixed(3) : "—";
  $("count-recall").textContent = right + missed ? recall.toFixed(3) : "—";
  $("count-f1").textContent = share(2 * right, 2 * right + wrong + missed).toFixed(3);
  setChartData("pr-chart", "here", right + wrong ? [{ precision, recall, score: shownThreshold() }] : []);
}

/** One number for the slider: of the class, or, where classes differ, their mean. */
function shownThreshold() {
  const category = chosenClass();
  if (category >= 0) return thresholds[category];
  const same = thresholds.every((one) => one === thresholds[0]);
  return same ? thresholds[0] : thresholds.reduce((sum, one) => sum + one, 0) / thresholds.length;
}

function showThreshold() {
  slider.value = shownThreshold();
  sliderNumber.value = Number(shownThreshold().toFixed(5));
}

function setThreshold(value) {
  if (Number.isNaN(value)) return;
  thresholds = thresholds.map(() => Math.min(1, Math.max(0, value)));
  changed();
}

let waiting = 0;
function changed() {
  showCounts();
  clearTimeout(waiting); // pictures and matrices follow when the slider rests
  waiting = setTimeout(() => followers.forEach((follow) => follow()), 120);
}

function startThreshold() {
  options($("pr-class"), [[-1, "all classes"], ...data.classes.map((name, index) => [index, name])]);
  $("pr-class").addEventListener("change", () => {
    showThreshold();
    setChartData("pr-chart", "curve", precisionRecallCurve(chosenClass()));
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
    changed();
  });
  setChartData("pr-chart", "curve", precisionRecallCurve(-1));
  showThreshold();
  showCounts();
}
