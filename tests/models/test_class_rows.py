"""Trained rows of a head are kept by name."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from detector.models.class_rows import NamedRows, TrainedRows, keep_named_rows, load_named_rows

NAMES = st.lists(st.sampled_from("abcdef"), unique=True, min_size=1)


def make(names: list[str], rows: NamedRows, offset: int) -> torch.Tensor:
    """A tensor of distinct values: [rows, 2]."""
    count = rows.groups * (len(names) + int(rows.background != "none")) * rows.values
    return torch.arange(count * 2, dtype=torch.float32).reshape(count, 2) + offset


@given(NAMES, NAMES, st.integers(1, 3), st.sampled_from(["none", "first", "last"]), st.integers(1, 4))
def test_each_row_comes_from_the_row_of_the_same_name(own_names, names, groups, background, values) -> None:  # type: ignore[no-untyped-def]
    rows = NamedRows(groups, background, values)
    own, trained = make(own_names, rows, 0), make(names, rows, 1000)
    result = keep_named_rows(own, own_names, trained, names, rows)
    assert torch.equal(own, make(own_names, rows, 0))  # not in place
    padding = [["<background>"], []] if background == "first" else [[], ["<background>"]]
    padding = [[], []] if background == "none" else padding
    own_order, order = (padding[0] + listed + padding[1] for listed in (own_names, names))
    for group in range(groups):
        for position, name in enumerate(own_order):
            for value in range(values):
                row = (group * len(own_order) + position) * values + value
                if name in order:
                    expected = trained[(group * len(order) + order.index(name)) * values + value]
                else:
                    expected = own[row]
                assert torch.equal(result[row], expected)


def test_rows_are_loaded_into_the_model() -> None:
    model = torch.nn.Linear(2, 3)
    before = model.weight.detach().clone()
    trained = TrainedRows(["x", "c", "a"], {"weight": torch.full((3, 2), 5.0), "bias": torch.tensor([1.0, 2.0, 3.0])})
    kept = load_named_rows(model, {"weight": NamedRows(), "bias": NamedRows()}, ["a", "b", "c"], trained)
    assert kept == ["a", "c"]
    assert model.bias.tolist()[0::2] == [3, 2]
    assert torch.equal(model.weight[1], before[1])
    assert model.weight[0].tolist() == [5, 5]
