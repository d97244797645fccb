"""The state head: the state of an object, from the features of the query, location or region that detected it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detector.engine.distributed import loss_normalizer

HIDDEN = 256
DROPOUT = 0.2


class StateConfig(NamedTuple):
    """Settings of the state head, one entry per state id from 1; no head when empty.

    present: whether objects in this state are to be detected. weights: weight of each state in the loss, around 1.
    loss_weight: weight of the whole state loss.
    """

    present: tuple[bool, ...] = ()
    weights: tuple[float, ...] = ()
    loss_weight: float = 0.0


class StateHead(nn.Module):
    """Linear, ReLU, dropout, linear; features [..., C] -> logits [..., S]."""

    present: Tensor
    weights: Tensor

    def __init__(self, features: int, states: StateConfig) -> None:
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

    def convolve(self, features: Tensor) -> Tensor:
        """The same for every location of a feature map: [B, C, H, W] -> [B, S, H, W].

        ONNX Runtime computes convolutions, with bias and ReLU, in half the time of products with a matrix [B, L, C].
        """
        for layer in self.layers:
            if isinstance(layer, nn.Linear):
                features = F.conv2d(features, layer.weight[..., None, None], layer.bias)
            else:
                features = layer(features)
        return features

    def loss(self, logits: Tensor, states: Tensor) -> Tensor:
        """Weighted cross-entropy of P predictions and their objects' states: [P, S] and int64 [P] -> scalar.

        Unknown states (0) are ignored.
        """
        known = states > 0
        total = F.cross_entropy(logits[known], states[known] - 1, weight=self.weights, reduction="sum")
        return total / loss_normalizer(known.sum()) * self.loss_weight

    def presence(self, logits: Tensor) -> Tensor:
        """Probability that the object is present: [..., S] -> [...]."""
        # Not a matrix product, which ONNX Runtime computes several times slower for so few columns.
        return (logits.softmax(-1) * self.present.to(logits.dtype)).sum(-1)

    def is_present(self, states: Tensor) -> Tensor:
        """Whether each object is present, by state id: int64 [...] -> bool [...]; unknown states count as present."""
        return torch.cat([self.present.new_ones(1), self.present])[states]


def build_state_head(features: int, states: StateConfig) -> StateHead | None:
    """Build the head; None without states."""
    return StateHead(features, states) if states.present else None


def apply_presence(class_scores: Tensor, logits: Tensor | None, head: StateHead | None) -> Tensor:
    """Scores [B, L, C] times the probability that the object is present, from state logits [B, L, S]."""
    if head is None or logits is None:
        return class_scores
    return class_scores * head.presence(logits)[..., None]


def box_loss_mask(head: StateHead | None, states: Tensor) -> Tensor:
    """Which objects contribute to the box losses: int64 ids [...] -> bool [...], all of them without a state head.

    Absent objects do not: their annotated boxes are guesses.
    """
    return torch.ones_like(states, dtype=torch.bool) if head is None else head.is_present(states)


def compute_state_weights(counts: list[int]) -> tuple[float, ...]:
    """Weight of each state from its box count: 1 / sqrt(count), scaled to a mean weight of 1 per box.

    The square root helps rare states without letting a few boxes dominate the loss.
    """
    roots = [max(1, count) ** 0.5 for count in counts]
    mean_root = sum(counts) / max(1.0, sum(count / root for count, root in zip(counts, roots, strict=True)))
    return tuple(round(mean_root / root, 4) for root in roots)
