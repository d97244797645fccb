"""Training on a GPU: every model in every precision, the same bytes again, and after a kill."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.gpu_data import make_batches, repeat_batches
from benchmarks.gpu_numerics import measure_gap, run_twice, train_curve
from benchmarks.gpu_resume import compare_resumed
from benchmarks.gpu_settings import CHECKED, GpuSettings, list_precisions
from benchmarks.gpu_training import choose_recipe, start_training, train_steps
from detector.models import MODELS

# torch warns where a kernel is not deterministic.
pytestmark = pytest.mark.filterwarnings("ignore:.*does not have a deterministic implementation")


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("name", MODELS)
def test_every_model_trains_in_every_precision(settings: GpuSettings, name: str, precision: str) -> None:
    if precision not in list_precisions(settings):
        pytest.skip(f"this GPU has no {precision}")
    run = start_training(name, settings, precision, steps=20)
    weights = [parameter for parameter in run.learner.model.parameters() if parameter.requires_grad]
    before = [weight.detach().clone() for weight in weights]
    batches = make_batches(2, settings.batch, settings.choose_size(name))
    losses = train_steps(run, repeat_batches(batches, 6), clip=choose_recipe(name, settings).grad_clip_norm)
    assert np.isfinite(losses[-1])
    assert all(weight.isfinite().all() for weight in weights)
    assert any((old != new).any() for old, new in zip(before, weights, strict=True))


@pytest.mark.parametrize("name", ["effnet_lite", "dfine_n"])
def test_loss_curves_of_the_precisions_are_as_close_as_those_of_two_seeds(settings: GpuSettings, name: str) -> None:
    single = train_curve(settings, name, "fp32", 0)
    noise = max(measure_gap(single, train_curve(settings, name, "fp32", seed)) for seed in (1, 2))
    for precision in list_precisions(settings)[1:]:
        assert measure_gap(single, train_curve(settings, name, precision, 0)) <= noise, precision


@pytest.mark.parametrize("name", CHECKED)
def test_two_runs_are_byte_equal_where_kernels_are_deterministic(settings: GpuSettings, name: str) -> None:
    for precision in list_precisions(settings):
        found = run_twice(settings, name, precision)
        if found.operators:
            assert found.difference < 0.1, found
        else:
            assert found.difference == 0, precision


def test_a_killed_training_resumes_with_the_same_bytes(settings: GpuSettings, tmp_path: Path) -> None:
    rows = list(compare_resumed(settings, tmp_path))
    assert [row.ours for row in rows] == ["byte-equal", "byte-equal"], rows
