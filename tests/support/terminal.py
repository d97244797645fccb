"""A command in a terminal of a given size, as somebody sees it who pages to the right."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import termios
from pathlib import Path

RIGHT, QUIT = b"\x1b)", b"q"  # as the right arrow, whose code depends on the terminal
END_PROMPT = "(END)"  # of less, which then waits for a key
PATIENCE = 60  # seconds until something must appear


def page_to_the_right(
    command: list[str], root: Path, environment: dict[str, str], *, columns: int, presses: int
) -> list[str]:
    """The screen of a command that ends in a pager, at first and after each press of the right arrow key.

    A pager that shows all at once ends by itself, and then there is one screen.
    """
    leader, follower = pty.openpty()
    termios.tcsetwinsize(follower, (40, columns))  # type: ignore[attr-defined,unused-ignore]  # since Python 3.11
    process = subprocess.Popen(
        command, cwd=root, stdin=follower, stdout=follower, stderr=follower, start_new_session=True,
        env={**environment, "TERM": "xterm", "LESS": "", "PAGER": "", "DVC_PAGER": ""},
    )  # fmt: skip
    os.close(follower)
    try:
        screens = [_read_screen(leader)]
        while END_PROMPT in screens[-1] and len(screens) <= presses:
            os.write(leader, RIGHT)
            screens.append(_read_screen(leader))
        os.write(leader, QUIT)
    finally:
        process.kill()
        process.wait()
        os.close(leader)
    return screens


def _read_screen(terminal: int) -> str:
    """What is written until the pager waits for a key or ends, without control sequences."""
    written = b""
    while END_PROMPT.encode() not in written:
        ready, _, _ = select.select([terminal], [], [], PATIENCE)
        assert ready, f"the pager neither waits for a key nor ends:\n{written.decode()}"
        try:
            written += os.read(terminal, 65536)
        except OSError:  # nobody writes any more
            break
    return re.sub(r"\x1b(\[[0-9;?]*[A-Za-z]|[=>])", "", written.decode())
