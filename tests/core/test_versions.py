"""The versions of packages that stages depend on, beside those that are installed."""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

from detector.core.errors import UserError
from detector.core.versions import check_versions

ROOT = Path(__file__).parents[2]
NUMPY = version("numpy")


def test_the_committed_versions_are_those_of_the_lock() -> None:
    if sys.version_info[:2] != (3, 11):
        pytest.skip("the committed results and their versions are of Python 3.11")
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    pins = [Requirement(line.rstrip("\\ ")) for line in lines if line[:1].isalnum()]
    locked = {pin.name: str(pin.specifier)[2:] for pin in pins if pin.marker is None or pin.marker.evaluate()}
    recorded = yaml.safe_load((ROOT / "versions.yaml").read_text(encoding="utf-8"))
    assert recorded == {name: locked[name].partition("+")[0] for name in recorded}


def test_a_match_is_quiet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "versions.yaml"
    assert check_versions(file, ["numpy"]) == {"numpy": NUMPY}, "without the file, nothing is compared"
    file.write_text(f"numpy: '{NUMPY}'\n")
    assert check_versions(file, ["numpy"]) == {"numpy": NUMPY}
    assert capsys.readouterr().out == ""


def test_another_version_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "versions.yaml"
    file.write_text("numpy: '1.0'\n")
    assert check_versions(file, ["numpy"]) == {"numpy": NUMPY}
    found = capsys.readouterr().out
    assert f"numpy {NUMPY} is installed" in found
    assert "says 1.0" in found


@pytest.mark.parametrize("text", ["torch: '1.0'\n", "- numpy\n"])
def test_a_file_without_the_package_is_an_error(tmp_path: Path, text: str) -> None:
    file = tmp_path / "versions.yaml"
    file.write_text(text)
    with pytest.raises(UserError, match=r"versions\.yaml: .*tools/versions\.py"):
        check_versions(file, ["numpy"])


def test_a_missing_package_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no-such-package is not installed"):
        check_versions(tmp_path / "versions.yaml", ["no-such-package"])
