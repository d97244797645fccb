"""The state head: from the feature that found an object to the state the object is in."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detector.engine.distributed import loss_normalizer

HIDDEN = 256
DROPOUT = 0.2


class States(NamedTuple):
    """What a state head has to know of the states, whose ids start at 1; all empty: no head.

    present: whether an object in that state is there to be detected. weights: of the state in the loss,
    about 1. loss_weight: of the whole loss.
    """

    present: tuple[bool, ...] = ()
    weights: tuple[float, ...] = ()
    loss_weight: float = 0.0


class StateHead(nn.Module):
    """Linear, ReLU, dropout, linear; features [..., C] -> logits [..., S]."""

    present: Tensor
    weights: Tensor

    def __init__(self, features: int, states: States) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(features, HIDDEN), nn.ReLU(), nn.Dropout(DROPOUT), nn.Linear(HIDDEN, len(states.present))
        )
        self.loss_weight = states.loss_weight
        self.register_buffer("present", torch.tensor(states.present, dtype=torch.bool))
        self.register_buffer("weights", torch.tensor(states.weights, dtype=torch.float32))

    def forward(self, features: Tensor) -> Tensor:
        """Features [..., C] -> logits [..., S]."""
        logits: Tensor = self.layers(features)
        return logits

    def loss(self, logits: Tensor, states: Tensor) -> Tensor:
        """Weighted cross-entropy of P predictions, each against its own object: [P, S] and int64 [P] -> scalar.

        State 0, unknown, teaches nothing.
        """
        known = states > 0
        total = F.cross_entropy(logits[known], states[known] - 1, weight=self.weights, reduction="sum")
        return total / loss_normalizer(known.sum()) * self.loss_weight

    def presence(self, logits: Tensor) -> Tensor:
        """Probability that the object is there at all: [..., S] -> [...]."""
        # Not as a product of matrices, which ONNX Runtime computes several times slower for so few columns.
        return (logits.softmax(-1) * self.present.to(logits.dtype)).sum(-1)

    def is_present(self, states: Tensor) -> Tensor:
        """Which objects are there: int64 ids [...] -> bool [...]; one of unknown state is."""
        return torch.cat([self.present.new_ones(1), self.present])[states]


def state_head(features: int, states: States) -> StateHead | None:
    """The head, or none when there are no states."""
    return StateHead(features, states) if states.present else None


def present_scores(class_scores: Tensor, logits: Tensor | None, head: StateHead | None) -> Tensor:
    """Scores [B, L, C] times the probability that the object is there, by state logits [B, L, S]."""
    if head is None or logits is None:
        return class_scores
    return class_scores * head.presence(logits)[..., None]


def state_weights(counts: list[int]) -> tuple[float, ...]:
    """Weight of each state from how often it occurs: 1 / sqrt(count), scaled so that boxes weigh 1 on average.

    The square root evens rare states out without letting a handful of boxes rule the loss.
    """
    roots = [max(1, count) ** 0.5 for count in counts]
    mean_root = sum(counts) / max(1.0, sum(count / root for count, root in zip(counts, roots, strict=True)))
    return tuple(round(mean_root / root, 4) for root in roots)
