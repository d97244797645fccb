"""Where a training starts from: which model, and whose weights."""

from __future__ import annotations

import difflib
import hashlib
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from detector.core.errors import UserError
from detector.engine.checkpoint import Card, load_checkpoint
from detector.engine.dataset import Names
from detector.models import MODELS, Model
from detector.models.normalization import PixelStatistics
from detector.training.fine_tuning import start_from

# Of a checkpoint, what is the dataset's and not learned.
FACTS = (".present", ".weights")


@dataclass(frozen=True)
class Start:
    """A line of the table and what it is built with; of a checkpoint, its weights and its card.

    weights: one of the model's own kinds. digest: SHA-256 of the checkpoint, else "".
    """

    kind: Model
    weights: str
    earlier: tuple[dict[str, Tensor], Card] | None = None
    digest: str = ""

    @property
    def pretrained(self) -> bool:
        """Whether the backbone has learned before."""
        return self.earlier is not None or self.weights != "none"

    def statistics(self) -> PixelStatistics | None:
        """How the weights want pixels normalized; None from scratch."""
        if self.earlier is not None:
            return PixelStatistics(self.earlier[1].mean, self.earlier[1].deviation)
        return self.kind.statistics_for(self.weights) if self.pretrained else None


def find_start(model: str, weights: str) -> Start:
    """What `train.model` and `train.weights` of params.yaml mean.

    `auto` is the best that the model has; a path is of a checkpoint of this project. Raises UserError
    for an unknown model, for weights that it does not have, and for a checkpoint of another model.
    """
    if model not in MODELS:
        near = difflib.get_close_matches(model, MODELS, n=1, cutoff=0.0)[0]
        raise UserError(f"params.yaml: `train.model` is {model!r}; known are {', '.join(MODELS)}. Did you mean {near}?")
    kind = MODELS[model]
    if weights.endswith(".safetensors"):
        path = Path(weights)
        values, card = load_checkpoint(path)
        if card.model != model:
            raise UserError(
                f"params.yaml: `train.weights` {weights} is of model {card.model}, but `train.model` is {model}"
            )
        return Start(kind, "none", (values, card), hashlib.sha256(path.read_bytes()).hexdigest())
    if weights not in ("auto", *kind.weights):
        raise UserError(
            f"params.yaml: `train.weights` is {weights!r}; {model} takes auto, {', '.join(kind.weights)}, or the path "
            "of a .safetensors file that this project wrote"
        )
    return Start(kind, kind.weights[0] if weights == "auto" else weights)


def take_weights(model: nn.Module, start: Start, names: Names, path: str) -> None:
    """Put an earlier training's weights into `model`, if there are any, and say what could not be used."""
    if start.earlier is None:
        return
    weights, card = start.earlier
    new = start_from(model, {name: value for name, value in weights.items() if not name.endswith(FACTS)}, path)
    new = [name for name in new if not name.endswith(FACTS)]
    print(f"starts from {path}, " + (f"but for {len(new)} tensors: {', '.join(new)}" if new else "all of it"))
    if card.classes != names.classes:
        print(f"  it told apart {', '.join(card.classes)}; now it is {', '.join(names.classes)}")
