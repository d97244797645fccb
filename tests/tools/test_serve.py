"""What the service says to mistakes on its command line."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import pytest

import serve
from detector.core.errors import UserError
from tests.support.bright_model import write_bright


@pytest.fixture
def model(tmp_path: Path) -> str:
    return str(write_bright(tmp_path / "model.onnx"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--workers 0", "--workers 0: "),
        ("--threads -3", "--threads -3: "),
        ("--batch 0", "--batch 0: "),
        ("--batch 100000000", "--batch 100000000: expected 1 to 1,024"),
        ("--threads 100000", "--threads 100000: expected 1 to 1,024"),
        ("--max-megabytes nan", "--max-megabytes nan: "),
        ("--timeout inf", "--timeout inf: "),
        ("--wait-ms -1", "--wait-ms -1: expected 0 or more"),
        ("--port 70000", "--port 70000: expected 0 to 65535"),
        ("--queue 4", "--queue 4 is less than --max-images 16"),
        ("--max-tiles 0", "--max-tiles 0: "),
        ("--tile 8", "tile 8: expected a side of at least 32 pixels, auto, or 0"),
        (f"--tile {'9' * 400}", "expected a side of at least 32 pixels"),
        ("--tile auto", "tile auto: the model file has no `object_size`"),
        ("--allow-origin https://a.example/", "--allow-origin https://a.example/: expected * or scheme://host"),
        ("--allow-origin a.example", "without a path"),
        ("--host nowhere.invalid", "cannot listen on nowhere.invalid, port 8000"),
        ("--provider cuda", "provider cuda"),
        ("--token-file none.txt", "--token-file none.txt: cannot be read"),
    ],
)
def test_options_that_make_no_sense(options: str, message: str, model: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        serve.main([model, *options.split()])


def test_a_port_that_is_taken(model: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"cannot listen on 127.0.0.1, port {port} .*: try another --port"):
            serve.main([model, "--port", str(port)])


def test_a_token_that_is_empty(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(serve.TOKEN, " ")
    with pytest.raises(UserError, match=f"the variable {serve.TOKEN} is empty"):
        serve.main([model])
    (tmp_path / "token").write_text("\n")
    with pytest.raises(UserError, match=r"--token-file .*token is empty"):
        serve.main([model, "--token-file", str(tmp_path / "token")])


def test_a_model_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.onnx"):
        serve.main([str(tmp_path / "none.onnx")])
