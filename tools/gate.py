"""Say whether the result in the workspace may land, by the limits in gate.yaml, as a Markdown table.

    python tools/gate.py main
    python tools/gate.py origin/main --out logs/gate.md

Run it after `dvc repro`. The revision is what the result is compared with, by the paired test of tools/compare.py;
its predictions come from DVC's cache or remote. Read in the workspace: metrics/evaluate.json (AP),
metrics/evaluate/suspects.csv (score), metrics/preprocess.json (boxes), and whether metrics/export.json is there,
which the export stage writes only when the exported file answered like the model.

Exit code: 0 it may land, 1 it may not (or something you can mend), 2 a wrong command line.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from pathlib import Path
from typing import Any, Literal, NamedTuple

import yaml
from pydantic import Field

from compare import METRICS_FILE, PREDICTIONS, WORKSPACE, compare, read_json, read_revision
from comparison_table import Comparison, number, signed
from detector.core.errors import UserError, run_command
from detector.core.params import Section, load_section
from git_commands import git_or_none

LIMITS = Path("gate.yaml")
SUSPECTS = Path("metrics/evaluate/suspects.csv")
PREPROCESS = Path("metrics/preprocess.json")
PARITY = Path("metrics/export.json")


class GateParams(Section):
    """`gate:` of gate.yaml, where every key is explained."""

    min_ap: float = Field(ge=0, le=1)
    not_worse: tuple[Literal["AP", "AP50", "AP75", "F1"], ...]
    suspect_score: float = Field(ge=0, le=1)
    max_suspects: float = Field(ge=0, le=1)


class Check(NamedTuple):
    """One line of the table: what was looked at, what was found, what is allowed."""

    name: str
    found: str
    limit: str
    passed: bool


class Verdict(NamedTuple):
    """All checks; comparison: None where there was nothing to compare with, or no way to."""

    checks: list[Check]
    comparison: Comparison | None

    @property
    def passed(self) -> bool:
        """Whether the result may land."""
        return all(check.passed for check in self.checks)


def main() -> None:
    arguments = parse_arguments()
    verdict = judge(arguments.base)
    text = table(verdict)
    print(text)
    if arguments.out is not None:
        try:
            arguments.out.parent.mkdir(parents=True, exist_ok=True)
            arguments.out.write_text(text + "\n", encoding="utf-8")
        except OSError as error:
            raise UserError(f"--out {arguments.out} cannot be written: {error.strerror}") from None
    sys.exit(0 if verdict.passed else 1)


def parse_arguments() -> argparse.Namespace:
    """The command line; argparse ends with 2 when it is wrong."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", metavar="REVISION", help="what the result is compared with, such as main")
    parser.add_argument("--out", type=Path, help="write the Markdown to this file too")
    return parser.parse_args()


def judge(base: str) -> Verdict:
    """The workspace's result beside that of a revision. Raises UserError for a bad gate.yaml or revision."""
    limits = load_section(LIMITS, "gate", GateParams)
    changes, comparison = changes_since(base, limits.not_worse)
    return Verdict([accuracy(limits), *changes, suspects(limits), parity()], comparison)


def accuracy(limits: GateParams) -> Check:
    """AP on test."""
    name, limit = "AP on test", f"at least {limits.min_ap:g}"
    if not Path(METRICS_FILE).exists():
        return Check(name, f"{METRICS_FILE} is missing", limit, False)
    ap = read_object(Path(METRICS_FILE)).get("AP")
    if ap is None:
        return Check(name, "test has no object, so that there is none", limit, False)
    if not isinstance(ap, (int, float)):
        raise UserError(f"{METRICS_FILE}: AP is {ap!r}, expected a number")
    return Check(name, number(ap), limit, ap >= limits.min_ap)


def changes_since(base: str, metrics: tuple[str, ...]) -> tuple[list[Check], Comparison | None]:
    """A check for each metric. What cannot be compared does not pass, except where nothing has landed yet."""
    if not has_result(base):
        return [Check(f"change since `{base}`", "no result there to compare with", "not worse", True)], None
    try:
        comparison = compare(read_revision(base), read_revision(WORKSPACE))
    except UserError as error:
        return [Check(f"change since `{base}`", f"cannot be told: {error}", "not worse", False)], None
    rows = {row.name: row for row in comparison.metrics}
    checks = []
    for name in metrics:
        row = rows[name]
        found = (
            "neither has one" if row.low is None else f"{signed(row.change)} ({signed(row.low)} to {signed(row.high)})"
        )
        checks.append(Check(f"{name} since `{base}`", found, "not worse", row.verdict != "worse"))
    return checks, comparison


def has_result(base: str) -> bool:
    """Whether the revision's dvc.lock records predictions. Raises UserError when there is no such revision."""
    if git_or_none("rev-parse", "--quiet", "--verify", f"{base}^{{commit}}") is None:
        raise UserError(
            f"`{base}` is no revision of this repository: `git fetch` brings branches, `git log` lists them"
        )
    try:
        stages = (yaml.safe_load(git_or_none("show", f"{base}:dvc.lock") or "") or {}).get("stages", {})
    except (yaml.YAMLError, AttributeError):
        raise UserError(f"dvc.lock of `{base}` cannot be read") from None
    outs = [out["path"] for stage in stages.values() for out in stage.get("outs", [])]
    return any(Path(PREDICTIONS).is_relative_to(out) for out in outs)


def suspects(limits: GateParams) -> Check:
    """The labels that are probably wrong and that nobody has decided about, as a share of all boxes."""
    name, limit = "labels probably wrong", f"at most {limits.max_suspects:.0%} of the boxes"
    missing = [str(path) for path in (SUSPECTS, PREPROCESS) if not path.exists()]
    if missing:
        return Check(name, f"{' and '.join(missing)} missing", limit, False)
    boxes = read_object(PREPROCESS).get("boxes")
    if not isinstance(boxes, int):
        raise UserError(f"{PREPROCESS}: boxes is {boxes!r}, expected a number: run `dvc repro`")
    with SUSPECTS.open(encoding="utf-8", newline="") as file:
        try:
            count = sum(float(row["score"]) >= limits.suspect_score for row in csv.DictReader(file))
        except (KeyError, TypeError, ValueError):
            raise UserError(f"{SUSPECTS}: expected a number `score` in each line: run `dvc repro`") from None
    share = count / max(boxes, 1)
    found = f"{count:,} of {boxes:,} boxes ({share:.1%}) with a score of {limits.suspect_score:g} or more"
    return Check(name, found, limit, share <= limits.max_suspects)


def parity() -> Check:
    """Whether the export stage proved its file."""
    found = "the exported file answers like the model" if PARITY.exists() else f"{PARITY} is missing"
    return Check("parity", found, "proved by the export stage", PARITY.exists())


def read_object(path: Path) -> dict[str, Any]:
    """What a metrics file holds. Raises UserError naming it."""
    content = read_json(path)
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected an object, found {json.dumps(content)[:40]}: run `dvc repro`")
    return content


def table(verdict: Verdict) -> str:
    """As Markdown, without a line feed at its end."""
    failed = sum(not check.passed for check in verdict.checks)
    lines = [
        "### Gate: it may land" if verdict.passed else f"### Gate: it may **not** land, {failed} of the checks failed",
        "",
        "| check | found | limit | |",
        "| --- | --- | --- | --- |",
    ]
    for check in verdict.checks:
        found = check.found.replace("|", "\\|").replace("\n", " ")
        lines.append(f"| {check.name} | {found} | {check.limit} | {'passed' if check.passed else '**failed**'} |")
    return "\n".join(lines)


if __name__ == "__main__":
    run_command(main)
