"""The container's layout, in a fresh virtual environment: a Docker daemon is not needed, and neither is torch."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

from benchmarks.service_process import ServiceProcess, build_request, send_request
from tests.support.brightness import picture

ROOT = Path(__file__).parents[2]
LINES = re.sub(r"\\\n\s*", "", (ROOT / "Dockerfile").read_text(encoding="utf-8")).splitlines()
# The last stage only: what it copies from the repository, as ([sources], target).
FINAL = LINES[max(number for number, line in enumerate(LINES) if line.startswith("FROM")) :]
COPIES = [line.split()[1:] for line in FINAL if line.startswith("COPY") and "--from" not in line]


def install(folder: Path) -> Path:
    """The Python of an environment with requirements-serve.txt and the library, installed as the Dockerfile does."""
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    assert uv is not None
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, folder], check=True)
    subprocess.run([uv, "pip", "install", "--quiet", "--python", folder / "bin/python", "-r",
                    ROOT / "requirements-serve.txt"], check=True)  # fmt: skip
    source = folder / "source"
    for path in ("pyproject.toml", "LICENSE", "stages/detector"):
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if (ROOT / path).is_dir() else shutil.copy)(ROOT / path, source / path)
    subprocess.run(
        [uv, "pip", "install", "--quiet", "--python", folder / "bin/python", "--no-deps", source], check=True
    )
    return folder / "bin/python"


def test_it_serves_from_what_the_container_holds(tmp_path: Path, model: Path) -> None:
    """The files that the Dockerfile copies, with the packages that it installs, from a folder nobody may write."""
    for *sources, target in COPIES:
        for source in sources:
            copy = shutil.copytree if (ROOT / source).is_dir() else shutil.copy
            place = tmp_path / target / (Path(source).name if target.endswith("/") else "")
            place.parent.mkdir(parents=True, exist_ok=True)
            copy(ROOT / source, place)
    python = install(tmp_path / "packages")
    (heavy,) = (subprocess.run([python, "-c", "import importlib.util as u; print(u.find_spec('torch'))"],
                               check=True, capture_output=True, text=True).stdout,)  # fmt: skip
    assert heavy.strip() == "None"
    with ServiceProcess(model, python=str(python), root=tmp_path, PYTHONDONTWRITEBYTECODE="1") as served:
        assert asyncio.run(send_request(served.port, build_request(picture(200)))).status == 200
        assert asyncio.run(send_request(served.port, build_request(path="/", method="GET"))).status == 200


def test_the_dockerfile_keeps_its_promises() -> None:
    users = [line.split()[1] for line in FINAL if line.startswith("USER")]
    assert users
    assert users[-1] not in ("root", "0")
    assert FINAL.index(f"USER {users[-1]}") < FINAL.index(next(line for line in FINAL if line.startswith("ENTRYPOINT")))
    assert any(line.startswith("HEALTHCHECK") and "/healthz" in line for line in FINAL)
    assert all(re.fullmatch(r"FROM \S+:[\d.]+-slim( AS \w+)?", line) for line in LINES if line.startswith("FROM"))
    assert all((ROOT / source).exists() for *sources, _ in COPIES for source in sources)
    listed = (ROOT / "requirements-serve.txt").read_text(encoding="utf-8")
    assert not re.search(r"^(torch|torchvision|dvc|matplotlib)\b", listed, flags=re.MULTILINE)


def test_the_builder_gets_every_file_that_is_copied() -> None:
    kept = [line[1:] for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line[:1] == "!"]
    copies = [line.split()[1:] for line in LINES if line.startswith("COPY") and "--from" not in line]
    copied = [source for *sources, _ in copies for source in sources]
    assert sorted(kept) == sorted(copied)


def test_compose_mounts_models_and_nothing_that_can_be_written() -> None:
    service = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))["services"]["detector"]
    assert service["read_only"] is True
    assert service["volumes"] == ["./models:/models:ro"]
    assert service["cap_drop"] == ["ALL"]
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    assert service["command"][0] in " ".join(FINAL)
