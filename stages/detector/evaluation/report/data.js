// The page's data, and what builds its elements.
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
const $ = (id) => document.getElementById(id);

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
