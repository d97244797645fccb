"""What the benchmark of exported files makes of what it measures."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import export, export_models, export_peer, other_runtime, timing
from benchmarks.deployed import SIZE, Deployed, Images, pictures
from detector.core.errors import UserError
from detector.engine.detections import Detections
from tests.support.bright_model import picture, write_bright


def found(scores: list[float], shift: float = 0.0) -> Detections:
    """Detections of class 1, far from each other."""
    left = 30.0 * np.arange(len(scores)) + shift
    boxes = np.stack([left, left * 0, left + 20, left * 0 + 20], axis=1).astype(np.float32)
    zeros = np.zeros(len(scores))
    return Detections(
        boxes, np.array(scores, np.float32), zeros.astype(int) + 1, zeros.astype(int), zeros.astype(np.float32)
    )


def test_images_that_are_answered_alike_are_counted() -> None:
    def eager(images: Images) -> list[Detections]:
        return [found([0.9, 0.5]) for _ in images]

    def file(images: Images) -> list[Detections]:
        return [found([0.9, 0.5 if image.max() else 0.3], shift=0.25) for image in images]

    images = np.ones((4, 3, 2, 2), np.uint8)
    images[3] = 0
    alike = export_models.compare_answers(eager, file, images)
    assert (alike.images, alike.of) == (3, 4)
    assert alike.box == pytest.approx(0.25)
    assert alike.score == 0


def test_a_detection_that_one_side_lacks_is_a_difference() -> None:
    nothing = np.zeros((1, 3, 2, 2), np.uint8)
    alike = export_models.compare_answers(lambda _: [found([0.9, 0.5])], lambda _: [found([0.9])], nothing)
    assert alike.images == 0


def test_batches_that_are_refused_are_left_out_and_lost_images_are_told() -> None:
    def file(images: Images) -> list[Detections]:
        if len(images) == 7:
            raise UserError("takes other batches only")
        return [found([0.9])] * min(2, len(images))

    assert export_models.answered(file, np.zeros((7, 3, 2, 2), np.uint8)) == "1, 2, 3 (only 2 answered!)"


@pytest.mark.parametrize(("name", "target"), [("simple", "≥ 1.5 ×"), ("detr", "≥ 1 ×")])
def test_targets_differ_by_model(name: str, target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "SPIN", 0)

    def answer(images: Images) -> list[Detections]:
        return []

    rows = list(export.eager_rows(Deployed(name, Path("none"), answer, answer, answer), budget=0))
    assert [row.target for row in rows] == [target, target]
    assert "batch 8" in rows[1].what


def test_a_comparison_takes_five_pairs_at_least(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "SPIN", 0)
    calls: list[str] = []
    timing.compare_for(lambda: calls.append("here"), lambda: calls.append("beside"), budget=0)
    assert calls == ["here", "beside"] * 7  # two of them to warm up


def test_a_side_is_timed_when_the_other_has_settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its first calls share the cores with the other's threads, which wait busily for a while."""
    durations = iter([0.05, 0.04, 0.03, 0.02])
    clock = [0.0]

    def disturbed() -> None:
        clock[0] += next(durations)

    monkeypatch.setattr(timing, "SPIN", 0.1)
    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock[0])
    assert timing.settled(disturbed) == pytest.approx(0.02)


def test_the_peers_row_names_both_sizes(tmp_path: Path) -> None:
    ours, peer = tmp_path / "simple.onnx", tmp_path / "peer.onnx"
    ours.write_bytes(b"0" * 2_000_000)
    peer.write_bytes(b"0" * 10_500_000)
    row = export_peer.peer_row(ours, peer, [(0.010, 0.013), (0.010, 0.015), (0.010, 0.014)])
    assert row.here == "10 ms, 2.0 MB"
    assert row.beside.startswith("14 ms, 10.5 MB")
    assert row.measured == "1.40 ×"


def test_pictures_are_padded_photographs() -> None:
    (first, second) = pictures(2)
    assert first.shape == (3, *SIZE)
    assert (first[:, -1] == 120).all()  # 640 x 480 in a square
    assert first.std() > 10
    assert (first != second).any()


@pytest.mark.parametrize("states", [["intact", "damaged"], []])
def test_another_runtime_is_compared_in_its_own_environment(
    states: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = write_bright(tmp_path / "model.onnx", states=states)
    picture().save(tmp_path / "a.png")
    (tmp_path / "test.json").write_text(json.dumps({"images": [{"file_name": str(tmp_path / "a.png")}] * 3}))
    monkeypatch.setattr(other_runtime, "TEST", tmp_path / "test.json")
    other_runtime.main([sys.executable, "--model", str(model)])
    said = capsys.readouterr().out
    assert "3 images, 3 detections" in said
    assert said.count("boxes to 0.0e+00 pixels") == 3
    silent = Detections(*np.zeros((5, 0)))._replace(boxes_xyxy=np.zeros((0, 4)))
    monkeypatch.setattr(other_runtime, "answers_of", lambda *_: ("other 1.0", {2: [silent] * 3}))
    with pytest.raises(UserError, match=r"other 1\.0, batches of 2: .*a\.png"):
        other_runtime.main([sys.executable, "--model", str(model)])
