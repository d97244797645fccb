"""Names of output files."""

from __future__ import annotations

from detector.inference.output_names import StemNames, name_folders


def test_names_without_suffix_are_given_out_once() -> None:
    stems = StemNames()
    given = ["a.jpg", "a.png", "a.jpg.png", "deep/a.jpg", "a", "a", "b.tar.gz"]
    assert [stems.choose(name) for name in given] == ["a", "a.png", "a.jpg", "deep/a", "a_2", "a_3", "b.tar"]


def test_folders_of_classes_are_different_and_harmless() -> None:
    names = ["bolt", "a/b", "a\\b", "..", "", "x" * 300, "ü (1)", " .bolt. ", "C:"]
    folders = name_folders(names)
    assert folders == ["bolt", "a_b", "a_b_2", "_", "__2", "x" * 100, "ü (1)", "bolt_2", "C_"]
