"""Mutations of a JSON document as text: other values and types, keys missing, new or doubled, damaged bytes."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from typing import Any

NESTED = "[" * 100_000 + "]" * 100_000
# As JSON text: what no writer of this project writes, or not there.
VALUES = (
    "null", "true", "false", "0", "1", "-1", "2", "31", "33", "64", "1e9", "1e308", "1e999", "-1e999", "NaN",
    "Infinity", "-Infinity", "0.5", "1.0", "-0.0", "1e-320", "9" * 30, "9" * 5000, '""', '"a"', '"1"', '"nan"',
    '"\\u0000"', '"\\ud800"', '"' + "x" * 5000 + '"', "[]", "[[]]", "[null]", "[1]", "[32, 32]", "[64, 64, 3]",
    "[0, 0, 0]", "[1e400, 1, 1]", "{}", '{"a": 1}', '{"a": null, "b": 0.5}', NESTED,
    '{"a":' * 2000 + "1" + "}" * 2000,
)  # fmt: skip
_MARK = "@@{}@@"


def mutate_json(document: dict[str, Any], rng: random.Random) -> str:
    """The document as JSON text with one to three changes; rarely with damaged bytes, as surrogates for bad UTF-8."""
    changed, texts = copy.deepcopy(document), list[str]()
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        places = list(_walk(changed))
        if places:
            _change(*rng.choice(places), texts, rng)
    text = json.dumps(changed, ensure_ascii=rng.random() < 0.5)
    for number, raw in enumerate(texts):
        text = text.replace(f'"{_MARK.format(number)}"', raw)
    return _damage(text, rng) if rng.random() < 0.15 else text


def _walk(value: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, (list, dict)):
        for key, item in list(value.items() if isinstance(value, dict) else enumerate(value)):
            yield value, key
            yield from _walk(item)


def _change(parent: Any, key: Any, texts: list[str], rng: random.Random) -> None:
    kind = rng.randrange(10)
    if kind < 5:
        texts.append(rng.choice(VALUES))
        parent[key] = _MARK.format(len(texts) - 1)
    elif kind == 5:
        del parent[key]
    elif kind == 6 and isinstance(parent, dict):
        texts.append(f'"{key}": 1, "{key}": {json.dumps(parent[key])}, "x"')  # twice the same key, and a new one
        parent[_MARK.format(len(texts) - 1)] = 0
    elif kind == 6:
        parent.insert(key, copy.deepcopy(parent[key]))
    elif kind == 7 and isinstance(parent[key], (int, float)):
        parent[key] = rng.choice(
            (-parent[key], parent[key] + 1, parent[key] * 1000, parent[key] + 0.5, str(parent[key]))
        )
    elif kind == 7:
        parent[key] = rng.choice((str(parent[key]), [parent[key]], {"a": parent[key]}))
    elif kind == 8:
        other = rng.choice(list(parent) if isinstance(parent, dict) else range(len(parent)))
        parent[key], parent[other] = parent[other], parent[key]
    elif isinstance(parent, dict):
        parent[rng.choice((f"{key}s", key.upper(), f" {key}", ""))] = parent.pop(key)
    else:
        parent.reverse()


def _damage(text: str, rng: random.Random) -> str:
    place = rng.randrange(len(text))
    return rng.choice(
        (
            text[:place],
            text[:place] + rng.choice(("\0", "\udcff", ",", '"', "}", "]", "\\", "/*", "\ufeff")) + text[place:],
            f"\ufeff{text}",
            text + text,
            "",
            NESTED,
        )
    )
