"""The rules of the house, read off the syntax tree: who may import whom, and what dvc.yaml must name."""

from __future__ import annotations

import ast
import functools
import re
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
STAGES = ROOT / "stages"
PIPELINE = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))
PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
NAMES = tuple(PIPELINE["stages"])
SCRIPTS = {name: f"{name.replace('-', '_')}.py" for name in NAMES}
MODULES = sorted({path.relative_to(STAGES).as_posix() for path in STAGES.rglob("*.py")} - {"detector/__init__.py"})
TORCHLESS = ("preprocess", "split", "coco-convert")
SCRIPT = "a script"
# A file imports from its own folder or from one with a lower number; scripts import no other script.
LAYERS = {
    SCRIPT: 6,
    "serving": 5,
    "exporting": 4,
    "inference": 4,
    "comparison": 4,
    "training": 3,
    "evaluation": 3,
    "runners": 3,
    "models": 2,
    "preprocessing": 2,
    "splitting": 2,
    "manifest": 1,
    "plotting": 1,
    "engine": 1,
    "core": 0,
}
LONGEST_FILE = 300
UNTRACKED = ("logs", ".cache")  # what a script writes for people, not for the next stage


@functools.cache
def tree_of(module: str) -> ast.Module:
    """The syntax tree of a file under stages/."""
    return ast.parse((STAGES / module).read_text(encoding="utf-8"), module)


def file_of(name: str) -> str | None:
    """`detector.core.images` -> `detector/core/images.py`; None for what does not lie under stages/."""
    stem = name.replace(".", "/")
    return next((file for file in (f"{stem}.py", f"{stem}/__init__.py") if file in MODULES), None)


@functools.cache
def imported_names(module: str) -> frozenset[str]:
    """Every dotted name that a file imports, in functions too, with the packages on the way to it."""
    names: set[str] = set()
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"stages/{module}:{node.lineno}: write the import with its full name"
            base = str(node.module)
            names |= {base} | {f"{base}.{alias.name}" for alias in node.names if file_of(f"{base}.{alias.name}")}
    parts = [name.split(".") for name in names]
    return frozenset(".".join(part[:length]) for part in parts for length in range(1, len(part) + 1))


@functools.cache
def imports_of(module: str) -> frozenset[str]:
    """The files under stages/ that a file imports; packages that hold only a docstring count for nothing."""
    files = {file_of(name) for name in imported_names(module)} - {None, module}
    return frozenset(file for file in files if file and not is_empty(file))


def is_empty(module: str) -> bool:
    """Whether a file holds nothing but a docstring."""
    body = tree_of(module).body
    return len(body) == 0 or (len(body) == 1 and ast.get_docstring(tree_of(module)) is not None)


def closure_of(module: str) -> set[str]:
    """The file and everything that it imports, directly or not."""
    reached: set[str] = set()
    waiting = [module]
    while waiting:
        file = waiting.pop()
        if file not in reached:
            reached.add(file)
            waiting += imports_of(file)
    return reached


def layer_of(module: str) -> str:
    """The key of LAYERS that a file under stages/ belongs to."""
    parts = Path(module).parts
    if len(parts) == 1:
        return SCRIPT
    assert parts[0] == "detector", f"stages/{module}: the library is stages/detector"
    assert len(parts) > 2, f"stages/{module}: a module of the library lives in one of its folders"
    assert parts[1] in LAYERS, f"stages/{module}: {parts[1]} is no known folder; give it a place in LAYERS"
    return parts[1]


def folders_of(stage: str) -> set[str]:
    """The folders of the library that a stage's script imports from, directly or not."""
    return {layer_of(module) for module in closure_of(SCRIPTS[stage])} - {SCRIPT}


def named_folders(stage: str) -> list[str]:
    """The folders of the library among a stage's `deps`."""
    prefix = "stages/detector/"
    return [path.removeprefix(prefix) for path in entries(stage, "deps") if path.startswith(prefix)]


def sections_read(module: str) -> list[str]:
    """The NAMEs of `load_section(Path("params.yaml"), "NAME", ...)`."""
    calls = [node for node in ast.walk(tree_of(module)) if isinstance(node, ast.Call)]
    found = []
    for call in calls:
        if isinstance(call.func, ast.Name) and call.func.id == "load_section":
            path, name = call.args[:2]
            where = f"stages/{module}:{call.lineno}"
            assert ast.unparse(path) == "Path('params.yaml')", f"{where}: parameters are read from params.yaml"
            assert isinstance(name, ast.Constant), f"{where}: name the section in the call"
            found.append(str(name.value))
    return found


def constant_paths(module: str) -> list[str]:
    """The module's constants of the form `NAME = Path("...")`."""
    values = [node.value for node in tree_of(module).body if isinstance(node, ast.Assign)]
    calls = [value for value in values if isinstance(value, ast.Call) and ast.unparse(value.func) == "Path"]
    return [str(arg.value) for call in calls for arg in call.args if isinstance(arg, ast.Constant)]


def entries(stage: str, *keys: str) -> list[str]:
    """The paths under `deps`, `outs`, `metrics` or `plots` of a stage."""
    listed: list[Any] = [entry for key in keys for entry in PIPELINE["stages"][stage].get(key, [])]
    return [path for entry in listed for path in ([entry] if isinstance(entry, str) else entry)]


def data_entries(stage: str) -> list[str]:
    """What a stage reads and writes besides code, without the dataset that params.yaml names."""
    paths = entries(stage, "deps", "outs", "metrics", "plots")
    return [path for path in paths if not path.startswith(("stages/", "${"))]


def related(first: str, second: str) -> bool:
    """Whether one is the other, lies in it, or is the same file with another suffix."""
    one, other = Path(first), Path(second)
    return one.is_relative_to(other) or other.is_relative_to(one) or one.with_suffix("") == other.with_suffix("")


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
    (code,) = [
        ast.literal_eval(node.value)
        for node in tree_of("train.py").body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "CODE"
    ]
    assert list(code) == sorted(named_folders("train"))


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
    assert sorted(sections_read(SCRIPTS[stage])) == sorted(PIPELINE["stages"][stage]["params"])
    assert stage.replace("-", "_") in sections_read(SCRIPTS[stage])


def test_only_scripts_read_parameters() -> None:
    assert [module for module in MODULES if layer_of(module) != SCRIPT and sections_read(module)] == []


SHARED = "postprocess"  # the one section that is no stage's own: evaluate and export read it


def test_every_section_is_a_stage_and_every_script_too() -> None:
    assert [section for section in PARAMS if section != SHARED] == [name.replace("-", "_") for name in NAMES]
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
    sections = ", ".join(PIPELINE["stages"][stage]["params"])
    assert said["reads"].startswith(f"params.yaml ({sections}), "), f"stages/{SCRIPTS[stage]}: {said['reads']}"


@pytest.mark.parametrize("stage", NAMES)
def test_a_stage_touches_the_files_that_dvc_names(stage: str) -> None:
    named = data_entries(stage)
    paths = [path for path in constant_paths(SCRIPTS[stage]) if not path.startswith(UNTRACKED)]
    for path in paths:
        assert any(related(path, entry) for entry in named), f"{path} of {SCRIPTS[stage]} is not in dvc.yaml"
    for entry in named:
        assert any(related(path, entry) for path in paths), f"{SCRIPTS[stage]} has no path for {entry} of dvc.yaml"


def test_plots_show_files_that_stages_write() -> None:
    written = [path for stage in NAMES for path in entries(stage, "metrics", "plots")]
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
    """Through no package either, the figures that preprocess loads late included."""
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
