"""A stage runs alone in its folder and ends with the DVC that started it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from detector.core import stage_process
from detector.core.errors import UserError
from detector.core.stage_process import exclusive_lock, stage_lock

STAGES = Path(stage_process.__file__).parents[2]
STAGE = """
import sys, time
from pathlib import Path
sys.path.insert(0, {stages!r})
from detector.core.stage_process import run_stage
time.sleep({before})
def main():
    print("running", flush=True)
    time.sleep({seconds})
    print("done")
if __name__ == "__main__":
    run_stage(main)
"""
DVC = """
import os, subprocess, sys
subprocess.run(sys.argv[1:], env={**os.environ, "DVC_ROOT": os.getcwd(), "DVC_STAGE": "demo"})
"""


def write_stage(folder: Path, seconds: float = 60, before: float = 0) -> Path:
    path = folder / "demo.py"
    path.write_text(STAGE.format(stages=str(STAGES), seconds=seconds, before=before))
    return path


def start(*command: str, folder: Path) -> subprocess.Popen[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DVC_")}
    return subprocess.Popen(
        command, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def read_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def test_one_process_at_a_time(tmp_path: Path) -> None:
    hold = "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.lockf(f, fcntl.LOCK_EX); print(flush=True); input()"
    with exclusive_lock(tmp_path / "new/lock", "busy"):
        pass
    command = [sys.executable, "-c", hold, str(tmp_path / "new/lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(UserError, match=r"^busy .*lock"), exclusive_lock(tmp_path / "new/lock", "busy"):
            pass
        other.kill()
    with exclusive_lock(tmp_path / "new/lock", "busy"):
        pass


def test_two_stages_of_different_names_run_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with stage_lock("train"), stage_lock("evaluate"):
        assert {path.name for path in stage_process.LOCKS.iterdir()} == {"train", "evaluate"}


def test_a_second_run_of_a_stage_says_so_and_a_killed_one_holds_nothing(tmp_path: Path) -> None:
    stage = write_stage(tmp_path)
    first = start(sys.executable, str(stage), folder=tmp_path)
    assert read_line(first) == "running\n"
    second = start(sys.executable, str(stage), folder=tmp_path)
    out, _ = second.communicate(timeout=30)
    assert second.returncode == 1
    assert out.count("\n") == 2, "one line after an empty one"
    assert "stage `demo`" in out
    first.kill()
    first.communicate()
    third = start(sys.executable, str(stage), folder=tmp_path)
    assert read_line(third) == "running\n"
    third.kill()
    third.communicate()


@pytest.mark.parametrize("before", [0, 1.5])
@pytest.mark.parametrize("shell", ["", "sh", "bash"])
def test_it_ends_within_a_second_of_its_dvc(tmp_path: Path, shell: str, before: float) -> None:
    """Also when DVC is killed while the stage still imports its libraries."""
    if shell and shutil.which(shell) is None:
        pytest.skip(f"no {shell}")
    stage = write_stage(tmp_path, before=before)
    command = [shell, "-c", f"{sys.executable} {stage}; true"] if shell else [sys.executable, str(stage)]
    dvc = start(sys.executable, "-c", DVC, *command, folder=tmp_path)
    assert dvc.stdout is not None
    if before:
        time.sleep(0.8)
    else:
        assert read_line(dvc) == "running\n"
    dvc.kill()
    killed = time.monotonic()
    rest = dvc.stdout.read()  # returns when the last process that could write has ended
    assert time.monotonic() - killed < before + 1
    assert "done" not in rest
    assert "Traceback" not in rest
    dvc.wait()
    dvc.stdout.close()


def test_without_dvc_it_outlives_its_shell(tmp_path: Path) -> None:
    """As with nohup."""
    stage = write_stage(tmp_path, seconds=1)
    shell = start(sys.executable, "-c", "import subprocess, sys; subprocess.run(sys.argv[1:])", sys.executable,
                  str(stage), folder=tmp_path)  # fmt: skip
    assert read_line(shell) == "running\n"
    shell.kill()
    assert shell.stdout is not None
    assert "done" in shell.stdout.read()
    shell.wait()
    shell.stdout.close()


def test_a_process_ends_with_its_parent(tmp_path: Path) -> None:
    code = f"import sys, time; sys.path.insert(0, {str(STAGES)!r}); from detector.core.stage_process import *; "
    code += "end_with_parent(); print('running', flush=True); time.sleep(60)"
    parent = start(sys.executable, "-c", "import subprocess, sys; subprocess.run(sys.argv[1:])", sys.executable, "-c",
                   code, folder=tmp_path)  # fmt: skip
    assert read_line(parent) == "running\n"
    parent.send_signal(signal.SIGKILL)
    assert parent.stdout is not None
    killed = time.monotonic()
    parent.stdout.read()
    assert time.monotonic() - killed < 1
    parent.wait()
    parent.stdout.close()
