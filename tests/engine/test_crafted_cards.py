"""Cards that no training wrote: each is refused with one error that names the file, or holds what the file says."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch

from detector.core.errors import UserError
from detector.engine.checkpoint import Card, load_checkpoint, save_checkpoint
from detector.models.postprocess import Postprocess
from detector.models.state_head import StateConfig
from detector.runners.torch_runner import open_checkpoint
from tests.support.attempts import attempt
from tests.support.json_mutations import NESTED, mutate_json
from tests.support.synthetic_model import build_synthetic_model

CARD = Card(model="simple", classes=["a", "ü"], states=["whole", "gone"], size=(32, 64), mean=(1, 2, 3), std=(4, 5, 6),
            recipe={"lr": 5e-05, "scale": [0.5, 1.5]}, seed=0, data="hash", validation={"AP": 0.5, "epoch": 3},
            code="code", versions={"torch": "2"})  # fmt: skip
MISSING = {"precision": "fp32", "processes": 1, "code": "", "versions": {}}  # what a card without these keys means


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "model.safetensors"
    images = torch.randint(0, 256, (2, 3, 32, 64), dtype=torch.uint8).numpy()
    model = build_synthetic_model("simple", StateConfig((True, False), (1.0, 1.0), 0.5), images)
    save_checkpoint(path, model.state_dict(), CARD)
    return path


def refusal(path: Path, card: str) -> str:
    path.with_suffix(".json").write_text(card, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(UserError) as caught:
        load_checkpoint(path)
    return str(caught.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"size": [32, 33]}, "`size.1` is 33"),
        ({"size": [0, 32]}, "`size.0` is 0"),
        ({"size": [32]}, "`size.1` is missing"),
        ({"size": [1_000_000, 32]}, "`size.0` is 1000000"),
        ({"size": 32}, "`size` is 32"),
        ({"mean": []}, "`mean.0` is missing"),
        ({"mean": [0, 0, 256]}, "`mean.2` is 256"),
        ({"std": [1, 0, 1]}, "`std.1` is 0"),
        ({"classes": []}, "`classes` is []"),
        ({"classes": ["a", "a"]}, "'a' stands there twice"),
        ({"classes": "ab"}, "`classes` is 'ab'"),
        ({"model": 3}, "`model` is 3"),
        ({"seed": "0"}, "`seed` is '0'"),
        ({"validation": {"AP": None}}, "`validation.AP` is None"),
        ({"extra": 1}, "unknown key `extra`"),
    ],
)
def test_a_value_that_no_training_writes_is_named(checkpoint: Path, changes: dict[str, Any], said: str) -> None:
    message = refusal(checkpoint, json.dumps(CARD.model_dump() | changes))
    assert message.startswith(f"{checkpoint.with_suffix('.json')}: ")
    assert said in message


@pytest.mark.parametrize("text", [NESTED, "", "{", "null", '{"seed": NaN}', '{"seed": 1, "seed": 2}', "\udcff"])
def test_what_is_no_card(checkpoint: Path, text: str) -> None:
    message = refusal(checkpoint, text)
    assert message.startswith(str(checkpoint.with_suffix(".json")))
    assert len(message) < 1000


@pytest.mark.parametrize("count", [40, pytest.param(400, marks=pytest.mark.long)])
def test_mutated_cards(checkpoint: Path, count: int) -> None:
    """What is accepted is what stands in the file; the model is then built and its weights fit, or it is refused."""
    rng, path, accepted = random.Random(count), checkpoint.with_suffix(".json"), 0
    for _ in range(count):
        text = mutate_json(CARD.model_dump(), rng)
        path.write_text(text, encoding="utf-8", errors="surrogateescape")
        loaded, message = attempt(lambda: load_checkpoint(checkpoint))
        if loaded is None:
            assert str(path) in message
            continue
        accepted += 1
        card = loaded[1]
        assert json.loads(json.dumps(card.model_dump())) == MISSING | json.loads(text)
        opened, message = attempt(lambda: open_checkpoint(checkpoint, Postprocess(), torch.device("cpu")))
        if opened is None:
            assert "checkpoint" in message
        else:
            assert (opened[0].classes, opened[0].size) == (card.classes, card.size)
    assert 0 < accepted < count / 2


@pytest.mark.parametrize("count", [40, pytest.param(250, marks=pytest.mark.long)])
def test_damaged_weights(checkpoint: Path, tmp_path: Path, count: int) -> None:
    """Bytes of the header changed, and the file cut: no other exception than the one that names the file."""
    rng, whole = random.Random(count), checkpoint.read_bytes()
    path = tmp_path / "model.safetensors"
    path.with_suffix(".json").write_text(json.dumps(CARD.model_dump()))
    header = 8 + int.from_bytes(whole[:8], "little")
    for _ in range(count):
        data = bytearray(whole[: rng.randrange(len(whole))] if rng.random() < 0.2 else whole)
        for _ in range(rng.randrange(1, 4)):
            if data:
                data[rng.randrange(min(header, len(data)))] = rng.randrange(256)
        path.write_bytes(data)
        opened, message = attempt(lambda: open_checkpoint(path, Postprocess(), torch.device("cpu")))
        assert opened or "checkpoint" in message
