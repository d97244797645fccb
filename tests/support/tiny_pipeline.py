"""A minimal DVC pipeline that writes the files CI reads, with stages of a few milliseconds.

It detects bright squares by a brightness threshold. It uses this project's tools/ and library.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from tests.support.fake_forge import TOKEN
from tests.support.repository import SOURCE, Repository

DATASET = "data/raw/squares"
DVC_PASSWORD = "open-sesame"
DIM, BRIGHT = 120, 200  # pixel values of the squares; every third one is dim

PIPELINE = """
stages:
  preprocess:
    cmd: python stages/preprocess.py
    deps: [data/raw/squares, split.lock, stages/preprocess.py]
    outs: [data/clean, data/coco, metrics/preprocess, metrics/split]
    metrics: [metrics/preprocess.json: {cache: false}]
  evaluate:
    cmd: python stages/evaluate.py
    params: [evaluate]
    deps: [data/coco/test.json, stages/evaluate.py]
    outs: [data/predictions, metrics/evaluate, plots/report.html]
    metrics: [metrics/evaluate.json: {cache: false}]
    plots: [plots/evaluate: {cache: false}]
  export:
    cmd: python stages/export.py
    deps: [data/predictions, stages/export.py]
    outs: [models/model.onnx, metrics/export]
    metrics: [metrics/export.json: {cache: false}]
"""

CONFIG = """
[core]
    remote = folder
    analytics = false
['remote "folder"']
    url = {remote}
"""

PARAMS = """
preprocess: {dataset: data/raw/squares}
evaluate:
  brightness: 100
"""

PREPROCESS = """
import json
from pathlib import Path

labels = json.loads(Path("data/raw/squares/labels.json").read_text())
assigned = set(Path("split.lock").read_text().split("\\n")) - {""} | {f"{name} test" for name in labels}
Path("split.lock").write_text("".join(f"{line}\\n" for line in sorted(assigned)))
images = [{"id": i, "file_name": f"data/raw/squares/{name}", "width": 48, "height": 48, "content": name}
          for i, name in enumerate(labels, 1)]
boxes = [{"id": i, "image_id": i, "category_id": 1, "bbox": box, "area": box[2] * box[3], "iscrowd": 0, "state": 0}
         for i, box in enumerate(labels.values(), 1)]
coco = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "square"}], "states": []}
for folder in ("data/clean", "data/coco", "metrics/preprocess", "metrics/split"):
    Path(folder).mkdir(parents=True, exist_ok=True)
Path("data/clean/manifest.jsonl").write_text("\\n".join(labels))
Path("data/coco/test.json").write_text(json.dumps(coco))
Path("metrics/preprocess.json").write_text(json.dumps({"boxes": len(boxes)}))
Path("metrics/preprocess/details.json").write_text(json.dumps({"boxes": len(boxes)}))
Path("metrics/split/details.json").write_text(json.dumps({"images": {"train": 0, "val": 0, "test": len(images)}}))
"""

EVALUATE = """
import json, os
from pathlib import Path
import numpy as np
from PIL import Image
from detector.engine.detections import pack_rows
from detector.engine.ground_truth import pack_ground_truth
from detector.evaluation.intervals import (
    add_interval, bootstrap_coco_metrics, read_first_sample, run_bootstrap, weigh_once
)
from detector.evaluation.matching import collect_matches
from detector.evaluation.overlaps import find_overlaps
from detector.evaluation.bootstrap import bootstrap_weights
from detector.core.yaml_files import parse_yaml
from probe import find_secrets

if find_secrets():
    raise SystemExit(f"a stage sees a secret: {find_secrets()}")
truth = json.loads(Path("data/coco/test.json").read_text())
brightness = parse_yaml(Path("params.yaml").read_text())["evaluate"]["brightness"]
offset = int(os.environ.get("BOX_OFFSET", "0"))  # pixels by which the boxes of another machine differ
rows = []
for image in truth["images"]:
    pixels = np.asarray(Image.open(image["file_name"]))
    ys, xs = np.nonzero(pixels > brightness)
    if len(xs):
        box = [int(xs.min()) + offset, int(ys.min()), int(np.ptp(xs)) + 1, int(np.ptp(ys)) + 1]
        rows.append({"image_id": image["id"], "category_id": 1, "bbox": box, "score": float(pixels.max()) / 255})
overlaps = find_overlaps(pack_ground_truth(truth), pack_rows(rows))
count = len(truth["images"])
weights = bootstrap_weights(np.arange(count), 100, 0)
once, bootstrap = run_bootstrap(overlaps, collect_matches(overlaps), weigh_once(np.arange(count)), weights)
replicates = bootstrap_coco_metrics(bootstrap)
metrics = {}
for name, value in read_first_sample(once).items():
    metrics |= add_interval(name, value, replicates[name], count)
