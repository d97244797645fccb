"""Every parameter is part of the keys of DVC's run cache, which drops some names at any depth."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import yaml
from dvc.stage.cache import _get_cache_hash

from detector.core.params import Section

ROOT = Path(__file__).resolve().parents[1]
PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))


def keys_in(value: Any) -> set[str]:
    """The keys at any depth of a mapping."""
    if isinstance(value, dict):
        return set(value) | {key for inner in value.values() for key in keys_in(inner)}
    return {key for inner in value for key in keys_in(inner)} if isinstance(value, list) else set()


def fields_in(section: type[Section]) -> set[str]:
    """The keys of all classes derived from `section`, which nested sections are too."""
    return {name for derived in section.__subclasses__() for name in {*derived.model_fields, *fields_in(derived)}}


def run_cache_ignores(name: str) -> bool:
    """Whether DVC's run cache has the same key for two values of a parameter."""
    keys = {
        _get_cache_hash({"cmd": "python", "params": {"params.yaml": {"section": {name: value}}}}, key=True)
        for value in (1, 2)
    }
    return len(keys) == 1


def test_a_new_value_of_any_parameter_reruns_its_stage() -> None:
    for section in PARAMS:
        if (ROOT / "stages" / f"{section}.py").exists():
            importlib.import_module(section)
    names = keys_in(PARAMS) | fields_in(Section)
    assert {"image_size", "train", "ratios", "max_detections"} <= names
    assert run_cache_ignores("size"), "DVC no longer drops this name: this test can go"
    assert {name for name in names if run_cache_ignores(name)} == set(), "rename it"
