"""All plots of a dataset are drawn, even for unusual datasets, and with the same bytes each time."""

from __future__ import annotations

import random
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

from detector.manifest.manifest import CleanBox, CleanImage, Labels
from detector.preprocessing.plots import (
    MOST_FREQUENT,
    NO_STATE,
    RAREST,
    build_box_table,
    choose_classes,
    group_by_class,
    write_dataset_plots,
)

NAMES = ["box_sizes.png", "boxes_per_image.png", "class_states.png", "classes.png", "samples.jpg"]


def image(folder: Path, number: int, boxes: list[CleanBox], size: tuple[int, int] = (96, 64)) -> CleanImage:
    name = f"{number}.jpg"
    if not (folder / name).exists():
        Image.new("RGB", size, (number * 40 % 256, 90, 120)).save(folder / name)
    return CleanImage(name, name, str(number), *size, name, None, None, tuple(boxes))


def boxes(count: int, classes: list[str], states: list[str | None], trust: list[float | None]) -> list[CleanBox]:
    source = random.Random(count)
    return [
        CleanBox(
            source.choice(classes),
            (float(left := source.randrange(60)), 3.0, left + 4.0 + source.randrange(30), 20.5 + source.randrange(40)),
            source.choice(states),
            source.choice(trust),
        )
        for _ in range(count)
    ]


MANY = [f"class {number}" for number in range(30)]
STATES = ["intact", "damaged", "absent", "occluded"]
DATASETS: dict[str, tuple[Labels, list[int], list[str | None], list[float | None]]] = {
    "normal": (Labels(["bolt", "ring"], STATES), [3, 5, 0, 9, 2], [*STATES, None], [0.5, 0.9, 1.0]),
    "no states": (Labels(["bolt", "ring"], []), [3, 5], [None], [0.7]),
    "no trust": (Labels(["bolt", "ring"], STATES), [3, 5], [*STATES], [None]),
    "one class": (Labels(["bolt"], ["intact"]), [3], ["intact"], [None]),
    "one box": (Labels(["bolt"], []), [1], [None], [None]),
    "no boxes": (Labels(["bolt"], ["intact"]), [0, 0], [None], [None]),
    "unused class and state": (Labels(["bolt", "ring", "nut"], [*STATES, "new"]), [4], [None], [None]),
    "thirty classes": (Labels(MANY, STATES), [40, 60], [*STATES], [0.9]),
    "a thousand classes, thirty states": (
        Labels([f"class {number} " + "long " * 50 for number in range(1000)], [f"state {n}" for n in range(30)]),
        [2000, 300],
        [f"state {n}" for n in range(30)],
        [0.9],
    ),
    "many images": (Labels(["bolt"], STATES), [1] * 15, [*STATES], [None]),
    "dollars": (Labels(["$5 and 10$", "$\\frac$"], ["a$", "$$"]), [3], ["a$", "$$"], [None]),
    "other alphabets": (Labels(["Größe µ"], ["ok & <new>"]), [3], ["ok & <new>"], [None]),
}


@pytest.mark.parametrize("name", DATASETS)
def test_all_plots_are_drawn(tmp_path: Path, name: str) -> None:
    labels, counts, states, trust = DATASETS[name]
    used = labels.classes[:2] if name == "unused class and state" else labels.classes
    images = [image(tmp_path, n, boxes(count, used, states, trust)) for n, count in enumerate(counts)]
    with plt.rc_context({"figure.dpi": 40}):  # small, to be fast
        write_dataset_plots(images, labels, tmp_path, tmp_path / "plots" / "data")
    expected = [name for name in NAMES if labels.states or name != "class_states.png"]
    assert sorted(path.name for path in (tmp_path / "plots" / "data").iterdir()) == expected
    for path in (tmp_path / "plots" / "data").iterdir():
        with Image.open(path) as picture:
            assert min(picture.size) > 50
            assert max(picture.size) < 700, "at a resolution of 40 per inch"
            assert len(picture.convert("L").getcolors() or ()) > 3, "not blank"
            assert not {"Software", "Creation Time", "date"} & picture.info.keys()


def test_of_many_classes_the_most_frequent_and_the_rarest_are_shown() -> None:
    names = [f"class {number}" for number in range(100)]
    found = tuple(CleanBox(name, (0.0, 0.0, 4.0, 4.0)) for number, name in enumerate(names) for _ in range(number))
    table = build_box_table([CleanImage("a", "a", "0", 8, 8, "a", None, None, found)])
    shown, note = choose_classes(table, Labels(names, []))
    assert shown == [*names[:RAREST], *names[-MOST_FREQUENT:]]
    assert "of 100" in note
    assert choose_classes(table, Labels(names[:40], [])) == (names[:40], "")


def test_the_bytes_are_the_same_each_time(tmp_path: Path) -> None:
    labels, counts, states, trust = DATASETS["normal"]
    images = [image(tmp_path, n, boxes(count, labels.classes, states, trust)) for n, count in enumerate(counts)]
    drawn = []
    for folder in ("first", "second"):
        write_dataset_plots(images, labels, tmp_path, tmp_path / folder)
        drawn.append({path.name: path.read_bytes() for path in (tmp_path / folder).iterdir()})
    assert drawn[0] == drawn[1]


def test_sample_images_may_have_any_shape(tmp_path: Path) -> None:
    images = [
        image(tmp_path, 0, boxes(2, ["bolt"], [None], [None]), size=(3000, 20)),
        image(tmp_path, 1, boxes(2, ["bolt"], [None], [None]), size=(9, 900)),
        image(tmp_path, 2, [], size=(1, 1)),
    ]
    with plt.rc_context({"figure.dpi": 40}):
        write_dataset_plots(images, Labels(["bolt"], []), tmp_path, tmp_path / "plots")


def test_box_table(tmp_path: Path) -> None:
    found = [CleanBox("bolt", (1.0, 2.0, 11.0, 42.0), "intact", 0.5), CleanBox("ring", (0.0, 0.0, 96.0, 64.0))]
    table = build_box_table([image(tmp_path, 0, found), image(tmp_path, 1, [])])
    assert table.label.tolist() == ["bolt", "ring"]
    assert table.state.tolist() == ["intact", NO_STATE]
    assert table.width.tolist() == [10, 96]
    assert table.height.tolist() == [40, 64]
    assert table.trust.isna().tolist() == [False, True]
    np.testing.assert_allclose(table.relative, [(400 / 96 / 64) ** 0.5, 1])
    assert len(build_box_table([])) == 0


def test_the_rarest_of_many_classes_form_one_group() -> None:
    counts = {"d": 1, "b": 5, "a": 2, "c": 2, "e": 9}
    found = [CleanBox(label, (0.0, 0.0, 4.0, 4.0)) for label, count in counts.items() for _ in range(count)]
    table = build_box_table([CleanImage("a", "a", "0", 8, 8, "a", None, None, tuple(found))])
    assert [(name, len(rows)) for name, rows in group_by_class(table, 5)] == [(name, counts[name]) for name in "abcde"]
    assert [(name, len(rows)) for name, rows in group_by_class(table, 4)] == [
        ("a", 2),
        ("b", 5),
        ("e", 9),
        ("2 others", 3),
    ]
    assert group_by_class(build_box_table([]), 3) == []
