"""Charts are drawn by a process of their own, which starts while this one imports torch.

vl_convert keeps Python's lock while it works, for seconds at first, so a thread would not help.
"""

from __future__ import annotations

import atexit
import base64
import functools
import json
import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from detector.core.images import open_image
from detector.plotting.fonts import find_dejavu
from detector.plotting.picture_file import write_picture

WORKER = Path(__file__).parent / "chart_worker.py"
SCALE = 1.6  # pixels of a picture per pixel of a chart


@functools.cache
def start_chart_process() -> subprocess.Popen[bytes]:
    """Start the process, once; it ends with this one."""
    fonts = tempfile.TemporaryDirectory(prefix="chart_fonts_")
    _copy_fonts(Path(fonts.name))
    process = subprocess.Popen([sys.executable, str(WORKER), fonts.name], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    atexit.register(_stop, process, fonts)
    return process


def _copy_fonts(folder: Path) -> None:
    """Copy the fonts of charts into a folder.

    In their own one is a font that has a box for every letter: it would replace each name of which a letter is missing.
    """
    if (regular := find_dejavu()) is not None:
        for font in (regular, regular.with_name("DejaVuSans-Bold.ttf")):
            shutil.copy(font, folder)


def _stop(process: subprocess.Popen[bytes], fonts: tempfile.TemporaryDirectory[str]) -> None:
    process.kill()
    process.communicate()
    fonts.cleanup()


def save_chart(chart: dict[str, Any], path: Path) -> None:
    """Write a Vega-Lite chart as PNG. Raises ValueError when it is not valid."""
    picture = open_image(_ask({"vl_spec": chart, "scale": SCALE}), formats=("PNG",)).decode()
    write_picture(path, picture, "PNG", optimize=True)  # a fifth of vl_convert's size: git keeps it


@functools.cache
def bundle_library() -> str:
    """The code of Vega and Vega-Embed, which draws the charts of HTML pages: a megabyte."""
    return _ask(None).decode()


def _ask(request: dict[str, Any] | None) -> bytes:
    process = start_chart_process()
    assert process.stdin is not None
    assert process.stdout is not None
    with suppress(BrokenPipeError):  # where it has ended, its exit code says more
        process.stdin.write(json.dumps(request).encode() + b"\n")
        process.stdin.flush()
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(f"the process that draws charts ended with exit code {process.wait()}")
    answer = json.loads(line)
    if "error" in answer:
        raise ValueError(answer["error"])
    return base64.b64decode(answer["result"])
