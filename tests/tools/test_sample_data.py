"""The sample dataset: reproducible bytes, correct labels, and the defects listed in its docstring."""

from __future__ import annotations

import hashlib
import json
import math
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps, UnidentifiedImageError

import sample_data
from detector.core.errors import UserError
from sample_parts import Part, make_part
from sample_scenes import Scene, make_scene
from sample_shapes import LABELS, SUBSAMPLES, fill_polygons, make_circle

IMAGES = 24
CORNERS = ("x_min_normalized", "y_min_normalized", "x_max_normalized", "y_max_normalized")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sample") / "set"
    sample_data.write_dataset(folder, IMAGES, seed=0)
    return folder


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [make_scene(sample_data.make_rng(3, k), 320, 240, 0, 6) for k in range(1, 41)]


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(text) for text in (folder / "dataset.jsonl").read_text().splitlines()]


def digest(folder: Path) -> str:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    parts = [f"{path.relative_to(folder)} ".encode() + path.read_bytes() for path in files]
    return hashlib.sha256(b"".join(parts)).hexdigest()


def rows_by_defect(folder: Path) -> dict[str | None, list[dict[str, Any]]]:
    """The dataset's rows by their defect; the second of two equal lines is left out."""
    rows = {row["image_path"]: row for row in rows_of(folder)}
    found: dict[str | None, list[dict[str, Any]]] = {}
    images = iter(rows.values())
    for spec in sample_data.plan_scenes(IMAGES, seed=0):
        found.setdefault(spec.defect, []).extend(next(images) for _ in range(spec.frames))
    assert next(images, None) is None
    return found


def corners(annotation: dict[str, Any]) -> list[float]:
    return [annotation[key] for key in CORNERS]


def mask_box(part: Part) -> list[int]:
    """The bounding box of the pixels that the part's shape covers at least half."""
    rows, columns = np.nonzero(part.shape)
    left, top = part.window[:2]
    ends = columns.min() + left, rows.min() + top, columns.max() + left + 1, rows.max() + top + 1
    return [int(end) for end in ends]


def test_fill_is_even_odd_and_exact() -> None:
    square = [(1.0, 1.0), (5.0, 1.0), (5.0, 4.0), (1.0, 4.0)]
    hole = [(2.0, 2.0), (3.0, 2.0), (3.0, 3.0), (2.0, 3.0)]
    mask = fill_polygons([square, hole], (0, 0, 6, 6))
    assert mask.shape == (6 * SUBSAMPLES, 6 * SUBSAMPLES)
    assert mask.sum() == (4 * 3 - 1) * SUBSAMPLES * SUBSAMPLES
    assert not mask[2 * SUBSAMPLES : 3 * SUBSAMPLES, 2 * SUBSAMPLES : 3 * SUBSAMPLES].any()


def test_filled_circle_has_its_area_and_is_clipped_to_the_window() -> None:
    whole = fill_polygons([make_circle(20.0)], (-24, -24, 24, 24))
    assert whole.sum() / SUBSAMPLES**2 == pytest.approx(math.pi * 400, rel=0.01)
    assert (fill_polygons([make_circle(20.0)], (0, -24, 24, 24)) == whole[:, 24 * SUBSAMPLES :]).all()
    assert (fill_polygons([make_circle(20.0)], (-24, 0, 24, 24)) == whole[24 * SUBSAMPLES :]).all()


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize("state", ["intact", "damaged", "absent", "occluded"])
def test_boxes_are_tight(label: str, state: str) -> None:
    for k in range(6):
        size = 40 + 9.7 * k
        part = make_part(sample_data.make_rng(1, k), label, state, size, background=40 * k, light=(-1, -1))
        left, top, right, bottom = part.box_xyxy
        assert max(right - left, bottom - top) == pytest.approx(size, abs=0.2)
        assert mask_box(part) == pytest.approx(part.box_xyxy, abs=1.01)


def test_covers_hide_30_to_50_percent() -> None:
    for k in range(60):
        part = make_part(sample_data.make_rng(2, k), LABELS[k % 4], "occluded", 46 + k, background=120, light=(1, -1))
        cover = part.layers[-1]
        hidden = np.zeros_like(part.shape)
        for y, x in np.argwhere(part.shape):
            row, column = y + part.window[1] - cover.window[1], x + part.window[0] - cover.window[0]
            inside = 0 <= row < cover.alpha.shape[0] and 0 <= column < cover.alpha.shape[1]
            hidden[y, x] = inside and cover.alpha[row, column] >= 128
        assert 0.3 <= hidden.sum() / part.shape.sum() <= 0.5


