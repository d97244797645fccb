"""COCO weights of the query-based detectors that cannot be used."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from detector.core.errors import UserError
from detector.models import MODELS
from detector.models.postprocess import Postprocess
from detector.models.query_weights import CLASS_TENSOR
from detector.models.state_head import StateConfig
from tests.support.published_weights import publish


def build(name: str, weights: str) -> Any:
    return MODELS[name].build(3, StateConfig(), MODELS[name].coco_statistics, Postprocess(), weights)


def test_coco_weights_without_internet(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", refuse)
    for name in ("detr", "dfine_n"):
        with pytest.raises(UserError, match=r"no route to host\n.*hub: copy the folder models--.*train\.weights"):
            build(name, "coco")


def test_a_checkpoint_with_other_settings_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish("dfine_n", tmp_path, monkeypatch)
    settings = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(settings | {"reg_scale": 8.0}))
    with pytest.raises(UserError, match=r"config\.json of .*dfine-nano-coco .*reg_scale: 8\.0, expected 4"):
        build("dfine_n", "coco")


def test_tensors_that_are_shared_must_be_equal_in_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish("rtdetr", tmp_path, monkeypatch)
    tensors = load_file(tmp_path / "model.safetensors")
    name = next(name for name in tensors if re.search(r"bbox_embed\.1\.layers\.0\.weight", name))
    other = name.removeprefix("model.decoder.") if name.startswith("model.") else f"model.decoder.{name}"
    save_file({**tensors, other: tensors[name] + 1}, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=r"not those of the model .* shares .*bbox_embed\.1"):
        build("rtdetr", "coco")


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("model.safetensors", b""),
        ("model.safetensors", b"<html>no</html>"),
        ("config.json", b"{"),
        ("config.json", b"{}"),
    ],
)
def test_a_damaged_file_is_named(file: str, content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish("dfine_n", tmp_path, monkeypatch)
    (tmp_path / file).write_bytes(content)
    with pytest.raises(UserError, match=rf"{file} is damaged: .*; delete the file and run the same command again"):
        build("dfine_n", "coco")


def test_a_connection_that_breaks_is_a_failed_download(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub.errors import HTTPError

    def stop(*_: object, **__: object) -> None:
        raise HTTPError("peer closed the connection")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", stop)
    with pytest.raises(UserError, match="could not download the pretrained weights: peer closed"):
        build("dfine_n", "coco")


@pytest.mark.parametrize("change", ["missing", "unexpected"])
def test_a_checkpoint_with_other_tensors_is_an_error(
    change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish("rtdetr", tmp_path, monkeypatch)
    tensors = load_file(tmp_path / "model.safetensors")
    key = next(name for name in tensors if name.endswith("enc_output.0.weight"))
    assert not CLASS_TENSOR.search(key)
    value = tensors.pop(key)
    if change == "unexpected":
        tensors |= {key: value, "model.other.weight": value.clone()}
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=rf"{'enc_output' if change == 'missing' else 'model.other.weight'}"):
        build("rtdetr", "coco")
