"""Charts drawn by another process."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from detector.plotting.chart_process import SCALE, WORKER, bundle_library, save_chart, start_chart_process
from tests.support.source_tree import STAGES

CHART: dict[str, Any] = {
    "data": {"values": [{"x": 0, "y": 1}, {"x": 1, "y": 3}]},
    "width": 100,
    "height": 50,
    "mark": {"type": "line", "color": "#ff0000"},
    "encoding": {axis: {"field": axis, "type": "quantitative", "axis": None} for axis in "xy"},
    "padding": 0,
}


@pytest.fixture
def forget_process() -> Iterator[None]:
    """The next chart starts a new process."""
    start_chart_process.cache_clear()
    yield
    start_chart_process.cache_clear()


def test_a_chart_becomes_a_png_with_the_same_bytes_each_time(tmp_path: Path) -> None:
    first, second = tmp_path / "first.png", tmp_path / "second.png"
    save_chart(CHART, first)
    save_chart(CHART, second)
    with Image.open(first) as picture:
        assert picture.size == pytest.approx((100 * SCALE, 50 * SCALE), rel=0.1)
        pixels = np.asarray(picture.convert("RGB")).astype(int)
        assert (pixels[..., 0] > pixels[..., 1] + 100).any(), "the line is red"
    assert first.read_bytes() == second.read_bytes()


def test_an_invalid_chart_is_an_error_and_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"(?i)vega"):
        save_chart({"mark": 5}, tmp_path / "chart.png")
    assert not list(tmp_path.iterdir())
    save_chart(CHART, tmp_path / "chart.png")


def test_names_in_any_alphabet_are_drawn(tmp_path: Path) -> None:
    """Those that the font lacks are drawn as boxes: not the same as nothing."""
    pictures = []
    for title in ("", "Größe Жук αβγ"):
        path = tmp_path / "chart.png"
        save_chart({**CHART, "title": title, "config": {"font": "DejaVu Sans"}}, path)
        pictures.append(Image.open(io.BytesIO(path.read_bytes())).convert("L"))
    assert sum(pictures[1].histogram()[:100]) > sum(pictures[0].histogram()[:100]) + 50


def test_a_letter_that_the_font_lacks_leaves_the_others_legible(tmp_path: Path) -> None:
    """A font with a box for every letter, which matplotlib has, would replace the whole label."""
    pictures = []
    for title in ("日本: 1111", "日本: 7777"):
        save_chart({**CHART, "title": title, "config": {"font": "DejaVu Sans"}}, tmp_path / "chart.png")
        pictures.append((tmp_path / "chart.png").read_bytes())
    assert pictures[0] != pictures[1]


def test_one_process_for_all() -> None:
    assert start_chart_process() is start_chart_process()


def test_the_library_draws_with_vega_embed() -> None:
    assert "window.vegaEmbed" in bundle_library()


@pytest.mark.usefixtures("forget_process")
def test_a_process_that_was_killed_is_an_error(tmp_path: Path) -> None:
    process = start_chart_process()
    process.kill()
    process.wait()
    with pytest.raises(RuntimeError, match="ended with exit code -9"):
        save_chart(CHART, tmp_path / "chart.png")


def test_ctrl_c_leaves_it_to_its_parent(tmp_path: Path) -> None:
    """Even while it imports the library, here one that sends the signal itself."""
    library = """
        import os, signal
        os.kill(os.getpid(), signal.SIGINT)
        register_font_directory = javascript_bundle = vegalite_to_png = lambda *args, **chart: "drawn"
    """
    (tmp_path / "vl_convert.py").write_text(textwrap.dedent(library))
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    subprocess.run([sys.executable, str(WORKER), ""], input=b"", check=True, timeout=60, env=environment)


@pytest.mark.parametrize("ending", ["", "os._exit(0)  # as if killed: nothing is cleaned up"])
def test_it_ends_with_its_parent(tmp_path: Path, ending: str) -> None:
    code = (
        f"import os, sys; sys.path.insert(0, {str(STAGES)!r})\n"
        "from detector.plotting.chart_process import start_chart_process\n"
        f"print(start_chart_process().pid, flush=True); {ending}"
    )
    # Raises after a minute unless the worker ends, which holds the output too.
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert int(done.stdout)
    if not ending:
        assert not list(tmp_path.iterdir()), "its folder of fonts is gone"
