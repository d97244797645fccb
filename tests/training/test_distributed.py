"""Processes that share a batch: their communication, and that they train like a single process."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from detector.core.errors import UserError
from detector.engine import distributed
from detector.engine.dataset import Batch, EpochSampler, shard_batches
from detector.engine.structures import Output, Targets
from detector.models import MODELS
from detector.models.normalization import PixelStatistics
from detector.models.postprocess import Postprocess
from detector.models.recipe import REFERENCE
from detector.models.state_head import StateConfig
from detector.training.compute import ComputeSettings
from detector.training.loop import Step, check_finite, group_batches, train_one_epoch
from detector.training.processes import spawn_workers
from detector.training.state import start_run
from detector.training.synchronized_norm import SynchronizedBatchNorm
from tests.support.targets import whole_image_targets

# Not forks of this process: threads of torch that other tests have started do not survive a fork.
FORK_SERVER = multiprocessing.get_context("forkserver")
FORK_SERVER.set_forkserver_preload(["detector.models"])
RECIPE = dataclasses.replace(REFERENCE, lr=0.01, warmup_iterations=0, schedule="constant", grad_clip_norm=1.0)
STATES = StateConfig(present=(True, False), weights=(1.0, 2.0), loss_weight=0.5)


@pytest.fixture(autouse=True, scope="module")
def pythonpath() -> Iterator[None]:
    """Let the fork server find the modules that it preloads for all processes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
        yield


def in_processes(count: int, function: Callable[..., Any], folder: Path, *arguments: object) -> Any:
    """What `function` returns in the first of `count` processes; an AssertionError when one of them fails."""
    result = folder / f"{count}.pt"
    process = FORK_SERVER.Process(target=_in_first, args=(count, function, result, arguments))
    process.start()
    process.join()
    assert process.exitcode == 0
    return torch.load(result, weights_only=False)


def _in_first(count: int, function: Callable[..., Any], result: Path, arguments: tuple[object, ...]) -> None:
    """The first process, which forks the others."""
    code = 1
    try:
        torch.set_num_threads(1)
        with spawn_workers(count):
            returned = function(*arguments)
            if distributed.is_main_process():
                torch.save(returned, result)
        code = 0
    except SystemExit as error:
        code = int(error.code or 0)
    except BaseException as error:
        print(error, flush=True)
    finally:
        os._exit(code)


