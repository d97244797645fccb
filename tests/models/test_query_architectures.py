"""The table of query-based detectors, and what transformers' networks need beyond it."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from detector.exporting.nms import TRANSLATIONS
from detector.models import CELL
from detector.models.query_architectures import ARCHITECTURES, QueryArchitecture
from detector.models.query_quirks import invert_sigmoid, partition_windows
from detector.models.query_weights import make_network
from tests.support.tiny_query_models import FAMILIES

REAL = dict(ARCHITECTURES)  # conftest.py shrinks the entries for each test

# Millions, as published, for the 80 classes of COCO or the 91 numbers of its categories.
PARAMETERS = {
    "detr": (41, 91),
    "deformable_detr": (41, 91),
    "rtdetr": (20, 80),
    "dfine_n": (4, 80),
    "dfine_s": (10, 80),
    "dfine_m": (19, 80),
    "rfdetr_nano": (30.5, 91),
    "rfdetr_small": (32.1, 91),
    "rfdetr_medium": (33.7, 91),
    "deimv2_n": (3.6, 80),
    "lwdetr": (12.1, 91),
}


def test_each_detector_has_a_permissive_license_and_its_own_weights() -> None:
    assert {architecture.license for architecture in REAL.values()} <= {"Apache-2.0", "MIT"}
    assert len({architecture.repository for architecture in REAL.values()}) == len(REAL)


@pytest.mark.parametrize("name", REAL)
def test_the_configuration_has_the_published_number_of_parameters(name: str) -> None:
    from transformers import AutoModelForObjectDetection

    millions, classes = PARAMETERS[name]
    config = REAL[name].make_config()
    config.num_labels = classes
    with torch.device("meta"):
        network: Any = AutoModelForObjectDetection.from_config(config)
    assert network.num_parameters() / 1e6 == pytest.approx(millions, abs=0.06 if millions % 1 else 0.6)


@pytest.mark.parametrize("name", REAL)
def test_the_input_is_a_whole_number_of_windows(name: str) -> None:
    architecture = REAL[name]
    backbone = architecture.make_config().backbone_config
    windows = getattr(backbone, "num_windows_side", getattr(backbone, "num_windows", 1))
    assert architecture.size_multiple % (getattr(backbone, "patch_size", 32) * windows) == 0
    assert architecture.recipe.image_size % architecture.size_multiple == 0


@pytest.mark.parametrize("name", REAL)
def test_there_are_as_many_cells_as_queries(name: str) -> None:
    architecture = REAL[name]
    config = architecture.make_config()
    chooses_cells = config.model_type in ("rf_detr", "lw_detr")
    assert architecture.min_cells == (config.num_queries if chooses_cells else 0)
    if chooses_cells:
        assert getattr(config.backbone_config, "patch_size", CELL) == CELL


def build(name: str) -> tuple[QueryArchitecture, Any]:
    torch.manual_seed(0)
    architecture = ARCHITECTURES[name]
    network = make_network(architecture, 3, pretrained=False)
    architecture.prepare(network)
    architecture.initialize(network)
    return architecture, network.eval()


class Outputs(nn.Module):
    """The network's outputs as a tuple."""

    def __init__(self, architecture: QueryArchitecture, network: Any) -> None:
        super().__init__()
        self.network, self.uses_mask = network, architecture.uses_mask

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        mask = {"pixel_mask": (images[:, 0] < 9).long()} if self.uses_mask else {}
        outputs = self.network(pixel_values=images, **mask)
        return outputs.logits, outputs.pred_boxes


@pytest.mark.parametrize("name", FAMILIES)
def test_rectangular_images_are_independent_of_their_batch(name: str) -> None:
    outputs, images = Outputs(*build(name)), torch.randn(2, 3, 192, 128)
    with torch.no_grad():
        together, first, second = outputs(images), outputs(images[:1]), outputs(images[1:])
    for index in range(2):
        assert torch.allclose(together[index], torch.cat([first[index], second[index]]), atol=1e-4)
    assert float((first[0] - second[0]).abs().amax()) > 1e-5


@pytest.mark.parametrize("name", FAMILIES)
def test_random_weights_tell_queries_and_images_apart(name: str) -> None:
    _, network = build(name)
    with torch.no_grad():
        features = network(pixel_values=torch.randn(2, 3, 128, 128)).last_hidden_state  # [2, Q, D]
    assert float(features.std(1).mean()) > 1e-3
    norms = [module.weight for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    assert all(bool((weight == 1).all()) for weight in norms)


@pytest.mark.parametrize(("name", "size"), [("deformable_detr", (128, 128)), ("rfdetr_nano", (128, 64))])
def test_a_prepared_network_is_exported(name: str, size: tuple[int, int]) -> None:
    outputs = Outputs(*build(name)).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns about its own internals
        program = torch.onnx.export(
            outputs,
            (torch.randn(2, 3, *size),),
            dynamo=True,
            opset_version=20,
            custom_translation_table=TRANSLATIONS,
            dynamic_shapes={"images": {0: torch.export.Dim("batch", min=1)}},
            verbose=False,
        )
    assert program is not None
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString())
    for batch in (1, 2, 8):
        images = torch.randn(batch, 3, *size)
        with torch.no_grad():
            expected = outputs(images)
        found = session.run(None, {session.get_inputs()[0].name: images.numpy()})
        for one, other in zip(expected, found, strict=True):
            assert np.abs(one.numpy() - other).max() < 1e-4


@pytest.mark.parametrize("size", [(128, 128), (64, 160)])
def test_windows_hold_neighbors_and_are_put_together_again(size: tuple[int, int]) -> None:
    _, network = build("rfdetr_nano")
    rows, columns = size[0] // 16, size[1] // 16
    tokens = torch.arange(2 * (rows * columns + 1)).view(2, -1, 1)
    windows = partition_windows(2, 16, tokens, *size)
    grid = tokens[:, 1:].view(2, rows, columns)
    assert torch.equal(windows[1, 1:, 0], grid[0, : rows // 2, columns // 2 :].flatten())  # top right
    assert torch.equal(windows[:, 0, 0], tokens[:, 0, 0].repeat_interleave(4))
    backbone = network.model.backbone.backbone
    assert torch.equal(backbone.window_unpartition(windows[:, 1:], *size).reshape(2, rows, columns), grid)
    if size[0] == size[1]:
        theirs = type(backbone.embeddings).window_partition(backbone.embeddings, tokens, *size)
        assert torch.equal(theirs[:, 1:], windows[:, 1:])


def test_the_inverse_of_the_sigmoid_is_that_of_transformers() -> None:
    logits = torch.linspace(-20, 20, 41)
    assert torch.allclose(invert_sigmoid(logits.sigmoid()), logits.clamp(-11.513, 11.513), atol=0.01)
