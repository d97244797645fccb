"""What the page's head says about the model and its data. Nothing in it depends on the time or the machine."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

CONVERTED_IMAGES = Path("data/clean")  # whose folder says nothing about the dataset


class ModelSize(NamedTuple):
    """parameters: number of trainable and frozen weights; bytes: of the checkpoint file."""

    parameters: int
    bytes: int


def measure_model(model: nn.Module, path: Path) -> ModelSize:
    """The size of a model and of its checkpoint file."""
    return ModelSize(sum(parameter.numel() for parameter in model.parameters()), path.stat().st_size)


def describe_identity(card: dict[str, Any], files: Iterable[str], size: ModelSize | None) -> list[tuple[str, str]]:
    """Titles and values, of what is known. card: models/detector.json; files: the evaluated split's images."""
    rows = [("images", find_dataset(files))]
    if card.get("data"):
        rows.append(("dataset hash", str(card["data"])[:12]))
    if card.get("size"):
        height, width = card["size"]
        rows.append(("input", f"{width} × {height} pixels"))
    if card.get("precision"):
        rows.append(("precision", str(card["precision"])))
    if size is not None:
        rows += [("parameters", f"{size.parameters / 1e6:.2f} million"), ("checkpoint", f"{size.bytes / 1e6:.1f} MB")]
    return [(title, value) for title, value in rows if value]


def find_dataset(files: Iterable[str]) -> str:
    """The folder that holds all images, apart from the converted ones; "" without images."""
    folders = {Path(file).parent for file in files}
    original = {folder for folder in folders if not folder.is_relative_to(CONVERTED_IMAGES)} or folders
    return Path(os.path.commonpath(original)).as_posix().rstrip(".") if original else ""
