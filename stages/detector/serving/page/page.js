// The page at /: sends images to v1/predict and draws what comes back. Nothing is kept beyond this tab.

const $ = (id) => document.getElementById(id);
const LOWEST = 0.01;  // what the slider can show is asked for once
const SHARP = 1024;   // pixels of the canvas's longer side at least, so that lines stay fine on a small image
const LARGEST = 2048; // and at most: phones refuse much larger ones

let model = null;
let threshold = null; // of all classes; null: each its own
let shown = -1;       // place in `images`
let lit = -1;         // the detection whose row is pointed at
let images = [];      // {name, file, bitmap, answer}

function headers() {
  const token = sessionStorage.getItem("token");
  return token ? { Authorization: `Bearer ${token}` } : {};
}

async function ask(path, options = {}) {
  let response;
  try {
    response = await fetch(path, { ...options, headers: { ...headers(), ...options.headers } });
  } catch {
    throw new Error("The service does not answer.");
  }
  if (response.status === 401) $("token-form").hidden = false;
  const answer = await response.json().catch(() => ({ detail: `The service answered ${response.status}.` }));
  if (!response.ok) throw new Error(answer.detail);
  return answer;
}

function say(text, alarm = false) {
  $("status").textContent = text;
  $("status").classList.toggle("alarm", alarm);
}

async function meet() {
  try {
    model = await ask("v1/model");
  } catch (error) {
    say(error.message, true);
    return;
  }
  $("token-form").hidden = true;
  say("");
  $("model").textContent = `${model.model}: ${model.classes.join(", ")}` +
    (model.states.length ? ` (${model.states.join(", ")})` : "");
  for (const cell of document.querySelectorAll(".of-states")) cell.hidden = !model.states.length;
  $("tiles").checked = model.tile !== "0";
  $("tiles").parentElement.hidden = model.tile === "0" && model.auto_tile === null;
  resetThreshold();
}

async function add(files) {
  if (!model || !files.length) return;
  say(files.length === 1 ? `Looking at ${files[0].name} …` : `Looking at ${files.length} images …`);
  const first = images.length, began = performance.now(), problems = [];
  for (const file of files) {
    try {
      const answer = await predict(file);
      const bitmap = await createImageBitmap(file).catch(() => null); // a format that the browser cannot show
      images.push({ name: file.name || "pasted image", file, bitmap, answer });
    } catch (error) {
      problems.push(`${file.name}: ${error.message}`);
    }
  }
  if (images.length > first) show(first);
  tell(began, files.length, problems);
}

async function predict(file) {
  const tile = !$("tiles").checked ? 0 : model.tile === "0" ? "auto" : model.tile;
  const answer = await ask(`v1/predict?threshold=${LOWEST}&tile=${tile}`, { method: "POST", body: file });
  return answer.images[0];
}

// All images again, after the tiles were turned on or off.
async function again() {
  if (!images.length) return;
  say(images.length === 1 ? `Looking at ${images[0].name} …` : `Looking at ${images.length} images …`);
  const began = performance.now(), problems = [];
  for (const image of images) {
    try {
      image.answer = await predict(image.file);
    } catch (error) {
      problems.push(`${image.name}: ${error.message}`);
    }
  }
  show(shown);
  tell(began, images.length, problems);
}

function tell(began, count, problems) {
  const milliseconds = Math.round(performance.now() - began), found = $("status").dataset.found;
  if (problems.length) say(problems.join(" "), true);
  else say(count === 1 ? `${found} in ${milliseconds} ms` : `${found}; ${count} images in ${milliseconds} ms`);
}

function limit(detection) {
  return threshold ?? model.threshold[detection.category];
}

function detections() {
  return images[shown].answer.detections.filter((one) => one.score >= limit(one));
}

function classColor(id) {
  return model.colors[id - 1];
}

function textColor(background) {
  const [red, green, blue] = [1, 3, 5].map((start) => parseInt(background.slice(start, start + 2), 16));
  return 0.299 * red + 0.587 * green + 0.114 * blue >= 100 ? "#000" : "#fff";
}

function text(one) {
  return `${one.category}${one.state ? ` ${one.state}` : ""} ${one.score.toFixed(2)}`;
}

function show(place) {
  shown = place;
  lit = -1;
  $("result").hidden = false;
  $("chosen").hidden = images.length < 2;
  $("chosen").replaceChildren(...images.map(({ name }, index) => {
    const button = document.createElement("button");
    button.textContent = name;
    button.setAttribute("aria-current", index === shown);
    button.addEventListener("click", () => { show(index); $("chosen").children[index].focus(); });
    return button;
  }));
  update();
}

