"""What Prometheus reads, summed over all workers.

With several workers the variable PROMETHEUS_MULTIPROC_DIR names a folder where each keeps its numbers, and whichever
is asked answers for all.
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
    "detector_request_seconds", "From the head of a request to the end of its answer", ["path"], buckets=_SECONDS
)
IN_WORK = Gauge("detector_images_in_work", "Images being uploaded, decoded, waiting or computed",
                multiprocess_mode="livesum")  # fmt: skip
IMAGES = Counter("detector_images", "Images that the model has seen")
BATCH = Histogram("detector_batch_images", "Images in a batch", buckets=(1, 2, 4, 8, 16, 32, 64))
WAIT_SECONDS = Histogram("detector_wait_seconds", "From decoded to the model", buckets=_SECONDS)
MODEL_SECONDS = Histogram("detector_model_seconds", "That the model took for a batch", buckets=_SECONDS)


def report_batch(size: int, waited: list[float], seconds: float) -> None:
    """Count a batch."""
    IMAGES.inc(size)
    BATCH.observe(size)
    MODEL_SECONDS.observe(seconds)
    for wait in waited:
        WAIT_SECONDS.observe(wait)


def latest() -> bytes:
    """All numbers in Prometheus's text format."""
    if FOLDER not in os.environ:
        return _latest(REGISTRY)
    registry = CollectorRegistry()
    MultiProcessCollector(registry)
    return _latest(registry)


def forget_dead_workers() -> None:
    """A worker that was killed is not at work any more; what it counted stays. For the one that takes its place."""
    for path in Path(os.environ.get(FOLDER, os.devnull)).glob("gauge_live*.db"):
        process = int(path.stem.rpartition("_")[2])
        with suppress(PermissionError):  # somebody else's, so not ours any more
            try:
                os.kill(process, 0)
            except ProcessLookupError:
                mark_process_dead(process)