def test_parts_hide_at_most_a_fifth_of_intact_parts_only(scenes: list[Scene]) -> None:
    for scene in scenes:
        owner = np.full((400, 480), -1)
        for k, item in enumerate(scene.placed):
            left, top, right, bottom = item.part.window
            place = owner[top + item.y + 40 : bottom + item.y + 40, left + item.x + 40 : right + item.x + 40]
            place[item.part.shape] = k
        for k, item in enumerate(scene.placed):
            seen = (owner == k).sum() / item.part.shape.sum()
            assert seen >= (0.8 if item.part.state == "intact" else 1.0)


def test_boxes_lie_inside_the_scene(scenes: list[Scene]) -> None:
    for item in (item for scene in scenes for item in scene.placed):
        left, top, right, bottom = item.box_xyxy
        assert 2 <= left < right <= 318
        assert 2 <= top < bottom <= 238


def test_states_and_classes_are_frequent_enough(scenes: list[Scene]) -> None:
    parts = [item.part for scene in scenes for item in scene.placed]
    states, labels = Counter(part.state for part in parts), Counter(part.label for part in parts)
    shares = {"intact": 0.55, "damaged": 0.15, "absent": 0.15, "occluded": 0.15}
    assert {state: states[state] / len(parts) for state in shares} == pytest.approx(shares, abs=0.09)
    assert {label: labels[label] / len(parts) for label in LABELS} == pytest.approx(
        dict.fromkeys(LABELS, 0.25), abs=0.1
    )


def test_bytes_are_reproducible_and_depend_on_the_seed(dataset: Path, tmp_path: Path) -> None:
    sample_data.write_dataset(tmp_path / "again", IMAGES, seed=0)
    assert digest(tmp_path / "again") == digest(dataset)
    sample_data.write_dataset(tmp_path / "other", IMAGES, seed=1)
    assert digest(tmp_path / "other") != digest(dataset)


def test_scenes_do_not_depend_on_the_number_of_images() -> None:
    few, many = ({spec.scene: spec for spec in sample_data.plan_scenes(images, 0)} for images in (40, 400))
    first, second = (next(sample_data.draw_frames(specs[5], 0)) for specs in (few, many))
    assert (first.pixels == second.pixels).all()
    assert first.boxes == second.boxes


def test_lines_are_complete_and_ordered(dataset: Path) -> None:
    rows = rows_of(dataset)
    assert len(rows) == IMAGES + sum(sample_data.DEFECTS.values()) + 1
    for row in rows:
        assert list(row)[:2] == ["image_path", "bounding_box_annotations"]
        for annotation in row["bounding_box_annotations"]:
            assert list(annotation) == ["annotation_label", *CORNERS, "state", "trust"]
            assert annotation["annotation_label"] in LABELS
            assert 0 < annotation["trust"] <= 1
            assert corners(annotation) == pytest.approx([round(c, 6) for c in corners(annotation)], abs=0, nan_ok=True)


def test_clean_images_match_their_boxes(dataset: Path) -> None:
    for row in rows_by_defect(dataset)[None]:
        with Image.open(dataset / row["image_path"]) as image:
            image.load()
            assert image.mode == "RGB"
            assert image.size in sample_data.SIZES
        for annotation in row["bounding_box_annotations"]:
            x_min, y_min, x_max, y_max = corners(annotation)
            assert 0 <= x_min < x_max <= 1
            assert 0 <= y_min < y_max <= 1


def test_sequences_show_one_scene_with_small_shifts(dataset: Path) -> None:
    frames: dict[str, list[dict[str, Any]]] = {}
    for row in rows_of(dataset):
        for tag in row.get("classification_annotations", []):
            name, frame = tag["annotation_label"].split("--")
            frames.setdefault(name, []).append(row)
            assert frame == f"frame_{len(frames[name]) - 1}"
    assert [len(rows) for rows in frames.values()] == [3]
    for a, b in pairwise(frames["sequence_000"]):
        with Image.open(dataset / a["image_path"]) as image:
            width = image.width
        boxes = zip(a["bounding_box_annotations"], b["bounding_box_annotations"], strict=True)
        shifts = {round((p["x_min_normalized"] - q["x_min_normalized"]) * width, 2) for p, q in boxes}
        assert len(shifts) == 1
        assert abs(shifts.pop()) <= sample_data.MAX_SHIFT


