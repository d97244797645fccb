// What the page knows: columns of detections and objects, and the thresholds that are looked at.
const failure = document.getElementById("failure");
window.addEventListener("error", (event) => tell(event.message));
window.addEventListener("unhandledrejection", (event) => tell(String(event.reason)));

function tell(message) {
  failure.hidden = false;
  failure.textContent = `This page does not work here: ${message}`;
}

async function unpacked(id) {
  const text = atob(document.getElementById(id).textContent);
  const bytes = Uint8Array.from(text, (letter) => letter.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).json();
}

const data = await unpacked("data");
const jpegs = JSON.parse(document.getElementById("jpegs").textContent);
const specs = JSON.parse(document.getElementById("specs").textContent);
const BACKGROUND = data.classes.length;
const MISSED = "missed";
const KIND_NAMES = {
  right: "right", state: "wrong state", class: "wrong class", location: "badly placed", duplicate: "second box",
  absent: "absent object", background: "nothing there", missed: MISSED,
};
const kinds = data.kinds.map((kind) => KIND_NAMES[kind] ?? kind);
let thresholds = [...data.thresholds];
const followers = []; // called after each change of the thresholds

const $ = (id) => document.getElementById(id);
const counts = (detection) => data.scores[detection] >= thresholds[data.category[detection]];
const className = (index) => (index === BACKGROUND ? "background" : data.classes[index]);
const stateName = (id) => (data.states.length && id ? data.states[id - 1] : "");

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "class") made.className = value;
    else if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value !== false) made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

function options(select, rows) {
  select.replaceChildren(...rows.map(([value, text]) => element("option", { value }, text)));
}

/** For each object, whether a detection that counts stands on it. */
function foundObjects() {
  const found = new Uint8Array(data.objects.id.length);
  data.partner.forEach((partner, detection) => {
    if (partner >= 0 && counts(detection)) found[partner] = 1;
  });
  return found;
}
