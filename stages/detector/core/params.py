"""Read one section of params.yaml into its typed, frozen model."""

from __future__ import annotations

import difflib
import json
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from detector.core.errors import UserError
from detector.core.yaml_files import read_yaml


class Section(BaseModel):
    """Base class of every section: frozen; an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


SectionType = TypeVar("SectionType", bound=Section)


def load_section(path: Path, section: str, model: type[SectionType]) -> SectionType:
    """Read `section` of the YAML file at `path` and validate it against `model`.

    Raises UserError naming the file and key, the value found, what was expected and, for an unknown
    key, the nearest valid name.
    """
    document = read_yaml(path)
    if not isinstance(document, dict) or not isinstance(document.get(section), dict):
        raise UserError(f"{path}: section `{section}` is missing or not a mapping")
    return validate_values(path, document[section], model, section)


def validate_values(path: Path, values: Any, model: type[SectionType], within: str = "") -> SectionType:
    """Validate one mapping of the YAML file at `path`, found there under the key `within`, as `load_section` does."""
    if not isinstance(values, dict):
        raise UserError(f"{path}: found {str(values)[:80]!r}, expected a mapping of keys to values")
    try:
        # Strict: neither "3" nor true is a number. As JSON: a list may still become a tuple.
        return model.model_validate_json(json.dumps(values, default=str), strict=True)
    except ValidationError as error:
        lines = [_describe_error(problem, within, model) for problem in error.errors()]
        raise UserError(f"{path}: " + "\n".join(dict.fromkeys(lines))) from None


def _describe_error(problem: Any, within: str, model: type[Section]) -> str:
    path = [str(part) for part in problem["loc"]]
    key = ".".join([*filter(None, [within]), *path])
    if problem["type"] == "extra_forbidden":
        near = difflib.get_close_matches(path[-1], _valid_keys(model, path[:-1]), n=1, cutoff=0.0)
        hint = f"; did you mean `{near[0]}`?" if near else ""
        return f"unknown key `{key}`{hint}"
    if problem["type"] == "missing":
        return f"the key `{key}` is missing"
    return f"`{key}` is {problem['input']!r}: {problem['msg']}"


def _valid_keys(model: type[BaseModel], path: list[str]) -> list[str]:
    """The keys of the mapping at `path` within a section; empty if it is not a section itself."""
    for part in path:
        field = model.model_fields.get(part)
        if field is None or not isinstance(field.annotation, type) or not issubclass(field.annotation, BaseModel):
            return []
        model = field.annotation
    return list(model.model_fields)
