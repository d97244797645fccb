"""The parent of the workers: uvicorn's, with enough time for a large model to be loaded."""

from __future__ import annotations

import signal
import time

from uvicorn.supervisors import Multiprocess
from uvicorn.supervisors.multiprocess import Process

from detector.serving.logs import LOGGER

START_SECONDS = 120.0  # for a worker to load the model and answer


class Supervisor(Multiprocess):
    """On SIGHUP, replaces the workers one after the other; each one serves until its successor does.

    uvicorn gives a successor as long as a health check may take, 5 seconds, and does not look at SIGTERM meanwhile.
    """

    def restart_all(self) -> None:
        """Replace each worker; keep those that are left, and say so, when a successor does not start."""
        for number, old in enumerate(self.processes):
            new = Process(self.config, self.sockets)
            new.start()
            if not self._wait_until_ready(new):
                reason = (
                    f"was not ready after {START_SECONDS:g} s" if new.process.is_alive() else "ended while it started"
                )
                new.kill()
                new.join()
                if not self._is_stopping():
                    LOGGER.error(
                        f"the model was replaced in {number} of {len(self.processes)} workers: process {new.pid} "
                        f"{reason}; the others go on with the old model",
                        extra={"fields": {"exit_code": new.exitcode}},
                    )
                return
            old.terminate()
            self.processes[number] = new
            while old.process.is_alive() and not self._is_stopping():
                old.process.join(0.5)
        LOGGER.info(f"the model was replaced in all {len(self.processes)} workers")

    def _wait_until_ready(self, new: Process) -> bool:
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end and new.process.is_alive() and not self._is_stopping():
            if new.wait_until_ready(timeout=1.0):
                return True
        return False

    def _is_stopping(self) -> bool:
        return bool({signal.SIGTERM, signal.SIGINT} & set(self.signal_queue))
