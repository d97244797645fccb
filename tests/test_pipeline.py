"""The rules of the house, read off the syntax tree: who may import whom, and what dvc.yaml must name."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from tests.support.source_tree import (
    CLEAN,
    LAYERS,
    MODULES,
    NAMES,
    PARAMS,
    PIPELINE,
    ROOT,
    SCRIPT,
    SCRIPTS,
    STAGES,
    closure_of,
    constant,
    constant_paths,
    data_entries,
    entries,
    folders_of,
    imported_names,
    imports_of,
    layer_of,
    named_folders,
    named_packages,
    named_sections,
    related,
    sections_read,
    tree_of,
)

TORCHLESS = ("preprocess", "split", "coco-convert")
LONGEST_FILE = 300
UNTRACKED = ("logs", ".cache", "machine.yaml", "versions.yaml")  # what a script reads and writes beside its outputs
# Packages without a part in the results: parameters, progress, logging, and other places to run.
HARMLESS = {
    "cloudpickle", "cycler", "distributed", "dvclive", "huggingface-hub", "huggingface_hub", "mlflow", "mlflow-skinny",
    "pydantic", "pyyaml", "scmrepo", "tqdm", "wandb",
}  # fmt: skip
# The font of the pictures, and what draws them in a process of its own.
NOT_IMPORTED = {"evaluate": {"matplotlib", "vl-convert-python"}}


@pytest.mark.parametrize("module", MODULES)
def test_imports_flow_one_way(module: str) -> None:
    layer = layer_of(module)
    for other in sorted(imports_of(module)):
        message = f"stages/{module} ({layer}) imports stages/{other} ({layer_of(other)})"
        if layer_of(other) == layer:
            assert layer != SCRIPT, f"{message}: scripts meet only in files"
        else:
            assert LAYERS[layer_of(other)] < LAYERS[layer], f"{message}: imports flow one way"


@pytest.mark.parametrize("stage", NAMES)
def test_dvc_names_exactly_the_folders_that_a_stage_imports(stage: str) -> None:
    imported, named = folders_of(stage), named_folders(stage)
    assert len(named) == len(set(named)), f"{stage}: a folder twice in its deps"
    assert not imported - set(named), f"{stage}: add to its deps in dvc.yaml: {sorted(imported - set(named))}"
    assert not set(named) - imported, f"{stage}: not imported, take out of its deps: {sorted(set(named) - imported)}"
    code = [path for path in entries(stage, "deps") if path.endswith(".py")]
    assert code == [f"stages/{SCRIPTS[stage]}"], f"{stage}: of files, its deps name its script alone"


def test_a_folder_says_who_uses_it() -> None:
    folders = sorted(path.name for path in (STAGES / "detector").iterdir() if path.is_dir() and path.name[0] != "_")
    assert folders == sorted(set(LAYERS) - {SCRIPT})
    for folder in folders:
        text = ast.get_docstring(tree_of(f"detector/{folder}/__init__.py")) or ""
        using = [stage for stage in NAMES if folder in folders_of(stage)]
        if using == list(NAMES):
            assert "every stage" in text, f"{folder}/__init__.py: name who uses it: every stage"
        elif not using:
            assert "tools/" in text, f"{folder}/__init__.py: name the tools that use it"
        for stage in using if using != list(NAMES) else []:
            assert re.search(rf"\b{stage}\b", text), f"{folder}/__init__.py does not name {stage}, which uses it"


def test_a_resumable_training_depends_on_the_folders_that_train_depends_on() -> None:
    assert list(constant("train.py", "CODE")) == sorted(named_folders("train"))


def test_only_sources_count_in_the_folders_of_code() -> None:
    """Caches, swap files and documents would change the hashes from machine to machine."""
    folder = "stages/detector/models/"
    ignored = [folder + name for name in ("__pycache__/simple.pyc", ".simple.py.swp", "simple.py~", "a.ipynb", "a.md")]
    counted = [f"{folder}simple.py", "stages/detector/evaluation/report/page.js", "stages/train.py"]
    command = [sys.executable, "-m", "dvc", "check-ignore", *ignored, *counted]
    found = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()
    assert found == ignored


@pytest.mark.parametrize("stage", NAMES)
def test_dvc_names_exactly_the_sections_that_a_stage_reads(stage: str) -> None:
    assert sorted(sections_read(SCRIPTS[stage])) == sorted(named_sections(stage))
    assert stage.replace("-", "_") in sections_read(SCRIPTS[stage])


@pytest.mark.parametrize("stage", NAMES)
def test_dvc_names_the_packages_that_can_change_a_stages_results(stage: str) -> None:
    imported = {name.partition(".")[0] for module in closure_of(SCRIPTS[stage]) for name in imported_names(module)}
    installed = packages_distributions()
    packages = {distribution for name in imported - {"detector"} for distribution in installed.get(name, [])}
    named = named_packages(stage)
    assert named == sorted(named)
    assert set(named) == {name.lower() for name in packages} - HARMLESS | NOT_IMPORTED.get(stage, set())
    assert list(constant(SCRIPTS[stage], "PACKAGES", ())) == named


@pytest.mark.parametrize("stage", [name for name in NAMES if name not in ("split", "coco-convert")])
def test_a_stage_checks_its_packages(stage: str) -> None:
    assert "check_versions(VERSIONS, PACKAGES)" in ast.unparse(tree_of(SCRIPTS[stage]))


@pytest.mark.parametrize("stage", ["train", "evaluate", "export"])
def test_stages_that_read_images_depend_on_them(stage: str) -> None:
    assert {"${preprocess.dataset}", CLEAN} <= set(entries(stage, "deps"))


def test_only_scripts_read_parameters() -> None:
    assert [module for module in MODULES if layer_of(module) != SCRIPT and sections_read(module)] == []


SHARED = "postprocess"  # the one section that is no stage's own: evaluate and export read it


def test_every_section_is_a_stage_and_every_script_too() -> None:
    sections = [section for section in PARAMS if section != SHARED]
    assert sorted(sections) == sorted(name.replace("-", "_") for name in NAMES)
    assert sorted(SCRIPTS.values()) == [module for module in MODULES if layer_of(module) == SCRIPT]


@pytest.mark.parametrize("stage", NAMES)
def test_a_stage_says_what_it_does(stage: str) -> None:
    command = f"python stages/{SCRIPTS[stage]}"
    assert PIPELINE["stages"][stage]["cmd"] == command
    assert PIPELINE["stages"][stage]["desc"]
    text = ast.get_docstring(tree_of(SCRIPTS[stage])) or ""
    said = dict(re.findall(r"^(command|reads|writes|time)  +(.+)$", text, flags=re.MULTILINE))
    assert list(said) == ["command", "reads", "writes", "time"], f"stages/{SCRIPTS[stage]}: the docstring's lines"
    assert said["command"] == command
    sections = ", ".join(named_sections(stage))
    assert said["reads"].startswith(f"params.yaml ({sections}), "), f"stages/{SCRIPTS[stage]}: {said['reads']}"


@pytest.mark.parametrize("stage", NAMES)
def test_a_stage_touches_the_files_that_dvc_names(stage: str) -> None:
    named = data_entries(stage)
    paths = [path for path in constant_paths(SCRIPTS[stage]) if not path.startswith(UNTRACKED)]
    for path in paths:
        assert any(related(path, entry) for entry in named), f"{path} of {SCRIPTS[stage]} is not in dvc.yaml"
    reads_images = any(entry.startswith("data/coco/") for entry in entries(stage, "deps"))
    for entry in named:
        if entry == CLEAN and reads_images:  # COCO files name the images in it
            continue
        assert any(related(path, entry) for path in paths), f"{SCRIPTS[stage]} has no path for {entry} of dvc.yaml"


def test_plots_show_files_that_stages_write() -> None:
    """A file under a stage's `plots` would be shown twice; those of the charts are `outs`."""
    written = [path for stage in NAMES for path in entries(stage, "outs")]
    shown = [path for plot in PIPELINE["plots"] for settings in plot.values() for path in settings["y"]]
    assert shown
    for path in shown:
        assert any(Path(path).is_relative_to(entry) for entry in written), f"no stage writes {path}"


