// Pictures with boxes over them. An item is {detection}, {object} (missed) or {image}.
const PAGE = 12; // pictures at a time
const SVG = "http://www.w3.org/2000/svg";
const blobs = {};
const byImage = (images) => {
  const rows = data.images.map(() => []);
  images.forEach((image, place) => rows[image].push(place));
  return rows;
};
const detectionsIn = byImage(data.image);
const objectsIn = byImage(data.objects.image);

function jpeg(image) {
  if (!(image in jpegs)) return null;
  if (!(image in blobs)) {
    const bytes = Uint8Array.from(atob(jpegs[image]), (letter) => letter.charCodeAt(0));
    blobs[image] = URL.createObjectURL(new Blob([bytes], { type: "image/jpeg" }));
  }
  return blobs[image];
}

const imageOf = (item) =>
  item.detection !== undefined ? data.image[item.detection]
    : item.object !== undefined ? data.objects.image[item.object] : item.image;

const described = (category, state) => className(category) + (stateName(state) ? `, ${stateName(state)}` : "");

function describe(item) {
  if (item.detection !== undefined) {
    const { detection } = item;
    const partner = data.partner[detection];
    const kind = kinds[data.kind[detection]];
    let text = `${kind}: ${described(data.category[detection], data.state[detection])} ${data.scores[detection].toFixed(2)}`;
    if (partner >= 0 && kind !== "right") text += `, truly ${described(data.objects.category[partner], data.objects.state[partner])}`;
    return text;
  }
  if (item.object !== undefined) return `missed: ${described(data.objects.category[item.object], data.objects.state[item.object])}`;
  const items = mistakes.filter((one) => imageOf(one) === item.image);
  const right = detectionsIn[item.image].filter((detection) => counts(detection) && data.kinds[data.kind[detection]] === "right");
  return `${right.length} right, ${items.length} mistake${items.length === 1 ? "" : "s"}`;
}

