"""Write documents as JSON, YAML, XML or lines, with raw text where a document has it."""

from __future__ import annotations

import json
import re
from pathlib import PurePosixPath
from typing import Any
from xml.etree import ElementTree

import yaml

from tests.fuzz.values import Raw

_RAW = re.compile(r'"zzraw(\d+)zz"|zzraw(\d+)zz|"zzkey(\d+)zz": null|zzkey(\d+)zz: null')


def encode_document(path: str, document: Any, **options: Any) -> bytes:
    """The bytes of an annotation file."""
    if isinstance(document, Raw):
        return to_bytes(document)
    suffix = PurePosixPath(path).suffix
    if suffix == ".xml":
        return to_bytes(ElementTree.tostring(document, encoding="unicode"))
    if suffix == ".txt":
        return to_bytes("".join(f"{line}\n" for line in document))
    if suffix == ".jsonl":
        return b"".join(_encode_json(line, **options) + b"\n" for line in document)
    if suffix == ".json":
        return _encode_json(document, **options)
    raws: list[Raw] = []
    return to_bytes(_insert(yaml.safe_dump(_hide(document, raws), sort_keys=False, allow_unicode=True), raws))


def to_bytes(text: str) -> bytes:
    """UTF-8; a lone surrogate becomes bytes that are no UTF-8."""
    return text.encode("utf-8", "surrogatepass")


def _encode_json(value: Any, **options: Any) -> bytes:
    raws: list[Raw] = []
    return to_bytes(_insert(json.dumps(_hide(value, raws), **{"ensure_ascii": False, **options}), raws))


def _hide(value: Any, raws: list[Raw]) -> Any:
    """The value with each Raw replaced by a name, which `_insert` finds again."""
    if isinstance(value, Raw):
        raws.append(value)
        return f"zzraw{len(raws) - 1}zz"
    if isinstance(value, list):
        return [_hide(item, raws) for item in value]
    if not isinstance(value, dict):
        return value
    pairs: dict[Any, Any] = {}
    for key, item in value.items():
        if isinstance(key, Raw):
            raws.append(key)
            pairs[f"zzkey{len(raws) - 1}zz"] = None
        else:
            pairs[key] = _hide(item, raws)
    return pairs


def _insert(text: str, raws: list[Raw]) -> str:
    return _RAW.sub(lambda match: raws[int(next(filter(None, match.groups())))], text)
