"""Prometheus metrics, summed over all workers.

With several workers the variable PROMETHEUS_MULTIPROC_DIR names a folder where each keeps its values, and any
worker reports the sum.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client import generate_latest as _latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
CONTENT_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)

REQUESTS = Counter("detector_requests", "Requests answered, by path and status", ["path", "status"])
REQUEST_SECONDS = Histogram(
    "detector_request_seconds",
    "Seconds from the headers of a request to the end of its response",
    ["path"],
    buckets=_SECONDS,
)
IN_PROGRESS = Gauge("detector_images_in_progress", "Images being uploaded, decoded, queued or processed",
                multiprocess_mode="livesum")  # fmt: skip
IMAGES = Counter("detector_images", "Images processed by the model")
BATCH = Histogram("detector_batch_images", "Images per batch", buckets=(1, 2, 4, 8, 16, 32, 64))
WAIT_SECONDS = Histogram("detector_wait_seconds", "Seconds between decoding and inference", buckets=_SECONDS)
MODEL_SECONDS = Histogram("detector_model_seconds", "Seconds of inference per batch", buckets=_SECONDS)


def record_batch(size: int, waited: list[float], seconds: float) -> None:
    """Count a batch."""
    IMAGES.inc(size)
    BATCH.observe(size)
    MODEL_SECONDS.observe(seconds)
    for wait in waited:
        WAIT_SECONDS.observe(wait)


def render_metrics() -> bytes:
    """All metrics in Prometheus's text format."""
    if FOLDER not in os.environ:
        return _latest(REGISTRY)
    registry = CollectorRegistry()
    MultiProcessCollector(registry)
    return _latest(registry)


def remove_dead_workers() -> None:
    """Drop the gauges of killed workers; their counters stay. The worker that replaces one calls it."""
    for path in Path(os.environ.get(FOLDER, os.devnull)).glob("gauge_live*.db"):
        process = int(path.stem.rpartition("_")[2])
        with suppress(PermissionError):  # another user's process, so no longer ours
            try:
                os.kill(process, 0)
            except ProcessLookupError:
                mark_process_dead(process)
