"""The table, and timing two actions alternately."""

from __future__ import annotations

import pytest

from benchmarks import table, timing


def test_an_empty_table_has_a_head() -> None:
    assert table.format_table([]).splitlines()[0].split(" | ")[0] == "| what"
    assert len(table.format_table([]).splitlines()) == 2


def test_the_table_is_aligned_markdown_with_verdicts() -> None:
    rows = [
        table.Row("short", "1", "2", "3", "4", True),
        table.Row("a longer one, 640×480", "1", "2", "3", "4", False),
        table.Row("no target", "", "", ""),
    ]
    lines = table.format_table(rows).splitlines()
    assert len({len(line) for line in lines}) == 1
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert {len(line) for line in cells} == {len(table.HEAD)}
    assert set("".join(cells[1])) == {"-"}
    assert [line[-1] for line in cells[2:]] == ["pass", "MISS", ""]


@pytest.mark.parametrize(("ratio", "passed"), [(1.7999, False), (1.8, True), (20.0, True)])
def test_ratios_are_checked_before_rounding(ratio: float, passed: bool) -> None:
    assert table.check_ratio(ratio, 1.8) == (f"{ratio:.2f} ×", "≥ 1.8 ×", passed)


@pytest.mark.parametrize(("value", "shown"), [(0.0331, "33 ms"), (0.5, "500 ms"), (1.234, "1.23 s")])
def test_format_seconds(value: float, shown: str) -> None:
    assert table.format_seconds(value) == shown


def test_format_rate() -> None:
    assert table.format_rate(3000, 1.5) == "2,000 images/s"


def test_the_ratio_is_the_median_of_the_pairs_ratios() -> None:
    times = timing.summarize_pairs([(1.0, 2.0), (2.0, 8.0), (4.0, 4.0)])
    assert times.ours == 2.0
    assert times.baseline == 4.0
    assert times.ratio == 2.0  # of 2, 4 and 1
    assert times.difference == -1.0  # of -1, -6 and 0


def test_pairs_alternate() -> None:
    calls: list[str] = []
    timing.time_pairs(lambda: calls.append("a"), lambda: calls.append("b"), pairs=2)
    assert calls == ["a", "b", "a", "b"]


def test_a_comparison_has_at_least_five_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "SPIN_SECONDS", 0)
    calls: list[str] = []
    timing.time_pairs_for(lambda: calls.append("ours"), lambda: calls.append("baseline"), budget=0)
    assert calls == ["ours", "baseline"] * 7  # two of them to warm up


def test_an_action_is_timed_after_spinning_threads_have_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    durations = iter([0.05, 0.04, 0.03, 0.02])
    clock = [0.0]

    def action() -> None:
        clock[0] += next(durations)

    monkeypatch.setattr(timing, "SPIN_SECONDS", 0.1)
    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock[0])
    assert timing.time_settled(action) == pytest.approx(0.02)
