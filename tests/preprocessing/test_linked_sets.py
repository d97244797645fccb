"""Union-find with arrays, from several threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from detector.manifest.union_find import DisjointSets
from detector.preprocessing.linked_sets import LinkedSets

SIZE = 12
PAIRS = st.lists(st.tuples(st.integers(0, SIZE - 1), st.integers(0, SIZE - 1)))


@given(PAIRS)
def test_the_sets_are_those_of_one_pair_at_a_time(pairs: list[tuple[int, int]]) -> None:
    expected, sets = DisjointSets(SIZE), LinkedSets(SIZE)
    everything = np.arange(SIZE, dtype=np.int32)
    for start in range(0, len(pairs), 3):
        part = np.array(pairs[start : start + 3], np.int32)
        sets.union(part[:, 0], part[:, 1])
        for first, second in part.tolist():
            expected.union(first, second)
        assert sets.find(everything).tolist() == [expected.find(index) for index in range(SIZE)]
    assert len(sets.pairs) == SIZE - len({expected.find(index) for index in range(SIZE)})
    assert all(first < second for first, second in sets.pairs)


def test_no_members() -> None:
    sets = LinkedSets(0)
    assert sets.find(np.empty(0, np.int32)).tolist() == []
    assert sets.pairs == []


def test_threads_merge_the_same_sets() -> None:
    size = 20_000
    links = np.random.default_rng(0).integers(0, size, (15_000, 2)).astype(np.int32)
    expected = DisjointSets(size)
    for first, second in links.tolist():
        expected.union(first, second)
    sets = LinkedSets(size)

    def link(start: int) -> None:
        part = links[start : start + 50]
        sets.find(part.ravel())
        sets.union(part[:, 0], part[:, 1])

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(link, range(0, len(links), 50)))
    assert sets.find(np.arange(size, dtype=np.int32)).tolist() == [expected.find(index) for index in range(size)]
