"""A mismatched torch and torchvision pair is reported before it fails obscurely."""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError
from types import ModuleType

import pytest

from detector.engine.environment import check_torch


def test_accepts_the_installed_pair() -> None:
    check_torch()


def test_reports_operators_that_do_not_load(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(ModuleType):
        def __getattr__(self, name: str) -> object:
            raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setitem(sys.modules, "torchvision.ops", Broken("torchvision.ops"))
    with pytest.raises(SystemExit, match=r"torch \S+ and torchvision \S+ .*nms does not exist"):
        check_torch()


def test_reports_a_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("detector.engine.environment.version", missing)
    with pytest.raises(SystemExit, match="torch is not installed"):
        check_torch()
