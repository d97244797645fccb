"""What the service is told at its start; every limit in one place."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

MEGA = 1_000_000


class Settings(NamedTuple):
    """model: path of the ONNX file. provider: what computes, as for `open_onnx`. threads: of the model.

    batch: images that the model sees at once, at most. wait_ms: how long an image waits for company, and only
    while other images are being read or decoded. queue: images in work at once, from the first byte of their
    upload to the answer; more are refused with 503. max_bytes: of a request's body. max_pixels: of one image.
    max_images: of a request. timeout: seconds from the upload's end to the answer. upload_timeout: seconds for the
    body. idle_timeout: seconds for a request's head, and without a request. token: None lets everybody in.
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
