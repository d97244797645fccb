"""How a command ends: normally, with one message for a user error, or with a traceback for a bug."""

from __future__ import annotations

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


def test_missing_file_of_an_earlier_stage_is_one_message(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as caught:
        run_command(lambda: print((tmp_path / "manifest.jsonl").read_text()))
    assert str(tmp_path / "manifest.jsonl") in str(caught.value.code)
    assert "dvc repro" in str(caught.value.code)


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
