"""The training loop, and losses that are not finite."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn
from torch.amp import GradScaler

from detector.core.errors import UserError
from detector.engine.dataset import Batch
from detector.engine.structures import Output, Targets
from detector.models.recipe import REFERENCE
from detector.training.loop import Learner, Step, check_finite, group_batches, train_one_epoch
from detector.training.optimization import AveragedWeights, Schedule, make_optimizer
from tests.support.targets import no_targets

WEIGHTS = {"b": 0.5, "loss_ciou": 2.0}


class Toy(nn.Module):
    """Its loss is the squared distance of one number from the images' mean."""

    def __init__(self) -> None:
        super().__init__()
        self.number = nn.Parameter(torch.zeros(1, 1))

    def forward(self, images: torch.Tensor, targets: Targets | None = None) -> Output:
        assert images.dtype == torch.uint8
        assert targets is not None
        return Output({"a": (self.number - images.float().mean()).pow(2).sum(), "b": self.number.sum() * 0 + 4}, None)


def batch(value: int, row: int) -> Batch:
    return Batch(torch.full((1, 3, 4, 4), value, dtype=torch.uint8), no_targets(1, (4, 4)), [row], [(1.0, 1.0)])


def run(
    model: nn.Module, batches: list[Batch], lr: float = 0.1, accumulate_steps: int = 1, *, scaled: bool = False
) -> list[Step]:
    recipe = dataclasses.replace(REFERENCE, lr=lr, schedule="constant", warmup_iterations=0, grad_clip_norm=1.0)
    optimizer = make_optimizer(model, recipe)
    steps: list[Step] = []
    scaler = GradScaler("cpu", enabled=scaled)
    learner = Learner(model, optimizer, scaler, AveragedWeights(model, 0.9), torch.device("cpu"), WEIGHTS)
    train_one_epoch(
        learner,
        group_batches(batches, accumulate_steps),
        Schedule(optimizer, recipe, 10),
        grad_clip_norm=recipe.grad_clip_norm,
        first_iteration=5,
        on_step=steps.append,
        image_name=lambda row: f"image_{row}.jpg",
    )
    return steps


def test_steps_are_reported_and_the_loss_decreases() -> None:
    steps = run(Toy(), [batch(3, 0)] * 8)
    assert [step.iteration for step in steps] == list(range(5, 13))
    assert steps[-1].losses["a"] < steps[0].losses["a"]
    assert steps[0].losses["loss"] == steps[0].losses["a"] + steps[0].losses["b"]
    assert steps[0].losses.keys() == {"loss", "a", "b"}
    assert steps[0].lr == pytest.approx(0.1)


def test_weights_multiply_their_components() -> None:
    (step,) = run(Toy(), [batch(3, 0)])
    assert step.losses == {"loss": 9 + 2, "a": 9, "b": 4 * WEIGHTS["b"]}


def test_gradients_are_clipped() -> None:
    model = Toy()
    run(model, [batch(200, 0)])  # gradient -400, clipped to 1; Nesterov's first step is 1.9 x lr
    assert model.number.item() == pytest.approx(0.19, abs=1e-4)


def test_accumulated_batches_step_along_their_mean_gradient() -> None:
    model, other = Toy(), Toy()
    steps = run(model, [batch(1, 0), batch(3, 1), batch(2, 2)], accumulate_steps=2)
    assert [step.iteration for step in steps] == [5, 6]
    assert steps[0].losses["a"] == pytest.approx((1 + 9) / 2)  # the mean of 1 and 3 squared
    run(other, [batch(2, 0), batch(2, 1)])
    assert model.number.item() == pytest.approx(other.number.item())


def test_a_loss_that_is_not_finite_names_component_iteration_and_images() -> None:
    class NaNLoss(Toy):
        def forward(self, images: torch.Tensor, targets: Targets | None = None) -> Output:
            losses = super().forward(images, targets).losses
            return Output({**losses, "loss_ciou": losses["a"] * float("nan")}, None)

    model = NaNLoss()
    with pytest.raises(UserError) as error:
        run(model, [batch(3, 41)])
    message = str(error.value)
    assert "iteration 5: loss, loss_ciou" in message
    assert "image_41.jpg" in message
    assert "train.lr" in message
    assert model.number.item() == 0  # no step was taken


