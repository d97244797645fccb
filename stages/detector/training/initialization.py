"""Initial state of a training: the model and the weights it starts from."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from detector.core.errors import UserError
from detector.engine.checkpoint import Card, load_checkpoint
from detector.engine.dataset import LabelNames
from detector.models import MODELS, ModelSpec
from detector.models.class_rows import find_class_rows, load_named_rows
from detector.models.normalization import PixelStatistics
from detector.training.fine_tuning import HeadNames, load_matching_weights

# Suffixes of buffers that describe the dataset instead of being learned.
DATASET_BUFFERS = (".present", ".weights")


@dataclass(frozen=True)
class Initialization:
    """The model to build and its initial weights; checkpoint: weights and card of an earlier training.

    weights: one of the model's pretrained weights, "none" or "checkpoint". digest: SHA-256 of the checkpoint, or "".
    """

    spec: ModelSpec
    weights: str
    checkpoint: tuple[dict[str, Tensor], Card] | None = None
    digest: str = ""

    @property
    def pretrained(self) -> bool:
        """Whether the backbone is pretrained."""
        return self.weights != "none"

    def statistics(self) -> PixelStatistics | None:
        """Return the pixel statistics that the weights expect; None from scratch."""
        if self.checkpoint is not None:
            _, card = self.checkpoint
            return PixelStatistics(card.mean, card.std)
        return self.spec.choose_statistics(self.weights) if self.pretrained else None


def resolve_initialization(model: str, weights: str) -> Initialization:
    """Look up `train.model` and `train.weights` of params.yaml.

    `auto` is the model's best available weights; a path is a checkpoint of this project. Raises UserError for an
    unknown model, for weights that the model does not have, and for a checkpoint of another model.
    """
    if model not in MODELS:
        near = difflib.get_close_matches(model, MODELS, n=1, cutoff=0.0)[0]
        raise UserError(
            f"params.yaml: `train.model` is {model!r}; available: {', '.join(MODELS)}. Did you mean {near}?"
        )
    spec = MODELS[model]
    if weights.endswith(".safetensors"):
        path = Path(weights)
        tensors, card = load_checkpoint(path)
        if card.model != model:
            raise UserError(
                f"params.yaml: `train.weights` {weights} is of model {card.model}, but `train.model` is {model}"
            )
        return Initialization(spec, "checkpoint", (tensors, card), hashlib.sha256(path.read_bytes()).hexdigest())
    if weights not in ("auto", *spec.weights):
        raise UserError(
            f"params.yaml: `train.weights` is {weights!r}; {model} accepts auto, {', '.join(spec.weights)}, or the "
            "path of a .safetensors checkpoint of this project"
        )
    return Initialization(spec, spec.weights[0] if weights == "auto" else weights)


def load_initial_weights(model: nn.Module, initialization: Initialization, names: LabelNames, path: str) -> None:
    """Load the checkpoint, or the rows of the COCO weights' head for classes of the same name, and print what is new.

    path: of the checkpoint, for the message.
    """
    if initialization.checkpoint is not None:
        _load_checkpoint(model, initialization.checkpoint, names, path)
    elif initialization.weights == "coco" and initialization.spec.load_coco_rows is not None:
        kept = load_named_rows(model, find_class_rows(model), names.classes, initialization.spec.load_coco_rows())
        print("initialized from COCO weights" + _describe_names("class", names.classes, kept))


def _load_checkpoint(
    model: nn.Module, checkpoint: tuple[dict[str, Tensor], Card], names: LabelNames, path: str
) -> None:
    weights, card = checkpoint
    learned = {name: tensor for name, tensor in weights.items() if not name.endswith(DATASET_BUFFERS)}
    loaded = load_matching_weights(
        model, HeadNames(names.classes, names.states), learned, HeadNames(card.classes, card.states), path
    )
    new = [name for name in loaded.new_tensors if not name.endswith(DATASET_BUFFERS)]
    lines = [f"initialized from {path}", _describe_names("class", names.classes, loaded.classes)]
    if names.states and card.states:
        lines.append(_describe_names("state", names.states, loaded.states))
    if new:
        lines.append(f"; {len(new)} new tensors: {', '.join(new)}")
    print("".join(lines))


def _describe_names(kind: str, names: Sequence[str], trained: Sequence[str]) -> str:
    """`; new classes: ...`, the names without a trained row; empty if all have one."""
    new = [name for name in names if name not in trained]
    plural = {"class": "classes", "state": "states"}[kind]
    if not new:
        return ""
    known = f", trained: {', '.join(trained)}" if trained else f" (none of the trained {plural} has a name of yours)"
    return f"; new {plural}: {', '.join(new)}{known}"
