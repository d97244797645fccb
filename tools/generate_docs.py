"""Write the generated parts of docs/: parameters.md, and the table of metrics in evaluation.md.

    python tools/generate_docs.py        # the same as `make docs`

The types and bounds of parameters come from the typed sections next to the code that they configure, their values and
meanings from params.yaml; metrics come from detector/evaluation/metric_names.py. So nothing is written twice.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

from detector.core.errors import run_command
from detector.core.machine import MachineSettings
from detector.core.output_files import write_text
from detector.core.params import SECTIONS, Section, get_section_class
from detector.evaluation.metric_names import metrics_table

ROOT = Path(__file__).resolve().parents[1]
PARAMETERS = ROOT / "docs/parameters.md"
MACHINE_EXAMPLE = "docs/examples/machine.yaml"
EVALUATION = ROOT / "docs/evaluation.md"
MACHINE_HEAD = """## machine.yaml

Settings of one machine: how fast a stage runs, never what it writes, so no stage depends on them and a change reruns
nothing. Copy [examples/machine.yaml](examples/machine.yaml) to the repository's root, where git ignores it. Experiments
in temporary copies (`dvc exp run --temp`, `--queue`) read the file of the original repository.

| key | type | default | meaning |
| --- | --- | --- | --- |
"""
HEAD = """# Parameters

Every key of `params.yaml`, by section. `dvc exp run -S section.key=value` sets one for an experiment; an unknown key or
a wrong value, in any section, stops whichever stage runs first and names the nearest valid key. `auto` takes the value
of the model's recipe ([models.md](models.md)); the resolved values are printed and saved to `models/detector.json`.

DVC itself refuses a misspelled key, without the nearest name: `-S export.precison=int8` is "Could not override
'export.precison' … Key 'precison' is not in struct". `-S +export.precison=int8` and an edited file get as far as the
first stage that has to run, which answers "unknown key `export.precison`; did you mean `precision`?".

`make docs` writes this page from `params.yaml` and the typed sections in the code.
"""
READERS = {"postprocess": "evaluate, export"}  # every other section is read by the stage of its name
BOUNDS = {"minimum": "≥ {}", "exclusiveMinimum": "> {}", "maximum": "≤ {}", "exclusiveMaximum": "< {}"}
NAMES = {"integer": "int", "number": "float", "boolean": "bool", "string": "str", "null": "null"}


def main() -> None:
    argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0]).parse_args()  # `--help` writes nothing
    params, machine = ((ROOT / path).read_text(encoding="utf-8") for path in ("params.yaml", MACHINE_EXAMPLE))
    write_text(PARAMETERS, render_parameters(params, machine))
    write_text(EVALUATION, replace_table(EVALUATION.read_text(encoding="utf-8"), metrics_table()))


def render_parameters(params: str, machine: str) -> str:
    """docs/parameters.md for the texts of params.yaml and of docs/examples/machine.yaml."""
    written = read_comments(params)
    parts = [HEAD]
    for section in SECTIONS:
        model, stages = get_section_class(section), READERS.get(section, section.replace("_", "-"))
        parts.append(f"## {section}\n\nRead by {stages}; type: `{model.__module__}.{model.__name__}`.\n")
        parts.append("| key | type | value | meaning |\n| --- | --- | --- | --- |")
        parts += list_rows(
            model, f"{section}.", {key: said for (name, key), said in written.items() if name == section}
        )
        parts[-1] += "\n"
    defaults = read_comments("machine:\n" + re.sub("^(?=[a-z])", "  ", machine, flags=re.MULTILINE))
    rows = list_rows(MachineSettings, "", {key: said for (_, key), said in defaults.items()})
    return "\n".join([*parts, MACHINE_HEAD + "\n".join(rows) + "\n"])


def list_rows(model: type[Section], prefix: str, written: dict[str, tuple[str, str]]) -> list[str]:
    """The rows of a section's table; written: value and meaning by key."""
    schema = model.model_json_schema()
    rows = []
    for key, described in schema["properties"].items():
        value, meaning = written[key]
        cells = (f"`{prefix}{key}`", describe_type(described, schema.get("$defs", {})), f"`{value}`", meaning)
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return rows


def replace_table(page: str, table: str) -> str:
    """The page with `table` in place of its table with the same header line."""
    header = table.splitlines()[0]
    before, after = page.split(header + "\n")
    rest = after.splitlines(keepends=True)
    end = next(number for number, line in enumerate(rest) if not line.startswith("|"))
    return before + table + "\n" + "".join(rest[end:])


def read_comments(params: str) -> dict[tuple[str, str], tuple[str, str]]:
    """(section, key) -> (value, comment), as they are written in the file."""
    found, section, name = {}, "", ""
    for line in params.splitlines():
        if heading := re.fullmatch(r"(\w+):", line):
            section = heading[1]
        elif key := re.fullmatch(r"  (\w+): (.+?)(?:\s+# (.*))?", line):
            name = key[1]
            found[section, name] = (key[2].strip() or "null", key[3] or "")
        elif item := re.fullmatch(r"  - (.+)", line):  # of a list, whose key has no value on its own line
            before, meaning = found[section, name]
            found[section, name] = (f"{before[:-1]}, {item[1]}]" if before[0] == "[" else f"[{item[1]}]", meaning)
    return found


def describe_type(schema: dict[str, Any], definitions: dict[str, Any]) -> str:
    """A JSON schema in a few words, such as `auto`, int ≥ 0."""
    if "$ref" in schema:
        return describe_type(definitions[schema["$ref"].rsplit("/", 1)[-1]], definitions)
    if "anyOf" in schema:
        return ", ".join(describe_type(one, definitions) for one in schema["anyOf"])
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "prefixItems" in schema:
        return "[" + ", ".join(describe_type(one, definitions) for one in schema["prefixItems"]) + "]"
    if schema["type"] == "array":
        return f"list of {describe_type(schema['items'], definitions)}"
    if schema["type"] == "object":
        return "{" + ", ".join(f"{k}: {describe_type(v, definitions)}" for k, v in schema["properties"].items()) + "}"
    bounds = [text.format(f"{schema[key]:g}") for key, text in BOUNDS.items() if key in schema]
    if "multipleOf" in schema:
        bounds.append(f"multiple of {schema['multipleOf']}")
    return " ".join([NAMES[schema["type"]], ", ".join(bounds)]).strip()


if __name__ == "__main__":
    run_command(main)
