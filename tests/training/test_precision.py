"""Lower precision in layers, float32 in losses and boxes, and the choice of `auto`."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from detector.core.errors import UserError
from detector.engine.structures import Targets
from detector.models import MODELS
from detector.models.normalization import PixelStatistics
from detector.models.postprocess import Postprocess
from detector.models.state_head import StateConfig
from detector.training.precision import check_precision, choose_precision, use_precision
from tests.support.models import EACH_MODEL
from tests.support.targets import whole_image_targets

CPU = torch.device("cpu")
STATES = StateConfig(present=(True, False), weights=(1.0, 2.0), loss_weight=0.5)


def build(name: str) -> nn.Module:
    torch.manual_seed(0)
    statistics = PixelStatistics((120, 110, 100), (60, 60, 60))
    return MODELS[name].build(3, STATES, statistics, Postprocess(1e-4, max_detections=20), "none")


def batch() -> tuple[torch.Tensor, Targets]:
    """Two images: one object in the first, none in the second."""
    images = torch.randint(0, 256, (2, 3, 96, 128), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    boxes = torch.tensor([[[10.0, 8.0, 90.0, 77.0]], [[0.0, 0.0, 0.0, 0.0]]])
    return images, whole_image_targets(boxes, torch.tensor([[2], [0]]), torch.tensor([[1], [0]]), (96, 128))


def compute_losses(model: nn.Module) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    losses: dict[str, torch.Tensor] = model.train()(*batch()).losses
    return losses


@EACH_MODEL
def test_every_model_trains_in_bf16_with_losses_and_boxes_in_float32(name: str) -> None:
    model = build(name)
    expected = {part: float(loss.detach()) for part, loss in compute_losses(copy.deepcopy(model)).items()}
    names = list(model.state_dict())
    used: set[torch.dtype] = set()
    use_precision(model, CPU, "bf16")
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda _module, _inputs, output: used.add(output.dtype))
    losses = compute_losses(model)
    assert torch.bfloat16 in used
    assert all(loss.dtype == torch.float32 for loss in losses.values())
    numbers = {part: float(loss.detach()) for part, loss in losses.items()}
    assert sum(numbers.values()) == pytest.approx(sum(expected.values()), rel=0.1)
    # Untrained queries are matched differently, which changes their losses.
    assert numbers == pytest.approx(expected, rel=0.5, abs=0.05)
    torch.stack(list(losses.values())).sum().backward()
    for parameter in model.parameters():
        assert parameter.dtype == torch.float32
        assert parameter.grad is None or parameter.grad.isfinite().all()
    with torch.no_grad():
        found = copy.deepcopy(model).eval()(batch()[0]).detections
    assert found.boxes_xyxy.dtype == found.scores.dtype == torch.float32
    assert (found.boxes_xyxy != found.boxes_xyxy.bfloat16().float()).any()  # not merely converted at the end
    assert list(model.state_dict()) == names


def test_fp32_does_not_change_the_model() -> None:
    model, other = build("simple"), build("simple")
    use_precision(model, CPU, "fp32")
    for one, two in zip(compute_losses(model).values(), compute_losses(other).values(), strict=True):
        assert torch.equal(one, two)


def test_a_copy_computes_with_its_own_weights() -> None:
    model = nn.Sequential(nn.Linear(2, 2))
    use_precision(model, CPU, "bf16")
    copied = copy.deepcopy(model)
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    assert not model(torch.ones(1, 2)).any()
    assert copied(torch.ones(1, 2)).any()


def test_precisions_that_the_device_does_not_support(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("fp32", "bf16", "auto"):
        check_precision(name, CPU)
    with pytest.raises(UserError, match=r"`train.precision` is fp16.* bf16, fp32 or auto"):
        check_precision("fp16", CPU)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "an old GPU")
    with pytest.raises(UserError, match=r"bf16.* an old GPU .* fp16, fp32 or auto"):
        check_precision("bf16", torch.device("cuda"))


def test_auto_is_the_lower_precision_of_a_gpu_and_fp32_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = torch.device("cuda")
    assert choose_precision("auto", CPU) == "fp32"
    for native, chosen in ((True, "bf16"), (False, "fp16")):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True, native=native: native)
        assert choose_precision("auto", gpu) == chosen
    assert [choose_precision(name, CPU) for name in ("fp32", "bf16")] == ["fp32", "bf16"]


@pytest.mark.parametrize("groups", [1, 64])
def test_narrow_inputs_have_gradients_in_bf16(groups: int) -> None:
    """torch's own gradient would be what the memory held before: here NaN."""
    torch.manual_seed(0)
    convolution = nn.Conv2d(64, 64, 3, 2, 1, groups=groups, bias=False).to(memory_format=torch.channels_last)
    model, inputs = nn.Sequential(convolution), torch.randn(2, 64, 3, 1)
    lower = copy.deepcopy(model)
    use_precision(lower, CPU, "bf16")
    gradients: list[torch.Tensor] = []
    for _ in range(5):
        spoiled = [torch.full(convolution.weight.shape, torch.nan) for _ in range(9)]
        del spoiled
        gradients += torch.autograd.grad(lower(inputs).square().sum(), list(lower.parameters()))
    (expected,) = torch.autograd.grad(model(inputs).square().sum(), convolution.weight)
    for gradient in gradients:
        assert (gradient - expected).abs().max() < 0.03 * expected.abs().max()
