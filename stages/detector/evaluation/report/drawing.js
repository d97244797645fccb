// Pictures with boxes drawn over them, and galleries of pictures.
const PAGE_SIZE = 12; // pictures at a time
const SVG = "http://www.w3.org/2000/svg";
const LARGE = [1000, 700]; // width and height of a picture on the screen, roughly: lines and text do not scale with the image
const SMALL = [250, 188];
const blobs = {};

function getJpegUrl(image) {
  if (!(image in jpegs)) return null;
  if (!(image in blobs)) {
    const bytes = Uint8Array.from(atob(jpegs[image]), (letter) => letter.charCodeAt(0));
    blobs[image] = URL.createObjectURL(new Blob([bytes], { type: "image/jpeg" }));
  }
  return blobs[image];
}

function svg(tag, attributes, ...children) {
  const created = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(attributes)) created.setAttribute(key, value);
  created.append(...children);
  return created;
}

/** The part `view` ([left, top, width, height] in image pixels) of an image, with boxes: {box, style, emphasized, label}. */
function drawImage(image, view, boxes, label, screen) {
  const [, width, height] = data.images[image];
  const unit = Math.max(view[2] / screen[0], view[3] / screen[1]); // image pixels per screen pixel
  const large = screen[0] > 400;
  const picture = svg("svg", { class: "picture", viewBox: view.join(" "), role: "img", "aria-label": label });
  const source = getJpegUrl(image);
  if (!source) {
    const text = svg("text", { class: "missing", x: view[0] + view[2] / 2, y: view[1] + view[3] / 2,
      "text-anchor": "middle", "font-size": 13 * unit }, "not in this page");
    picture.append(text);
    return picture;
  }
  picture.append(svg("image", { href: source, width, height, preserveAspectRatio: "none" }));
  for (const { box: [x, y, w, h], style, emphasized } of boxes) {
    const line = emphasized ? 4 : 2;
    picture.append(svg("rect", { class: "edge", x, y, width: w, height: h, "stroke-width": line + 2 }));
    picture.append(svg("rect", { class: style, x, y, width: w, height: h, "stroke-width": line }));
  }
  const labelAll = large && boxes.length <= 24;
  const size = (large ? 15 : 12) * unit;
  for (const { box: [x, y, w, h], style, emphasized, label: text } of boxes) {
    if (!emphasized && !labelAll) continue;
    const below = style !== "prediction"; // ground-truth labels below the box, predictions above
    const position = {
      x: Math.min(Math.max(x, view[0] + 2 * unit), view[0] + view[2] - 0.62 * size * text.length),
      y: below ? Math.min(y + h + size, view[1] + view[3] - 4 * unit) : Math.max(y - 5 * unit, view[1] + size),
    };
    if (x > view[0] + view[2] || x + w < view[0] || y > view[1] + view[3] || y + h < view[1]) continue;
    picture.append(svg("text", { ...position, class: style, "font-size": size, "stroke-width": 3.5 * unit }, text));
  }
  return picture;
}

/** Fill a list with the first cards, createCard(item, index, items); the button shows the next ones. */
function fillGallery(list, button, items, createCard) {
  let shown = 0;
  const showMore = () => {
    const first = shown;
    list.append(...items.slice(first, first + PAGE_SIZE).map((item, index) => createCard(item, first + index, items)));
    shown = Math.min(first + PAGE_SIZE, items.length);
    button.hidden = shown >= items.length;
    button.textContent = `Show more (${items.length - shown} remaining)`;
    if (first) list.children[first].querySelector("button").focus();
  };
  list.replaceChildren();
  button.onclick = showMore;
  showMore();
}