function update() {
  const single = threshold ?? [...new Set(Object.values(model.threshold))];
  const value = Array.isArray(single) ? (single.length === 1 ? single[0] : null) : single;
  $("slider-value").textContent = value === null ? "by class" : value.toFixed(2);
  if (shown < 0) return;
  const found = detections();
  $("status").dataset.found = `${found.length} ${found.length === 1 ? "object" : "objects"}`;
  say($("status").dataset.found);
  draw(found);
  list(found);
  $("json").textContent = JSON.stringify({ ...images[shown].answer, name: images[shown].name, detections: found },
    null, 2);
}

function draw(found) {
  const { bitmap, answer, name } = images[shown];
  const canvas = $("canvas"), longest = Math.max(answer.width, answer.height);
  const scale = Math.min(LARGEST, Math.max(SHARP, longest)) / longest;
  canvas.width = Math.max(1, Math.round(answer.width * scale));
  canvas.height = Math.max(1, Math.round(answer.height * scale));
  canvas.setAttribute("aria-label", `${name}: ${found.map(text).join(", ") || "nothing found"}`);
  const brush = canvas.getContext("2d");
  if (bitmap) brush.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  const dot = canvas.width / (canvas.clientWidth || canvas.width); // a pixel of the screen
  brush.font = `600 ${13 * dot}px system-ui, sans-serif`;
  brush.textBaseline = "top";
  const worstFirst = [...found.entries()].reverse();
  const lighten = (index) => { brush.globalAlpha = lit >= 0 && lit !== index ? 0.25 : 1; };
  for (const [index, one] of worstFirst) {
    const [left, top, right, bottom] = one.box_xyxy.map((value) => value * scale);
    lighten(index);
    for (const [style, width] of [["#000a", 4], [classColor(one.category_id), 2]]) {
      brush.strokeStyle = style;
      brush.lineWidth = width * dot;
      brush.strokeRect(left, top, right - left, bottom - top);
    }
  }
  for (const [index, one] of worstFirst) { // over all boxes
    const [left, top] = one.box_xyxy.map((value) => value * scale);
    lighten(index);
    const width = brush.measureText(text(one)).width + 8 * dot, height = 17 * dot;
    const y = top >= height ? top - height : top, x = Math.max(0, Math.min(left, canvas.width - width));
    brush.fillStyle = classColor(one.category_id);
    brush.fillRect(x, y, width, height);
    brush.fillStyle = textColor(classColor(one.category_id));
    brush.fillText(text(one), x + 4 * dot, y + 2 * dot);
  }
  brush.globalAlpha = 1;
}

function list(found) {
  $("detections").replaceChildren(...found.map((one, index) => {
    const row = document.createElement("tr");
    const cells = [one.category, ...(model.states.length ? [one.state ?? "–"] : []), one.score.toFixed(3),
      one.box_xyxy.map(Math.round).join(", ")];
    for (const cell of cells) row.insertCell().textContent = cell;
    const light = (place) => { lit = place; draw(found); };
    row.addEventListener("pointerenter", () => light(index));
    row.addEventListener("pointerleave", () => light(-1));
    return row;
  }));
  $("legend").replaceChildren(...[...grouped(found).entries()].sort(([a], [b]) => a - b).map(([id, some]) => {
    const entry = document.createElement("li"), swatch = document.createElement("span");
    swatch.className = "swatch";
    swatch.style.background = classColor(id);
    entry.append(swatch, `${some[0].category} ${some.length}`);
    return entry;
  }));
}

function grouped(found) {
  const groups = new Map();
  for (const one of found) groups.set(one.category_id, [...(groups.get(one.category_id) ?? []), one]);
  return groups;
}

function resetThreshold() {
  threshold = null;
  const values = Object.values(model.threshold);
  $("slider").value = values.reduce((sum, value) => sum + value, 0) / values.length;
  update();
}

$("slider").addEventListener("input", () => { threshold = Number($("slider").value); update(); });
$("slider-reset").addEventListener("click", resetThreshold);
$("tiles").addEventListener("change", again);
$("files").addEventListener("change", async () => { await add([...$("files").files]); $("files").value = ""; });
$("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("token", $("token").value);
  meet();
});
$("copy").addEventListener("click", async () => {
  try {
    await navigator.clipboard.writeText($("json").textContent);
    say("Copied");
  } catch {  // not allowed on a page that came without TLS from another machine
    getSelection().selectAllChildren($("json"));
    say("Selected: copy it with Ctrl-C");
  }
});
addEventListener("paste", (event) => add([...event.clipboardData.files]));
addEventListener("dragover", (event) => { event.preventDefault(); $("drop").classList.add("over"); });
addEventListener("dragleave", () => $("drop").classList.remove("over"));
addEventListener("drop", (event) => {
  event.preventDefault();
  $("drop").classList.remove("over");
  add([...event.dataTransfer.files]);
});
addEventListener("resize", () => { if (shown >= 0) draw(detections()); });

await meet();
document.documentElement.dataset.ready = "yes";
