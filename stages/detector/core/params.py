"""Read one section of params.yaml, or other values that a file holds, into its typed, frozen model.

Whichever stage runs first checks all sections, so that a mistake in `export` costs a second and not a training. It
loads the other sections' classes by name: they decide whether a stage starts, not what it writes, so they are no
dependency of it in dvc.yaml, and a new key of `train` does not rerun preprocess.
"""

from __future__ import annotations

import difflib
import json
import pkgutil
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from detector.core.errors import UserError

MAX_PROBLEMS = 5  # named in one message
MAX_SHOWN = 80  # characters of a value


SECTIONS = {  # of params.yaml -> its class, whose module imports nothing but pydantic and core
    "preprocess": "detector.preprocessing.settings:PreprocessParams",
    "split": "detector.splitting.settings:SplitParams",
    "coco_convert": "detector.splitting.settings:CocoConvertParams",
    "train": "detector.training.settings:TrainParams",
    "evaluate": "detector.evaluation.settings:EvaluateParams",
    "postprocess": "detector.engine.settings:PostprocessParams",
    "export": "detector.exporting.settings:ExportParams",
}


class Section(BaseModel):
    """Base class of every section and of what other files hold: frozen; an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


SectionType = TypeVar("SectionType", bound=Section)


def load_section(path: Path, section: str, model: type[SectionType]) -> SectionType:
    """Read `section` of the YAML file at `path` and validate it against `model`, and the file's other sections too.

    Raises UserError naming the file and keys, the values found, what was expected and, for an unknown
    key, the nearest valid name.
    """
    from detector.core.yaml_files import read_yaml  # a deployed model has neither this file nor PyYAML

    document = read_yaml(path)
    if not isinstance(document, dict) or not isinstance(document.get(section), dict):
        hint = _suggest_section(section, document) if isinstance(document, dict) else ""
        raise UserError(f"{path}: section `{section}` is missing or not a mapping{hint}")
    others = _find_problems(path, document, section) if section in SECTIONS else []
    try:
        values = validate_values(path, document[section], model, section)
    except UserError as error:
        raise UserError("\n".join([str(error), *others])) from None
    if others:
        raise UserError("\n".join(others))
    return values


def get_section_class(section: str) -> type[Section]:
    """The class of a section of params.yaml."""
    found: type[Section] = pkgutil.resolve_name(SECTIONS[section])
    return found


def _find_problems(path: Path, document: dict[Any, Any], checked: str) -> list[str]:
    """The problems of all known sections but `checked`; one that is missing altogether is up to its own stage."""
    problems = []
    for section in SECTIONS:
        if section in document and section != checked:
            try:
                validate_values(path, document[section], get_section_class(section), section)
            except UserError as error:
                problems.append(str(error))
        elif hint := _suggest_section(section, document):
            problems.append(f"{path}: section `{section}` is missing{hint}")
    if conflict := pkgutil.resolve_name("detector.exporting.settings:find_conflict")(document):
        problems.append(f"{path}: {conflict}")
    return problems


def _suggest_section(section: str, document: dict[Any, Any]) -> str:
    """The unknown section that may be a misspelled `section`, if that is missing, as a clause of a message."""
    unknown = [str(key) for key in document if key not in SECTIONS]
    near = difflib.get_close_matches(section, unknown, n=1) if section not in document else []
    return f"; found `{near[0]}`: did you mean `{section}`?" if near else ""


def validate_values(path: Path, values: Any, model: type[SectionType], within: str = "") -> SectionType:
    """Validate one mapping of the file at `path`, found there under the key `within`, as `load_section` does."""
    if not isinstance(values, dict):
        place = f"section `{within}`: " if within else ""
        raise UserError(f"{path}: {place}found {_shorten(values)}, expected a mapping of keys to values")
    try:
        # Strict: neither "3" nor true is a number. As JSON: a list may still become a tuple.
        return model.model_validate_json(json.dumps(values, default=str), strict=True)
    except RecursionError:
        raise UserError(f"{path}: `{within}` is nested too deeply") from None
    except ValidationError as error:
        found = error.errors(include_url=False)
        problems = sorted(found, key=lambda problem: problem["type"] == "missing")  # perhaps of a misspelled key
        lines = list(dict.fromkeys(_describe_error(problem, within, model) for problem in problems[:MAX_PROBLEMS]))
        if len(problems) > MAX_PROBLEMS:
            lines.append(f"and {len(problems) - MAX_PROBLEMS:,} more")
        raise UserError(f"{path}: " + "\n".join(lines)) from None


def _describe_error(problem: Any, within: str, model: type[Section]) -> str:
    path = [str(part) for part in problem["loc"]]
    key = ".".join([*filter(None, [within]), *path])
    if problem["type"] == "extra_forbidden":
        near = difflib.get_close_matches(path[-1], _valid_keys(model, path[:-1]), n=1, cutoff=0.0)
        hint = f"; did you mean `{near[0]}`?" if near else ""
        return f"unknown key `{key}`{hint}"
    if problem["type"] == "missing":
        return f"the key `{key}` is missing"
    if problem["type"] == "json_invalid" or not key:
        return str(problem["msg"])[:500]
    return f"`{key}` is {_shorten(problem['input'])}: {problem['msg']}"


def _shorten(value: object) -> str:
    text = repr(value)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"


def _valid_keys(model: type[BaseModel], path: list[str]) -> list[str]:
    """The keys of the mapping at `path` within a section; empty if it is not a section itself."""
    for part in path:
        field = model.model_fields.get(part)
        if field is None or not isinstance(field.annotation, type) or not issubclass(field.annotation, BaseModel):
            return []
        model = field.annotation
    return list(model.model_fields)
