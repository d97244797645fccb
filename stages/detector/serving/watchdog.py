"""Ends a worker that cannot go on: whoever started it starts another one."""

from __future__ import annotations

import os
import signal
import threading
import time

from detector.serving.logs import LOGGER
from detector.serving.service import Service

INTERVAL = 0.5  # seconds between two looks
GRACE = 5.0  # seconds after its request was refused that an image may still be decoded
STUCK = 70  # exit code of a worker that was stuck


def watch(service: Service) -> None:
    """Watch this process from a thread: it ends when its parent is gone, and when a decoder does not come to an end.

    A decoder cannot be stopped; the limits on an image are to keep it short. Should one run on after its request was
    refused, the process ends at once, and with it the other requests that it has.
    """
    threading.Thread(target=_watch, args=(service, os.getppid()), name="watchdog", daemon=True).start()


def _watch(service: Service, parent: int) -> None:
    limit = service.settings.timeout + GRACE
    while os.getppid() == parent:
        if service.longest_decode() > limit:
            LOGGER.critical(f"an image was still being decoded after {limit:g} s: this worker ends")
            os._exit(STUCK)
        time.sleep(INTERVAL)
    LOGGER.error("the parent process is gone: this worker ends")
    os.kill(os.getpid(), signal.SIGTERM)
