"""ONNX files that no export wrote: each is refused with one error that names the file, or runs as its metadata say."""

from __future__ import annotations

import json
import random
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import predict
import serve
from detector.engine.detections import Detections
from detector.runners.model_metadata import ModelMetadata
from detector.runners.onnx_runner import open_onnx
from tests.support.attempts import attempt
from tests.support.bright_model import make_image
from tests.support.onnx_mutations import METADATA, build_crafted, craft_file


def run_file(path: Path) -> tuple[ModelMetadata, list[Detections]]:
    """What the file finds in one black image and in two."""
    metadata, runner = open_onnx(path, 1)
    return metadata, [one for batch in (1, 2) for one in runner(np.zeros((batch, 3, *metadata.size), np.uint8))]


@pytest.mark.parametrize("count", [40, pytest.param(400, marks=pytest.mark.long)])
def test_mutated_files(tmp_path: Path, count: int) -> None:
    """With the checks of what comes out, for one image and for two."""
    rng, path, accepted = random.Random(count), tmp_path / "crafted.onnx", 0
    for _ in range(count):
        data, texts = craft_file(rng)
        path.write_bytes(data)
        result, message = attempt(lambda: run_file(path))
        if result is None:
            assert str(path) in message
            assert len(message) < 3000
            continue
        accepted += 1
        metadata, found = result
        values = {key: json.loads(text) for key, text in texts.items()}
        assert values.items() <= json.loads(json.dumps(metadata.model_dump())).items()
        assert metadata.temperature > 0
        for one in found:
            assert set(one.labels) <= set(range(1, len(metadata.classes) + 1))
            assert set(one.states) <= set(range(len(metadata.states) + 1))
            assert np.isfinite(one.boxes_xyxy).all()
            assert ((one.scores >= 0) & (one.scores <= 1)).all()
    assert 0 < accepted < count


@pytest.mark.parametrize(
    ("key", "text", "said"),
    [
        ("temperature", "NaN", "NaN is not a number"),
        ("temperature", "0", "`metadata.temperature` is 0"),
        ("temperature", "-1", "`metadata.temperature` is -1"),
        ("temperature", "1e999", "`metadata.temperature` is inf"),
        ("size", "[32, 33]", "`metadata.size.1` is 33"),
        ("size", "[64, 64]", "expected one tensor(uint8) [batch, 3, 64, 64]"),
        ("size", "[32000000, 64]", "`metadata.size.0` is 32000000"),
        ("fill", "[]", "`metadata.fill.0` is missing"),
        ("fill", "[" * 100_000, "nested too deeply"),
        ("threshold", '{"a": 0.5}', "`threshold` needs one value for each of `classes`"),
        ("threshold", '{"a": 0.5, "b": 1}', "`threshold` needs one value for each of `classes`"),
        ("threshold", '{"a": 0.5, "ü": 1.5}', "`metadata.threshold.ü` is 1.5"),
        ("threshold", "{}", "`threshold` is empty"),
        ("classes", '["a"]', "`threshold` needs one value for each of `classes`"),
        ("states", "[]", "output `state`"),
        ("states", '["whole"]', "the state 2, and its metadata name 1"),
        ("max_detections", "0", "`metadata.max_detections` is 0"),
    ],
)
def test_a_value_that_no_export_writes_is_named(tmp_path: Path, key: str, text: str, said: str) -> None:
    path = tmp_path / "crafted.onnx"
    path.write_bytes(build_crafted(**{key: text}))
    _, message = attempt(lambda: run_file(path))
    assert message.startswith(str(path))
    assert said in message


@pytest.mark.parametrize("count", [5, pytest.param(150, marks=pytest.mark.long)])
def test_predict_and_serve_refuse_what_the_library_refuses(
    tmp_path: Path, count: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From their command line: an error for the user, or the work; the service stops before it listens."""
    monkeypatch.chdir(tmp_path)
    make_image().save("image.png")
    rng = random.Random(count)
    for _ in range(count):
        data, _ = craft_file(rng)
        Path("crafted.onnx").write_bytes(data)
        for command, arguments in ((predict.main, ["image.png", "--batch-size", "1"]), (start, [])):
            _, message = attempt(partial(command, ["crafted.onnx", *arguments]))
            assert not message or "crafted.onnx" in message
    capsys.readouterr()


def start(arguments: list[str]) -> None:
    """What `serve.main` does before it listens."""
    settings = serve.read_settings(serve.parse([*arguments, "--threads", "1"]))
    metadata, runner = open_onnx(settings.model, settings.threads, settings.provider)
    serve.find_batch_size(runner, metadata, settings.batch)


def test_the_file_that_the_mutations_start_from_is_right(tmp_path: Path) -> None:
    path = tmp_path / "crafted.onnx"
    path.write_bytes(build_crafted())
    metadata, runner = open_onnx(path, 1)
    assert json.loads(json.dumps(metadata.model_dump(exclude_unset=True))) == METADATA
    assert [one.labels.tolist() for one in runner(np.zeros((2, 3, *metadata.size), np.uint8))] == [[2, 1], [2, 1]]
