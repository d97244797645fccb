// The galleries. An item is {detection}, {object} (missed) or {image}.
const groupByImage = (images) => {
  const groups = data.images.map(() => []);
  images.forEach((image, index) => groups[image].push(index));
  return groups;
};
const detectionsIn = groupByImage(data.image);
const objectsIn = groupByImage(data.objects.image);

const getImage = (item) =>
  item.detection !== undefined ? data.image[item.detection]
    : item.object !== undefined ? data.objects.image[item.object] : item.image;

const formatLabel = (category, state) => className(category) + (stateName(state) ? `, ${stateName(state)}` : "");
const formatObject = (object) => formatLabel(data.objects.category[object], data.objects.state[object]);
const formatDetection = (detection) =>
  `${formatLabel(data.category[detection], data.state[detection])} ${data.scores[detection].toFixed(2)}`;

function describeItem(item) {
  if (item.detection !== undefined) {
    const { detection } = item;
    const object = data.matchedObject[detection];
    const error = errorType(detection);
    const truth = object >= 0 && error !== CORRECT ? ` (ground truth: ${formatObject(object)})` : "";
    return `${data.errorTitles[error]}: ${formatDetection(detection)}${truth}`;
  }
  if (item.object !== undefined) return `${data.errorTitles[MISSED]}: ${formatObject(item.object)}`;
  const count = errors.filter((error) => getImage(error) === item.image).length;
  const correct = detectionsIn[item.image].filter(isCorrect).length;
  return `${correct} correct, ${count} error${count === 1 ? "" : "s"}`;
}

/** The part of the image that a picture shows: [left, top, width, height] in image pixels. */
function computeWindow(item, whole) {
  const [, width, height] = data.images[getImage(item)];
  const box = item.detection !== undefined ? data.boxes[item.detection] : item.object !== undefined ? data.objects.boxes[item.object] : null;
  if (!box || whole) return [0, 0, width, height];
  const cropHeight = Math.min(Math.max(box[2] * 0.75, box[3], 8) * 2.2, height);
  const cropWidth = Math.min(cropHeight * 4 / 3, width);
  const clamp = (center, size, limit) => Math.min(Math.max(0, center - size / 2), limit - size);
  const left = clamp(box[0] + box[2] / 2, cropWidth, width);
  const top = clamp(box[1] + box[3] / 2, cropHeight, height);
  return [left, top, cropWidth, cropHeight];
}

function collectBoxes(item) {
  const image = getImage(item);
  const whole = item.image !== undefined;
  const boxes = [];
  if ($("show-truth").checked) {
    for (const object of objectsIn[image]) {
      const absent = data.objects.absent[object];
      const emphasized = whole ? !detectedObjects[object] && !absent
        : object === item.object || object === data.matchedObject[item.detection];
      boxes.push({ box: data.objects.boxes[object], style: absent ? "absent" : "truth", emphasized,
        label: formatObject(object) });
    }
  }
  if ($("show-predictions").checked) {
    for (const detection of detectionsIn[image]) {
      if (!isAboveThreshold(detection)) continue;
      boxes.push({ box: data.boxes[detection], style: "prediction",
        emphasized: whole ? errorType(detection) !== CORRECT : detection === item.detection,
        label: formatDetection(detection) });
    }
  }
  return boxes.filter(({ box }) => box).sort((a, b) => a.emphasized - b.emphasized);
}

const drawPicture = (item, large) => drawImage(getImage(item), computeWindow(item, large), collectBoxes(item),
  `${describeItem(item)}, ${data.images[getImage(item)][0]}`, large ? LARGE : SMALL);

function createCard(item, index, items) {
  const file = element("span", { class: "file" }, data.images[getImage(item)][0].split("/").pop());
  const text = element("span", { class: "text" }, describeItem(item), file);
  const open = () => openPicture(items, index);
  return element("li", {}, element("button", { type: "button", onclick: open }, drawPicture(item, false), text));
}

let opened = [[], 0];
function openPicture(items, index) {
  opened = [items, index];
  const item = items[index];
  $("picture-title").textContent = describeItem(item);
  $("picture-large").replaceChildren(drawPicture(item, true));
  $("picture-text").textContent = `${data.images[getImage(item)][0]} · ${index + 1} of ${items.length}`;
  $("previous").disabled = index === 0;
  $("next").disabled = index === items.length - 1;
  if (!$("picture-dialog").open) $("picture-dialog").showModal();
}

function movePicture(step) {
  const [items, index] = opened;
  if (items[index + step]) openPicture(items, index + step);
}

function openCell(title, items) {
  $("cell-title").textContent = title;
  fillGallery($("cell-gallery"), $("cell-more"), items, createCard);
  $("cell-dialog").showModal();
}

const GALLERIES = {
  errors: "all errors", best: "best images", worst: "worst images", random: "random images",
  false_positives: "false positives, highest score first", missed: "missed objects, largest first",
  state_confusions: "wrong states, highest score first", correct: "correct detections",
};
let errors = [];
let detectedObjects = findDetectedObjects();

