"""Settings of the service: every limit in one place."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

MEGA = 1_000_000


class Settings(NamedTuple):
    """Settings of one service.

    model: path of the ONNX file. provider: execution provider, as for `open_onnx`. threads: of the model.
    batch: maximum batch size. wait_ms: how long an image waits for others to fill the batch, and only while others are
    being read or decoded. queue: maximum number of images being processed, from the first byte of their upload to the
    response; more are refused with 503. max_bytes: per request body. max_pixels: per image. max_images: per
    request. timeout: seconds from the end of the upload to the response. upload_timeout: seconds for the body.
    idle_timeout: seconds for a request's headers, and without a request. token: None admits everybody.
    tile: the tiles of requests that name none, as for `parse_tile`. max_tiles: per image.
    origins: of pages elsewhere that may ask from a browser; `*`: any.
    """

    model: Path
    provider: str = "cpu"
    threads: int = 1
    batch: int = 8
    wait_ms: float = 5.0
    queue: int = 64
    max_bytes: int = 32 * MEGA
    max_pixels: int = 50 * MEGA
    max_images: int = 16
    timeout: float = 30.0
    upload_timeout: float = 30.0
    idle_timeout: float = 20.0
    token: str | None = None
    tile: str = "0"
    max_tiles: int = 256
    origins: tuple[str, ...] = ()