for folder in ("data/predictions", "metrics/evaluate", "plots/evaluate"):
    Path(folder).mkdir(parents=True, exist_ok=True)
Path("data/predictions/test.json").write_text(json.dumps(rows))
Path("metrics/evaluate.json").write_text(json.dumps({name: metrics[name] for name in ("AP", "AP50", "AP75")}))
details = {"metrics": metrics, "classes": [{"class": "square", "raw_threshold": 0.1}]}
Path("metrics/evaluate/details.json").write_text(json.dumps(details))
Path("metrics/evaluate/label_issues.csv").write_text(
    "split,kind,score,annotation\\ntest,wrong_class,0.9,1\\ntest,wrong_class,0.3,2\\n")
Image.fromarray(pixels).save("plots/evaluate/last.png")
Path("plots/report.html").write_text("<h1>Squares</h1>")
"""

EXPORT = """
import json
from pathlib import Path

for folder in ("models", "metrics/export"):
    Path(folder).mkdir(parents=True, exist_ok=True)
Path("models/model.onnx").write_bytes(Path("data/predictions/test.json").read_bytes())
own = {"AP": 0.9, "box_difference_below": 0.0001, "score_difference_below": 1e-05, "unmatched_detections": 0}
Path("metrics/export.json").write_text(json.dumps({"export": {"AP": own["AP"]}}))
Path("metrics/export/details.json").write_text(json.dumps({"precision": "fp32", "precisions": {"fp32": own}}))
"""

# Where a stage finds the secrets of the tests: reversed, so that the probe does not find itself.
PROBE = f"""
import os
from pathlib import Path

SECRETS = [text[::-1].encode() for text in {[TOKEN[::-1], DVC_PASSWORD[::-1]]}]
HOME = ("~/.git-credentials", "~/.gitconfig", "~/.netrc", "~/.config/git/credentials", "~/.config/dvc/config")

def find_secrets():
    places, process = [Path(path).expanduser() for path in HOME], os.getpid()
    while process:
        places += [Path(f"/proc/{{process}}/{{name}}") for name in ("environ", "cmdline")]
        process = int(Path(f"/proc/{{process}}/stat").read_text().rpartition(")")[2].split()[1])
    for folder in (".dvc", ".git", "logs"):
        places += [path for path in Path(folder).rglob("*") if path.is_file() and "cache" not in path.parts]
    return [str(place) for place in places if place.is_file() and any(text in read(place) for text in SECRETS)]

def read(place):
    try:
        return place.read_bytes()
    except OSError:
        return b""

if __name__ == "__main__":
    print(find_secrets())
"""


def make_tiny_pipeline(root: Path, environment: dict[str, str], remote: Path, images: int) -> Repository:
    """A repository after its first run, committed, with all outputs in DVC's remote."""
    for folder in ("tools", "stages/detector"):
        shutil.copytree(SOURCE / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(SOURCE / "gate.yaml", root)
    files = {"dvc.yaml": PIPELINE, "params.yaml": PARAMS, "split.lock": "", ".gitignore": "logs/\n__pycache__/\n",
             "stages/probe.py": PROBE, "stages/preprocess.py": PREPROCESS, "stages/evaluate.py": EVALUATE,
             "stages/export.py": EXPORT,
             "README.md": "Squares\n",
             ".dvc/config": CONFIG.format(remote=remote)}  # fmt: skip
    repository = Repository(root, environment)
    repository.git("init", "--quiet", "--initial-branch=main")
    repository.dvc("init", "--quiet")
    for name, text in files.items():
        (root / name).write_text(text, encoding="utf-8")
    (root / DATASET).mkdir(parents=True)
    (root / DATASET / "labels.json").write_text("{}")
    add_images(repository, 0, images)
    repository.dvc("repro", "--quiet")
    repository.dvc("push", "--quiet", "--run-cache")
    repository.commit()
    return repository


def add_images(repository: Repository, first: int, count: int) -> None:
    """Add images of squares on noise, with their labels, to the dataset, and track it with DVC."""
    folder = repository.root / DATASET
    labels = json.loads((folder / "labels.json").read_text())
    for number in range(first, first + count):
        random = np.random.default_rng(number)
        pixels = random.integers(0, 60, (48, 48), dtype=np.uint8)
        left, top, width, height = (int(value) for value in (*random.integers(2, 20, 2), *random.integers(10, 24, 2)))
        pixels[top : top + height, left : left + width] = DIM if number % 3 == 0 else BRIGHT
        Image.fromarray(pixels).save(folder / f"{number}.png")
        labels[f"{number}.png"] = [left + number % 4, top, width, height]  # shifted, for different IoUs
    (folder / "labels.json").write_text(json.dumps(labels))
    repository.dvc("add", "--quiet", DATASET)
