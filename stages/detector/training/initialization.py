"""Initial state of a training: the model and the weights it starts from."""

from __future__ import annotations

import difflib
import hashlib
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from detector.core.errors import UserError
from detector.engine.checkpoint import Card, load_checkpoint
from detector.engine.dataset import LabelNames
from detector.models import MODELS, ModelSpec
from detector.models.normalization import PixelStatistics
from detector.training.fine_tuning import load_matching_weights

# Suffixes of buffers that describe the dataset instead of being learned.
DATASET_BUFFERS = (".present", ".weights")


@dataclass(frozen=True)
class Initialization:
    """The model to build and its initial weights; checkpoint: weights and card of an earlier training.

    weights: one of the model's pretrained weights, "none" with a checkpoint. digest: SHA-256 of the checkpoint, or "".
    """

    spec: ModelSpec
    weights: str
    checkpoint: tuple[dict[str, Tensor], Card] | None = None
    digest: str = ""

    @property
    def pretrained(self) -> bool:
        """Whether the backbone is pretrained."""
        return self.checkpoint is not None or self.weights != "none"

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
        return Initialization(spec, "none", (tensors, card), hashlib.sha256(path.read_bytes()).hexdigest())
    if weights not in ("auto", *spec.weights):
        raise UserError(
            f"params.yaml: `train.weights` is {weights!r}; {model} accepts auto, {', '.join(spec.weights)}, or the "
            "path of a .safetensors checkpoint of this project"
        )
    return Initialization(spec, spec.weights[0] if weights == "auto" else weights)


def load_initial_weights(model: nn.Module, initialization: Initialization, names: LabelNames, path: str) -> None:
    """Load the checkpoint into `model`, if there is one, and print which tensors could not be loaded."""
    if initialization.checkpoint is None:
        return
    weights, card = initialization.checkpoint
    learned = {name: tensor for name, tensor in weights.items() if not name.endswith(DATASET_BUFFERS)}
    missing = load_matching_weights(model, learned, path)
    missing = [name for name in missing if not name.endswith(DATASET_BUFFERS)]
    print(f"initialized from {path}" + (f" except {len(missing)} tensors: {', '.join(missing)}" if missing else ""))
    if card.classes != names.classes:
        print(f"  classes changed: {', '.join(card.classes)} -> {', '.join(names.classes)}")
