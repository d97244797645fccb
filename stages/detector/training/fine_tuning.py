"""Fine-tuning: loading the weights of an earlier training, and freezing parts of the model."""

from __future__ import annotations

import difflib

from torch import Tensor, nn

from detector.core.errors import UserError
from detector.models.normalization import freeze_batch_norms


def load_matching_weights(model: nn.Module, weights: dict[str, Tensor], source: str) -> list[str]:
    """Load all tensors whose name and shape match into `model`, in place; return the names of its other tensors.

    Shapes differ when the number of classes or states differs. Raises UserError when the weights are of another
    architecture. source: file name for the message.
    """
    own = model.state_dict()
    shared = own.keys() & weights.keys()
    matching = {name: weights[name] for name in shared if weights[name].shape == own[name].shape}
    if len(matching) < len(own) / 2:
        raise UserError(
            f"{source} is of another architecture: only {len(matching)} of the model's {len(own)} tensors match in "
            "name and shape; use a checkpoint of the same `train.model`"
        )
    model.load_state_dict(matching, strict=False)
    return [name for name in own if name not in matching]


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
