"""Each parameter reruns the stages that read it, with DVC's run cache on, which drops some names at any depth."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.repo import Repo
from dvc.stage.cache import _get_cache_hash
from pydantic import BaseModel

from detector.core.params import SECTIONS, get_section_class

pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep:DeprecationWarning")  # in DVC itself
ROOT = Path(__file__).resolve().parents[1]
PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))

VERSIONS = yaml.safe_load((ROOT / "versions.yaml").read_text(encoding="utf-8"))
PIPELINE = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))
READERS = {section: {section.replace("_", "-")} for section in PARAMS} | {"postprocess": {"evaluate", "export"}}
TORCH = {"train", "evaluate", "export"}
PACKAGES = {
    **dict.fromkeys(VERSIONS, TORCH),
    **{name: {"preprocess"} | TORCH for name in ("numpy", "pillow")},
    **{name: {"export"} for name in ("onnx", "onnxruntime", "onnxscript")},
    **{name: {"evaluate"} for name in ("jinja2", "matplotlib", "pycocotools", "vl-convert-python")},
}


def keys_in(value: Any) -> set[str]:
    """The keys at any depth of a mapping."""
    if isinstance(value, dict):
        return set(value) | {key for inner in value.values() for key in keys_in(inner)}
    return {key for inner in value for key in keys_in(inner)} if isinstance(value, list) else set()


def fields_in(section: type[BaseModel]) -> set[str]:
    """The keys of a section and of the sections in it."""
    nested = [field.annotation for field in section.model_fields.values()]
    inner = [kind for kind in nested if isinstance(kind, type) and issubclass(kind, BaseModel)]
    return {*section.model_fields, *(name for kind in inner for name in fields_in(kind))}


def run_cache_ignores(name: str) -> bool:
    """Whether DVC's run cache has the same key for two values of a parameter."""
    keys = {
        _get_cache_hash({"cmd": "python", "params": {"params.yaml": {"section": {name: value}}}}, key=True)
        for value in (1, 2)
    }
    return len(keys) == 1


def test_a_new_value_of_any_parameter_reruns_its_stage() -> None:
    names = keys_in(PARAMS) | {name for section in SECTIONS for name in fields_in(get_section_class(section))}
    assert {"image_size", "train", "ratios", "max_detections"} <= names
    assert run_cache_ignores("size"), "DVC no longer drops this name: this test can go"
    assert {name for name in names if run_cache_ignores(name)} == set(), "rename it"


def leaves(document: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The paths to all values that are no mappings."""
    if not isinstance(document, dict):
        yield path
        return
    for key, value in document.items():
        yield from leaves(value, (*path, key))


def other_value(value: Any) -> Any:
    """Another value, of the same type where there is one."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    return [*value, "more"] if isinstance(value, list) else f"{value} and more"


def change(document: dict[str, Any], path: tuple[str, ...]) -> str:
    """The YAML of the document with another value at `path`; the document itself stays."""
    copy = yaml.safe_load(yaml.safe_dump(document))
    place = copy
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = other_value(place[path[-1]])
    return yaml.safe_dump(copy)


class StandIns:
    """This project's pipeline with stages that only write their outputs, always the same, and note that they ran."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.ran = root / "ran.txt"
        stages = {name: {**stage, "cmd": stand_in(name, stage)} for name, stage in PIPELINE["stages"].items()}
        for path in {path for stage in stages.values() for path in stage["deps"]}:
            if path.startswith("stages/") or path in ("data/decisions.csv", "split.lock"):
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                (root / path).write_text("")
        for dataset in (PARAMS["preprocess"]["dataset"], other_value(PARAMS["preprocess"]["dataset"])):
            (root / dataset).mkdir(parents=True)
            (root / dataset / "image.jpg").write_text("")
        (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
        self.restore()
        Repo.init(str(root), no_scm=True).close()
        assert self.reproduce() == sorted(stages)
        assert self.reproduce() == []

    def restore(self) -> None:
        """The values as they are in git."""
        (self.root / "params.yaml").write_text(yaml.safe_dump(PARAMS))
        (self.root / "versions.yaml").write_text(yaml.safe_dump(VERSIONS))

    def reproduce(self) -> list[str]:
        """`dvc repro`: the stages that ran, sorted."""
        self.ran.write_text("")
        with Repo(str(self.root)) as repo:
            repo.reproduce()
        return sorted(self.ran.read_text().split())


def stand_in(name: str, stage: dict[str, Any]) -> str:
    """A shell command that writes a stage's outputs, as files or as folders with the files that others depend on."""
    outs = [
        next(iter(out)) if isinstance(out, dict) else out
        for key in ("outs", "metrics", "plots")
        for out in stage.get(key, [])
    ]
    read = [path for other in PIPELINE["stages"].values() for path in other["deps"]]
    files = []
    for out in outs:
        inside = [path for path in read if path.startswith(f"{out}/")]
        files += inside or [out if Path(out).suffix else f"{out}/file"]
    return " && ".join(
        [f"echo {name} >> ran.txt", *(f"mkdir -p {Path(file).parent} && echo {name} > {file}" for file in files)]
    )


@pytest.fixture(scope="module")
def stand_ins(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIns]:
    """One pipeline for all changes, which are taken back."""
    root = tmp_path_factory.mktemp("stand_ins")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        yield StandIns(root)
    shutil.rmtree(root)


@pytest.mark.parametrize("path", [*leaves(PARAMS)], ids=".".join)
def test_another_value_runs_the_stages_that_read_it(stand_ins: StandIns, path: tuple[str, ...]) -> None:
    stand_ins.restore()  # of what the test before changed: the run cache has those outputs, so nothing runs for them
    (stand_ins.root / "params.yaml").write_text(change(PARAMS, path))
    expected = READERS[path[0]] | (TORCH if path == ("preprocess", "dataset") else set())
    assert stand_ins.reproduce() == sorted(expected)


@pytest.mark.parametrize("package", [*VERSIONS])
def test_another_version_runs_the_stages_that_use_the_package(stand_ins: StandIns, package: str) -> None:
    stand_ins.restore()
    (stand_ins.root / "versions.yaml").write_text(change(VERSIONS, (package,)))
    assert stand_ins.reproduce() == sorted(PACKAGES[package])


def test_every_stage_has_parameters_or_versions_tested_here() -> None:
    named = {entry for stage in PIPELINE["stages"].values() for entry in stage["params"] if isinstance(entry, str)}
    assert named == set(READERS)
