"""ONNX files that no export wrote: metadata, inputs, outputs and bytes changed at random."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from tests.support.json_mutations import VALUES, mutate_json

Columns = dict[str, np.ndarray[Any, np.dtype[Any]]]

METADATA: dict[str, Any] = {
    "model": "tiny", "classes": ["a", "ü"], "states": ["whole", "gone"], "size": [32, 64], "fill": [1, 2, 3],
    "data": "hash", "threshold": {"a": 0.5, "ü": 1}, "temperature": 2, "code": "of", "dataset": "manifest",
    "precision": "fp32", "nms_iou": 0.5, "max_detections": 3,
}  # fmt: skip
COLUMNS: Columns = {
    "location": np.array([[[1, 2, 3, 4], [5, 6, 7, 8], [0, 0, 0, 0]]], np.float32),
    "score": np.array([[0.9, 0.4, 0]], np.float32),
    "category": np.array([[2, 1, 0]], np.int64),
    "state": np.array([[1, 2, 0]], np.int64),
    "state_score": np.array([[0.5, 0.5, 0]], np.float32),
}
KINDS = (np.float64, np.float16, np.int32, np.int8, np.bool_)


def build_file(columns: Columns, inputs: list[tuple[str, int, list[int | str]]], metadata: dict[str, str]) -> bytes:
    """A graph that returns these columns whatever the images show, once for each image."""
    nodes, outputs = [], []
    for name, value in columns.items():
        batch = value.shape[:1] == (1,) and inputs and len(inputs[0][2]) > 0
        constant = f"{name}_constant" if batch else name
        nodes.append(helper.make_node("Constant", [], [constant], value=numpy_helper.from_array(value)))
        if batch:
            ends = numpy_helper.from_array(np.ones(value.ndim - 1, np.int64))
            shape, repeats, rest = f"{name}_shape", f"{name}_repeats", f"{name}_rest"
            nodes += [
                helper.make_node("Shape", [inputs[0][0]], [shape], start=0, end=1),
                helper.make_node("Constant", [], [rest], value=ends),
                helper.make_node("Concat", [shape, rest], [repeats], axis=0),
                helper.make_node("Tile", [constant, repeats], [name]),
            ]
        form = ["batch" if batch else len(value), *value.shape[1:]]
        outputs.append(helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), form))
    given = [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in inputs]
    graph = helper.make_graph(nodes, "tiny", given, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    for key, text in metadata.items():
        model.metadata_props.add(key=key, value=text)
    serialized: bytes = model.SerializeToString()
    return serialized


def build_crafted(**changes: str) -> bytes:
    """The file that the mutations start from; changes: texts of metadata."""
    metadata = {key: json.dumps(value, ensure_ascii=False) for key, value in METADATA.items()} | changes
    return build_file(COLUMNS, [("image", TensorProto.UINT8, ["batch", 3, 32, 64])], metadata)


def craft_file(rng: random.Random) -> tuple[bytes, dict[str, str]]:
    """A file with one to three changes, and the text of its metadata."""
    columns = {name: value.copy() for name, value in COLUMNS.items()}
    inputs: list[tuple[str, int, list[int | str]]] = [("image", TensorProto.UINT8, ["batch", 3, 32, 64])]
    metadata = {key: json.dumps(value, ensure_ascii=False) for key, value in METADATA.items()}
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        rng.choice((_change_metadata, _change_metadata, _change_columns, _change_columns, _change_inputs))(
            columns, inputs, metadata, rng
        )
    data = build_file(columns, inputs, metadata)
    return (_damage(data, rng), {}) if rng.random() < 0.2 else (data, metadata)


def _change_metadata(columns: Columns, inputs: Any, metadata: dict[str, str], rng: random.Random) -> None:
    key = rng.choice(sorted(metadata))
    kind = rng.randrange(4)
    if kind == 0:
        del metadata[key]
    elif kind == 1:
        metadata[key] = rng.choice((*VALUES, "", "{", "\0", '{"a": 1, "a": 2}'))
    else:
        text = mutate_json({key: METADATA[key]}, rng).encode("utf-8", "replace").decode()
        metadata[key] = text.partition(":")[2].strip()[:-1]


def _change_columns(columns: Columns, inputs: Any, metadata: dict[str, str], rng: random.Random) -> None:
    if not columns:
        return
    name = rng.choice(sorted(columns))
    value = columns[name]
    if value.dtype == np.bool_ or not value.size:
        return
    changes: tuple[Callable[[], Any], ...] = (
        lambda: columns.pop(name),
        lambda: columns.update({f"{name}s": columns.pop(name)}),
        lambda: columns.update({name: value.astype(rng.choice(KINDS))}),
        lambda: columns.update({name: value[..., None]}),
        lambda: columns.update({name: value[0] if value.ndim > 1 else value}),
        lambda: columns.update({name: np.concatenate([value, value])}),
        lambda: columns.update({name: value[:, : rng.randrange(4)] if value.ndim > 1 else value}),
        lambda: columns.update({name: value[:0]}),
        lambda: columns.update({name: value + rng.choice((-1, 1, 5, 100))}),
        lambda: columns.update({name: value * rng.choice((-1, 3, 10**6))}),
        lambda: columns.update({name: value * rng.choice((np.nan, np.inf))} if value.dtype.kind == "f" else {}),
        lambda: columns.update({"extra": value}),
    )
    with np.errstate(all="ignore"):
        rng.choice(changes)()


def _change_inputs(columns: Columns, inputs: Any, metadata: dict[str, str], rng: random.Random) -> None:
    name, kind, shape = inputs[0] if inputs else ("image", TensorProto.UINT8, ["batch", 3, 32, 64])
    inputs[:] = rng.choice(
        (
            [],
            [(name, TensorProto.FLOAT, shape)],
            [("x", kind, shape)],
            [(name, kind, [4, *shape[1:]])],
            [(name, kind, [0, *shape[1:]])],
            [(name, kind, [-1, *shape[1:]])],
            [(name, kind, shape[:-1])],
            [(name, kind, [*shape[:-1], "width"])],
            [(name, kind, [*shape[:-1], 32])],
            [(name, kind, shape), ("second", kind, shape)],
            [(name, kind, [])],
        )
    )


def _damage(data: bytes, rng: random.Random) -> bytes:
    if rng.random() < 0.4:
        return data[: rng.randrange(len(data))]
    changed = bytearray(data)
    for _ in range(rng.randrange(1, 6)):
        changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed)
