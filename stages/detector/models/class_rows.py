"""Heads whose rows belong to classes or states: trained rows are kept by name, wherever their position has moved."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from detector.models.state_head import StateHead


class NamedRows(NamedTuple):
    """The first dimension of a tensor with rows for each name: [groups, names + background, values], flattened.

    groups: such as anchors per location. background: where the row of "no object" is. values: rows per name, such as
    4 for boxes.
    """

    groups: int = 1
    background: Literal["none", "first", "last"] = "none"
    values: int = 1

    def count(self, names: Sequence[str]) -> int:
        """The length of the first dimension for these names."""
        return self.groups * (len(names) + (self.background != "none")) * self.values


class TrainedRows(NamedTuple):
    """A trained head: names in row order, without background, and tensors by the model's names for them."""

    names: Sequence[str]
    tensors: dict[str, Tensor]


def find_class_rows(model: nn.Module) -> dict[str, NamedRows]:
    """The tensors of the model that have rows per class, by name."""
    rows: dict[str, NamedRows] = model.class_rows()  # type: ignore[operator]
    return rows


def find_state_rows(model: nn.Module) -> dict[str, NamedRows]:
    """The tensors of the model that have rows per state, by name; empty without a state head."""
    heads = [name for name, module in model.named_modules() if isinstance(module, StateHead)]
    return {f"{head}.layers.3.{kind}": NamedRows() for head in heads for kind in ("weight", "bias")}


def keep_named_rows(
    own: Tensor, names: Sequence[str], trained: Tensor, trained_names: Sequence[str], rows: NamedRows
) -> Tensor:
    """A copy of `own` in which the rows of the names that both have, and of the background, are those of `trained`.

    own, trained: [groups * (names + background) * values, ...], equal in all other dimensions.
    """
    extra = int(rows.background != "none")
    result = own.clone(memory_format=torch.contiguous_format)
    new = result.unflatten(0, (rows.groups, len(names) + extra, rows.values))
    old = trained.unflatten(0, (rows.groups, len(trained_names) + extra, rows.values))
    first = int(rows.background == "first")
    old_row = {name: row for row, name in enumerate(trained_names, first)}
    for row, name in enumerate(names, first):
        if name in old_row:
            new[:, row] = old[:, old_row[name]]
    if rows.background != "none":
        background = 0 if rows.background == "first" else -1
        new[:, background] = old[:, background]
    return result


@torch.no_grad()
def load_named_rows(
    model: nn.Module, rows: dict[str, NamedRows], names: Sequence[str], trained: TrainedRows
) -> list[str]:
    """Load the trained rows of the names that the model has too, in place; return these names.

    rows: tensors of the model with rows per name. names: of the model's rows, in order.
    """
    own = model.state_dict()
    for tensor, layout in rows.items():
        own[tensor].copy_(keep_named_rows(own[tensor], names, trained.tensors[tensor], trained.names, layout))
    return [name for name in names if name in set(trained.names)]
