// The page's data: detections and objects as columns, and the current thresholds.
const failure = document.getElementById("failure");
window.addEventListener("error", (event) => showFailure(event.message));
window.addEventListener("unhandledrejection", (event) => showFailure(String(event.reason)));

function showFailure(message) {
  failure.hidden = false;
  failure.textContent = `This page failed to load: ${message}`;
}

async function unpack(id) {
  const text = atob(document.getElementById(id).textContent);
  const bytes = Uint8Array.from(text, (letter) => letter.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).json();
}

const data = await unpack("data");
const jpegs = JSON.parse(document.getElementById("jpegs").textContent);
const specs = JSON.parse(document.getElementById("specs").textContent);
const BACKGROUND = data.classes.length;
const MISSED = "missed";
const [CORRECT, WRONG_STATE, , , , ABSENT] = data.errorTypes;
let thresholds = [...data.thresholds]; // per class
const listeners = []; // called after the thresholds have changed

const $ = (id) => document.getElementById(id);
const errorType = (detection) => data.errorTypes[data.errorType[detection]];
const isAboveThreshold = (detection) => data.scores[detection] >= thresholds[data.category[detection]];
const className = (index) => (index === BACKGROUND ? "background" : data.classes[index]);
const stateName = (id) => (data.states.length && id ? data.states[id - 1] : "");

function element(tag, attributes = {}, ...children) {
  const created = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "class") created.className = value;
    else if (key.startsWith("on")) created.addEventListener(key.slice(2), value);
    else if (value !== false) created.setAttribute(key, value);
  }
  created.append(...children);
  return created;
}

function setOptions(select, rows) {
  select.replaceChildren(...rows.map(([value, text]) => element("option", { value }, text)));
}

/** For each object, whether a detection above the threshold matches it. */
function findDetectedObjects() {
  const detected = new Uint8Array(data.objects.id.length);
  data.matchedObject.forEach((object, detection) => {
    if (object >= 0 && isAboveThreshold(detection)) detected[object] = 1;
  });
  return detected;
}
