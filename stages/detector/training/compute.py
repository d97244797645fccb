"""Device, precision and compilation of a training, and torch's errors translated into parameter names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import nn

from detector.core.errors import UserError
from detector.engine.distributed import broadcast_parameters, world_size
from detector.models.recipe import Recipe
from detector.training.precision import get_containers, use_precision
from detector.training.synchronized_norm import synchronize_norms


class ComputeSettings(NamedTuple):
    """device: of this process. precision: fp32, bf16 or fp16. compiled: whether to use torch.compile."""

    device: torch.device
    precision: str = "fp32"
    compiled: bool = False


def prepare_model(model: nn.Module, compute: ComputeSettings) -> None:
    """Apply the compute settings to `model`, in place; its state_dict keys stay.

    With several processes, all models get the weights of the first, and batch norms see the whole batch.
    """
    if world_size() > 1:
        broadcast_parameters(model.state_dict().values())
        synchronize_norms(model)
    use_precision(model, compute.device, compute.precision)
    if compute.compiled:
        # Layers of the same class count as recompilations of one another; a backbone has more than the default 8.
        torch._dynamo.config.recompile_limit = 64
        compile_layers(model)


def compile_layers(model: nn.Module, containers: list[nn.Module] | None = None) -> None:
    """Compile what `model.forward` calls, but not `forward` itself: shapes in its losses vary between batches.

    Containers are replaced by their contents. A copy of the model, such as its average, is not compiled.
    """
    containers = get_containers(model) if containers is None else containers
    for layer in model.children():
        if type(layer) in (nn.Sequential, nn.ModuleList, nn.ModuleDict) or layer in containers:
            compile_layers(layer, containers)
        else:
            layer.compile()


def get_machine_info() -> dict[str, Any]:
    """Return what affects speed and bytes of a training in addition to its parameters, data, code and packages."""
    cuda = torch.cuda.is_available()
    return {
        "device": torch.cuda.get_device_name() if cuda else torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
    }


def describe_device(compute: ComputeSettings) -> str:
    """Return one line with the device, torch, CUDA and the precision."""
    if compute.device.type == "cuda":
        memory = torch.cuda.get_device_properties(compute.device).total_memory / 2**30
        device = f"GPU {torch.cuda.get_device_name(compute.device)}, {memory:.0f} GiB"
        found = ""
    else:
        device = f"CPU, {torch.backends.cpu.get_cpu_capability()}, threads {torch.get_num_threads()}"
        found = " (no GPU found)"
    cuda = "without CUDA" if torch.version.cuda is None else f"CUDA {torch.version.cuda}{found}"
    return f"device {device}; torch {torch.__version__}, {cuda}; precision {compute.precision}"


@contextmanager
def translate_torch_errors(recipe: Recipe) -> Iterator[None]:
    """Turn errors that torch raises in a training step into UserErrors that say which parameter to change."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise out_of_memory_error(recipe, error) from None
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise UserError(
            f"`train.batch_size` {recipe.batch_size} gives a batch norm of this model a single value per channel; "
            "use 2 or more"
        ) from None
    except RuntimeError as error:
        if "can't allocate memory" in str(error):
            raise out_of_memory_error(recipe, error) from None
        if not is_compiler_error(error):
            raise
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"`train.compile: true` does not work here: {reason}\ntorch.compile needs a C++ compiler (g++; on a GPU "
            "also Triton) and a model that it supports; install what is missing or set `train.compile: false`"
        ) from None


def is_compiler_error(error: RuntimeError) -> bool:
    """Whether torch.compile raised it."""
    return any(kind.__module__.startswith(("torch._dynamo", "torch._inductor")) for kind in type(error).__mro__)


def out_of_memory_error(recipe: Recipe, error: Exception) -> UserError:
    """Build the error for too little device memory, with the parameters to change."""
    if recipe.batch_size == 1:
        advice = "one image does not fit: lower `train.image_size`"
    else:
        batch_size, steps = recipe.batch_size // 2, 2 * recipe.accumulate_steps
        advice = (
            f"try `train.batch_size: {batch_size}` with `train.accumulate_steps: {steps}`, or lower `train.image_size`"
        )
    return UserError(f"out of memory with `train.batch_size` {recipe.batch_size}; {advice}\n({error})")
