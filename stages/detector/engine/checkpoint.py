"""A trained detector on disk: weights in safetensors, everything else in JSON. Nothing is unpickled."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from detector.core.errors import UserError


@dataclass(frozen=True)
class Card:
    """What one must know to use the weights.

    model: its line in the table. size: (H, W) of the input. mean, deviation: of R, G, B, 0..255; images
    are padded with the mean. recipe: the resolved training settings. data: SHA-256 of the COCO files that
    it was trained and validated on. validation: AP and AP50 on val, and the epoch they were reached in.
    precision: in which layers computed in training. processes: that trained together. code: SHA-256 of the code that
    trained; older checkpoints do not say.
    """

    model: str
    classes: list[str]
    states: list[str]
    size: tuple[int, int]
    mean: tuple[int, ...]
    deviation: tuple[int, ...]
    recipe: dict[str, Any]
    seed: int
    data: str
    validation: dict[str, float]
    precision: str = "fp32"
    processes: int = 1
    code: str = ""


def save_checkpoint(path: Path, weights: dict[str, Tensor], card: Card) -> None:
    """Write `path` (.safetensors) and the card beside it (.json)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not save_file: killed at this moment, it would leave a file under another name behind.
    path.write_bytes(save({name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}))
    text = json.dumps(asdict(card), indent=2, ensure_ascii=False)
    path.with_suffix(".json").write_text(text + "\n", encoding="utf-8")


def load_checkpoint(path: Path) -> tuple[dict[str, Tensor], Card]:
    """What `save_checkpoint` wrote. Raises UserError when a file is missing or not a checkpoint."""
    card_path = path.with_suffix(".json")
    try:
        card: dict[str, Any] = json.loads(card_path.read_text(encoding="utf-8"))
        for key in ("size", "mean", "deviation"):
            card[key] = tuple(card[key])
        return load_file(path), Card(**card)
    except FileNotFoundError as error:
        raise UserError(f"{error.filename or path}: missing; run `dvc repro train`, or `dvc pull`") from None
    except (SafetensorError, json.JSONDecodeError, TypeError, KeyError) as error:
        raise UserError(f"{path}: not a checkpoint of this project ({error}); train again") from None
