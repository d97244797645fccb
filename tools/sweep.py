"""Search for the best parameter values; each trial is a DVC experiment.

    python tools/sweep.py run                # start or continue the sweep in sweep.yaml; Ctrl-C stops it
    python tools/sweep.py run -j 2           # run two trials in parallel
    python tools/sweep.py run --storage postgresql://user:password@host/database   # share it between machines
    python tools/sweep.py report             # the best trial, and whether it is significantly better on test
    python tools/sweep.py apply              # write the best values to params.yaml

docs/experiments.md explains sweep.yaml. optuna-dashboard plots the trials; `run` and `report` print its command.
`report` writes optimization_results.yaml and trials.csv to sweeps/NAME/.
Exit code: 0 success, 1 an error that the message explains, 2 a wrong command line, 130 stopped.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from detector.core.errors import run_command
from sweeping.results import collect_results, describe_results, set_params, write_csv, write_yaml
from sweeping.settings import PARAMS, load_plan
from sweeping.study import dashboard_command, initialize_study, open_study, storage_url
from sweeping.worker import Worker, check_unchanged, read_head_commit

REPORTS = Path("sweeps")


def main() -> None:
    arguments = parse_arguments()
    {"run": run, "report": report, "apply": apply}[arguments.command](arguments)


def parse_arguments() -> argparse.Namespace:
    """The command line; argparse exits with 2 when it is wrong."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True, metavar="run | report | apply")
    for name, text in (
        ("run", "start or continue the sweep"),
        ("report", "show the best trial and compare it with the default on test, once"),
        ("apply", "write the best values to params.yaml"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("--file", type=Path, default=Path("sweep.yaml"), help="default: sweep.yaml")
        command.add_argument("--storage", metavar="URL", help="sqlite:///FILE or postgresql://USER:PASSWORD@HOST/NAME")
        if name == "run":
            command.add_argument("-j", "--jobs", type=int, default=1, help="parallel trials on this machine")
        if name == "apply":
            command.add_argument("--trial", metavar="N", type=int, help="a complete trial other than the best")
    return parser.parse_args()


def run(arguments: argparse.Namespace) -> None:
    """Run trials until there are as many as sweep.yaml asks for."""
    plan = load_plan(arguments.file)
    study = open_study(plan, storage_url(plan, arguments.storage), new=True)
    commit = study.user_attrs.get("commit", read_head_commit())
    check_unchanged(commit)
    initialize_study(study, plan, commit)
    print(f"plots: {dashboard_command(plan, arguments.storage)}", flush=True)
    if not Worker(plan, study, Path.cwd()).run(max(1, arguments.jobs)):
        print("stopped; run the same command to continue")
        sys.exit(130)
    print("next: python tools/sweep.py report")


def report(arguments: argparse.Namespace) -> None:
    """Write and print the results. Only the first report of a study evaluates on test."""
    from sweeping.final_comparison import compare_with_default

    plan = load_plan(arguments.file)
    study = open_study(plan, storage_url(plan, arguments.storage))
    results = collect_results(plan, study)
    comparison = compare_with_default(results, study)
    folder = REPORTS / plan.sweep.name
    folder.mkdir(parents=True, exist_ok=True)
    write_csv(folder / "trials.csv", results)
    write_yaml(folder / "optimization_results.yaml", results, comparison)
    print("\n".join(describe_results(results, comparison)))
    print(f"wrote {folder}/optimization_results.yaml and trials.csv")
    print(f"plots: {dashboard_command(plan, arguments.storage)}")
    print("next: python tools/sweep.py apply")


def apply(arguments: argparse.Namespace) -> None:
    """Write the values of the best or another trial to params.yaml."""
    plan = load_plan(arguments.file)
    study = open_study(plan, storage_url(plan, arguments.storage))
    best = collect_results(plan, study, arguments.trial).best
    for key, (old, new) in set_params(PARAMS, best.user_attrs["values"]).items():
        print(f"{key}: {old} -> {new}")
    print(f"{PARAMS} has the values of trial {best.number}; next: dvc repro")


if __name__ == "__main__":
    run_command(main)
