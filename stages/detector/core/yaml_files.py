"""Reading YAML as YAML 1.2 says, which is how DVC writes it, and within limits.

PyYAML follows YAML 1.1: to it `yes` is true, `12:30` is 750, a date is an object, `1e-3` is text, and of two equal
keys the last one silently wins. Here only null, true, false and numbers are more than text, and equal keys are an
error. Anchors and aliases work, but a document may not expand to more than `MAX_NODES` values.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from detector.core.errors import UserError

MAX_BYTES = 16 << 20
MAX_NODES = 1_000_000  # values of a document, counting one again wherever an alias repeats it
MAX_DEPTH = 50
MAX_DIGITS = 400  # the largest float has 309


class _Loader(yaml.SafeLoader):
    """SafeLoader with the core schema of YAML 1.2."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - PyYAML's own name


for _tag, _pattern, _first in (
    ("null", r"(~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("bool", r"(true|True|TRUE|false|False|FALSE)$", list("tTfF")),
    ("int", r"([-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$", list("-+0123456789")),
    (
        "float",
        r"([-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$",
        list("-+.0123456789"),
    ),
    ("merge", r"<<$", ["<"]),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^{_pattern}"), _first)


def _construct_int(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    text = str(loader.construct_scalar(node))
    try:
        if len(text) > MAX_DIGITS:
            raise ValueError
        return int(text, 8 if "o" in text else 16 if "x" in text else 10)  # 010 is ten in YAML 1.2
    except ValueError:
        problem = f"{text[:40]!r} is not an integer of at most {MAX_DIGITS} digits"
        raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark) from None


def _construct_float(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> float:
    text = str(loader.construct_scalar(node))
    try:
        return float(re.sub(r"^([-+]?)\.(inf|nan)$", r"\1\2", text.lower()))
    except ValueError:
        problem = f"{text[:40]!r} is not a number"
        raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark) from None


def _construct_bool(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> bool:
    text = str(loader.construct_scalar(node)).lower()
    if text not in ("true", "false"):
        raise yaml.constructor.ConstructorError(None, None, f"{text[:40]!r} is not a boolean", node.start_mark)
    return text == "true"


_Loader.add_constructor("tag:yaml.org,2002:bool", _construct_bool)
_Loader.add_constructor("tag:yaml.org,2002:int", _construct_int)
_Loader.add_constructor("tag:yaml.org,2002:float", _construct_float)
for _tag in ("timestamp", "binary", "set", "omap", "pairs"):
    _Loader.yaml_constructors.pop(f"tag:yaml.org,2002:{_tag}", None)


class _TextLoader(_Loader):
    """Every scalar is the text that stands in the file."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - PyYAML's own name


def parse_yaml(text: str, *, scalars_as_text: bool = False) -> Any:
    """Parse one YAML document into dicts, lists, text, numbers, booleans and None.

    scalars_as_text: numbers, booleans and null stay the text that stands in the file, such as a class named 1.
    Raises yaml.YAMLError, whose message gives line and column: for a syntax error, a repeated key, a tag other than
    those of plain values, or a document that is too deep or expands to too many values.
    """
    try:
        loader = (_TextLoader if scalars_as_text else _Loader)(text)
    except RecursionError:
        raise yaml.YAMLError("too deeply nested") from None
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _check_node(loader, node, {}, 0)
        return loader.construct_document(node)
    except RecursionError:
        raise yaml.YAMLError("too deeply nested") from None
    finally:
        loader.dispose()


def _check_node(loader: _Loader, node: yaml.Node, counted: dict[int, int | None], depth: int) -> int:
    """Number of values of a node, aliases expanded. Raises YAMLError beyond the limits and for a repeated key."""

    def error(problem: str, at: yaml.Node = node) -> yaml.YAMLError:
        return yaml.constructor.ConstructorError(None, None, problem, at.start_mark)

    known = counted.get(id(node), 0)
    if known is None:
        raise error("an alias to a value that holds it")
    if known:
        return known
    if depth > MAX_DEPTH:
        raise error(f"more than {MAX_DEPTH} levels")
    counted[id(node)] = None
    children = node.value if isinstance(node, yaml.SequenceNode) else []
    if isinstance(node, yaml.MappingNode):
        children = [part for pair in node.value for part in pair]
        keys = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise error("a key is not plain text or a number", key_node)
            key = key_node.value if key_node.tag.endswith(":merge") else loader.construct_object(key_node)
            if key in keys:
                raise error(f"the key {key!r} stands here twice", key_node)
            keys.add(key)
    total = 1 + sum(_check_node(loader, child, counted, depth + 1) for child in children)
    if total > MAX_NODES:
        raise error(f"more than {MAX_NODES:,} values once aliases are expanded")
    counted[id(node)] = total
    return total


def read_yaml(path: Path) -> Any:
    """Read the YAML file at `path`. Raises UserError if it is missing, too large or not valid YAML."""
    try:
        if not path.is_file() and path.exists():
            raise UserError(f"{path} is not a file")
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise UserError(f"{path} has more than {MAX_BYTES >> 20} MB; is it the right file?")
        return parse_yaml(data.decode("utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} is missing: run this from the repository root") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text: {error}") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not valid YAML: {error}") from None
