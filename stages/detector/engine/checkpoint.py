"""A trained detector on disk: weights in safetensors, everything else in JSON. Nothing is unpickled."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from detector.core.errors import UserError
from detector.core.output_files import write_bytes, write_text


@dataclass(frozen=True, kw_only=True)
class Card:
    """Everything needed to use the weights.

    model: its key in MODELS. size: input (H, W). mean, std: of R, G and B, 0..255; images are padded with the
    mean. recipe: the resolved training settings. data: SHA-256 of the COCO files used for training and
    validation. validation: AP and AP50 on val, and the epoch that reached them. precision: of the layers during
    training. processes: number of training processes. code: SHA-256 of the training code. versions: of the
    packages that can change the weights. Older checkpoints lack the last two.
    """

    model: str
    classes: list[str]
    states: list[str]
    size: tuple[int, int]
    mean: tuple[int, ...]
    std: tuple[int, ...]
    recipe: dict[str, Any]
    seed: int
    data: str
    validation: dict[str, float]
    precision: str = "fp32"
    processes: int = 1
    code: str = ""
    versions: dict[str, str] = field(default_factory=dict)


def save_checkpoint(path: Path, weights: dict[str, Tensor], card: Card) -> None:
    """Write the weights to `path` (.safetensors) and the card next to it (.json)."""
    card_path = path.with_suffix(".json")
    card_path.unlink(missing_ok=True)  # a kill between the two files must not pair new weights with an old card
    write_bytes(path, save({name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}))
    write_text(card_path, json.dumps(asdict(card), indent=2, ensure_ascii=False) + "\n")


def load_checkpoint(path: Path) -> tuple[dict[str, Tensor], Card]:
    """Read what `save_checkpoint` wrote. Raises UserError when a file is missing or not a checkpoint."""
    card_path = path.with_suffix(".json")
    try:
        card: dict[str, Any] = json.loads(card_path.read_text(encoding="utf-8"))
        if "deviation" in card:  # the former name of `std`
            card["std"] = card.pop("deviation")
        for key in ("size", "mean", "std"):
            card[key] = tuple(card[key])
        return load_file(path), Card(**card)
    except FileNotFoundError as error:
        raise UserError(f"{error.filename or path}: missing; run `dvc repro train`, or `dvc pull`") from None
    except (SafetensorError, json.JSONDecodeError, TypeError, KeyError) as error:
        raise UserError(f"{path}: not a checkpoint of this project ({error}); train it again") from None
