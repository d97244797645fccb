"""How a command ends: normally, with one message for a user error, or with a traceback for a bug."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from detector.core.errors import UserError, run_command


def test_success_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    calls = []
    run_command(lambda: calls.append(1))
    assert calls == [1]
    assert capsys.readouterr() == ("", "")


def test_user_error_is_one_message() -> None:
    def main() -> None:
        raise UserError("a.yaml:3: found x, expected y")

    with pytest.raises(SystemExit) as caught:
        run_command(main)
    assert caught.value.code == "\nerror: a.yaml:3: found x, expected y"  # Python prints it and exits with 1


def test_a_missing_file_is_one_message_with_advice_if_a_stage_writes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for path, is_written_by_a_stage in ((Path("data/clean/manifest.jsonl"), True), (tmp_path / "list.txt", False)):
        with pytest.raises(SystemExit) as caught:
            run_command(lambda path=path: print(path.read_text()))  # type: ignore[misc]
        assert str(path) in str(caught.value.code)
        assert ("dvc repro" in str(caught.value.code)) == is_written_by_a_stage


def test_a_broken_pipe_that_is_not_the_output_is_reported() -> None:
    def main() -> None:
        reader, writer = os.pipe()
        os.close(reader)
        os.write(writer, b"x")

    with pytest.raises(SystemExit) as caught:
        run_command(main)
    assert "Broken pipe" in str(caught.value.code)


def test_bug_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        run_command(lambda: print(1 / 0))


def test_a_long_message_is_cut() -> None:
    def main() -> None:
        raise UserError("a.yaml: found " + "x" * 10**6)

    with pytest.raises(SystemExit) as caught:
        run_command(main)
    message = str(caught.value.code)
    assert message.startswith("\nerror: a.yaml: found xxx")
    assert "more characters" in message
    assert len(message) < 11_000


def test_control_characters_of_a_message_reach_no_terminal() -> None:
    def main() -> None:
        raise UserError("a\x1b]0;title\x07.jpg: found \udcff\nsecond line")

    with pytest.raises(SystemExit) as caught:
        run_command(main)
    assert caught.value.code == "\nerror: a\\x1b]0;title\\x07.jpg: found \\udcff\nsecond line"
