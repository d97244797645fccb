// The report's detections and objects are columns; the current thresholds say which detections count.
const BACKGROUND = data.classes.length;
const MISSED = "missed";
const [CORRECT, WRONG_STATE, , , , ABSENT] = data.errorTypes;
let thresholds = [...data.thresholds]; // per class
const listeners = []; // called after the thresholds have changed


const errorType = (detection) => data.errorTypes[data.errorType[detection]];
const isAboveThreshold = (detection) => data.scores[detection] >= thresholds[data.category[detection]];
const className = (index) => (index === BACKGROUND ? "background" : data.classes[index]);
const stateName = (id) => (data.states.length && id ? data.states[id - 1] : "");

/** For each object, whether a detection above the threshold matches it. */
function findDetectedObjects() {
  const detected = new Uint8Array(data.objects.id.length);
  data.matchedObject.forEach((object, detection) => {
    if (object >= 0 && isAboveThreshold(detection)) detected[object] = 1;
  });
  return detected;
}
