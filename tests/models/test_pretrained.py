"""Weights that are downloaded: of one commit, and with the known hash. Nothing is downloaded here."""

from __future__ import annotations

import hashlib
import inspect
import re
from pathlib import Path

import pytest
import torchvision.models

from detector.core.errors import UserError
from detector.models import MODELS
from detector.models.pretrained import HubWeights, download_hub_weights, load_pretrained
from detector.models.query_architectures import ARCHITECTURES


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_known_hash_is_of_a_known_commit(name: str) -> None:
    architecture = ARCHITECTURES[name]
    assert re.fullmatch(r"[0-9a-f]{40}" if architecture.digest else r"main|[0-9a-f]{40}", architecture.commit)
    assert re.fullmatch(r"([0-9a-f]{64})?", architecture.digest)


def test_an_unknown_hash_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "snapshots" / ("d" * 40)
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"weights")
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda _, name, revision: str(folder / name))
    assert download_hub_weights(HubWeights("owner/name", "main", "")) == folder
    digest = hashlib.sha256(b"weights").hexdigest()
    assert capsys.readouterr().out == f"COCO weights owner/name, commit {'d' * 40}, SHA-256 {digest}\n"


def test_weights_of_another_hash_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def download(repository: str, name: str, revision: str) -> str:
        asked.append((repository, name, revision))
        (tmp_path / name).write_bytes(name.encode())
        return str(tmp_path / name)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    right = HubWeights("owner/name", "c" * 40, hashlib.sha256(b"model.safetensors").hexdigest())
    assert download_hub_weights(right) == tmp_path
    assert asked == [("owner/name", name, "c" * 40) for name in ("config.json", "model.safetensors")]
    with pytest.raises(UserError, match=r"model\.safetensors has the SHA-256 .*owner/name"):
        download_hub_weights(right._replace(digest="0" * 64))


@pytest.mark.parametrize("content", [b"", b"<html>"])
def test_a_damaged_file_of_torchvision_is_named(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    source = torchvision.models.MobileNet_V3_Large_Weights.IMAGENET1K_V1
    file = tmp_path / "hub/checkpoints" / source.url.rpartition("/")[2]
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    with pytest.raises(UserError, match=rf"{file.name} is damaged: its SHA-256 .* delete the file"):
        load_pretrained(lambda: pytest.fail("loaded"), source)


def test_torchvisions_files_carry_their_hash() -> None:
    """torchvision verifies a download by the hash in the file's name."""
    folder = Path(inspect.getfile(inspect.getmodule(MODELS["simple"].build))).parent  # type: ignore[arg-type]
    named = set()
    for path in folder.glob("*.py"):
        named |= set(re.findall(r"(\w+_Weights)\.(\w+)", path.read_text(encoding="utf-8")))
    assert len(named) > 5
    for name, version in named:
        weights = getattr(torchvision.models, name, None) or getattr(torchvision.models.detection, name)
        assert re.search(r"-[0-9a-f]{8}\.pth$", weights[version].url)
