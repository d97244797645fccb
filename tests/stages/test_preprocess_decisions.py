"""data/decisions.csv in the preprocess stage."""

from __future__ import annotations

import csv
import json
from pathlib import Path

from detector.manifest.manifest import CleanBox, read_manifest
from tests.support.preprocess_cases import (
    BOX,
    DECISIONS,
    build_box,
    build_image,
    build_line,
    run_preprocess,
    write_lines,
)


def write_decisions(folder: Path, *rows: str) -> None:
    header = DECISIONS.read_text(encoding="utf-8").strip()
    (folder / "data").mkdir(exist_ok=True)
    (folder / "data/decisions.csv").write_text("\n".join([header, *rows]), encoding="utf-8")


def test_decisions_are_applied_and_counted_and_unmatched_ones_listed(tmp_path: Path) -> None:
    write_lines(
        tmp_path, build_line("1.jpg", build_box(*BOX, state="intact"), build_box(0.6, 0.1, 0.9, 0.9, label="ring"))
    )
    build_image(0).resize((100, 100)).save(tmp_path / "data/raw/set/1.jpg")
    image = "data/raw/set/1.jpg"
    write_decisions(
        tmp_path,
        f"val,{image},wrong_state,0.9,bolt,intact,10,10,40,40,1,absent,why,,fix",
        f"val,{image},bad_location,0.9,ring,,60,10,30,80,2,55 5 40 90,why,,accept",
        f"val,{image},missing_box,0.9,bolt,intact,10,60,20,20,,bolt,why,,fix",
        f"val,{image},spurious_box,0.9,nut,,10,60,20,20,,remove,why,,fix",
        "val,gone.jpg,spurious_box,0.9,bolt,,10,60,20,20,,remove,why,00ff,ignore",
    )
    done = run_preprocess(tmp_path)
    assert done.returncode == 0, done.stderr
    assert "data/decisions.csv: 1 accept, 2 fix, 0 ignore, 2 unmatched\n" in done.stdout
    (clean,) = read_manifest(tmp_path / "data/clean/manifest.jsonl")
    assert clean.boxes == (
        CleanBox("bolt", (10, 10, 50, 50), "absent"),
        CleanBox("ring", (60, 10, 90, 90)),
        CleanBox("bolt", (10, 60, 30, 80), "intact"),
    )
    metrics = json.loads((tmp_path / "metrics/preprocess/details.json").read_text())
    assert metrics["decisions"] == {"accept": 1, "fix": 2, "ignore": 0, "unmatched": 2}
    assert metrics["boxes"] == 3
    with (tmp_path / "data/clean/findings.csv").open() as file:
        findings = list(csv.DictReader(file))
    assert [(row["severity"], row["kind"], row["where"], row["image"]) for row in findings] == [
        ("note", "unmatched_decision", "data/decisions.csv:5", image),
        ("note", "unmatched_decision", "data/decisions.csv:6", "gone.jpg"),
    ]


def test_an_accepted_label_changes_no_output(tmp_path: Path) -> None:
    write_lines(tmp_path, build_line("1.jpg", build_box(*BOX)))
    build_image(0).resize((100, 100)).save(tmp_path / "data/raw/set/1.jpg")
    assert run_preprocess(tmp_path).returncode == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / "data/clean").iterdir()}
    write_decisions(tmp_path, "val,data/raw/set/1.jpg,spurious_box,0.9,bolt,,10,10,40,40,1,remove,why,,accept")
    done = run_preprocess(tmp_path)
    assert "1 accept" in done.stdout
    assert {path.name: path.read_bytes() for path in (tmp_path / "data/clean").iterdir()} == before


def test_an_invalid_decision_stops_before_the_dataset_is_read(tmp_path: Path) -> None:
    write_lines(tmp_path, build_line("1.jpg", build_box(*BOX)))
    write_decisions(tmp_path, "val,1.jpg,spurious,0.9,bolt,,10,10,40,40,1,remove,why,,fix")
    done = run_preprocess(tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("\nerror: data/decisions.csv:2: kind is 'spurious'; expected missing_box,")
    assert not (tmp_path / "metrics").exists()