function collectErrors() {
  detectedObjects = findDetectedObjects();
  errors = [];
  data.scores.forEach((_, detection) => {
    if (errorType(detection) !== CORRECT && isAboveThreshold(detection)) errors.push({ detection });
  });
  detectedObjects.forEach((detected, object) => {
    if (!detected && !data.objects.absent[object]) errors.push({ object });
  });
}

const isCorrect = (detection) => isAboveThreshold(detection) && errorType(detection) === CORRECT;
const getErrorType = (item) => (item.object !== undefined ? MISSED : errorType(item.detection));
const area = (object) => {
  const box = data.objects.boxes[object];
  return box ? box[2] * box[3] : 0;
};

function collectItems(gallery) {
  if (gallery in data.galleries) return data.galleries[gallery].map((image) => ({ image }));
  if (gallery === "false_positives") {
    return errors.filter((item) => item.object === undefined && getErrorType(item) !== WRONG_STATE);
  }
  if (gallery === "missed") {
    return errors.filter((item) => item.object !== undefined).sort((a, b) => area(b.object) - area(a.object));
  }
  if (gallery === "state_confusions") return errors.filter((item) => getErrorType(item) === WRONG_STATE);
  if (gallery === "correct") return collectCorrect();
  return errors;
}

function collectCorrect() {
  const items = [];
  data.scores.forEach((_, detection) => {
    if (isCorrect(detection)) items.push({ detection });
  });
  return items;
}

/** Whether an item matches the filters; an image does if one of its items does. */
function matchesFilter(item, filter) {
  if (item.image !== undefined) {
    if (!filter.active) return true;
    const items = [...errors, ...filter.correct];
    return items.some((other) => getImage(other) === item.image && matchesFilter(other, filter));
  }
  const { detection } = item;
  const object = item.object ?? data.matchedObject[detection];
  const categories = [detection !== undefined ? data.category[detection] : -1, object >= 0 ? data.objects.category[object] : -1];
  const states = [detection !== undefined ? data.state[detection] : 0, object >= 0 ? data.objects.state[object] : 0];
  if (filter.category >= 0 && !categories.includes(filter.category)) return false;
  if (filter.state > 0 && !states.includes(filter.state)) return false;
  if (filter.error !== "" && getErrorType(item) !== filter.error) return false;
  if (filter.low === null && filter.high === null) return true;
  if (detection === undefined) return false; // a missed object has no score
  return data.scores[detection] >= (filter.low ?? 0) && data.scores[detection] <= (filter.high ?? 1);
}

function showGallery() {
  const readScore = (id) => ($(id).value === "" ? null : Number($(id).value));
  const category = Number($("filter-class").value);
  const state = Number($("filter-state").value);
  const error = $("filter-error").value;
  const [low, high] = [readScore("filter-low"), readScore("filter-high")];
  const active = category >= 0 || state > 0 || error !== "" || low !== null || high !== null;
  const filter = { category, state, error, low, high, active, correct: active ? collectCorrect() : [] };
  const items = collectItems($("filter-gallery").value).filter((item) => matchesFilter(item, filter));
  const count = `${items.length.toLocaleString("en")} picture${items.length === 1 ? "" : "s"}`;
  $("picture-count").textContent = items.length ? `${count}: ${GALLERIES[$("filter-gallery").value]}` : "No pictures match.";
  fillGallery($("gallery"), $("more"), items, createCard);
}

function startPictures() {
  const galleries = Object.entries(GALLERIES).filter(([key]) => data.states.length || key !== "state_confusions");
  setOptions($("filter-gallery"), galleries);
  setOptions($("filter-class"), [[-1, "any"], ...data.classes.map((name, index) => [index, name])]);
  setOptions($("filter-state"), [[0, "any"], ...data.states.map((name, index) => [index + 1, name])]);
  const types = data.errorTypes.filter((type) => data.states.length || (type !== WRONG_STATE && type !== ABSENT));
  setOptions($("filter-error"), [["", "any"], ...[...types, MISSED].map((type) => [type, data.errorTitles[type]])]);
  $("filter-state-label").hidden = !data.states.length;
  $("filters").addEventListener("input", showGallery);
  $("filters").addEventListener("submit", (event) => event.preventDefault());
  $("filters").addEventListener("reset", () => setTimeout(showGallery));
  $("previous").addEventListener("click", () => movePicture(-1));
  $("next").addEventListener("click", () => movePicture(1));
  $("picture-dialog").addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") movePicture(-1);
    if (event.key === "ArrowRight") movePicture(1);
  });
  for (const button of document.querySelectorAll("dialog .close")) {
    button.addEventListener("click", () => button.closest("dialog").close());
  }
  listeners.push(() => {
    collectErrors();
    showGallery();
  });
  collectErrors();
  showGallery();
}
