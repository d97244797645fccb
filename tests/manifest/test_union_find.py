"""Union-find, against a plain search of the graph."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from detector.manifest.union_find import DisjointSets, linked_by_keys


def components(size: int, pairs: list[tuple[int, int]]) -> list[int]:
    """The smallest node that each node can be walked to from, slowly."""
    smallest = list(range(size))
    for _ in range(size):
        for first, second in pairs:
            smallest[first] = smallest[second] = min(smallest[first], smallest[second])
    return smallest


def test_empty() -> None:
    DisjointSets(0)


@given(
    st.integers(1, 12).flatmap(
        lambda n: st.tuples(st.just(n), st.lists(st.tuples(*[st.integers(0, n - 1)] * 2), max_size=20))
    )
)
def test_sets_are_the_components(graph: tuple[int, list[tuple[int, int]]]) -> None:
    size, pairs = graph
    sets = DisjointSets(size)
    for first, second in pairs:
        sets.join(first, second)
    assert [sets.root(index) for index in range(size)] == components(size, pairs)


def test_things_are_linked_by_the_keys_they_share() -> None:
    assert linked_by_keys([]) == []
    assert linked_by_keys([[], ["a"], ["b", 1], ["c"], [], ["a", 1]]) == [[0], [1, 2, 5], [3], [4]]
