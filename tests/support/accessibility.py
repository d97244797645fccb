"""What axe-core finds wrong with a page for people who see little, or nothing, or use no mouse."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from playwright.sync_api import Page

# Everything in light mode, and in dark mode the colors.
RUNS: tuple[tuple[Literal["light", "dark"], dict[str, Any]], ...] = (
    ("light", {}),
    ("dark", {"runOnly": ["color-contrast"]}),
)


def find_barriers(page: Page) -> list[str]:
    """Rule and element of each serious or critical finding; what can be expanded is expanded first."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    found = []
    for scheme, options in RUNS:
        page.emulate_media(color_scheme=scheme)
        result = axe.Axe().run(page, options={"resultTypes": ["violations"], **options})
        found += [
            f"{scheme}: {violation['id']}: {node['html'][:200]}"
            for violation in result.response["violations"]
            if violation["impact"] in ("serious", "critical")
            for node in violation["nodes"]
        ]
    return found
