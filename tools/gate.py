"""Check the result in the workspace against the acceptance criteria in gate.yaml, and print a Markdown table.

    python tools/gate.py main
    python tools/gate.py origin/main --out logs/gate.md

Run it after `dvc repro`; if a stage is outdated, nothing else is checked. The result is compared with that of REVISION
by the paired bootstrap of tools/compare.py; the revision's predictions come from DVC's cache or remote. Reads
metrics/evaluate.json (AP), metrics/evaluate/label_issues.csv (scores), metrics/preprocess.json (boxes) and
metrics/export/details.json, which the export stage writes only if the ONNX file reproduces the model's detections.

Exit code: 0 passed, 1 failed (or an error that you can fix), 2 wrong usage.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import Field

from compare import compare
from comparison_inputs import METRICS_FILE, PREDICTIONS, WORKSPACE, read_json, read_revision
from comparison_table import Comparison, format_number, format_signed
from detector.core.errors import UserError, run_command
from detector.core.output_files import write_text
from detector.core.params import Section, load_section
from detector.evaluation.metric_names import PRIMARY_METRIC, ComparedMetric
from dvc_commands import LOCK, list_outdated_stages, list_outs, parse_stages
from git_commands import git, git_or_none
from revisions import read_git_file

GATE_FILE = Path("gate.yaml")
LABEL_ISSUES = Path("metrics/evaluate/label_issues.csv")
DETAILS = Path("metrics/evaluate/details.json")
MISSING_BOX = "missing_box"  # the kind of issue that is about no label
PREPROCESS = Path("metrics/preprocess.json")
EXPORT = Path("metrics/export/details.json")


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
        write_text(arguments.out, text + "\n")
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
    pipeline = check_pipeline()
    if not pipeline.passed:
        return GateResult([pipeline], None)  # what the files say is about another model or other data
    regressions, comparison = check_regressions(base, params.no_significant_drop)
    checks = [pipeline, check_ap(params), *regressions, check_label_errors(params), check_export()]
    return GateResult(checks, comparison)


def check_pipeline() -> Check:
    """Whether the result belongs to the data, code and parameters in the workspace."""
    name, required = "pipeline", "up to date"
    outdated = list_outdated_stages()
    if not outdated:
        return Check(name, required, required, True)
    stages = ", ".join(f"`{stage}`" for stage in outdated)
    return Check(name, f"outdated: {stages} and what follows. Run `dvc repro`", required, False)


def check_ap(params: GateParams) -> Check:
    """AP on test: the model's, or that of the exported file if it has another precision."""
    name, required = "AP on test", f"at least {params.min_ap:g}"
    if not Path(METRICS_FILE).exists():
        return Check(name, f"{METRICS_FILE} is missing", required, False)
    path, metrics = METRICS_FILE, read_json_object(Path(METRICS_FILE))
    precision, file = read_exported_file() if EXPORT.exists() else ("fp32", {})
    if precision != "fp32":
        path, metrics, name = str(EXPORT), file, f"{name} ({precision} file)"
    ap = metrics.get(PRIMARY_METRIC)
    if ap is None:
        return Check(name, "undefined: test has no objects", required, False)
    if not isinstance(ap, (int, float)):
        raise UserError(f"{path}: {PRIMARY_METRIC} is {ap!r}, expected a number")
    return Check(name, format_number(ap), required, ap >= params.min_ap)


def check_regressions(base: str, metrics: tuple[str, ...]) -> tuple[list[Check], Comparison | None]:
    """One check per metric. What cannot be compared does not pass, unless no revision before has a result."""
    name, required = f"change since `{base}`", "no significant drop"
    if not has_predictions(base):
        earlier = find_earlier_result(base)
        other = f"compare with {earlier}, which has one" if earlier else "this is the first one"
        return [Check(name, f"`{base}` has no result: {other}", required, not earlier)], None
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