def batch(number: int, size: int, share: slice) -> Batch:
    """Noise with a bright square per image; except in batch 0, the second half of the images is empty."""
    generator = torch.Generator().manual_seed(number)
    images = torch.randint(0, 120, (size, 3, 64, 96), dtype=torch.uint8, generator=generator)
    boxes, labels = torch.zeros(size, 2, 4), torch.zeros(size, 2, dtype=torch.int64)
    states = torch.zeros(size, 2, dtype=torch.int64)
    for index in range(size if number == 0 else size // 2):
        left = 4 + 5 * index
        images[index, index % 3, 8:48, left : left + 40] = 250
        boxes[index, 0] = torch.tensor([left, 8, left + 40, 48])
        labels[index, 0], states[index, 0] = index % 3 + 1, index % 3
    targets = whole_image_targets(boxes[share], labels[share], states[share], (64, 96))
    return Batch(images[share], targets, list(range(size))[share], [(1.0, 1.0)] * size)


def three_steps(name: str, accumulate_steps: int) -> tuple[list[Step], dict[str, torch.Tensor]]:
    """The steps, and the model's weights and statistics after them; 8 images per batch of all processes."""
    torch.manual_seed(0)
    statistics = PixelStatistics((120, 110, 100), (60, 60, 60))
    model = MODELS[name].build(3, STATES, statistics, Postprocess(), "none")
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0  # each process would drop other features
    own = 8 // distributed.world_size()
    share = slice(distributed.rank() * own, (distributed.rank() + 1) * own)
    run = start_run(model, RECIPE, 10, None, ComputeSettings(torch.device("cpu")))
    steps: list[Step] = []
    batches = [batch(number, 8, share) for number in range(3 * accumulate_steps)]
    train_one_epoch(
        run.learner,
        group_batches(batches, accumulate_steps),
        run.schedule,
        grad_clip_norm=1.0,
        first_iteration=0,
        on_step=steps.append,
        image_name=str,
    )
    return steps, model.state_dict()


@pytest.mark.parametrize(
    ("name", "accumulate_steps"),
    [
        ("simple", 1),
        pytest.param("simple", 2, marks=pytest.mark.long),
        pytest.param("ssdlite", 1, marks=pytest.mark.long),
    ],
)
def test_two_processes_take_the_same_steps_as_one_with_twice_the_batch_size(
    name: str, accumulate_steps: int, tmp_path: Path
) -> None:
    steps, weights = in_processes(1, three_steps, tmp_path, name, accumulate_steps)
    shared_steps, shared_weights = in_processes(2, three_steps, tmp_path, name, accumulate_steps)
    for one, other in zip(steps, shared_steps, strict=True):
        assert other.losses == pytest.approx(one.losses, rel=1e-5 if one.iteration == 0 else 1e-3, abs=1e-6)
    assert shared_weights.keys() == weights.keys()
    for part, value in weights.items():
        torch.testing.assert_close(shared_weights[part], value, rtol=1e-3, atol=1e-4)


def communicate() -> dict[str, Any]:
    """Use every function of `distributed`."""
    rank = distributed.rank()
    value = torch.tensor(1.0 + rank, requires_grad=True)
    distributed.all_reduce_mean(value * 10).backward()
    parameters = [nn.Parameter(torch.zeros(2, 2)) for _ in range(3)]
    parameters[0].grad = torch.full((2, 2), 1.0 + rank)
    if rank:
        parameters[1].grad = torch.ones(2, 2)
    distributed.average_gradients(parameters)
    with torch.no_grad():
        alone = distributed.loss_normalizer(torch.tensor(5))
    try:
        check_finite({"a": float("nan")}, 3, [f"{rank}.jpg"])
    except UserError as error:
        message = str(error)
    return {
        "world_size": distributed.world_size(),
        "gradient": float(value.grad),  # type: ignore[arg-type]
        "gradients": [None if one.grad is None else one.grad.tolist() for one in parameters],
        "normalizer": [float(distributed.loss_normalizer(torch.tensor(total * rank))) for total in (0, 3)],
        "alone": int(alone),
        "any_rank": distributed.any_rank(rank == 1, False),
        "all_gather_object": distributed.all_gather_object({"rank": rank}),
        "broadcast_object": distributed.broadcast_object(rank),
        "message": message,
    }


def test_communication(tmp_path: Path) -> None:
    found = in_processes(2, communicate, tmp_path)
    assert "images of the batch: 0.jpg, 1.jpg" in found.pop("message")
    assert found == {
        "world_size": 2,
        "gradient": 10.0,
        "gradients": [[[1.5, 1.5], [1.5, 1.5]], [[0.5, 0.5], [0.5, 0.5]], None],
        "normalizer": [0.5, 1.5],  # at least 1 over all processes
        "alone": 5,
        "any_rank": [True, False],
        "all_gather_object": [{"rank": 0}, {"rank": 1}],
        "broadcast_object": 0,
    }


class ThreeNorms(nn.Module):
    """A trained norm, a frozen one, and one with an activation as in timm."""

    def __init__(self) -> None:
        super().__init__()
        self.learns, self.frozen, self.active = nn.BatchNorm1d(4), nn.BatchNorm2d(4), nn.BatchNorm2d(4)
        self.active.act = nn.ReLU()

    def train(self, mode: bool = True) -> ThreeNorms:
        super().train(mode)
        self.frozen.eval()
        return self

    def forward(self, images: torch.Tensor, targets: Targets | None = None) -> Output:
        raise NotImplementedError


def synchronize_three_norms() -> dict[str, Any]:
    model = ThreeNorms()
    names = list(model.state_dict())
    run = start_run(model, RECIPE, 10, None, ComputeSettings(torch.device("cpu")))
    active = model.train().active(torch.full((2, 4, 3, 3), float(distributed.rank())))
    return {
        "names": names == list(model.state_dict()) == list(run.learner.average.model.state_dict()),
        "kinds": [type(module).__name__ for module in (model.learns, model.frozen, model.active)],
        "least": float(active.detach().min()),
        "learned": [float(model.active.get_buffer(name)[0]) for name in ("running_mean", "running_var")],
    }


def test_only_trained_norms_are_synchronized_and_keep_name_and_activation(tmp_path: Path) -> None:
    found = in_processes(2, synchronize_three_norms, tmp_path)
    assert found["names"]
    assert found["kinds"] == ["SynchronizedBatchNorm", "BatchNorm2d", "SynchronizedBatchNorm"]
    assert found["least"] == 0.0
    # Half the values are 0 and half 1: mean 0.5, variance 0.25 * 36 / 35.
    assert found["learned"] == pytest.approx([0.05, 0.9 + 0.1 * 0.25 * 36 / 35])


def test_a_synchronized_norm_keeps_the_digits_of_values_far_from_zero() -> None:
    """As precise as torch's, for a mean of 100 standard deviations."""
    values = torch.randn(8, 3, 6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 100
    expected = torch.nn.BatchNorm2d(3).double()(values)
    result = SynchronizedBatchNorm(torch.nn.BatchNorm2d(3)).train()(values.float())
    assert float((result - expected).abs().max().detach()) < 1e-5 + float(
        (torch.nn.BatchNorm2d(3)(values.float()) - expected).abs().max().detach()
    )


@pytest.mark.parametrize("start", [0, 1])
def test_all_processes_together_train_on_the_whole_batch(start: int) -> None:
    whole = EpochSampler(23, 6, seed=3)
    shares = [EpochSampler(23, 2, 3, rank=rank, world_size=3) for rank in range(3)]
    for sampler in (whole, *shares):
        sampler.epoch, sampler.start_batch = 2, start
    assert len(whole) == len(shares[0]) == 3
    assert [[key for part in parts for key in part] for parts in zip(*shares, strict=True)] == list(whole)


def test_all_processes_together_validate_on_all_batches() -> None:
    whole = shard_batches(23, 4, 0, 1)
    assert [row for rows in whole for row in rows] == list(range(23))
    shares = [shard_batches(23, 4, rank, 4) for rank in range(4)]
    assert sorted(rows for share in shares for rows in share) == whole
    assert shard_batches(3, 4, 1, 2) == []
