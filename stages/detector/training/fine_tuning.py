"""Fine-tuning: loading the weights of an earlier training, and freezing parts of the model."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor, nn

from detector.core.errors import UserError
from detector.models.class_rows import TrainedRows, find_class_rows, find_state_rows, load_named_rows
from detector.models.normalization import freeze_batch_norms


class HeadNames(NamedTuple):
    """The names that a model's head has rows for, in row order."""

    classes: Sequence[str]
    states: Sequence[str]


class Loaded(NamedTuple):
    """What `load_matching_weights` loaded: classes and states whose rows are the trained ones, and what is new.

    new_tensors: names of tensors that the trained weights lack or have in another shape; they stay as they were.
    """

    classes: list[str]
    states: list[str]
    new_tensors: list[str]


def load_matching_weights(
    model: nn.Module, names: HeadNames, weights: dict[str, Tensor], trained: HeadNames, source: str
) -> Loaded:
    """Load all tensors whose name and shape match into `model`, in place, and the head's rows by class and state name.

    names, trained: of the model and of the weights. Raises UserError when the weights are of another architecture.
    source: file name for the message.
    """
    own = model.state_dict()
    class_rows, state_rows = find_class_rows(model), find_state_rows(model)
    states = state_rows if state_rows.keys() <= weights.keys() else {}
    heads_fit = all(
        name in weights
        and weights[name].shape[1:] == own[name].shape[1:]
        and len(weights[name]) == rows.count(trained.classes)
        for name, rows in class_rows.items()
    )
    matching = {
        name: weights[name]
        for name in own.keys() & weights.keys() - class_rows.keys() - state_rows.keys()
        if weights[name].shape == own[name].shape
    }
    if len(matching) < len(own) / 2 or not heads_fit:
        raise UserError(
            f"{source} is of another architecture: only {len(matching)} of the model's {len(own)} tensors match in "
            "name and shape; use a checkpoint of the same `train.model`"
        )
    model.load_state_dict(matching, strict=False)
    return Loaded(
        load_named_rows(model, class_rows, names.classes, TrainedRows(trained.classes, weights)),
        load_named_rows(model, states, names.states, TrainedRows(trained.states, weights)) if states else [],
        [name for name in own if name not in {*matching, *class_rows, *states}],
    )


def freeze(model: nn.Module, names: tuple[str, ...]) -> None:
    """Freeze the modules and parameters with these names, in place, including everything inside a module.

    Batch norms inside keep their statistics too. Raises UserError with the nearest names when the model has no
    module or parameter of a name.
    """
    modules = dict(model.named_modules())
    parameters = dict(model.named_parameters())
    for name in names:
        if name in parameters:
            parameters[name].requires_grad_(False)
        elif name in modules:
            modules[name].requires_grad_(False)
            freeze_batch_norms(modules[name])
        else:
            near = difflib.get_close_matches(name, [*modules, *parameters], n=3, cutoff=0.0)
            raise UserError(
                f"params.yaml: `train.freeze` names {name!r}, which the model does not have; nearest: {', '.join(near)}"
            )
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise UserError("params.yaml: `train.freeze` leaves no trainable parameter")
