"""Processes that share a batch: what they tell each other, and that they learn what one process would."""

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
from detector.engine.dataset import Batch, EpochSampler, batches_of
from detector.engine.structures import Output, Targets
from detector.models import MODELS
from detector.models.normalization import PixelStatistics
from detector.models.postprocess import Postprocess
from detector.models.recipe import REFERENCE
from detector.models.state_head import States
from detector.training.compute import Engine
from detector.training.loop import Step, check_finite, grouped, train_one_epoch
from detector.training.processes import together
from detector.training.state import begin

# Not forks of this process: torch's threads, which other tests have started, do not survive a fork.
FORK_SERVER = multiprocessing.get_context("forkserver")
FORK_SERVER.set_forkserver_preload(["detector.models"])
RECIPE = dataclasses.replace(REFERENCE, lr=0.01, warmup_iterations=0, schedule="constant", clip_norm=1.0)
STATES = States(present=(True, False), weights=(1.0, 2.0), loss_weight=0.5)


@pytest.fixture(autouse=True, scope="module")
def place_of_our_modules() -> Iterator[None]:
    """So that the fork server finds what it loads for all processes once."""
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
        with together(count):
            returned = function(*arguments)
            if distributed.is_first():
                torch.save(returned, result)
        code = 0
    except SystemExit as error:
        code = int(error.code or 0)
    except BaseException as error:
        print(error, flush=True)
    finally:
        os._exit(code)


def batch(number: int, size: int, share: slice) -> Batch:
    """Noise with a bright square in each image; the images of the second half hold nothing, batch 0 aside."""
    generator = torch.Generator().manual_seed(number)
    images = torch.randint(0, 120, (size, 3, 64, 96), dtype=torch.uint8, generator=generator)
    boxes, labels = torch.zeros(size, 2, 4), torch.zeros(size, 2, dtype=torch.int64)
    states = torch.zeros(size, 2, dtype=torch.int64)
    for index in range(size if number == 0 else size // 2):
        left = 4 + 5 * index
        images[index, index % 3, 8:48, left : left + 40] = 250
        boxes[index, 0] = torch.tensor([left, 8, left + 40, 48])
        labels[index, 0], states[index, 0] = index % 3 + 1, index % 3
    targets = Targets(*(part[share] for part in (boxes, labels, states)))
    return Batch(images[share], targets, list(range(size))[share], [1.0] * size)


def three_steps(name: str, accumulate: int) -> tuple[list[Step], dict[str, torch.Tensor]]:
    """The steps, and the model's weights and statistics after them; 8 images a batch in all."""
    torch.manual_seed(0)
    statistics = PixelStatistics((120, 110, 100), (60, 60, 60))
    model = MODELS[name].build(3, STATES, statistics, Postprocess(), "none")
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0  # each process would drop something else
    own = 8 // distributed.count()
    share = slice(distributed.rank() * own, (distributed.rank() + 1) * own)
    run = begin(model, RECIPE, 10, None, Engine(torch.device("cpu")))
    steps: list[Step] = []
    batches = [batch(number, 8, share) for number in range(3 * accumulate)]
    train_one_epoch(run.learner, grouped(batches, accumulate), run.schedule, 1.0, 0, steps.append, str)
    return steps, model.state_dict()


@pytest.mark.parametrize(("name", "accumulate"), [("simple", 1), ("simple", 2), ("ssdlite", 1)])
def test_two_processes_take_the_steps_of_one_with_the_double_batch(name, accumulate, tmp_path):
    steps, weights = in_processes(1, three_steps, tmp_path, name, accumulate)
    shared_steps, shared_weights = in_processes(2, three_steps, tmp_path, name, accumulate)
    for one, other in zip(steps, shared_steps, strict=True):
        assert other.losses == pytest.approx(one.losses, rel=1e-5 if one.iteration == 0 else 1e-3, abs=1e-6)
    assert shared_weights.keys() == weights.keys()
    for part, value in weights.items():
        torch.testing.assert_close(shared_weights[part], value, rtol=1e-3, atol=1e-4)


def talk() -> dict[str, Any]:
    """Everything that two processes say to each other."""
    rank = distributed.rank()
    value = torch.tensor(1.0 + rank, requires_grad=True)
    distributed.mean(value * 10).backward()
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
        "count": distributed.count(),
        "gradient": float(value.grad),  # type: ignore[arg-type]
        "gradients": [None if one.grad is None else one.grad.tolist() for one in parameters],
        "normalizer": [float(distributed.loss_normalizer(torch.tensor(total * rank))) for total in (0, 3)],
        "alone": int(alone),
        "anywhere": distributed.anywhere(rank == 1, False),
        "gathered": distributed.gathered({"rank": rank}),
        "from_first": distributed.from_first(rank),
        "message": message,
    }


