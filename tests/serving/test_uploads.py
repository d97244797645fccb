"""Bodies taken apart: any that a client means, and any that it does not."""

from __future__ import annotations

from contextlib import suppress

import pytest
from fastapi import HTTPException
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.service_process import build_multipart
from detector.serving.decoding import FORMATS, decode_upload
from detector.serving.uploads import Upload, extract_uploads
from tests.support.brightness import SIZE, picture

CONTENTS = st.lists(st.binary(min_size=1, max_size=200), min_size=1, max_size=5)
LIMIT = 100_000  # pixels
BOUNDARIES = ["", "; boundary=b0undary", "; boundary=", "; boundary=\x00"]
STARTS = {kind: picture(150, (40, 30), kind) for kind in FORMATS}


def refused(body: bytes, kind: str, most: int = 5) -> tuple[int, str]:
    with pytest.raises(HTTPException) as caught:
        extract_uploads(body, kind, most)
    return caught.value.status_code, caught.value.detail


@given(CONTENTS)
def test_a_form_comes_apart_as_it_was_put_together(contents: list[bytes]) -> None:
    found = extract_uploads(*build_multipart(*contents), limit=5)
    assert [upload.content for upload in found] == contents
    assert [upload.name for upload in found] == [f"{number}.jpg" for number in range(1, len(contents) + 1)]


@given(CONTENTS, st.data())
def test_a_form_that_was_cut_off_is_refused(contents: list[bytes], data: st.DataObject) -> None:
    body, kind = build_multipart(*contents)
    status, _ = refused(body[: data.draw(st.integers(0, len(body) - 5))], kind)
    assert status == 400


@given(st.binary(min_size=1, max_size=300), st.sampled_from(BOUNDARIES))
def test_anything_as_a_form_is_refused(body: bytes, boundary: str) -> None:
    assert refused(body, f"multipart/form-data{boundary}")[0] == 400


def test_other_fields_are_passed_over() -> None:
    body, kind = build_multipart(b"image")
    field = b'--b0undary\r\nContent-Disposition: form-data; name="note"\r\n\r\nhello\r\n'
    assert extract_uploads(field + body, kind, 1) == [Upload("1.jpg", b"image")]


@pytest.mark.parametrize(
    ("body", "kind", "status", "said"),
    [
        (b"", "image/jpeg", 400, "empty"),
        (b"", "multipart/form-data; boundary=b0undary", 400, "empty"),
        (*build_multipart(), 400, "no file"),
        (*build_multipart(b"a", b""), 400, "image 2 is empty"),
        (*build_multipart(*[b"a"] * 6), 413, "6 images"),
    ],
)
def test_what_is_wrong_is_said(body: bytes, kind: str, status: int, said: str) -> None:
    found = refused(body, kind)
    assert found[0] == status
    assert said in found[1]


@pytest.mark.filterwarnings("ignore")  # Pillow's, which the service ignores too
@settings(max_examples=250)
@given(
    st.sampled_from(FORMATS),
    st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), max_size=12),
    st.integers(0, 4000),
)
def test_mutated_images_are_decoded_or_refused(kind: str, changes: list[tuple[int, int]], end: int) -> None:
    """Bytes changed at random places, and the file cut."""
    mutated = bytearray(STARTS[kind])
    for place, value in changes:
        mutated[place % len(mutated)] = value
    with suppress(HTTPException):  # anything else fails the test
        seen = decode_upload(Upload("", bytes(mutated[: end or None])), 1, LIMIT, SIZE, (0, 0, 0))
        assert seen.letterboxed.pixels.shape == (*SIZE, 3)
        assert seen.width * seen.height <= LIMIT


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_is_known(kind: str) -> None:
    seen = decode_upload(Upload("a", picture(200, (30, 20), kind)), 1, LIMIT, SIZE, (0, 0, 0))
    assert (seen.width, seen.height, seen.name) == (30, 20, "a")


def test_formats_that_are_not_for_strangers() -> None:
    for kind in ("EPS", "PPM", "PCX"):
        with pytest.raises(HTTPException, match=r"image 7 .* not one of JPEG") as caught:
            decode_upload(Upload("", picture(9, kind=kind)), 7, LIMIT, SIZE, (0, 0, 0))
        assert caught.value.status_code == 415
