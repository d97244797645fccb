"""All sections of params.yaml, checked by whichever stage runs first."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from detector.core.errors import UserError
from detector.core.params import SECTIONS, get_section_class, load_section
from detector.core.yaml_files import parse_yaml
from detector.models import MODELS
from detector.training.settings import ModelName

ROOT = Path(__file__).resolve().parents[2]


def load(folder: Path, section: str, **changes: Any) -> Any:
    """Load a section of the repository's params.yaml with changed sections; None takes one away."""
    document = parse_yaml((ROOT / "params.yaml").read_text(encoding="utf-8"))
    for name, values in changes.items():
        if isinstance(values, dict):
            document[name] = document.get(name, {}) | values
        elif values is None:
            del document[name]
        else:
            document[name] = values
    (folder / "params.yaml").write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    return load_section(folder / "params.yaml", section, get_section_class(section))


def test_every_section_has_its_class(tmp_path: Path) -> None:
    document = parse_yaml((ROOT / "params.yaml").read_text(encoding="utf-8"))
    assert list(SECTIONS) == list(document)
    for section in SECTIONS:
        assert load(tmp_path, section).model_dump().keys() == document[section].keys()


@pytest.mark.parametrize("section", SECTIONS)
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"export": {"precison": "int8"}}, ["unknown key `export.precison`; did you mean `precision`?"]),
        ({"export": {"parity_images": 3}}, ["`export.parity_images` is 3", "50"]),
        ({"split": {"ratios": {"train": 0.5, "val": 0.1, "test": 0.1}}}, ["sum to 0.7"]),
        (
            {"train": {"epoch": 3, "lr": "fast"}, "evaluate": {"split": "dev"}},
            ["unknown key `train.epoch`; did you mean `epochs`?", "`train.lr", "`evaluate.split` is 'dev'"],
        ),
        (
            {"train": {"model": "faster_rcnn"}, "export": {"nms": False}},
            ["`export.nms` is false, and `train.model` faster_rcnn needs NMS"],
        ),
        ({"train": {"model": "yolo"}}, ["`train.model` is 'yolo'", "effnet_lite"]),
        ({"postprocess": "none"}, ["section `postprocess`: found 'none', expected a mapping"]),
    ],
)
def test_a_mistake_in_any_section_stops_any_stage(
    tmp_path: Path, section: str, changes: dict[str, Any], words: list[str]
) -> None:
    if changes.get(section) == "none":
        words = ["section `postprocess` is missing or not a mapping"]
    with pytest.raises(UserError) as error:
        load(tmp_path, section, **changes)
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize("section", ["preprocess", "export"])
def test_a_misspelled_section_is_named(tmp_path: Path, section: str) -> None:
    with pytest.raises(UserError, match=r"section `export` is missing.*; found `exprot`: did you mean `export`\?"):
        load(tmp_path, section, export=None, exprot={"precision": "int8"})


def test_sections_of_other_programs_do_not_matter(tmp_path: Path) -> None:
    load(tmp_path, "preprocess", labels={"anything": 1}, exports=[1])


def test_the_names_of_models_are_known_without_loading_them() -> None:
    assert get_args(ModelName) == tuple(MODELS)


def test_the_classes_are_loaded_without_the_libraries_that_they_configure() -> None:
    """Else preprocess would wait for torch, and a change in another folder could change what it writes."""
    code = (
        "import sys; from detector.core.params import SECTIONS, get_section_class\n"
        "for section in SECTIONS: get_section_class(section)\nprint(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    heavy = {"torch", "torchvision", "numpy", "PIL", "pandas", "matplotlib", "hotcoco", "onnx"}
    assert heavy & set(done.stdout.split()) == set()
