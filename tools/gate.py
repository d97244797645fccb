"""Check the result in the workspace against the acceptance criteria in gate.yaml, and print a Markdown table.

    python tools/gate.py main
    python tools/gate.py origin/main --out logs/gate.md

Run it after `dvc repro`. The result is compared with that of REVISION by the paired bootstrap of tools/compare.py;
the revision's predictions come from DVC's cache or remote. Reads metrics/evaluate.json (AP),
metrics/evaluate/label_issues.csv (scores), metrics/preprocess.json (boxes), and checks that metrics/export.json
exists, which the export stage writes only if the ONNX file reproduces the model's detections.

Exit code: 0 passed, 1 failed (or an error that you can fix), 2 wrong usage.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from pydantic import Field

from compare import METRICS_FILE, PREDICTIONS, WORKSPACE, compare, read_json, read_revision
from comparison_table import Comparison, format_number, format_signed
from detector.core.errors import UserError, run_command
from detector.core.params import Section, load_section
from detector.evaluation.metric_names import PRIMARY_METRIC, ComparedMetric
from git_commands import git_or_none

GATE_FILE = Path("gate.yaml")
LABEL_ISSUES = Path("metrics/evaluate/label_issues.csv")
PREPROCESS = Path("metrics/preprocess.json")
PARITY = Path("metrics/export.json")


class GateParams(Section):
    """`gate:` of gate.yaml, where every key is explained."""

    min_ap: float = Field(ge=0, le=1)
    no_significant_drop: tuple[ComparedMetric, ...]
    label_issue_score: float = Field(ge=0, le=1)
    max_label_error_fraction: float = Field(ge=0, le=1)


class Check(NamedTuple):
    """One row of the table; result and required: the actual and the required value as text."""

    name: str
    result: str
    required: str
    passed: bool


class GateResult(NamedTuple):
    """All checks; comparison: None where the revision has no result or cannot be compared."""

    checks: list[Check]
    comparison: Comparison | None

    @property
    def passed(self) -> bool:
        """Whether all checks passed."""
        return all(check.passed for check in self.checks)


def main() -> None:
    arguments = parse_arguments()
    gate_result = evaluate_gate(arguments.base)
    text = render_gate(gate_result)
    print(text)
    if arguments.out is not None:
        try:
            arguments.out.parent.mkdir(parents=True, exist_ok=True)
            arguments.out.write_text(text + "\n", encoding="utf-8")
        except OSError as error:
            raise UserError(f"--out {arguments.out} cannot be written: {error.strerror}") from None
    sys.exit(0 if gate_result.passed else 1)


def parse_arguments() -> argparse.Namespace:
    """Parse the command line; argparse exits with 2 on wrong usage."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", metavar="REVISION", help="revision to compare with, such as main")
    parser.add_argument("--out", type=Path, help="also write the Markdown to this file")
    return parser.parse_args()


def evaluate_gate(base: str) -> GateResult:
    """Run all checks, comparing with revision `base`. Raises UserError for a bad gate.yaml or revision."""
    params = load_section(GATE_FILE, "gate", GateParams)
    regressions, comparison = check_regressions(base, params.no_significant_drop)
    return GateResult([check_ap(params), *regressions, check_label_errors(params), check_parity()], comparison)


def check_ap(params: GateParams) -> Check:
    """AP on test."""
    name, required = "AP on test", f"at least {params.min_ap:g}"
    if not Path(METRICS_FILE).exists():
        return Check(name, f"{METRICS_FILE} is missing", required, False)
    ap = read_json_object(Path(METRICS_FILE)).get(PRIMARY_METRIC)
    if ap is None:
        return Check(name, "undefined: test has no objects", required, False)
    if not isinstance(ap, (int, float)):
        raise UserError(f"{METRICS_FILE}: {PRIMARY_METRIC} is {ap!r}, expected a number")
    return Check(name, format_number(ap), required, ap >= params.min_ap)


