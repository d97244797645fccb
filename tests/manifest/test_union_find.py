"""Union-find, compared with a plain graph search."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from detector.manifest.union_find import DisjointSets, group_by_shared_keys


def components(size: int, pairs: list[tuple[int, int]]) -> list[int]:
    """The smallest node reachable from each node, computed by brute force."""
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
def test_sets_are_the_connected_components(graph: tuple[int, list[tuple[int, int]]]) -> None:
    size, pairs = graph
    sets = DisjointSets(size)
    for first, second in pairs:
        sets.union(first, second)
    assert [sets.find(index) for index in range(size)] == components(size, pairs)


def test_items_are_grouped_by_shared_keys() -> None:
    assert group_by_shared_keys([]) == []
    assert group_by_shared_keys([[], ["a"], ["b", 1], ["c"], [], ["a", 1]]) == [[0], [1, 2, 5], [3], [4]]
