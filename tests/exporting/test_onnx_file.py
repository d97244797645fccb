"""Exported ONNX files, run by ONNX Runtime."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray

from detector.core.errors import UserError
from detector.engine.detections import Detections
from detector.exporting.onnx_file import ExportWrapper, convert_to_onnx, copy_without_inplace, export_onnx
from detector.exporting.parity import compute_difference
from detector.models.state_head import StateConfig
from detector.runners.model_metadata import ModelMetadata
from detector.runners.onnx_runner import open_onnx
from tests.support.models import TESTED
from tests.support.synthetic_model import build_synthetic_model

SIZE = (64, 96)
IMAGES = np.random.default_rng(0).integers(0, 256, (7, 3, *SIZE), dtype=np.uint8)
TOLERANCE = 1e-3  # of scores
IMAGES[1, :, 40:] = IMAGES[2, :, :, 50:] = 120  # padding
METADATA = ModelMetadata(
    model="simple",
    classes=["a", "ü"],
    states=[],
    size=SIZE,
    fill=(1, 2, 3),
    data="hash",
    threshold={"a": 0.5, "ü": 0.25},
    temperature=0.8,
    code="code",
    dataset="dataset",
)


# Together these contain every part that is exported; the other models combine the same parts.
SHORT = ("simple", "effnet_lite")


@pytest.mark.parametrize(
    ("name", "states"),
    [("simple", 0), *[pytest.param(name, 2, marks=() if name in SHORT else pytest.mark.long) for name in TESTED]],
)
def test_detections_match_the_model_for_any_batch_size(name: str, states: int, tmp_path: Path) -> None:
    model = build_synthetic_model(name, StateConfig((True, False)[:states], (1.0, 1.0)[:states], 0.5), IMAGES)
    export_onnx(model, METADATA.model_copy(update={"states": ["whole", "gone"][:states]}), tmp_path / "model.onnx")
    session = open_session(tmp_path / "model.onnx")
    same = []
    for batch in (1, 2, 3, 7):
        outputs = session.run(None, {"image": IMAGES[:batch]})
        assert [output.shape for output in outputs] == [(batch, 30, 4), *[(batch, 30)] * (4 if states else 2)]
        with torch.no_grad():
            expected = ExportWrapper(model, bool(states))(torch.from_numpy(IMAGES[:batch]))
        for index in range(batch):
            ours = build_detections([part.numpy() for part in expected], index)
            theirs = build_detections(outputs, index)
            assert (ours.labels > 0).sum() > 10
            assert np.ptp(ours.scores[ours.labels > 0]) > 5 * TOLERANCE
            found = compute_difference(ours.select(ours.labels > 0), theirs.select(theirs.labels > 0), 30, TOLERANCE)
            scores = np.abs(np.sort(ours.scores) - np.sort(theirs.scores))
            same.append(found.box < 0.5 and found.score < TOLERANCE and scores.max() < TOLERANCE)
            assert np.median(scores) < TOLERANCE
    # If two proposals overlap by almost exactly the NMS threshold, rounding decides which one is kept.
    assert np.mean(same) >= (0.7 if name.startswith("faster_rcnn") else 1)


def open_session(path: Path) -> onnxruntime.InferenceSession:
    """Open the file with one thread: idle threads would keep a core busy that other tests need."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def build_detections(outputs: list[NDArray[Any]], index: int) -> Detections:
    """Build the detections of one image of a batch, padding included; states are zero without a state head."""
    columns = [output[index] for output in outputs]
    nothing = [np.zeros(len(columns[1]), np.int64), np.zeros(len(columns[1]), np.float32)]
    return Detections(*(columns + nothing)[:5])


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("written") / "model.onnx"
    export_onnx(build_synthetic_model("simple", StateConfig(), IMAGES), METADATA, path)
    return path


def test_bytes_are_deterministic_and_contain_no_local_paths(written: Path, tmp_path: Path) -> None:
    export_onnx(build_synthetic_model("simple", StateConfig(), IMAGES), METADATA, tmp_path / "again.onnx")
    content = (tmp_path / "again.onnx").read_bytes()
    assert content == written.read_bytes()
    assert str(Path(__file__).parents[2]).encode() not in content
    assert b"site-packages" not in content
    assert b"stack_trace" not in content


class Large(torch.nn.Module):
    """A module with more weights than a file can hold; all share one number in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1).expand(2**29), requires_grad=False)


def test_a_model_that_is_too_large() -> None:
    with pytest.raises(UserError, match=r"2\.1 GB.* at most 2\.1 GB.*train\.model"):
        convert_to_onnx(Large(), METADATA)


class Odd(torch.nn.Module):
    """A module that needs an operator missing from ONNX."""

    def forward(self, images: torch.Tensor) -> object:
        pixels = torch.special.airy_ai(images.float())
        return type("Output", (), {"detections": SimpleNamespace(boxes_xyxy=pixels, scores=pixels, labels=pixels)})


def test_activations_in_place_are_exported_as_others_and_stay_as_they_are() -> None:
    activation = torch.nn.ReLU6(inplace=True)
    model = torch.nn.Sequential(torch.nn.Conv2d(1, 1, 1), activation).eval()
    image = torch.linspace(-9, 9, 16).reshape(1, 1, 4, 4)
    other = copy_without_inplace(model)
    assert torch.equal(other(image), model(image))
    assert activation.inplace
    assert not any(getattr(module, "inplace", False) for module in other.modules())


def test_an_operator_missing_from_onnx() -> None:
    with pytest.raises(UserError, match=r"\(opset 20\): .*airy_ai.*train\.model"):
        convert_to_onnx(Odd(), METADATA)


def test_node_names_start_with_their_module(written: Path) -> None:
    names = [node.name for node in onnx.load(written).graph.node]
    assert len(names) == len(set(names))
    assert {name.partition("/")[0].partition(".")[0] for name in names} == {"", "normalize", "backbone", "neck", "head"}


def test_interface_and_metadata(written: Path) -> None:
    file = onnx.load(written)
    metadata = {entry.key: json.loads(entry.value) for entry in file.metadata_props}
    assert metadata.items() > json.loads(json.dumps(METADATA.model_dump())).items()
    assert (file.ir_version, metadata["opset"], metadata["onnxruntime"]) == (9, 20, ">=1.17")
    assert [one.doc_string for one in file.graph.output] == [one["meaning"] for one in metadata["outputs"].values()]
    assert open_onnx(written, 1)[0] == METADATA
    session = open_session(written)
    (image,) = session.get_inputs()
    assert (image.name, image.type, image.shape[1:]) == ("image", "tensor(uint8)", [3, *SIZE])
    assert [output.name for output in session.get_outputs()] == ["location", "score", "category"]
