"""A trained detector on disk: weights in safetensors, everything else in JSON. Nothing is unpickled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, FiniteFloat
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from detector.core.errors import UserError
from detector.core.input_files import check_is_file
from detector.core.json_files import read_json
from detector.core.output_files import write_bytes, write_text
from detector.core.params import Section, validate_values
from detector.engine.model_values import Color, InputSize, Name, Names

MAX_CARD_BYTES = 16 << 20
Deviation = Annotated[int, Field(ge=1, le=255)]


class Card(Section):
    """Everything needed to use the weights.

    model: its key in MODELS. size: input (H, W). mean, std: of R, G and B, 0..255; images are padded with the
    mean. recipe: the resolved training settings. data: SHA-256 of the COCO files used for training and
    validation. validation: the best epoch, and its loss, AP and AP50 on val. precision: of the layers during
    training. processes: number of training processes. code: SHA-256 of the training code. versions: of the
    packages that can change the weights. Older checkpoints lack the last two.
    """

    model: Name
    classes: Annotated[Names, Field(min_length=1)]
    states: Names
    size: InputSize
    mean: Color
    std: tuple[Deviation, Deviation, Deviation]
    recipe: dict[str, Any]
    seed: int
    data: str
    validation: dict[str, FiniteFloat]
    precision: Name = "fp32"
    processes: Annotated[int, Field(ge=1)] = 1
    code: str = ""
    versions: dict[str, str] = Field(default_factory=dict)


def save_checkpoint(path: Path, weights: dict[str, Tensor], card: Card) -> None:
    """Write the weights to `path` (.safetensors) and the card next to it (.json)."""
    card_path = path.with_suffix(".json")
    card_path.unlink(missing_ok=True)  # a kill between the two files must not pair new weights with an old card
    write_bytes(path, save({name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}))
    write_text(card_path, json.dumps(card.model_dump(), indent=2, ensure_ascii=False) + "\n")


def load_checkpoint(path: Path) -> tuple[dict[str, Tensor], Card]:
    """Read what `save_checkpoint` wrote. Raises UserError naming the file and the key when one is missing or wrong."""
    try:
        card = _load_card(path.with_suffix(".json"))
        check_is_file(path)
        return load_file(path), card
    except FileNotFoundError as error:
        raise UserError(f"{error.filename or path}: missing; run `dvc repro train`, or `dvc pull`") from None
    except SafetensorError as error:
        raise UserError(f"{path}: not a checkpoint of this project ({error}); train it again") from None


def _load_card(path: Path) -> Card:
    try:
        values = read_json(path, MAX_CARD_BYTES)
        if isinstance(values, dict) and "deviation" in values:  # the former name of `std`
            values["std"] = values.pop("deviation")
        return validate_values(path, values, Card)
    except UserError as error:
        raise UserError(
            f"{error}\n{path.with_suffix('.safetensors')} is not a checkpoint of this project; train it again"
        ) from None
