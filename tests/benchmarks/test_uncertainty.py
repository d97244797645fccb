"""The command runs, small, and its generated detectors are what they say."""

from __future__ import annotations

import numpy as np

from benchmarks import uncertainty
from benchmarks.generated_detectors import FALSE, OBJECTS, detect, draw_scene


def test_all_tables(monkeypatch, capsys):
    small = {"IMAGES": 20, "DRAWS": 10, "TEST_SETS": 3, "PAIRS": 2, "POPULATION": 200, "SIZES": (20,)}
    for name, value in small.items():
        monkeypatch.setattr(uncertainty, name, value)
    uncertainty.main()
    rows = [line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert [len(row) for row in rows] == [9] * 3 + [9] * 5 + [6] * 5
    assert rows[2][:3] == ["10", "20", "2,000"]
    assert float(rows[2][7].removesuffix(" GiB")) > 0.02
    assert [row[0] for row in rows if row[0] in uncertainty.SKILLS] == list(uncertainty.SKILLS)


def test_generated_detections_obey_the_rules():
    random = np.random.default_rng(0)
    scene = draw_scene(3000, random)
    matches = detect(scene, 1.0, random)
    assert np.allclose(scene.truths.mean(axis=0), OBJECTS, rtol=0.1)
    assert (np.diff(matches.scores) <= 0).all()
    assert (np.diff(matches.hits.astype(int), axis=0) <= 0).all(), "found at a high IoU is found at a low one"
    found = np.zeros_like(scene.truths)
    np.add.at(found, (matches.images[matches.hits[0]], matches.categories[matches.hits[0]]), 1)
    assert (found <= scene.truths).all()
    assert found.sum() > 0.5 * scene.truths.sum()
    assert (~matches.hits[0]).sum() >= 0.9 * FALSE * 3000


def test_more_skill_is_a_higher_ap():
    random = np.random.default_rng(0)
    scene = draw_scene(3000, random)
    once = np.ones((1, 3000), np.int32)
    values = [uncertainty.headline(detect(scene, skill, random), once)[0, 0] for skill in uncertainty.SKILLS.values()]
    assert values[0] < values[1] - 0.1 < values[2] - 0.2
