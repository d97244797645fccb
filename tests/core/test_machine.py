"""machine.yaml: optional, checked like a section of params.yaml, shared with experiments in temporary copies."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from detector.core import machine
from detector.core.errors import UserError
from detector.core.machine import MachineSettings, choose_workers, load_machine_settings

ROOT = Path(__file__).parents[2]
MACHINE = Path("machine.yaml")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    return tmp_path


def test_without_the_file_all_values_are_the_defaults() -> None:
    assert load_machine_settings(MACHINE) == MachineSettings()


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "workers: auto\n"])
def test_keys_that_are_left_out_have_their_defaults(text: str) -> None:
    MACHINE.write_text(text)
    assert load_machine_settings(MACHINE) == MachineSettings()


def test_the_example_holds_every_key_and_its_default() -> None:
    example = ROOT / "docs/examples/machine.yaml"
    assert list(yaml.safe_load(example.read_text(encoding="utf-8"))) == list(MachineSettings.model_fields)
    assert load_machine_settings(example) == MachineSettings()


def test_an_experiment_in_a_temporary_copy_reads_the_repositorys_file(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    MACHINE.write_text("workers: 3\n")
    monkeypatch.chdir(tmp_path_factory.mktemp("copy"))
    monkeypatch.setenv("DVC_ROOT", str(folder))
    assert load_machine_settings(MACHINE).workers == 3


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("worker: 3", ["machine.yaml", "`worker`", "`workers`"]),
        ("workers: -1", ["machine.yaml", "`workers.", "is -1: Input should be greater"]),
        ("workers: many", ["machine.yaml", "`workers.", "is 'many': Input should be 'auto'", "integer"]),
        ("loggers: [tensorbord]", ["machine.yaml", "`loggers.0` is 'tensorbord'", "tensorboard"]),
        ("memory_cache_gb: .inf", ["machine.yaml", "`memory_cache_gb`"]),
        ("- workers", ["machine.yaml", "mapping"]),
        ("workers: [", ["machine.yaml", "not valid YAML"]),
    ],
)
def test_mistakes_name_the_file_and_the_key(text: str, words: list[str]) -> None:
    MACHINE.write_text(text)
    with pytest.raises(UserError) as caught:
        load_machine_settings(MACHINE)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("cores", "processes", "expected"), [(1, 1, 0), (2, 1, 1), (6, 1, 5), (64, 1, 8), (16, 4, 3), (2, 4, 0)]
)
def test_loading_for_a_gpu_takes_the_cores_that_do_not_train(
    monkeypatch: pytest.MonkeyPatch, cores: int, processes: int, expected: int
) -> None:
    monkeypatch.setattr(machine, "count_cores", lambda: cores)
    assert choose_workers("auto", True, processes) == expected
    assert choose_workers("auto", False, processes) == 0
    assert choose_workers(3, True, processes) == choose_workers(3, False, processes) == 3


def test_only_cores_that_this_process_may_use_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0, 5, 7}, raising=False)
    assert machine.count_cores() == 3