def check_regressions(base: str, metrics: tuple[str, ...]) -> tuple[list[Check], Comparison | None]:
    """One check per metric. A failed comparison does not pass; a revision without a result does."""
    name, required = f"change from `{base}`", "no significant drop"
    if not has_predictions(base):
        return [Check(name, f"`{base}` has no result to compare with", required, True)], None
    try:
        comparison = compare(read_revision(base), read_revision(WORKSPACE))
    except UserError as error:
        return [Check(name, f"cannot be compared: {error}", required, False)], None
    rows = {row.name: row for row in comparison.metrics}
    checks = []
    for metric in metrics:
        row = rows[metric]
        result = "undefined on both sides"
        if row.low is not None:
            result = f"{format_signed(row.change)} ({format_signed(row.low)} to {format_signed(row.high)})"
        checks.append(Check(f"{metric} {name}", result, required, row.verdict != "worse"))
    return checks, comparison


def has_predictions(base: str) -> bool:
    """Whether the revision's dvc.lock records predictions. Raises UserError if the revision does not exist."""
    if git_or_none("rev-parse", "--quiet", "--verify", f"{base}^{{commit}}") is None:
        raise UserError(f"`{base}` is not a revision of this repository: run `git fetch`, or see `git log --all`")
    try:
        stages = (yaml.safe_load(git_or_none("show", f"{base}:dvc.lock") or "") or {}).get("stages", {})
    except (yaml.YAMLError, AttributeError):
        raise UserError(f"dvc.lock of `{base}` cannot be read") from None
    outs = [out["path"] for stage in stages.values() for out in stage.get("outs", [])]
    return any(Path(PREDICTIONS).is_relative_to(out) for out in outs)


def check_label_errors(params: GateParams) -> Check:
    """Suspected label errors that nobody has reviewed, as a fraction of all boxes."""
    name, required = "suspected label errors", f"at most {params.max_label_error_fraction:.0%} of the boxes"
    missing = [str(path) for path in (LABEL_ISSUES, PREPROCESS) if not path.exists()]
    if missing:
        return Check(name, f"{' and '.join(missing)} missing", required, False)
    boxes = read_json_object(PREPROCESS).get("boxes")
    if not isinstance(boxes, int):
        raise UserError(f"{PREPROCESS}: boxes is {boxes!r}, expected a number: run `dvc repro`")
    with LABEL_ISSUES.open(encoding="utf-8", newline="") as file:
        try:
            count = sum(float(row["score"]) >= params.label_issue_score for row in csv.DictReader(file))
        except (KeyError, TypeError, ValueError):
            raise UserError(f"{LABEL_ISSUES}: expected a number `score` in each row: run `dvc repro`") from None
    fraction = count / max(boxes, 1)
    result = f"{count:,} in {boxes:,} boxes ({fraction:.1%}) with a score of at least {params.label_issue_score:g}"
    return Check(name, result, required, fraction <= params.max_label_error_fraction)


def check_parity() -> Check:
    """Whether the export stage verified the ONNX file."""
    result = "verified by the export stage" if PARITY.exists() else f"{PARITY} is missing"
    return Check("ONNX parity", result, "verified", PARITY.exists())


def read_json_object(path: Path) -> dict[str, Any]:
    """Read a metrics file. Raises UserError naming it unless it holds a JSON object."""
    content = read_json(path)
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected an object, found {json.dumps(content)[:40]}: run `dvc repro`")
    return content


def render_gate(gate_result: GateResult) -> str:
    """The result as Markdown, without a trailing newline."""
    failed = sum(not check.passed for check in gate_result.checks)
    headline = f"Gate failed: {failed} of {len(gate_result.checks)} checks" if failed else "Gate passed"
    lines = [f"### {headline}", "", "| check | result | required | |", "| --- | --- | --- | --- |"]
    for check in gate_result.checks:
        result = check.result.replace("|", "\\|").replace("\n", " ")
        lines.append(f"| {check.name} | {result} | {check.required} | {'passed' if check.passed else '**failed**'} |")
    return "\n".join(lines)


if __name__ == "__main__":
    run_command(main)
