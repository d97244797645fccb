"""The style of all matplotlib plots, and image files with reproducible bytes."""

from __future__ import annotations

import io
from pathlib import Path

import matplotlib
from cycler import cycler

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from detector.core.output_files import write_bytes
from detector.plotting.palette import PALETTE

plt.rcParams.update(
    {
        "figure.dpi": 110,
        "figure.constrained_layout.use": True,
        "font.size": 9,
        "text.parse_math": False,  # class names may contain dollar signs
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.grid": False,
        "axes.axisbelow": True,
        "axes.prop_cycle": cycler(color=PALETTE),
        "image.cmap": "Blues",
        "image.interpolation": "nearest",
    }
)


def save_figure(figure: Figure, path: Path) -> None:
    """Write a PNG or JPEG without metadata that differs between versions, and close the figure."""
    encoded, kind = io.BytesIO(), path.suffix[1:]
    figure.savefig(encoded, format=kind, metadata={"Software": None} if kind == "png" else None)
    plt.close(figure)
    write_bytes(path, encoded.getvalue())
