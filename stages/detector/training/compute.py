"""How the steps of a training are computed on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any, NamedTuple

import torch
from torch import nn

from detector.core.errors import UserError
from detector.engine.distributed import count, equalize
from detector.models.recipe import Recipe
from detector.training.precision import use_precision
from detector.training.synchronized_norm import synchronize_norms


class Engine(NamedTuple):
    """device: of this process. precision: fp32, bf16 or fp16. compiled: whether by torch.compile."""

    device: torch.device
    precision: str = "fp32"
    compiled: bool = False


def prepare(model: nn.Module, engine: Engine) -> None:
    """Make `model` compute as the engine says; its weights keep their names.

    With several processes all models become the first one's, and their batch norms see the whole batch.
    """
    if count() > 1:
        equalize(model.state_dict().values())
        synchronize_norms(model)
    use_precision(model, engine.device, engine.precision)
    if engine.compiled:
        # Blocks of one kind count as recompilations of each other; a backbone has more than the usual 8.
        torch._dynamo.config.recompile_limit = 64
        compile_layers(model)


def compile_layers(model: nn.Module) -> None:
    """Compile what `model.forward` calls, but not itself: the shapes in its losses differ from batch to batch.

    Containers count as their contents. A copy of the model, such as its average, is not compiled.
    """
    for layer in model.children():
        if type(layer) in (nn.Sequential, nn.ModuleList, nn.ModuleDict):
            compile_layers(layer)
        else:
            layer.compile()


def machine() -> dict[str, Any]:
    """What the speed and the bytes of a training depend on besides its parameters, data and code."""
    cuda = torch.cuda.is_available()
    return {
        "versions": {name: version(name) for name in ("torch", "torchvision", "numpy", "pillow", "hotcoco")},
        "device": torch.cuda.get_device_name() if cuda else torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
    }


@contextmanager
def explained(recipe: Recipe) -> Iterator[None]:
    """What torch complains about in a step as a UserError that says what to change."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise out_of_memory(recipe, error) from None
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise UserError(
            f"`train.batch_size` {recipe.batch_size} leaves a batch norm of this model with a single value to learn "
            "from; use 2 or more"
        ) from None
    except RuntimeError as error:
        if "can't allocate memory" in str(error):
            raise out_of_memory(recipe, error) from None
        if not is_of_the_compiler(error):
            raise
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"`train.compile: true` does not work here: {reason}\ntorch.compile needs a C++ compiler (g++; on a GPU "
            "Triton too) and a model that it understands; install what is missing or set `train.compile: false`"
        ) from None


def is_of_the_compiler(error: RuntimeError) -> bool:
    """Whether torch.compile raised it."""
    return any(kind.__module__.startswith(("torch._dynamo", "torch._inductor")) for kind in type(error).__mro__)


def out_of_memory(recipe: Recipe, error: Exception) -> UserError:
    """What to change when the device's memory is too small."""
    if recipe.batch_size == 1:
        advice = "one image does not fit: lower `train.size`"
    else:
        half = recipe.batch_size // 2
        advice = (
            f"try `train.batch_size: {half}` with `train.accumulate: {2 * recipe.accumulate}`, or lower `train.size`"
        )
    return UserError(f"out of memory with `train.batch_size` {recipe.batch_size}; {advice}\n({error})")
