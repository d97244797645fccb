"""Starting from a detector that was trained before, and keeping parts of it as they are."""

from __future__ import annotations

import difflib

from torch import Tensor, nn

from detector.core.errors import UserError
from detector.models.normalization import freeze_batch_norms


def start_from(model: nn.Module, weights: dict[str, Tensor], source: str) -> list[str]:
    """Load what fits into `model`, in place; the names of its tensors that do not, and so stay new.

    Tensors differ in shape where another number of classes or states was told apart. Raises UserError
    when the weights are of another architecture; source: where they are from, for the message.
    """
    own = model.state_dict()
    shared = own.keys() & weights.keys()
    fitting = {name: weights[name] for name in shared if weights[name].shape == own[name].shape}
    if len(fitting) < len(own) / 2:
        raise UserError(
            f"{source} is of another architecture: {len(fitting)} of the model's {len(own)} tensors are in it with "
            "the same name and shape; start from a checkpoint of the same `train.model`"
        )
    model.load_state_dict(fitting, strict=False)
    return [name for name in own if name not in fitting]


def freeze(model: nn.Module, names: tuple[str, ...]) -> None:
    """Keep from learning, in place, the modules and parameters with these names, all that is in them included.

    Their batch norms keep their statistics too. Raises UserError naming the nearest module for a name
    that the model does not have.
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
                f"params.yaml: `train.freeze` names {name!r}, which the model does not have; near are {', '.join(near)}"
            )
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise UserError("params.yaml: `train.freeze` leaves nothing that learns")
