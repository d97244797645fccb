"""Try many values of parameters and find the best, each trial a DVC experiment.

    python tools/sweep.py run                # begin sweep.yaml, or go on with it; Ctrl-C stops it
    python tools/sweep.py run -j 2           # two trials at a time
    python tools/sweep.py run --storage postgresql://user:password@host/database   # the same on many machines
    python tools/sweep.py report             # what was best, why, and whether it is more than luck, on test
    python tools/sweep.py apply              # the best values into params.yaml

docs/experiments.md explains sweep.yaml. `report` writes sweeps/NAME/: report.html, optimization_results.yaml,
trials.csv and pictures. Exit code: 0 fine, 1 something you can mend, 2 a wrong command line, 130 stopped.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from detector.core.errors import run_command
from sweeping.results import outcome_of, set_params, write_csv, write_yaml
from sweeping.settings import PARAMS, load_plan
from sweeping.study import begin, open_study, storage_url
from sweeping.working import Worker, check_unchanged, head

REPORTS = Path("sweeps")


def main() -> None:
    arguments = parse_arguments()
    {"run": run, "report": report, "apply": apply}[arguments.command](arguments)


def parse_arguments() -> argparse.Namespace:
    """The command line; argparse ends with 2 when it is wrong."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True, metavar="run | report | apply")
    for name, what in (
        ("run", "begin the sweep, or go on with it"),
        ("report", "say what was best, and compare it with the default on test, once"),
        ("apply", "write the best values into params.yaml"),
    ):
        command = commands.add_parser(name, help=what)
        command.add_argument("--file", type=Path, default=Path("sweep.yaml"), help="another sweep.yaml")
        command.add_argument("--storage", metavar="URL", help="sqlite:///FILE or postgresql://USER:PASSWORD@HOST/NAME")
        if name == "run":
            command.add_argument("-j", "--jobs", type=int, default=1, help="trials at a time on this machine")
        if name == "apply":
            command.add_argument("--trial", metavar="N", type=int, help="another complete trial than the best")
    return parser.parse_args()


def run(arguments: argparse.Namespace) -> None:
    """Trials, until there are as many as sweep.yaml says."""
    plan = load_plan(arguments.file)
    study = open_study(plan, storage_url(plan, arguments.storage), new=True)
    commit = study.user_attrs.get("commit", head())
    check_unchanged(commit)
    begin(study, plan, commit)
    if not Worker(plan, study, Path.cwd()).work(max(1, arguments.jobs)):
        print("stopped; the same command goes on from here")
        sys.exit(130)
    print("next: python tools/sweep.py report")


def report(arguments: argparse.Namespace) -> None:
    """Files, pictures and the page; the first report of a study looks at test, no other does."""
    from sweeping.judging import judge_best
    from sweeping.page import lines, summary, write_page
    from sweeping.pictures import draw_all

    plan = load_plan(arguments.file)
    study = open_study(plan, storage_url(plan, arguments.storage))
    outcome = outcome_of(plan, study)
    judged = judge_best(outcome, study)
    folder = REPORTS / plan.sweep.name
    folder.mkdir(parents=True, exist_ok=True)
    write_csv(folder / "trials.csv", outcome)
    write_yaml(folder / "optimization_results.yaml", outcome, judged)
    pictures = draw_all(folder, outcome, study.get_trials(deepcopy=False))
    write_page(folder / "report.html", outcome, judged, pictures)
    print("\n".join([summary(outcome), *lines(outcome, judged)]))
    print(f"trial {judged['test']['trial']} is {judged['test']['verdict']}")
    print(f"see {folder}/report.html; next: python tools/sweep.py apply")


def apply(arguments: argparse.Namespace) -> None:
    """The values of the best trial, or of another, into params.yaml."""
    plan = load_plan(arguments.file)
    outcome = outcome_of(plan, open_study(plan, storage_url(plan, arguments.storage)), arguments.trial)
    for key, (old, new) in set_params(PARAMS, outcome.best.user_attrs["values"]).items():
        print(f"{key}: {old} -> {new}")
    print(f"{PARAMS} has the values of trial {outcome.best.number}; next: dvc repro")


if __name__ == "__main__":
    run_command(main)
