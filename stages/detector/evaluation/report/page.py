"""What the self-contained pages share: the report, and tools/compare.py's page."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jinja2

from detector.evaluation.report.metric_values import format_number
from detector.plotting.chart_process import bundle_library

FOLDER = Path(__file__).parent
# The scripts of every page.
SHARED_SCRIPTS = tuple(FOLDER / f"{name}.js" for name in ("data", "charts", "tables", "drawing", "curves"))


def render_page(template: Path, scripts: Iterable[Path], notes: Mapping[str, str], **values: Any) -> str:
    """A page that loads nothing: the template, which extends base.html, with its style and scripts.

    scripts: run after SHARED_SCRIPTS, in this order. notes: reasons for missing values, by their names.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([template.parent, FOLDER]),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.ChainableUndefined,
    )
    environment.filters["number"] = format_number
    environment.policies["json.dumps_kwargs"] = {"ensure_ascii": False, "separators": (",", ":"), "allow_nan": False}
    environment.globals["notes"] = notes
    return environment.get_template(template.name).render(
        style=(FOLDER / "style.css").read_text(encoding="utf-8"),
        library=bundle_library(),
        code="\n".join(path.read_text(encoding="utf-8") for path in (*SHARED_SCRIPTS, *scripts)),
        **values,
    )


def pack_json(value: Any) -> str:
    """JSON, gzipped and base64-encoded, deterministically. Raises ValueError for NaN and infinity."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()