@pytest.mark.parametrize("stage", TORCHLESS)
def test_data_stages_never_import_torch(stage: str) -> None:
    for module in closure_of(SCRIPTS[stage]):
        heavy = {"torch", "torchvision", "dvclive"} & imported_names(module)
        assert not heavy, f"stages/{module} imports {', '.join(heavy)}, and {stage} imports it"


@pytest.mark.parametrize("stage", TORCHLESS)
def test_data_stages_start_without_torch(stage: str) -> None:
    """Through no package either."""
    names = [module.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
             for module in sorted(closure_of(SCRIPTS[stage]))]  # fmt: skip
    code = f"import sys; import {', '.join(names)}; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_no_script_hides_an_installed_package() -> None:
    ours = {
        path.stem for folder in ("stages", "tools") for path in (ROOT / folder).iterdir() if path.name[0] not in "._"
    }
    installed = set(packages_distributions()) | set(sys.stdlib_module_names)
    assert ours & installed == {"detector"}, "the library itself is installed, nothing else of the same name"


def test_files_are_short() -> None:
    files = [path for name in ("stages", "tools", "tests", "benchmarks") for path in (ROOT / name).rglob("*.py")]
    lengths = {str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in files}
    assert {name: length for name, length in lengths.items() if length > LONGEST_FILE} == {}
