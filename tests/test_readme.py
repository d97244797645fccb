"""What the README says is so: the parameter table, the files that it names, the code that it shows."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.support.bright_model import write_bright

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def parameter_rows(params: str) -> list[str]:
    """A Markdown row for each key of params.yaml: key, value, comment."""
    rows, section = [], ""
    for line in params.splitlines():
        if heading := re.fullmatch(r"(\w+):", line):
            section = heading[1]
        elif key := re.fullmatch(r"  (\w+): (.+?)(?:\s+# (.*))?", line):
            comment = (key[3] or "").replace("|", "\\|")
            rows.append(f"| `{section}.{key[1]}` | `{key[2]}` | {comment} |")
    return rows


def test_every_parameter_stands_in_the_table_with_its_value_and_comment() -> None:
    rows = parameter_rows((ROOT / "params.yaml").read_text(encoding="utf-8"))
    assert len(rows) > 30
    missing = [row for row in rows if row not in README]
    assert not missing, "put these rows into the README:\n" + "\n".join(missing)


def test_every_file_that_the_readme_names_is_there() -> None:
    made_by_the_pipeline = ("data/", "models/", "metrics/", "plots/")
    for link in re.findall(r"\]\((?!http|#)([^)]+)\)", README):
        assert (ROOT / link).exists(), link
    for path in re.findall(r"`((?:stages|tools|tests|benchmarks)/[\w/.]+)`", README):
        assert (ROOT / path).exists() or path.startswith(made_by_the_pipeline), path


@pytest.mark.parametrize("states", [0, 2])
def test_the_onnx_file_is_used_as_the_readme_says(states: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    (tmp_path / "models").mkdir()
    write_bright(tmp_path / "models/model.onnx", states=["whole", "broken"][:states])
    Image.new("RGB", (192, 100)).save(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    variables: dict[str, Any] = {}
    exec(code, variables)
    assert variables["boxes"].shape == (2, 4)
    assert variables["scale"] == 64 / 192
    assert list(variables["found"])[3:] == ["state", "state_score"][:states]
