"""Compilation of models, and torch's errors translated into parameter names."""

from __future__ import annotations

import copy
import dataclasses
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from detector.core.errors import UserError
from detector.models.recipe import REFERENCE
from detector.training.compute import ComputeSettings, describe_device, prepare_model, translate_torch_errors

CPU = torch.device("cpu")


class Two(nn.Module):
    """A layer and a container of layers that `forward` calls one by one."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(2, 2)
        self.blocks = nn.Sequential(nn.Linear(2, 2), nn.ModuleList([nn.Linear(2, 2)]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.blocks[1][0](self.blocks[0](self.first(x)))  # type: ignore[index,no-any-return]


def test_the_device_is_described(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "__version__", "2.9.1+cu128")
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    described = describe_device(ComputeSettings(CPU, "fp32"))
    assert described.startswith(f"device CPU, {torch.backends.cpu.get_cpu_capability()}, threads ")
    assert described.endswith("; torch 2.9.1+cu128, CUDA 12.8 (no GPU found); precision fp32")
    monkeypatch.setattr(torch.version, "cuda", None)
    assert "torch 2.9.1+cu128, without CUDA; precision" in describe_device(ComputeSettings(CPU, "fp32"))

    monkeypatch.setattr(torch.version, "cuda", "12.8")
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H200")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(total_memory=139 * 2**30))
    gpu = describe_device(ComputeSettings(torch.device("cuda", 0), "bf16"))
    assert gpu == "device GPU NVIDIA H200, 139 GiB; torch 2.9.1+cu128, CUDA 12.8; precision bf16"


def is_compiled(module: nn.Module) -> bool:
    return module._compiled_call_impl is not None


def test_layers_are_compiled_and_keep_their_names() -> None:
    model = Two()
    names = list(model.state_dict())
    prepare_model(model, ComputeSettings(CPU, "fp32", compiled=True))
    assert list(model.state_dict()) == names
    assert [name for name, module in model.named_modules() if is_compiled(module)] == [
        "first",
        "blocks.0",
        "blocks.1.0",
    ]
    assert not any(is_compiled(module) for module in copy.deepcopy(model).modules())  # as is its average


@pytest.mark.filterwarnings("ignore")  # of the compiler
def test_without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch._inductor.config as inductor

    monkeypatch.setattr(inductor.cpp, "cxx", ("no-such-compiler",))
    model = Two()
    prepare_model(model, ComputeSettings(CPU, "fp32", compiled=True))
    with (
        pytest.raises(UserError, match=r"`train.compile: true`.*\n.*`train.compile: false`"),
        translate_torch_errors(REFERENCE),
    ):
        model(torch.ones(1, 2))


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("DefaultCPUAllocator: can't allocate memory: ...")],
)
def test_out_of_memory_names_the_batch_size_to_try(error: RuntimeError) -> None:
    recipe = dataclasses.replace(REFERENCE, batch_size=6, accumulate_steps=2)
    with (
        pytest.raises(UserError, match=r"`train.batch_size: 3` with `train.accumulate_steps: 4`"),
        translate_torch_errors(recipe),
    ):
        raise error


def test_a_batch_norm_with_a_single_value() -> None:
    norm = nn.BatchNorm2d(2).train()
    with (
        pytest.raises(UserError, match="use 2 or more"),
        translate_torch_errors(dataclasses.replace(REFERENCE, batch_size=1)),
    ):
        norm(torch.ones(1, 2, 1, 1))


@pytest.mark.parametrize("error", [RuntimeError("shapes do not fit"), ValueError("no")])
def test_other_errors_are_not_translated(error: Exception) -> None:
    with pytest.raises(type(error), match=str(error)), translate_torch_errors(REFERENCE):
        raise error
