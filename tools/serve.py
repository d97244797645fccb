"""Serve an exported model over HTTP, with a page to try it.

    python tools/serve.py MODEL [--host H] [--port P] [--workers N] ...

    python tools/serve.py models/model.onnx
    curl --data-binary @photo.jpg http://127.0.0.1:8000/v1/predict
    curl -F image=@one.jpg -F image=@two.jpg 'http://127.0.0.1:8000/v1/predict?threshold=0.5'
    curl --data-binary @large.jpg 'http://127.0.0.1:8000/v1/predict?tile=640'

MODEL     an exported file (.onnx), or a git revision or artifact that has one, such as model@v1.2.0

The page is at /, the routes are described at /docs, and clients of KServe and Triton find theirs at /v2. By default
only this machine can connect; see --host. If the environment variable DETECTOR_TOKEN or --token-file sets a token,
every request must carry it. SIGTERM and Ctrl-C finish the requests in progress, SIGHUP replaces the model by the file
that is there by now. Logs go to standard output, one JSON object per line.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import sys
from pathlib import Path

from detector.core.errors import UserError, run_command
from detector.runners.onnx_runner import PROVIDERS, open_onnx
from detector.serving.server import listen, serve
from detector.serving.service import find_batch_size
from detector.serving.settings import MEGA, Settings
from detector.serving.tile_option import parse_tile
from model_source import resolve_model

TOKEN = "DETECTOR_TOKEN"
ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/\s?#@A-Z]+")
DEFAULTS = Settings(Path())
MOST = 1024  # workers, threads, and images per batch: more would only take all memory
LIMITS = ("max_images", "max_tiles", "max_megabytes", "max_megapixels", "timeout", "upload_timeout", "idle_timeout")
CORES = os.cpu_count() or 1


def main(arguments: list[str] | None = None) -> None:
    given = parse(sys.argv[1:] if arguments is None else arguments)
    settings = read_settings(given)
    facts, runner = open_onnx(settings.model, settings.threads, settings.provider)
    parse_tile(settings.tile, facts)
    find_batch_size(runner, facts, settings.batch)  # a bad file is reported here, not by each worker
    del runner
    listener = listen(given.host, given.port)
    host, port = listener.getsockname()[:2]
    print(f"{settings.model}: {facts.model}, {len(facts.classes)} classes, {facts.size[0]}x{facts.size[1]}, "
          f"{settings.threads} threads in each of {given.workers} workers\n"
          f"http://{f'[{host}]' if ':' in host else host}:{port}/ {'(token required)' if settings.token else ''}",
          file=sys.stderr, flush=True)  # fmt: skip
    serve(settings, listener, given.workers)


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("model", help="an exported file (.onnx), a git revision or an artifact")
    add("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0 for all")
    add("--port", type=int, default=8000, help="0: any free port")
    add("--workers", type=int, default=1, help="worker processes, each with its own copy of the model")
    add(
        "--provider", choices=("auto", *PROVIDERS), default=DEFAULTS.provider, help="execution provider of ONNX Runtime"
    )
    add("--threads", type=int, help="CPU threads per worker (default: all cores but one, divided by the workers)")
    add("--batch", type=int, default=DEFAULTS.batch, help="maximum batch size")
    add("--wait-ms", type=float, default=DEFAULTS.wait_ms, help="milliseconds to wait for more images to batch")
    add("--queue", type=int, default=DEFAULTS.queue, help="maximum images being processed per worker; more get 503")
    add("--max-megabytes", type=float, default=DEFAULTS.max_bytes / MEGA, help="maximum request size (MB)")
    add("--max-megapixels", type=float, default=DEFAULTS.max_pixels / MEGA, help="maximum image size (megapixels)")
    add("--max-images", type=int, default=DEFAULTS.max_images, help="maximum images per request")
    add("--max-tiles", type=int, default=DEFAULTS.max_tiles, help="maximum tiles per image")
    add("--tile", default=DEFAULTS.tile, help="tiles of requests without ?tile=: a side in pixels, auto, or 0 for none")
    add("--timeout", type=float, default=DEFAULTS.timeout, help="seconds from the end of the upload to the response")
    add("--upload-timeout", type=float, default=DEFAULTS.upload_timeout, help="seconds for a request's body")
    add(
        "--idle-timeout",
        type=float,
        default=DEFAULTS.idle_timeout,
        help="seconds for the headers of a request, and between requests",
    )
    add("--token-file", type=Path, help=f"file with the token that requests must carry; or set the variable {TOKEN}")
    origin = "page elsewhere that may use the service from a browser, such as https://example.org; *: any"
    add("--allow-origin", action="append", default=[], metavar="ORIGIN", help=f"{origin} (may be repeated)")
    return parser.parse_args(arguments)


def read_settings(given: argparse.Namespace) -> Settings:
    """Check the options. Raises UserError naming the option."""
    for name in ("workers", "threads", "batch"):
        value = getattr(given, name)
        if value is not None and not 1 <= value <= MOST:
            raise UserError(f"--{name} {value}: expected 1 to {MOST:,}")
    for name in LIMITS:
        value = getattr(given, name)
        if not 0 < value < 1e9:
            raise UserError(f"--{name.replace('_', '-')} {value:g}: expected a value above 0")
    if not 0 <= given.wait_ms < 1e9:
        raise UserError(f"--wait-ms {given.wait_ms:g}: expected 0 or more")
    if not 0 <= given.port < 2**16:
        raise UserError(f"--port {given.port}: expected 0 to 65535")
    if given.queue < given.max_images:
        raise UserError(
            f"--queue {given.queue} is less than --max-images {given.max_images}: such a request could never be served"
        )
    return Settings(
        model=resolve_model(given.model),
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
        token=read_token(given.token_file),
        tile=given.tile,
        max_tiles=given.max_tiles,
        origins=tuple(map(check_origin, given.allow_origin)),
    )


def check_origin(text: str) -> str:
    """An origin as browsers send it. Raises UserError for anything else, which would never match."""
    if text != "*" and not ORIGIN.fullmatch(text):
        raise UserError(f"--allow-origin {text}: expected * or scheme://host[:port] in lower case, without a path")
    return text


def read_token(path: Path | None) -> str | None:
    """From the file, else the environment; None without one. Raises UserError for an empty one."""
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
        raise UserError(f"{source} is empty: put a token there, or omit it to admit everybody")
    return token.strip()


if __name__ == "__main__":
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until the workers, which open the file, are started
    run_command(main)
