"""Write pictures in threads while the model runs."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from PIL import Image

from detector.inference.line_writer import build_write_error
from detector.plotting.picture_file import write_picture


class WriteQueue:
    """Runs tasks in threads, a bounded number ahead."""

    def __init__(self, threads: int) -> None:
        self.max_pending, self.pool = 2 * threads, ThreadPoolExecutor(threads)
        self.pending: deque[Future[None]] = deque()

    def submit(self, task: Callable[[], None]) -> None:
        """Queue a task. Raises what an earlier one raised."""
        self.pending.append(self.pool.submit(task))
        while len(self.pending) > self.max_pending:
            self.pending.popleft().result()

    def close(self) -> None:
        """Wait for all tasks. Raises what one of them raised; the rest is canceled then."""
        try:
            while self.pending:
                self.pending.popleft().result()
        finally:
            self.pool.shutdown(cancel_futures=True)


def save_jpeg(image: Image.Image, path: Path, quality: int) -> None:
    """Write the file completely or not at all. Raises UserError."""
    try:
        write_picture(path, image, "JPEG", quality=quality)
    except OSError as error:
        raise build_write_error(path, error) from None