def has_predictions(revision: str) -> bool:
    """Whether the revision's dvc.lock records predictions. Raises UserError if the revision does not exist."""
    if git_or_none("rev-parse", "--quiet", "--verify", f"{revision}^{{commit}}") is None:
        raise UserError(f"`{revision}` is not a revision of this repository: run `git fetch`, or see `git log --all`")
    stages = parse_stages(read_git_file(revision, str(LOCK)) or "", f"{LOCK} of `{revision}`")
    return any(Path(PREDICTIONS).is_relative_to(out) for out in list_outs(stages))


def find_earlier_result(base: str) -> str:
    """The newest commit before `base` whose dvc.lock records predictions, "" if there is none. Raises UserError."""
    commits = git("log", "--format=%h", base, "--", str(LOCK)).split()
    earlier = next((commit for commit in commits if has_predictions(commit)), "")
    if not earlier and git("rev-parse", "--is-shallow-repository") == "true":
        raise UserError(
            f"`{base}` has no result, and this shallow clone does not show an earlier one: `git fetch --unshallow`"
        )
    return earlier


def check_label_errors(params: GateParams) -> Check:
    """Suspected label errors that nobody has reviewed: wrong and missing boxes, each as a fraction of all."""
    name, required = "suspected label errors", f"at most {params.max_label_error_fraction:.0%} of the boxes"
    missing = [str(path) for path in (LABEL_ISSUES, PREPROCESS) if not path.exists()]
    if missing:
        return Check(name, f"{' and '.join(missing)} missing", required, False)
    boxes = read_json_object(PREPROCESS).get("boxes")
    if not isinstance(boxes, int):
        raise UserError(f"{PREPROCESS}: boxes is {boxes!r}, expected a number: run `dvc repro`")
    with LABEL_ISSUES.open(encoding="utf-8", newline="") as file:
        try:
            sure = [row for row in csv.DictReader(file) if float(row["score"]) >= params.label_issue_score]
            # Class or box and state of a box are two rows.
            wrong = len({(row["split"], row["annotation"]) for row in sure if row["kind"] != MISSING_BOX})
            absent = sum(row["kind"] == MISSING_BOX for row in sure)
        except (KeyError, TypeError, ValueError):
            raise UserError(
                f"{LABEL_ISSUES}: expected `split`, `kind`, `annotation` and a number `score` in each row: "
                "run `dvc repro`"
            ) from None
    fractions = wrong / max(boxes, 1), absent / max(boxes + absent, 1)
    result = (
        f"{wrong:,} of {boxes:,} boxes wrong ({fractions[0]:.1%}) and {absent:,} missing ({fractions[1]:.1%}), with a "
        f"score of at least {params.label_issue_score:g}"
    )
    notes = read_json_object(DETAILS).get("notes", {}) if DETAILS.exists() else {}
    unjudged = [key for key in notes if "issues on " in key]
    if unjudged:
        result += f"; the detector is too weak for some {', '.join(unjudged)}, see {DETAILS}"
    return Check(name, result, required, max(fractions) <= params.max_label_error_fraction)


def check_export() -> Check:
    """Whether the export stage verified the ONNX file, and how that file differs from the model."""
    required = "verified by the export stage"
    if not EXPORT.exists():
        return Check("ONNX file", f"{EXPORT} is missing", required, False)
    precision, file = read_exported_file()
    try:
        result = (
            f"{precision}: AP {format_number(file['AP'])}; compared with the model, boxes within "
            f"{file['box_difference_below']:g} pixels, scores within {file['score_difference_below']:g}, "
            f"{file['unmatched_detections']:,} detections unmatched"
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{EXPORT}: `precisions.{precision}` has no valid {error}: run `dvc repro`") from None
    return Check("ONNX file", result, required, True)


def read_exported_file() -> tuple[str, dict[str, Any]]:
    """The precision of models/model.onnx and what the export stage measured of it. Raises UserError."""
    export = read_json_object(EXPORT)
    precision, files = export.get("precision"), export.get("precisions")
    if not isinstance(files, dict) or not isinstance(files.get(precision), dict):
        raise UserError(f"{EXPORT}: expected `precisions` with the {precision} file: run `dvc repro`")
    return str(precision), files[precision]


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
