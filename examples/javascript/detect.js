// Detect objects with an exported model; `npm ci --ignore-scripts` installs what it needs.
//
// node detect.js model.onnx image.jpg ...
//
// Class names, thresholds and the input's size are read from model.json, which lies beside model.onnx.

import { readFileSync } from "node:fs";
import ort from "onnxruntime-node";
import sharp from "sharp";

const [modelPath, ...imagePaths] = process.argv.slice(2);
const about = JSON.parse(readFileSync(modelPath.replace(/\.onnx$/, ".json"), "utf8"));
const session = await ort.InferenceSession.create(modelPath);
for (const path of imagePaths) {
  // Upright, transparency on white.
  const decoded = sharp(path).autoOrient().flatten({ background: "#fff" }).toColourspace("srgb");
  const { data, info } = await decoded.raw().toBuffer({ resolveWithObject: true });
  for (const row of await detect({ data, width: info.width, height: info.height })) {
    console.log(JSON.stringify({ image: path, ...row }));
  }
}

// RGB bytes -> the detections above the thresholds, boxes in pixels of the image.
async function detect(image) {
  const [height, width] = about.size;
  const scale = Math.min(width / image.width, height / image.height);
  const columns = Math.max(1, roundToEven(image.width * scale));
  const rows = Math.max(1, roundToEven(image.height * scale));
  const input = new ort.Tensor("uint8", letterbox(image, columns, rows), [1, 3, height, width]);
  const { location, score, category, state } = await session.run({ image: input });
  const found = [];
  for (let i = 0; i < category.data.length; i++) {
    const name = about.classes[Number(category.data[i]) - 1];
    if (name === undefined || score.data[i] < about.threshold[name]) continue; // padding has the category 0
    const box = [...location.data.slice(4 * i, 4 * i + 4)].map((side, k) => {
      const [before, after] = k % 2 ? [image.height, rows] : [image.width, columns];
      return round(Math.min(Math.max((side * before) / after, 0), before), 2);
    });
    const row = { class: name, score: round(calibrate(score.data[i]), 5), box };
    if (state) row.state = about.states[Number(state.data[i]) - 1];
    found.push(row);
  }
  return found;
}

function calibrate(score) {
  const clipped = Math.min(Math.max(score, 1e-5), 1 - 1e-5);
  return 1 / (1 + Math.exp(-Math.log(clipped / (1 - clipped)) / about.temperature));
}

function round(value, digits) {
  return Number(value.toFixed(digits));
}

// Halves to even, as in Python.
function roundToEven(value) {
  return value % 1 === 0.5 ? 2 * Math.round(value / 2) : Math.round(value);
}

// The image at the top left of the input, as planes of R, G and B; the rest is `fill`.
function letterbox(image, columns, rows) {
  const [height, width] = about.size;
  const narrow = resample(image.data, image.height, image.width, columns, 3, 3 * image.width, 3 * columns);
  const small = resample(narrow, columns, image.height, rows, 3 * columns, 3, 3);
  const planes = new Uint8Array(3 * height * width);
  for (let color = 0; color < 3; color++) {
    planes.fill(about.fill[color], color * height * width, (color + 1) * height * width);
    for (let y = 0; y < rows; y++) {
      for (let x = 0; x < columns; x++) {
        planes[(color * height + y) * width + x] = small[3 * (y * columns + x) + color];
      }
    }
  }
  return planes;
}

// Resample `lines` lines of RGB pixels from `before` to `after` pixels with a triangle filter, which antialiases.
// step: bytes between pixels of a line; lineIn, lineOut: bytes between lines, before and after.
// The weights have as many bits as Pillow's, so the result equals Pillow's.
function resample(bytes, lines, before, after, step, lineIn, lineOut) {
  const precision = 22;
  const result = new Uint8Array((bytes.length / before) * after);
  const ratio = before / after;
  const support = Math.max(ratio, 1);
  for (let pixel = 0; pixel < after; pixel++) {
    const center = (pixel + 0.5) * ratio;
    const first = Math.max(0, Math.trunc(center - support + 0.5));
    const last = Math.min(before, Math.trunc(center + support + 0.5));
    const weights = [];
    for (let k = first; k < last; k++) weights.push(Math.max(0, 1 - Math.abs((k - center + 0.5) / support)));
    const total = weights.reduce((sum, weight) => sum + weight);
    const scaled = weights.map((weight) => Math.trunc((weight / total) * 2 ** precision + 0.5));
    for (let line = 0; line < lines; line++) {
      for (let color = 0; color < 3; color++) {
        let sum = 2 ** (precision - 1);
        for (let k = first; k < last; k++) sum += bytes[line * lineIn + k * step + color] * scaled[k - first];
        result[line * lineOut + pixel * step + color] = Math.min(255, sum >> precision);
      }
    }
  }
  return result;
}
