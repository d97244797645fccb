"""Tar shards: missing files, lines that are missing, damaged indexes."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from archive import main
from detector.core.errors import UserError
from detector.preprocessing.findings import FindingKind, FindingLog
from detector.preprocessing.formats.archive import read_archive
from tests.support.preprocess_cases import build_line


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    """An archive of three images in one shard."""
    (tmp_path / "set").mkdir()
    for number in range(3):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / f"set/{number}.png")
    (tmp_path / "set/dataset.jsonl").write_text("\n".join(build_line(f"{number}.png") for number in range(3)))
    main([str(tmp_path / "set"), str(tmp_path / "packed")])
    return tmp_path / "packed"


def test_the_images_of_a_shard(packed: Path) -> None:
    log = FindingLog()
    assert [image.path for image in read_archive(packed, log)] == [
        f"shard-00000.tar/00000_00000{number}.png" for number in range(3)
    ]
    assert log.counts() == {}
    assert {Path(path).name for path in log.annotation_files} == {
        f"shard-00000.{kind}" for kind in ("tar", "idx", "jsonl")
    }


@pytest.mark.parametrize("suffix", ["tar", "idx", "jsonl"])
def test_a_missing_file_of_a_shard(packed: Path, suffix: str) -> None:
    (packed / f"shard-00000.{suffix}").unlink()
    with pytest.raises(UserError, match=rf"shard-00000\.{suffix}: missing.*dvc pull"):
        list(read_archive(packed, FindingLog()))


def test_images_without_a_line_are_reported(packed: Path) -> None:
    lines = (packed / "shard-00000.jsonl").read_text().splitlines(keepends=True)
    (packed / "shard-00000.jsonl").write_text(lines[0] + lines[2])
    log = FindingLog()
    assert len(list(read_archive(packed, log))) == 2
    assert [(finding.kind, finding.where, finding.details) for finding in log.listed] == [
        (FindingKind.UNUSED_MEMBER, "shard-00000.jsonl", "image 1")
    ]


def test_an_index_that_is_cut_short(packed: Path) -> None:
    index = packed / "shard-00000.idx"
    index.write_bytes(index.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"shard-00000\.idx is cut short"):
        list(read_archive(packed, FindingLog()))


def test_an_index_of_more_images_than_a_shard_can_have(packed: Path) -> None:
    with (packed / "shard-00000.idx").open("r+b") as file:
        file.truncate(300 << 20)
    with pytest.raises(UserError, match=r"shard-00000\.idx has 300 MB, expected at most"):
        list(read_archive(packed, FindingLog()))


def test_a_number_of_thousands_of_digits_names_no_image(packed: Path) -> None:
    lines = packed / "shard-00000.jsonl"
    lines.write_text(lines.read_text().replace("000001", "1" * 5_000))
    log = FindingLog()
    assert len(list(read_archive(packed, log))) == 3
    assert [finding.details for finding in log.listed] == ["image 1"]


def test_a_repeated_key_is_an_error(packed: Path) -> None:
    lines = packed / "shard-00000.jsonl"
    lines.write_text(lines.read_text().replace("{", '{"split":"train","split":"val",', 1))
    with pytest.raises(UserError, match=r'shard-00000\.jsonl:1.*"split" is repeated'):
        list(read_archive(packed, FindingLog()))