def test_what_processes_tell_each_other(tmp_path):
    said = in_processes(2, talk, tmp_path)
    assert "images of the batch: 0.jpg, 1.jpg" in said.pop("message")
    assert said == {
        "count": 2,
        "gradient": 10.0,
        "gradients": [[[1.5, 1.5], [1.5, 1.5]], [[0.5, 0.5], [0.5, 0.5]], None],
        "normalizer": [0.5, 1.5],  # at least 1 in all
        "alone": 5,
        "anywhere": [True, False],
        "gathered": [{"rank": 0}, {"rank": 1}],
        "from_first": 0,
    }


class Odd(nn.Module):
    """One norm that learns, one that is frozen, one with an activation as timm has them."""

    def __init__(self) -> None:
        super().__init__()
        self.learns, self.frozen, self.active = nn.BatchNorm1d(4), nn.BatchNorm2d(4), nn.BatchNorm2d(4)
        self.active.act = nn.ReLU()

    def train(self, mode: bool = True) -> Odd:
        super().train(mode)
        self.frozen.eval()
        return self

    def forward(self, images: torch.Tensor, targets: Targets | None = None) -> Output:
        raise NotImplementedError


def odd_norms() -> dict[str, Any]:
    model = Odd()
    names = list(model.state_dict())
    run = begin(model, RECIPE, 10, None, Engine(torch.device("cpu")))
    active = model.train().active(torch.full((2, 4, 3, 3), float(distributed.rank())))
    return {
        "names": names == list(model.state_dict()) == list(run.learner.average.model.state_dict()),
        "kinds": [type(module).__name__ for module in (model.learns, model.frozen, model.active)],
        "least": float(active.detach().min()),
        "learned": [*model.active.running_mean.tolist()[:1], *model.active.running_var.tolist()[:1]],
    }


def test_only_norms_that_learn_are_synchronized_and_keep_name_and_activation(tmp_path):
    found = in_processes(2, odd_norms, tmp_path)
    assert found["names"]
    assert found["kinds"] == ["SynchronizedNorm", "BatchNorm2d", "SynchronizedNorm"]
    assert found["least"] == 0.0
    # Half the values are 0 and half 1: mean 0.5, variance 0.25 * 36 / 35.
    assert found["learned"] == pytest.approx([0.05, 0.9 + 0.1 * 0.25 * 36 / 35])


@pytest.mark.parametrize("start", [0, 1])
def test_the_shares_of_a_batch_are_that_batch(start):
    whole = EpochSampler(23, 6, seed=3)
    shares = [EpochSampler(23, 2, 3, rank=rank, processes=3) for rank in range(3)]
    for sampler in (whole, *shares):
        sampler.epoch, sampler.start = 2, start
    assert len(whole) == len(shares[0]) == 3
    assert [[key for part in parts for key in part] for parts in zip(*shares, strict=True)] == list(whole)


def test_the_shares_of_validation_are_all_its_batches():
    whole = batches_of(23, 4, 0, 1)
    assert [row for rows in whole for row in rows] == list(range(23))
    shares = [batches_of(23, 4, rank, 4) for rank in range(4)]
    assert sorted(rows for share in shares for rows in share) == whole
    assert batches_of(3, 4, 1, 2) == []
