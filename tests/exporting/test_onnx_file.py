"""Real ONNX files, answered by ONNX Runtime."""

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
from detector.exporting.onnx_file import Deployed, make_onnx, write_onnx
from detector.exporting.parity import difference
from detector.models import MODELS, detr
from detector.models.state_head import States
from detector.runners.onnx_runner import open_onnx
from detector.runners.tiled import ModelMetadata
from tests.support.trained_like import trained_like

SIZE = (64, 96)
IMAGES = np.random.default_rng(0).integers(0, 256, (7, 3, *SIZE), dtype=np.uint8)
TOLERANCE = 1e-3  # of scores
IMAGES[1, :, 40:] = IMAGES[2, :, :, 50:] = 120  # padding
FACTS = ModelMetadata("simple", ["a", "ü"], [], SIZE, (1, 2, 3), "hash", {"a": 0.5, "ü": 0.25}, 0.8, "code", "dataset")


# Between them these have every part that is exported; the others are put together from the same parts.
SHORT = ("simple", "effnet_lite", "ssdlite", "faster_rcnn", "rtdetr")


@pytest.mark.parametrize(
    ("name", "states"),
    [("simple", 0), *[pytest.param(name, 2, marks=() if name in SHORT else pytest.mark.long) for name in MODELS]],
)
def test_answers_like_the_model_for_any_batch(
    name: str, states: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detr, "LAYERS", 1)  # all are alike, and six take half a minute
    model = trained_like(name, States((True, False)[:states], (1.0, 1.0)[:states], 0.5), IMAGES)
    write_onnx(model, FACTS._replace(states=["whole", "gone"][:states]), tmp_path / "model.onnx")
    session = opened(tmp_path / "model.onnx")
    same = []
    for batch in (1, 2, 3, 7):
        outputs = session.run(None, {"image": IMAGES[:batch]})
        assert [output.shape for output in outputs] == [(batch, 30, 4), *[(batch, 30)] * (4 if states else 2)]
        with torch.no_grad():
            expected = Deployed(model, bool(states))(torch.from_numpy(IMAGES[:batch]))
        for index in range(batch):
            ours = answer_of([part.numpy() for part in expected], index)
            theirs = answer_of(outputs, index)
            assert (ours.labels > 0).sum() > 10
            assert np.ptp(ours.scores[ours.labels > 0]) > 5 * TOLERANCE
            found = difference(ours.chosen(ours.labels > 0), theirs.chosen(theirs.labels > 0), 30, TOLERANCE)
            scores = np.abs(np.sort(ours.scores) - np.sort(theirs.scores))
            same.append(found.box < 0.5 and found.score < TOLERANCE and scores.max() < TOLERANCE)
            assert np.median(scores) < TOLERANCE
    # Where two proposals overlap by just about the threshold, rounding decides which of them stays.
    assert np.mean(same) >= (0.7 if name.startswith("faster_rcnn") else 1)


def opened(path: Path) -> onnxruntime.InferenceSession:
    """With one thread: idle ones keep a core busy, which other tests need."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def answer_of(outputs: list[NDArray[Any]], index: int) -> Detections:
    """The answer for one image of a batch, padding included, with zeros where there is no state head."""
    columns = [output[index] for output in outputs]
    nothing = [np.zeros(len(columns[1]), np.int64), np.zeros(len(columns[1]), np.float32)]
    return Detections(*(columns + nothing)[:5])


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("written") / "model.onnx"
    write_onnx(trained_like("simple", States(), IMAGES), FACTS, path)
    return path


def test_bytes_repeat_and_name_no_place_of_this_machine(written: Path, tmp_path: Path) -> None:
    write_onnx(trained_like("simple", States(), IMAGES), FACTS, tmp_path / "again.onnx")
    content = (tmp_path / "again.onnx").read_bytes()
    assert content == written.read_bytes()
    assert str(Path(__file__).parents[2]).encode() not in content
    assert b"site-packages" not in content
    assert b"stack_trace" not in content


class Large(torch.nn.Module):
    """More weights than a file can hold, all of them one number in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1).expand(2**29), requires_grad=False)


def test_a_model_that_is_too_large() -> None:
    with pytest.raises(
        UserError, match=r"weights take 2\.1 GB, and an ONNX file holds at most 2\.1 GB; take a smaller"
    ):
        make_onnx(Large(), FACTS)


class Odd(torch.nn.Module):
    """Needs an operator that ONNX does not have."""

    def forward(self, images: torch.Tensor) -> object:
        pixels = torch.special.airy_ai(images.float())
        return type("Output", (), {"detections": SimpleNamespace(boxes_xyxy=pixels, scores=pixels, labels=pixels)})


def test_an_operator_that_onnx_does_not_have() -> None:
    with pytest.raises(UserError, match=r"cannot be written as ONNX \(opset 20\): .*airy_ai.*Replace that operator"):
        make_onnx(Odd(), FACTS)


def test_nodes_say_their_module(written: Path) -> None:
    names = [node.name for node in onnx.load(written).graph.node]
    assert len(names) == len(set(names))
    assert {name.partition("/")[0].partition(".")[0] for name in names} == {"", "normalize", "backbone", "neck", "head"}


def test_interface_and_metadata(written: Path) -> None:
    file = onnx.load(written)
    facts = {entry.key: json.loads(entry.value) for entry in file.metadata_props}
    assert facts == json.loads(json.dumps(FACTS._asdict()))
    assert open_onnx(written, 1)[0] == FACTS
    session = opened(written)
    (image,) = session.get_inputs()
    assert (image.name, image.type, image.shape[1:]) == ("image", "tensor(uint8)", [3, *SIZE])
    assert [output.name for output in session.get_outputs()] == ["location", "score", "category"]