def test_finite_losses_pass() -> None:
    check_finite({"a": 1.0, "b": 0.0}, 0, [])


class Overflowing(Toy):
    """Its loss is infinite in the first `steps` steps."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps

    def forward(self, images: torch.Tensor, targets: Targets | None = None) -> Output:
        output = super().forward(images, targets)
        self.steps -= 1
        return output if self.steps < 0 else Output({**output.losses, "a": output.losses["a"] * torch.inf}, None)


def test_steps_that_overflow_in_fp16_are_skipped_and_reported(capsys: pytest.CaptureFixture[str]) -> None:
    model = Overflowing(3)
    steps = run(model, [batch(3, 0)] * 4, scaled=True)
    assert len(steps) == 4
    assert model.number.item() == pytest.approx(0.19, abs=1e-4)  # as after one step
    assert capsys.readouterr().out.splitlines() == [
        f"iteration {number}: loss overflowed in fp16 with loss scale {scale}, step skipped"
        for number, scale in ((5, 65536), (6, 32768), (7, 16384))
    ]


def test_a_loss_that_stays_infinite_in_fp16_ends_the_training() -> None:
    with pytest.raises(UserError, match=r"not finite at iteration 25: loss, a .*\n.*image_0"):
        run(Overflowing(99), [batch(3, 0)] * 40, scaled=True)


class Half(Toy):
    """Computes in fp16, with a batch norm that keeps the mean of its inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3, affine=False)

    def forward(self, images: torch.Tensor, targets: Targets | None = None) -> Output:
        cubes = images.half() ** 3  # of 41 and more, too much
        difference = (self.number - cubes.float().mean() / 100).square().sum()
        return Output({"a": difference, "b": self.norm(cubes.float()).square().mean()}, None)


def test_activations_that_overflow_leave_no_trace(capsys: pytest.CaptureFixture[str]) -> None:
    model, other = Half(), Half()
    small = batch(3, 0)
    run(model, [small, batch(200, 1), small], scaled=True)
    assert "iteration 6: loss overflowed in fp16 with loss scale 65536, step skipped" in capsys.readouterr().out
    run(other, [small, small], scaled=True)
    assert model.norm.running_mean is not None
    assert other.norm.running_mean is not None
    assert torch.equal(model.norm.running_mean, other.norm.running_mean)
    assert model.number.item() == other.number.item() != 0


class SteepGradient(Toy):
    """A finite loss whose gradient overflows in fp16."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, images: torch.Tensor, targets: Targets | None = None) -> Output:
        return Output({"a": (self.number.half() + 1).float().sum() * self.factor}, None)


def test_gradients_that_overflow_are_reported(capsys: pytest.CaptureFixture[str]) -> None:
    model = SteepGradient(3.0)  # 3 * 32768 is beyond fp16, 3 * 16384 is not
    run(model, [batch(3, 0)] * 3, scaled=True)
    printed = capsys.readouterr().out.splitlines()
    assert [line.split(" in fp16")[0] for line in printed] == [
        "iteration 5: gradients overflowed",
        "iteration 6: gradients overflowed",
    ]
    assert model.number.item() == pytest.approx(-0.19, abs=1e-4)  # one step was taken


def test_gradients_that_stay_infinite_end_the_training() -> None:
    with pytest.raises(
        UserError, match=r"gradients are not finite at iteration 25 in fp16.* 0.0625\n.*image_0.*\n.*bf16"
    ):
        run(SteepGradient(1e9), [batch(3, 0)] * 40, scaled=True)


def test_an_infinite_loss_with_finite_gradients_ends_an_fp16_training() -> None:
    class Constant(Toy):
        def forward(self, images: torch.Tensor, targets: Targets | None = None) -> Output:
            losses = super().forward(images, targets).losses
            return Output({**losses, "b": torch.tensor(torch.inf)}, None)

    with pytest.raises(UserError, match=r"not finite at iteration 5: loss, b .*\n.*image_0"):
        run(Constant(), [batch(3, 0)] * 2, scaled=True)


def test_without_a_scaler_the_first_infinite_loss_does() -> None:
    with pytest.raises(UserError, match="not finite at iteration 5: loss, a "):
        run(Overflowing(1), [batch(3, 0)])
