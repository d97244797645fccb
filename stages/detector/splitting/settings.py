"""`split:` and `coco_convert:` of params.yaml."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from detector.core.params import Section


class Ratios(Section):
    """Fractions of the images."""

    train: float = Field(gt=0, lt=1)
    val: float = Field(gt=0, lt=1)
    test: float = Field(gt=0, lt=1)

    @model_validator(mode="after")
    def _sum_to_one(self) -> Ratios:
        total = self.train + self.val + self.test
        if abs(total - 1) > 1e-6:
            raise ValueError(f"the ratios sum to {total:g}, expected 1")
        return self

    def get(self, split: str) -> float:
        """The fraction of one split."""
        return float(getattr(self, split))


class SplitParams(Section):
    """`split:` of params.yaml, which documents every key."""

    strategy: Literal["stratified", "sequence", "random", "given"]
    ratios: Ratios
    seed: int


class CocoConvertParams(Section):
    """`coco_convert:` of params.yaml, which documents every key."""

    absent_states: list[str]
