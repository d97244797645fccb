"""What README and docs say is so: generated pages are current, named files exist, shown code runs."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

import generate_docs

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
TRACKED = subprocess.run(
    ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
    cwd=ROOT,
    check=True,
    capture_output=True,
    text=True,
).stdout.split("\n")
PAGES = [Path(name) for name in TRACKED if name.endswith(".md") and not name.startswith(".github")]


def test_the_parameters_page_is_current() -> None:
    written = generate_docs.read_comments((ROOT / "params.yaml").read_text(encoding="utf-8"))
    assert len(written) > 30
    assert [key for key, (_, meaning) in written.items() if not meaning] == [], "each key of params.yaml has a comment"
    texts = [(ROOT / path).read_text(encoding="utf-8") for path in ("params.yaml", "docs/examples/machine.yaml")]
    page = generate_docs.render_parameters(*texts)
    assert page == (ROOT / "docs/parameters.md").read_text(encoding="utf-8"), "run `make docs`"


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 170


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_every_file_that_a_page_names_exists(page: Path) -> None:
    text, folder = (ROOT / page).read_text(encoding="utf-8"), (ROOT / page).parent
    for link in re.findall(r"\]\((?!http|#)([^)#]+)(?:#[^)]*)?\)", text):
        assert (folder / link).exists(), link
    for path in re.findall(r"`(?:python )?((?:stages|tools|tests|benchmarks)/[\w/.]+)`", text):
        assert (ROOT / path).exists() or "my" in path, path


def test_every_file_in_the_tree_exists() -> None:
    (tree,) = re.findall(r"## What is where\n\n```\n(.*?)```", README, re.DOTALL)
    for name in re.findall(r"\b(\w+\.(?:py|yaml|lock|csv|md))\b", tree):
        assert (ROOT / name).exists() or any(path.endswith(f"/{name}") for path in TRACKED), name
