"""A DVC repository whose training takes milliseconds: its parameters define the AP curve."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.support.repository import SOURCE, Repository, environment_for

SWEEP = SOURCE / "tools/sweep.py"
PARAMS = """\
# Parameters of the tiny training.
train:
  lr: auto          # best at 0.01
  decay: 0.1        # best at 0
  optimizer: sgd    # sgd | adamw
  momentum: 0.9
  seed: 0
  epochs: 4
  pause: 0.0        # seconds per epoch

evaluate:
  split: test
"""
PIPELINE = """\
stages:
  prepare:
    cmd: python -c "open('data.txt', 'w').write('data')"
    outs: [data.txt]
  train:
    cmd: python train.py
    params: [train]
    deps: [train.py, data.txt]
    outs: [model.json]
    metrics:
      - metrics/train.json: {cache: false}
  evaluate:
    cmd: python evaluate.py
    params: [evaluate]
    deps: [evaluate.py, model.json]
    outs: [data/predictions, data/coco, metrics/evaluate]
    metrics:
      - metrics/evaluate.json: {cache: false}
"""
# lr and decay set the final AP; the folder of checkpoints exists while training runs, as in the real pipeline.
TRAIN = """\
import json, math, os, shutil, signal, sys, time
from pathlib import Path
import yaml
from detector.core.yaml_files import parse_yaml
from detector.training.sweep_report import report_progress
params = parse_yaml(Path("params.yaml").read_text())["train"]
lr = 0.003 if params["lr"] == "auto" else params["lr"]
if params["decay"] > 0.9:
    sys.exit("the loss is not finite")
best = 0.9 - 0.2 * abs(math.log10(lr / 0.01)) - 0.3 * params["decay"] + 0.001 * params["seed"]
folder = Path(os.environ["DVC_ROOT"], ".cache/train", f"{lr}-{params['decay']}-{params['seed']}")
folder.mkdir(parents=True, exist_ok=True)
saved = folder / "epoch"
report_progress({"checkpoints": str(folder)})
begin = int(saved.read_text()) if saved.exists() else 0
print("begins after epoch", begin, flush=True)
for epoch in range(begin + 1, params["epochs"] + 1):
    time.sleep(params["pause"])
    value = best * (1 - 0.5 ** epoch)
    saved.write_text(str(epoch))
    report_progress({"epoch": epoch, "AP": value, "loss": 1 - value})
shutil.rmtree(folder)
Path("metrics").mkdir(exist_ok=True)
Path("metrics/train.json").write_text(json.dumps({"best": {"AP": best}, "val": {"loss": 1 - best, "seconds": lr}}))
Path("model.json").write_text(json.dumps({"best": best}))
"""
# Objects are detected with the probability `best`.
EVALUATE = """\
import json, random
from pathlib import Path
import yaml
best = json.loads(Path("model.json").read_text())["best"]
split = yaml.safe_load(Path("params.yaml").read_text())["evaluate"]["split"]
random_ = random.Random(split)
images = [{"id": i, "file_name": f"{split}{i}.jpg", "width": 100, "height": 100} for i in range(1, 81)]
annotations, detections = [], []
for image in images:
    box = [random_.randrange(50), random_.randrange(50), 40, 30]
    annotations.append({"id": image["id"], "image_id": image["id"], "category_id": 1, "bbox": box, "area": 1200,
                        "iscrowd": 0, "state": 0})
    if random_.random() < best:
        detections.append({"image_id": image["id"], "category_id": 1, "bbox": box, "score": random_.uniform(0.5, 1)})
for folder in ("data/coco", "data/predictions", "metrics/evaluate"):
    Path(folder).mkdir(parents=True, exist_ok=True)
coco = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "a"}], "states": []}
Path("data/coco/test.json").write_text(json.dumps(coco))
Path("data/predictions/test.json").write_text(json.dumps(detections))
fraction = len(detections) / len(images)
Path("metrics/evaluate.json").write_text(json.dumps({"AP": fraction}))
metrics = {"AP": fraction, "AP_low": fraction - 0.05, "AP_high": fraction + 0.05}
Path("metrics/evaluate/details.json").write_text(
    json.dumps({"metrics": metrics, "classes": [{"class": "a", "raw_threshold": 0.5}]}))
"""
WITH_CODE = """\
import runpy, sys
from pathlib import Path
sys.path.insert(0, str(Path({sweep!r}).parent))
{code}
runpy.run_path({sweep!r}, run_name="__main__")
"""
BASIC: dict[str, Any] = {
    "name": "tiny",
    "objectives": {"metrics/train.json:best.AP": "maximize"},
    "parameters": {
        "train.lr": {"low": 1e-4, "high": 1.0, "log": True},
        "train.decay": {"low": 0.0, "high": 0.5},
    },
    "trials": 3,
    "sampler": "random",
}


def make_repository(root: Path, settings: Path, git_root: Path | None = None) -> Repository:
    """Make the repository, run the pipeline and commit; git_root: a parent folder, for a larger git repository."""
    environment = environment_for(settings)
    root.mkdir(parents=True)
    repository = Repository(root, environment)
    files = {"params.yaml": PARAMS, "dvc.yaml": PIPELINE, "train.py": TRAIN, "evaluate.py": EVALUATE}
    for name, text in {**files, ".gitignore": ".cache/\n__pycache__/\nsweeps/\n"}.items():
        (root / name).write_text(text)
    repository.git("init", "--quiet", str(git_root or root))
    repository.dvc("init", "--quiet", *(["--subdir"] if git_root else []))
    write_sweep(repository)
    repository.dvc("repro", "--quiet")
    repository.commit()
    return repository


def write_sweep(repository: Repository, **changes: Any) -> None:
    """Write sweep.yaml, BASIC with changes, as JSON, which is YAML; it need not be committed."""
    (repository.root / "sweep.yaml").write_text(json.dumps({**BASIC, **changes}))


def start_sweep(repository: Repository, *arguments: str, code: str = "") -> subprocess.Popen[str]:
    """Start `tools/sweep.py ...` in the background; `code` runs before it."""
    command = ["-c", WITH_CODE.format(code=code, sweep=str(SWEEP))] if code else [str(SWEEP)]
    return subprocess.Popen(
        [sys.executable, *command, *arguments],
        cwd=repository.root,
        env={**os.environ, **repository.environment},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def run_sweep(repository: Repository, *arguments: str, expected: int = 0) -> str:
    """Run `tools/sweep.py ...` and return its output, both streams."""
    process = start_sweep(repository, *arguments)
    output = process.communicate()[0]
    assert process.returncode == expected, output
    return output
