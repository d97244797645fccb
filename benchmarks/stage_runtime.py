"""Wall time of whole processes: the data stages, `dvc repro` with nothing to do, evaluate and export.

    python -m benchmarks.stage_runtime [--earlier CHECKOUT] [--pairs 3]

times evaluate and export where `dvc repro` has run, which write the same outputs again; in turn with those of another
checkout, where it has run too. The other rows are part of `make bench`. Exit code 1 when a target is missed.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from statistics import median

import yaml

from benchmarks.photographs import write_dataset
from benchmarks.table import Row, format_seconds, format_table
from benchmarks.timing import log_progress, measure_seconds, summarize_pairs, time_pairs
from benchmarks.workspace import ROOT, run_command_in, run_dvc, run_python, write_placeholder_outputs
from detector.core.errors import UserError, run_command

STAGE_LIMIT = 0.5  # seconds
DVC_OVERHEAD_LIMIT = 0.3  # seconds more than a trivial pipeline
MODEL_STAGE_LIMITS = {"evaluate": 10, "export": 15}  # seconds
STAGES = 6
UP_TO_DATE = "Data and pipelines are up to date."
# Runs a script as `python` would, and fails when torch was imported.
TORCH_PROBE = """
import runpy, sys
runpy.run_path(sys.argv[1], run_name="__main__")
sys.exit("torch was imported" if "torch" in sys.modules else 0)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--earlier", type=Path, help="another checkout, such as a worktree of an earlier commit")
    parser.add_argument("--pairs", type=int, default=3, help="runs of each; default: 3")
    options = parser.parse_args()
    rows = [model_stage_row(stage, options.earlier, options.pairs) for stage in MODEL_STAGE_LIMITS]
    print(format_table(rows))
    sys.exit(any(row.passed is False for row in rows))


def model_stage_row(stage: str, earlier: Path | None, pairs: int) -> Row:
    """Wall time of evaluate or export in this checkout, in turn with `earlier`."""
    log_progress(stage)
    script, limit = f"stages/{stage}.py", MODEL_STAGE_LIMITS[stage]
    for folder in filter(None, (ROOT, earlier)):
        if not (folder / "models/detector.safetensors").exists():
            raise UserError(f"{folder} has no models/detector.safetensors; run `dvc repro` there first")
        run_python(folder, script)  # compiles, and fills the disk cache
    times = time_pairs(lambda: run_python(ROOT, script), lambda: earlier and run_python(earlier, script), pairs)
    return Row(
        f"`python {script}` on the sample",
        format_seconds(times.ours),
        "" if earlier is None else f"{format_seconds(times.baseline)} an earlier version, in turn",
        "" if earlier is None else f"{times.ratio:.2f} ×",
        f"≤ {limit} s",
        times.ours <= limit,
    )


def stage_row(folder: Path, stage: str, runs: int) -> Row:
    """Wall time of one stage on existing data; the check for torch has already compiled the .pyc files."""
    script = f"stages/{stage}.py"
    no_torch = runs_without_torch(folder, script)
    times = [measure_seconds(lambda: run_python(folder, script)) for _ in range(runs)]
    empty = median(measure_seconds(lambda: run_python(folder, "-c", "pass")) for _ in range(runs))
    wall = median(times)
    return Row(
        f"`python {script}` on the sample",
        f"{format_seconds(wall)}, fastest {format_seconds(min(times))}",
        f"{format_seconds(empty)} an empty process",
        f"{wall:.2f} s, {'no torch' if no_torch else 'torch imported'}",
        f"< {STAGE_LIMIT} s, no torch",
        no_torch and wall < STAGE_LIMIT,
    )


def runs_without_torch(folder: Path, script: str) -> bool:
    """Whether the script finishes without importing torch."""
    try:
        run_python(folder, "-c", TORCH_PROBE, script)
    except UserError as error:
        if "torch was imported" not in str(error):
            raise
        return False
    return True


def preprocess_row(folder: Path, photographs: list[Path], listing: Path, pairs: int) -> Row:
    """Wall time of preprocess with one new image, the last of `photographs`, against all images; no target.

    folder: a copy of the repository that reads the dataset in `listing`.
    """

    def run() -> float:
        return measure_seconds(lambda: run_python(folder, "stages/preprocess.py"))

    def pair() -> tuple[float, float]:
        shutil.rmtree(folder / ".cache", ignore_errors=True)
        write_dataset(photographs[:-1], listing)
        full = run()
        write_dataset(photographs, listing)
        return run(), full

    times = summarize_pairs([pair() for _ in range(pairs)])
    return Row(
        f"`python stages/preprocess.py`, +1 image of {len(photographs) - 1:,}",
        format_seconds(times.ours),
        f"{format_seconds(times.baseline)} for all",
        f"{times.ratio:.2f} ×",
    )


def repro_row(folder: Path, trivial: Path, pairs: int) -> Row:
    """`folder` holds the data of the stages; `trivial` becomes a repository with six stages that copy a line."""
    run_command_in(folder, "git", "init", "--quiet")
    run_dvc(folder, "add", "data/raw/sample")
    write_placeholder_outputs(folder)
    run_dvc(folder, "commit", "--force")
    make_trivial_pipeline(trivial)
    for repository in (folder, trivial):
        check_up_to_date(repository)
    times = time_pairs(lambda: run_dvc(folder, "repro"), lambda: run_dvc(trivial, "repro"), pairs)
    return Row(
        "`dvc repro` with nothing to do",
        format_seconds(times.ours),
        f"{format_seconds(times.baseline)} six trivial stages",
        f"{times.difference:+.2f} s",
        f"≤ + {DVC_OVERHEAD_LIMIT} s",
        times.difference <= DVC_OVERHEAD_LIMIT,
    )


def make_trivial_pipeline(folder: Path) -> None:
    """Make a repository with six chained stages, whose `dvc repro` costs only DVC's own overhead."""
    (folder / ".dvc").mkdir(parents=True)
    for name in (".dvc/config", ".dvcignore"):
        shutil.copyfile(ROOT / name, folder / name)
    stages = {
        f"stage{k}": {"cmd": f"cp {k}.txt {k + 1}.txt", "deps": [f"{k}.txt"], "outs": [f"{k + 1}.txt"]}
        for k in range(STAGES)
    }
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}), encoding="utf-8")
    (folder / "0.txt").write_text("a line\n", encoding="utf-8")
    run_command_in(folder, "git", "init", "--quiet")
    run_dvc(folder, "repro")


def check_up_to_date(folder: Path) -> None:
    """Stage all files in git and warm up. Raises UserError when `dvc repro` would still run a stage."""
    run_command_in(folder, "git", "add", "--all")
    printed = run_dvc(folder, "repro", "--dry")
    if UP_TO_DATE not in printed:
        raise UserError(f"`dvc repro` in {folder} still has something to do:\n{printed}")


if __name__ == "__main__":
    run_command(main)
