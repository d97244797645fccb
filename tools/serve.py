"""Answer images over HTTP with an exported model, and show a page to try it.

    python tools/serve.py MODEL [--host H] [--port P] [--workers N] ...

    python tools/serve.py models/model.onnx
    curl --data-binary @photo.jpg -H 'Content-Type: image/jpeg' http://127.0.0.1:8000/v1/predict
    curl -F image=@one.jpg -F image=@two.jpg http://127.0.0.1:8000/v1/predict

MODEL     a file that export wrote (.onnx); or a git revision or artifact that holds one, such as model@v1.2.0

The page is at /, the routes are explained at /docs. Only this machine is answered unless --host says otherwise.
Where the environment variable DETECTOR_TOKEN or --token-file gives a token, every request must bring it.
SIGTERM and Ctrl-C finish what was begun. Logs go to standard output, one JSON object a line.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from detector.core.errors import UserError, run_command
from detector.runners.onnx_runner import PROVIDERS, open_onnx
from detector.serving.server import listen, serve
from detector.serving.service import largest_batch
from detector.serving.settings import MEGA, Settings
from model_source import model_path

TOKEN = "DETECTOR_TOKEN"
USUAL = Settings(Path())
CORES = os.cpu_count() or 1


def main(arguments: list[str] | None = None) -> None:
    given = parse(sys.argv[1:] if arguments is None else arguments)
    settings = settings_of(given)
    facts, runner = open_onnx(settings.model, settings.threads, settings.provider)
    largest_batch(runner, facts, settings.batch)  # what is wrong with the file is said here, not by each worker
    del runner
    listener = listen(given.host, given.port)
    host, port = listener.getsockname()[:2]
    print(f"{settings.model}: {facts.model}, {len(facts.classes)} classes, {facts.size[0]}x{facts.size[1]}, "
          f"{settings.threads} threads in each of {given.workers} workers\n"
          f"http://{f'[{host}]' if ':' in host else host}:{port}/ {'asks for a token' if settings.token else ''}",
          file=sys.stderr, flush=True)  # fmt: skip
    serve(settings, listener, given.workers)


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("model", help="a file that export wrote (.onnx), a git revision or an artifact")
    add("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0 for all")
    add("--port", type=int, default=8000, help="0: any that is free")
    add("--workers", type=int, default=1, help="processes, each with a model of its own")
    add("--provider", choices=("auto", *PROVIDERS), default=USUAL.provider, help="what computes")
    add("--threads", type=int, help="of each worker's model (default: the cores but one, shared by the workers)")
    add("--batch", type=int, default=USUAL.batch, help="images that the model sees at once, at most")
    add("--wait-ms", type=float, default=USUAL.wait_ms, help="that an image waits for others on their way")
    add("--queue", type=int, default=USUAL.queue, help="images in work at once in each worker; more get 503")
    add("--max-megabytes", type=float, default=USUAL.max_bytes / MEGA, help="of a request")
    add("--max-megapixels", type=float, default=USUAL.max_pixels / MEGA, help="of an image")
    add("--max-images", type=int, default=USUAL.max_images, help="of a request")
    add("--timeout", type=float, default=USUAL.timeout, help="seconds from the upload's end to the answer")
    add("--upload-timeout", type=float, default=USUAL.upload_timeout, help="seconds for a request's body")
    add("--idle-timeout", type=float, default=USUAL.idle_timeout, help="seconds for a request's head, and between two")
    add("--token-file", type=Path, help=f"file with the token that requests must bring; or the variable {TOKEN}")
    return parser.parse_args(arguments)


def settings_of(given: argparse.Namespace) -> Settings:
    """Checked; UserError naming the option."""
    for name in ("workers", "threads", "batch", "max_images", "max_megabytes", "max_megapixels", "timeout",
                 "upload_timeout", "idle_timeout"):  # fmt: skip
        value = getattr(given, name)
        if value is not None and not 0 < value < 1e9:
            raise UserError(f"--{name.replace('_', '-')} {value:g}: expected more than 0")
    if not 0 <= given.wait_ms < 1e9:
        raise UserError(f"--wait-ms {given.wait_ms:g}: expected 0 or more")
    if not 0 <= given.port < 2**16:
        raise UserError(f"--port {given.port}: expected 0 to 65535")
    if given.queue < given.max_images:
        raise UserError(
            f"--queue {given.queue} is less than --max-images {given.max_images}: such a request would never fit"
        )
    return Settings(
        model=model_path(given.model),
        provider=given.provider,
        threads=given.threads or max(1, (CORES - 1) // given.workers),
        batch=given.batch,
        wait_ms=given.wait_ms,
        queue=given.queue,
        max_bytes=int(given.max_megabytes * MEGA),
        max_pixels=int(given.max_megapixels * MEGA),
        max_images=given.max_images,
        timeout=given.timeout,
        upload_timeout=given.upload_timeout,
        idle_timeout=given.idle_timeout,
        token=token_of(given.token_file),
    )


def token_of(path: Path | None) -> str | None:
    """From the file, or else the environment; None where there is none. UserError for an empty one."""
    if path is None:
        token, source = os.environ.get(TOKEN), f"the variable {TOKEN}"
    else:
        source = f"--token-file {path}"
        try:
            token = path.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise UserError(f"{source}: cannot be read ({error})") from None
    if token is None:
        return None
    if not token.strip():
        raise UserError(f"{source} is empty: put a token there, or leave it out to let everybody in")
    return token.strip()


if __name__ == "__main__":
    run_command(main)