def test_defective_files(dataset: Path) -> None:
    by_defect = rows_by_defect(dataset)
    paths = {defect: [dataset / row["image_path"] for row in rows] for defect, rows in by_defect.items()}
    assert {defect: len(found) for defect, found in paths.items() if defect} == sample_data.DEFECTS
    assert not paths["missing"][0].exists()
    assert paths["empty"][0].stat().st_size == 0
    with pytest.raises(UnidentifiedImageError):
        Image.open(paths["text"][0])
    for path in paths["truncated"]:
        with Image.open(path) as image, pytest.raises(OSError, match="truncated"):
            image.load()
    modes = {"gray": "L", "cmyk": "CMYK", "palette": "P", "rgba": "RGBA", "gray_16": "I;16"}
    for defect, mode in modes.items():
        with Image.open(paths[defect][0]) as image:
            image.load()
            assert image.mode == mode
    clean = {path.read_bytes() for path in paths[None]}
    assert all(path.read_bytes() in clean for path in paths["copy"])


def test_rotated_images_show_their_scene_upright(dataset: Path) -> None:
    paths = {defect: [row["image_path"] for row in rows] for defect, rows in rows_by_defect(dataset).items()}
    for orientation, defect in ((6, "exif_6"), (8, "exif_8")):
        specs = [spec for spec in sample_data.plan_scenes(IMAGES, seed=0) if spec.defect == defect]
        for spec, path in zip(specs, paths[defect], strict=True):
            with Image.open(dataset / path) as image:
                assert image.getexif()[0x0112] == orientation
                upright = np.asarray(ImageOps.exif_transpose(image), np.int64)
            expected = next(sample_data.draw_frames(spec, 0)).pixels
            assert upright.shape == expected.shape
            assert np.abs(upright - expected).mean() < 6


def test_defective_boxes(dataset: Path) -> None:
    boxes = {
        defect: [[corners(box) for box in row["bounding_box_annotations"]] for row in rows]
        for defect, rows in rows_by_defect(dataset).items()
    }
    last = {defect: found[0][-1] for defect, found in boxes.items() if defect}
    assert last["zero_area"][0] == last["zero_area"][2]
    assert all(1 < max(box[2] for box in found) < 1.3 for found in boxes["outside"])
    assert last["far_outside"][0] > 1.3
    assert math.isnan(last["nan"][0])
    assert boxes["swapped"][0][0][0] > boxes["swapped"][0][0][2]
    assert (last["tiny"][2] - last["tiny"][0]) * 240 < 1.01
    for found in boxes["duplicate_box"]:
        assert found[0][:3] == found[-1][:3]
        assert 1 < (found[-1][3] - found[-1][1]) / (found[0][3] - found[0][1]) < 1 / 0.95
    paths = Counter(row["image_path"] for row in rows_of(dataset))
    assert sorted(paths.values())[-2:] == [1, 2]
    states = Counter(b["state"] for row in rows_of(dataset) for b in row["bounding_box_annotations"])
    trusts = Counter(b["trust"] for row in rows_of(dataset) for b in row["bounding_box_annotations"])
    assert states[None] == 1
    assert trusts[0.2] == 2


def run_main(monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    monkeypatch.setattr(sys, "argv", ["sample_data.py", "--images", str(IMAGES), *words])
    sample_data.main()


def test_non_empty_folder_needs_force(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "raw" / "sample"
    run_main(monkeypatch, "--out", str(out))
    assert digest(out) == digest(dataset)
    assert "-> " in capsys.readouterr().out
    (out / "dataset.jsonl").write_text("old")
    with pytest.raises(UserError, match="--force"):
        run_main(monkeypatch, "--out", str(out))
    run_main(monkeypatch, "--out", str(out), "--force")
    assert digest(out) == digest(dataset)
    assert list(out.parent.iterdir()) == [out]


def test_folder_with_other_files_is_never_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match=r"thesis\.txt"):
        run_main(monkeypatch, "--out", str(tmp_path), "--force")
    with pytest.raises(UserError, match="is a file"):
        run_main(monkeypatch, "--out", str(tmp_path / "thesis.txt"))
    with pytest.raises(UserError, match="--images"):
        run_main(monkeypatch, "--out", str(tmp_path / "new"), "--images", "3")


def test_interrupted_run_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sample_data, "format_line", stop)
    with pytest.raises(KeyboardInterrupt):
        run_main(monkeypatch, "--out", str(tmp_path / "sample"))
    assert list(tmp_path.iterdir()) == []
