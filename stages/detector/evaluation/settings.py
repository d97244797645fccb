"""`evaluate:` of params.yaml."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from detector.core.params import Section


class EvaluateParams(Section):
    """`evaluate:` of params.yaml, where every key is explained."""

    split: Literal["train", "val", "test"]
    threshold_rule: str = Field(pattern=r"^(f1|cost|(precision|recall)>=(0?\.\d+|0|1|1\.0+))$")
    threshold_per_class: bool
    cost_ratio: float = Field(gt=0)
    bootstrap_samples: int = Field(ge=100, le=100_000)
    threads: int = Field(ge=0)
