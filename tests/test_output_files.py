"""Stages and their library write every file through `detector.core.output_files`: read off the syntax tree."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

STAGES = Path(__file__).resolve().parents[1] / "stages"
MODULES = sorted(path.relative_to(STAGES).as_posix() for path in STAGES.rglob("*.py"))
WRITERS = {
    "write_text", "write_bytes", "save", "savefig", "save_file", "savez", "savez_compressed", "tofile", "dump",
    "copy2", "copyfile", "copytree", "move", "rename", "symlink_to", "hardlink_to", "touch", "to_csv",
    "VideoWriter",
}  # fmt: skip
SCRATCH = "a temporary folder that this function or its caller deletes"
LOCK = "a lock file, which stays empty"
ALLOWED = {
    "detector/core/output_files.py:replace_file": "the place itself",
    "detector/core/stage_process.py:exclusive_lock": LOCK,
    "detector/training/image_cache.py:_lock": LOCK,
    "detector/training/processes.py:spawn_workers": "the null device",
    "detector/training/iterations.py:append": "a table that only grows, in a new file of this training",
    "detector/training/sweep_report.py:report_progress": "a log that only grows, read while it is written",
    "detector/exporting/precision.py:quantize_int8": SCRATCH,
    "detector/runners/inference_task.py:write_task": SCRATCH,
    "detector/runners/inference_task.py:run_task": SCRATCH,
    "detector/inference/line_writer.py:__init__": "written line by line in a folder that the user names",
    "detector/inference/video.py:__init__": "OpenCV writes the file; it is renamed when it is complete",
}


def find_writes(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """Each call that writes a file by itself, with the name of the function it is in."""
    for function in ast.walk(tree):
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Module)):
            name = getattr(function, "name", "<module>")
            harmless = bound_names(function)
            for node in walk_own(function):
                if isinstance(node, ast.Call) and writes(node) and not names_in(node) & harmless:
                    yield name, node


def walk_own(function: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a function without those of the functions in it."""
    for child in ast.iter_child_nodes(function):
        if not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield child
            yield from walk_own(child)


def bound_names(function: ast.AST) -> set[str]:
    """The names of new files beside their target, and of files in memory."""
    names = set()
    for node in walk_own(function):
        if isinstance(node, ast.withitem) and called(node.context_expr) == "replace_file" and node.optional_vars:
            names.add(ast.unparse(node.optional_vars))
        if isinstance(node, ast.Assign) and {"BytesIO", "StringIO"} & {called(part) for part in ast.walk(node.value)}:
            names |= {part.id for target in node.targets for part in ast.walk(target) if isinstance(part, ast.Name)}
    return names


def called(node: ast.AST) -> str:
    """The last part of the name of the function that a call calls."""
    return ast.unparse(node.func).rpartition(".")[2] if isinstance(node, ast.Call) else ""


def names_in(call: ast.Call) -> set[str]:
    """What a method is called on, and the arguments that are plain names."""
    receiver = [call.func.value] if isinstance(call.func, ast.Attribute) else []
    return {node.id for node in [*receiver, *call.args] if isinstance(node, ast.Name)}


def writes(call: ast.Call) -> bool:
    """Whether a call writes, moves or links a file."""
    name, is_method = called(call), isinstance(call.func, ast.Attribute)
    if name == "open":
        mode = [call.args[index] for index in [0 if is_method else 1] if len(call.args) > index]
        mode += [keyword.value for keyword in call.keywords if keyword.arg == "mode"]
        return any(isinstance(one, ast.Constant) and set(str(one.value)) & set("wax+") for one in mode)
    if name == "replace":  # of a path; that of a text has two arguments
        return is_method and len(call.args) == 1 and not call.keywords
    return is_method and name in WRITERS


@pytest.mark.parametrize("module", MODULES)
def test_files_are_written_beside_and_renamed(module: str) -> None:
    tree = ast.parse((STAGES / module).read_text(encoding="utf-8"))
    found = {f"{module}:{name}": node for name, node in find_writes(tree)}
    for place, node in found.items():
        assert place in ALLOWED, (
            f"stages/{module}:{node.lineno}: `{ast.unparse(node)[:80]}` may write into a file that DVC has linked to "
            "its cache, and a kill leaves half of it; use detector.core.output_files"
        )
    unused = {place for place in ALLOWED if place.startswith(f"{module}:")} - set(found)
    assert not unused, "these write nothing any more"


@pytest.mark.parametrize(
    "code",
    [
        "path.write_text('a')",
        "path.open('w')",
        "path.open(mode='ab')",
        "open(path, 'r+')",
        "picture.save(path)",
        "torch.save(state, path)",
        "new.replace(path)",
        "shutil.copyfile(a, b)",
        "def f():\n    with replace_file(path) as new:\n        path.write_bytes(b'')",
    ],
)
def test_the_test_sees_a_write(code: str) -> None:
    assert len(list(find_writes(ast.parse(code)))) == 1


@pytest.mark.parametrize(
    "code",
    [
        "write_text(path, 'a')",
        "path.open()",
        "path.open('rb')",
        "text.replace('a', 'b')",
        "with replace_file(path) as new, new.open('w') as file:\n    file.write('a')",
        "data = io.BytesIO()\npicture.save(data, 'PNG')",
    ],
)
def test_the_test_ignores_the_rest(code: str) -> None:
    assert list(find_writes(ast.parse(code))) == []
