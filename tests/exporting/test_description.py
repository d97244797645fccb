"""What an exported file says about itself."""

from __future__ import annotations

import onnx
import pytest
from onnx import TensorProto, helper

from detector.exporting import onnx_file, raw_head
from detector.exporting.description import FIRST_ONNXRUNTIME, describe_file, describe_outputs
from detector.exporting.onnx_file import write_description
from detector.runners.model_metadata import ModelMetadata, RawDecoding
from detector.runners.onnx_runner import RAW_OUTPUTS

# Release: opset and IR version, of ONNX Runtime's compatibility table.
COMPATIBILITY = {
    "1.11": (16, 8), "1.12": (17, 8), "1.14": (18, 8), "1.15": (19, 9), "1.16": (19, 9), "1.17": (20, 9),
    "1.18": (21, 10),
}  # fmt: skip
METADATA = ModelMetadata(
    model="tiny", classes=["a", "b"], states=["whole"], size=(32, 64), fill=(1, 2, 3), data="",
    threshold={"a": 0.5, "b": 0.5}, max_detections=7,
)  # fmt: skip
DECODING = RawDecoding(score_threshold=0.01, candidates=500, nms_iou=0.6, max_detections=7)
RAW = METADATA.model_copy(update={"decoding": DECODING})


@pytest.mark.parametrize("written", [onnx_file, raw_head])
def test_the_least_onnxruntime(written: object) -> None:
    """The first release in the table that reads both the opset and the IR version that we write."""
    opset, ir_version = getattr(written, "OPSET"), getattr(written, "IR_VERSION")  # noqa: B009
    reading = [name for name, (newest, ir) in COMPATIBILITY.items() if newest >= opset and ir >= ir_version]
    assert FIRST_ONNXRUNTIME[opset] == reading[0]
    assert helper.OP_SET_ID_VERSION_MAP[("ai.onnx", opset)] <= ir_version, "the opset needs this IR version"


def make_file(metadata: ModelMetadata) -> onnx.ModelProto:
    """A file with the right names and no content."""
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in describe_outputs(metadata)]
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, [1, 3, 32, 64])
    graph = helper.make_graph([], "tiny", [image], values)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


@pytest.mark.parametrize("metadata", [METADATA, RAW])
def test_doc_strings_of_inputs_and_outputs(metadata: ModelMetadata) -> None:
    file = make_file(metadata)
    description = describe_file(file, metadata)
    write_description(file, description)
    assert "RGB" in file.graph.input[0].doc_string
    assert [one.doc_string for one in file.graph.output] == [one["meaning"] for one in description["outputs"].values()]
    assert "pixels of the input" in file.graph.output[0].doc_string
    assert {entry.key for entry in file.metadata_props} == description.keys() > ModelMetadata.model_fields.keys()


def test_shapes() -> None:
    description = describe_file(make_file(METADATA), METADATA)
    assert description["inputs"]["image"]["shape"] == ["batch", 3, 32, 64]
    assert description["outputs"]["location"]["shape"] == ["batch", 7, 4]
    assert (description["opset"], description["ir_version"], description["onnxruntime"]) == (20, 9, ">=1.17")
    raw = describe_file(make_file(RAW), RAW)
    assert raw["inputs"]["image"]["shape"] == [1, 3, 32, 64]
    assert {name: one["shape"][2] for name, one in raw["outputs"].items()} == dict(
        zip(RAW_OUTPUTS, (4, 2, 1), strict=True)
    )
    assert raw["decoding"] == DECODING.model_dump()


def test_outputs_without_states() -> None:
    stateless: dict[str, list[str]] = {"states": []}
    assert list(describe_outputs(METADATA.model_copy(update=stateless))) == ["location", "score", "category"]
    assert list(describe_outputs(RAW.model_copy(update=stateless))) == ["boxes", "scores"]
    once = RAW.model_copy(update={"decoding": DECODING.model_copy(update={"nms_iou": None})})
    assert "NMS" in describe_outputs(RAW)["scores"]["meaning"]
    assert "NMS" not in describe_outputs(once)["scores"]["meaning"]
