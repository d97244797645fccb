"""Whole processes: the data stages, and `dvc repro` with nothing to do."""

from __future__ import annotations

import shutil
from pathlib import Path
from statistics import median

import yaml

from benchmarks.photographs import list_photographs
from benchmarks.table import Row, seconds
from benchmarks.timing import compare, summarize, timed
from benchmarks.workspace import ROOT, call, dvc, fill_outputs, python
from detector.core.errors import UserError

STAGE_LIMIT = 0.5
DVC_LIMIT = 0.3
STAGES = 6
UP_TO_DATE = "Data and pipelines are up to date."
# Runs a script as `python` would, and fails when torch was imported.
TORCH_PROBE = """
import runpy, sys
runpy.run_path(sys.argv[1], run_name="__main__")
sys.exit("torch was imported" if "torch" in sys.modules else 0)
"""


def stage_row(folder: Path, stage: str, runs: int) -> Row:
    """The wall time of one stage's process on data that is there; the first run has written its .pyc files."""
    script = f"stages/{stage}.py"
    clean = imports_no_torch(folder, script)
    times = [timed(lambda: python(folder, script)) for _ in range(runs)]
    bare = median(timed(lambda: python(folder, "-c", "pass")) for _ in range(runs))
    wall = median(times)
    return Row(
        f"`python {script}` on the sample",
        f"{seconds(wall)}, fastest {seconds(min(times))}",
        f"{seconds(bare)} an empty process",
        f"{wall:.2f} s, {'no torch' if clean else 'torch imported'}",
        f"< {STAGE_LIMIT} s, no torch",
        clean and wall < STAGE_LIMIT,
    )


def imports_no_torch(folder: Path, script: str) -> bool:
    """Whether the script runs to its end without torch."""
    try:
        python(folder, "-c", TORCH_PROBE, script)
    except UserError as error:
        if "torch was imported" not in str(error):
            raise
        return False
    return True


def preprocess_row(folder: Path, photographs: list[Path], listing: Path, pairs: int) -> Row:
    """For information: the whole process, plots included; the last of `photographs` comes new.

    folder: a copy of the repository that reads the dataset of `listing`.
    """

    def run() -> float:
        return timed(lambda: python(folder, "stages/preprocess.py"))

    def pair() -> tuple[float, float]:
        shutil.rmtree(folder / ".cache", ignore_errors=True)
        list_photographs(photographs[:-1], listing)
        full = run()
        list_photographs(photographs, listing)
        return run(), full

    times = summarize([pair() for _ in range(pairs)])
    return Row(
        f"`python stages/preprocess.py`, +1 image of {len(photographs) - 1:,}",
        seconds(times.here),
        f"{seconds(times.beside)} for all",
        f"{times.ratio:.2f} ×",
    )


def repro_row(folder: Path, floor: Path, pairs: int) -> Row:
    """`folder` holds the stages' data; `floor` becomes a repository with six stages that copy a line."""
    call(folder, "git", "init", "--quiet")
    dvc(folder, "add", "data/raw/sample")
    fill_outputs(folder)
    dvc(folder, "commit", "--force")
    make_floor(floor)
    for repository in (folder, floor):
        check_no_op(repository)
    times = compare(lambda: dvc(folder, "repro"), lambda: dvc(floor, "repro"), pairs)
    return Row(
        "`dvc repro` with nothing to do",
        seconds(times.here),
        f"{seconds(times.beside)} six trivial stages",
        f"{times.more:+.2f} s",
        f"≤ + {DVC_LIMIT} s",
        times.more <= DVC_LIMIT,
    )


def make_floor(folder: Path) -> None:
    """What DVC itself costs: six chained stages with one dependency and one output each."""
    (folder / ".dvc").mkdir(parents=True)
    for name in (".dvc/config", ".dvcignore"):
        shutil.copyfile(ROOT / name, folder / name)
    stages = {
        f"stage{k}": {"cmd": f"cp {k}.txt {k + 1}.txt", "deps": [f"{k}.txt"], "outs": [f"{k + 1}.txt"]}
        for k in range(STAGES)
    }
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}), encoding="utf-8")
    (folder / "0.txt").write_text("a line\n", encoding="utf-8")
    call(folder, "git", "init", "--quiet")
    dvc(folder, "repro")


def check_no_op(folder: Path) -> None:
    """Let git have what DVC left to it and warm up; raise UserError when `dvc repro` would still run something."""
    call(folder, "git", "add", "--all")
    printed = dvc(folder, "repro", "--dry")
    if UP_TO_DATE not in printed:
        raise UserError(f"`dvc repro` in {folder} still has something to do:\n{printed}")
