"""What the syntax tree of stages/ and dvc.yaml say: imports, constants, sections, dependencies."""

from __future__ import annotations

import ast
import functools
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
STAGES = ROOT / "stages"
PIPELINE = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))
PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
NAMES = tuple(PIPELINE["stages"])
SCRIPTS = {name: f"{name.replace('-', '_')}.py" for name in NAMES}
MODULES = sorted({path.relative_to(STAGES).as_posix() for path in STAGES.rglob("*.py")} - {"detector/__init__.py"})
SCRIPT = "a script"
CLEAN = "data/clean"  # holds images, which COCO files name
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


def named_sections(stage: str) -> list[str]:
    """The sections of params.yaml among a stage's `params`."""
    return [entry for entry in PIPELINE["stages"][stage]["params"] if isinstance(entry, str)]


def named_packages(stage: str) -> list[str]:
    """The packages whose version a stage depends on."""
    files = [entry for entry in PIPELINE["stages"][stage]["params"] if isinstance(entry, dict)]
    return [package for entry in files for package in entry["versions.yaml"]]


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


def constant(module: str, name: str, default: Any = None) -> Any:
    """The value of a module's constant of plain values; `default` if there is none."""
    values = [
        ast.literal_eval(node.value)
        for node in tree_of(module).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name
    ]
    return values[0] if values else default


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
