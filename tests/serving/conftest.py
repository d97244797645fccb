"""A service for the tests of a file."""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from pathlib import Path

import pytest
from fastapi import FastAPI
from uvicorn import Config, Server

from benchmarks.service_process import ServiceProcess
from detector.runners.onnx_runner import open_onnx
from detector.runners.tiled import Runner
from detector.serving.app import build_app, run_service
from detector.serving.server import TimeoutProtocol, listen
from detector.serving.settings import Settings
from tests.support.brightness import write_model

Hosting = Callable[..., AbstractContextManager[int]]


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "model.onnx")


@pytest.fixture(scope="module")
def served(model: Path) -> Iterator[ServiceProcess]:
    """As a user starts it; in the end it must not have said anything of an exception."""
    options = ("--max-images", "3", "--queue", "20", "--max-megabytes", "1", "--max-megapixels", "0.5")
    with ServiceProcess(model, *options) as served:
        yield served
        assert not [line for line in served.read_log() if "traceback" in line]
        assert served.process.poll() is None


@pytest.fixture
def hosted(model: Path) -> Hosting:
    """In this process, with a runner and settings of the test's: `with hosted(runner, queue=3) as port`."""

    @contextmanager
    def host(runner: Runner, **settings: object) -> Iterator[int]:
        chosen = Settings(model, **settings)  # type: ignore[arg-type]
        facts, _ = open_onnx(model, 1)

        @asynccontextmanager
        async def lifespan(app: FastAPI) -> AsyncIterator[None]:
            async with run_service(app, chosen, facts, runner):
                yield

        app = build_app(chosen, lifespan)
        with listen("127.0.0.1", 0) as listener:
            server = Server(Config(app, http=TimeoutProtocol, ws="none", loop="asyncio", log_config=None,
                                   timeout_keep_alive=int(chosen.idle_timeout)))  # fmt: skip
            thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
            thread.start()
            try:
                while not server.started:
                    time.sleep(0.01)
                yield listener.getsockname()[1]
            finally:
                server.should_exit = True
                thread.join(30)
                assert not thread.is_alive()

    return host
