/** Precision, recall and F1 at each score of the detections' columns, highest score first; at most 200 points.
 *  category: of the detections that count, -1 for all; objects: the number to detect. */
function computeCurve({ scores, category: categories, truePositive }, category, objects) {
  const points = [];
  let tp = 0;
  let detections = 0;
  scores.forEach((score, detection) => {
    if (category >= 0 && categories[detection] !== category) return;
    detections++;
    tp += truePositive[detection];
    const sums = { recall: tp / Math.max(1, objects), precision: tp / detections, F1: (2 * tp) / (detections + objects) };
    points.push({ score, ...sums });
  });
  const step = Math.max(1, points.length / 200);
  const sampled = [];
  for (let index = 0; index < points.length; index += step) sampled.push(points[Math.floor(index)]);
  if (points.length) sampled.push(points[points.length - 1]);
  return sampled;
}