function svg(tag, attributes, ...children) {
  const made = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

/** What a picture shows of its image: [left, top, width, height]. */
function windowOf(item, whole) {
  const [, width, height] = data.images[imageOf(item)];
  const box = item.detection !== undefined ? data.boxes[item.detection] : item.object !== undefined ? data.objects.boxes[item.object] : null;
  if (!box || whole) return [0, 0, width, height];
  const high = Math.min(Math.max(box[2] * 0.75, box[3], 8) * 2.2, height);
  const wide = Math.min(high * 4 / 3, width);
  const inside = (middle, size, most) => Math.min(Math.max(0, middle - size / 2), most - size);
  return [inside(box[0] + box[2] / 2, wide, width), inside(box[1] + box[3] / 2, high, height), wide, high];
}

function boxesOf(item) {
  const image = imageOf(item);
  const found = objectsFound;
  const whole = item.image !== undefined;
  const boxes = [];
  if ($("show-truth").checked) {
    for (const object of objectsIn[image]) {
      const absent = data.objects.absent[object];
      const about = whole ? !found[object] && !absent : object === item.object || object === data.partner[item.detection];
      boxes.push({ box: data.objects.boxes[object], style: absent ? "absent" : "truth", about,
        label: described(data.objects.category[object], data.objects.state[object]) });
    }
  }
  if ($("show-found").checked) {
    for (const detection of detectionsIn[image]) {
      if (!counts(detection)) continue;
      boxes.push({ box: data.boxes[detection], style: "found",
        about: whole ? data.kinds[data.kind[detection]] !== "right" : detection === item.detection,
        label: `${described(data.category[detection], data.state[detection])} ${data.scores[detection].toFixed(2)}` });
    }
  }
  return boxes.filter(({ box }) => box).sort((a, b) => a.about - b.about);
}

function drawPicture(item, large) {
  const image = imageOf(item);
  const [file, width, height] = data.images[image];
  const view = windowOf(item, large);
  const unit = Math.max(view[2] / (large ? 1000 : 250), view[3] / (large ? 700 : 188)); // image pixels a screen pixel
  const picture = svg("svg", { class: "picture", viewBox: view.join(" "), role: "img", "aria-label": `${describe(item)}, ${file}` });
  const source = jpeg(image);
  if (!source) {
    const text = svg("text", { class: "missing", x: view[0] + view[2] / 2, y: view[1] + view[3] / 2,
      "text-anchor": "middle", "font-size": 13 * unit }, "not in this page");
    picture.append(text);
    return picture;
  }
  picture.append(svg("image", { href: source, width, height, preserveAspectRatio: "none" }));
  const boxes = boxesOf(item);
  for (const { box: [x, y, w, h], style, about } of boxes) {
    const line = about ? 4 : 2;
    picture.append(svg("rect", { class: "edge", x, y, width: w, height: h, "stroke-width": line + 2 }));
    picture.append(svg("rect", { class: style, x, y, width: w, height: h, "stroke-width": line }));
  }
  const few = large && boxes.length <= 24;
  const size = (large ? 15 : 12) * unit;
  for (const { box: [x, y, w, h], style, about, label } of boxes) {
    if (!about && !few) continue;
    const below = style !== "found"; // the truth below its box, what was found above
    const place = {
      x: Math.min(Math.max(x, view[0] + 2 * unit), view[0] + view[2] - 0.62 * size * label.length),
      y: below ? Math.min(y + h + size, view[1] + view[3] - 4 * unit) : Math.max(y - 5 * unit, view[1] + size),
    };
    if (x > view[0] + view[2] || x + w < view[0] || y > view[1] + view[3] || y + h < view[1]) continue;
    picture.append(svg("text", { ...place, class: style, "font-size": size, "stroke-width": 3.5 * unit }, label));
  }
  return picture;
}

function card(item, index, items) {
  const text = element("span", { class: "text" }, describe(item), element("span", { class: "file" }, data.images[imageOf(item)][0].split("/").pop()));
  return element("li", {}, element("button", { type: "button", onclick: () => openPicture(items, index) }, drawPicture(item, false), text));
}

/** The first pictures into a list, and a button for the next ones. */
function fill(list, button, items) {
  let shown = 0;
  const more = () => {
    const focus = shown;
    list.append(...items.slice(shown, shown + PAGE).map((item, place) => card(item, focus + place, items)));
    shown = Math.min(shown + PAGE, items.length);
    button.hidden = shown >= items.length;
    button.textContent = `Show more (${items.length - shown} left)`;
    if (focus) list.children[focus].querySelector("button").focus();
  };
  list.replaceChildren();
  button.onclick = more;
  more();
}

let opened = [[], 0];
function openPicture(items, index) {
  opened = [items, index];
  const item = items[index];
  $("picture-title").textContent = describe(item);
  $("picture-large").replaceChildren(drawPicture(item, true));
  $("picture-text").textContent = `${data.images[imageOf(item)][0]} · ${index + 1} of ${items.length}`;
  $("previous").disabled = index === 0;
  $("next").disabled = index === items.length - 1;
  if (!$("picture-dialog").open) $("picture-dialog").showModal();
}

function step(by) {
  const [items, index] = opened;
  if (items[index + by]) openPicture(items, index + by);
}

function openCell(title, items) {
  $("cell-title").textContent = title;
  fill($("cell-gallery"), $("cell-more"), items);
  $("cell-dialog").showModal();
}

const GALLERIES = {
  mistakes: "all mistakes", best: "best images", worst: "worst images", random: "random images",
  false_positives: "false positives by score", missed: "missed by size", state_confusions: "state confusions",
  right: "right detections",
};
let mistakes = [];
let objectsFound = foundObjects();

function collectMistakes() {
  objectsFound = foundObjects();
  mistakes = [];
  data.kind.forEach((kind, detection) => {
    if (data.kinds[kind] !== "right" && counts(detection)) mistakes.push({ detection });
  });
  objectsFound.forEach((found, object) => {
    if (!found && !data.objects.absent[object]) mistakes.push({ object });
  });
}

const kindOf = (item) => (item.object !== undefined ? MISSED : data.kinds[data.kind[item.detection]]);
const area = (object) => {
  const box = data.objects.boxes[object];
  return box ? box[2] * box[3] : 0;
};

function itemsOf(gallery) {
  if (gallery in data.galleries) return data.galleries[gallery].map((image) => ({ image }));
  if (gallery === "false_positives") return mistakes.filter((item) => item.object === undefined && kindOf(item) !== "state");
  if (gallery === "missed") return mistakes.filter((item) => item.object !== undefined).sort((a, b) => area(b.object) - area(a.object));
  if (gallery === "state_confusions") return mistakes.filter((item) => kindOf(item) === "state");
  if (gallery === "right") return rightDetections();
  return mistakes;
}

function rightDetections() {
  const items = [];
  data.kind.forEach((kind, detection) => {
    if (data.kinds[kind] === "right" && counts(detection)) items.push({ detection });
  });
  return items;
}

/** Whether an item is what the filters ask for; an image is, when one of its items is. */
function passes(item, wanted) {
  if (item.image !== undefined) {
    if (!wanted.any) return true;
    return [...mistakes, ...wanted.right].some((one) => imageOf(one) === item.image && passes(one, wanted));
  }
  const { detection } = item;
  const object = item.object ?? data.partner[detection];
  const categories = [detection !== undefined ? data.category[detection] : -1, object >= 0 ? data.objects.category[object] : -1];
  const states = [detection !== undefined ? data.state[detection] : 0, object >= 0 ? data.objects.state[object] : 0];
  if (wanted.category >= 0 && !categories.includes(wanted.category)) return false;
  if (wanted.state > 0 && !states.includes(wanted.state)) return false;
  if (wanted.kind !== "" && kindOf(item) !== wanted.kind) return false;
  if (wanted.low === null && wanted.high === null) return true;
  if (detection === undefined) return false; // what was missed has no score
  return data.scores[detection] >= (wanted.low ?? 0) && data.scores[detection] <= (wanted.high ?? 1);
}

function showGallery() {
  const bound = (id) => ($(id).value === "" ? null : Number($(id).value));
  const wanted = {
    category: Number($("filter-class").value), state: Number($("filter-state").value), kind: $("filter-kind").value,
    low: bound("filter-low"), high: bound("filter-high"),
  };
  wanted.any = wanted.category >= 0 || wanted.state > 0 || wanted.kind !== "" || wanted.low !== null || wanted.high !== null;
  wanted.right = wanted.any ? rightDetections() : [];
  const items = itemsOf($("filter-gallery").value).filter((item) => passes(item, wanted));
  const what = GALLERIES[$("filter-gallery").value];
  $("picture-count").textContent = items.length ? `${items.length.toLocaleString("en")} pictures: ${what}` : `No ${what} like this.`;
  fill($("gallery"), $("more"), items);
}

function startPictures() {
  const shown = Object.entries(GALLERIES).filter(([key]) => data.states.length || key !== "state_confusions");
  options($("filter-gallery"), shown);
  options($("filter-class"), [[-1, "any"], ...data.classes.map((name, index) => [index, name])]);
  options($("filter-state"), [[0, "any"], ...data.states.map((name, index) => [index + 1, name])]);
  const known = [...data.kinds.filter((kind) => data.states.length || (kind !== "state" && kind !== "absent")), MISSED];
  options($("filter-kind"), [["", "any"], ...known.map((kind) => [kind, KIND_NAMES[kind]])]);
  $("filter-state-label").hidden = !data.states.length;
  $("filters").addEventListener("input", showGallery);
  $("filters").addEventListener("submit", (event) => event.preventDefault());
  $("filters").addEventListener("reset", () => setTimeout(showGallery));
  $("previous").addEventListener("click", () => step(-1));
  $("next").addEventListener("click", () => step(1));
  $("picture-dialog").addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") step(-1);
    if (event.key === "ArrowRight") step(1);
  });
  for (const button of document.querySelectorAll("dialog .close")) {
    button.addEventListener("click", () => button.closest("dialog").close());
  }
  followers.push(() => {
    collectMistakes();
    showGallery();
  });
  collectMistakes();
  showGallery();
}
