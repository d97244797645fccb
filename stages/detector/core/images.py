"""Image decoding, one way for preprocess, training, evaluation, export, prediction and the service.

Only Pillow decodes and resizes: the bytes are the same on every machine, and a deployed model needs no torch.
JPEGs at least twice as large as needed are decoded at half size or less, about four times as fast as at full size.
Everything that is wrong with a file is one exception, `ImageError`.
"""

from __future__ import annotations

import io
import os
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Literal

from PIL import Image, PngImagePlugin, UnidentifiedImageError

from detector.core.errors import UserError
from detector.core.image_limits import (
    JPEG_FORMATS,
    MAX_DECODE_MEMORY,
    MAX_PROFILES,
    MAX_SCANS,
    count_profiles,
    count_scans,
    estimate_memory,
)
from detector.core.pixels import LetterboxedImage, fit_size, letterbox, to_rgb
from detector.core.tar_shards import read_image_bytes

# The formats that images are opened with, by Pillow's names. Pillow knows more, some with decoders that nobody
# maintains, and it starts another program for an EPS, whatever its file is called.
IMAGE_FORMATS = ("JPEG", "PNG", "BMP", "DIB", "GIF", "TIFF", "WEBP", "AVIF", "JPEG2000", "PPM")
IMAGE_SUFFIXES = frozenset((
    ".jpg", ".jpeg", ".jpe", ".jfif", ".pjpeg", ".pjp", ".mpo", ".png", ".apng", ".bmp", ".dib", ".gif", ".tif",
    ".tiff", ".webp", ".avif", ".jp2", ".j2k", ".jpf", ".jpx", ".ppm", ".pgm", ".pbm", ".pnm", ".pfm",
))  # fmt: skip
ORIENTATION_TAG = 0x0112
LARGE_MEMORY = 512 << 20  # bytes; larger images are decoded one at a time, whatever the number of threads
_UPRIGHT_TRANSPOSES = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# The filter of Pillow's warnings, which are about files that can be read nevertheless.
_ABOUT_PILLOW = ("ignore", None, Warning, re.compile(r"PIL\."), 0)

ImageProblem = Literal["missing", "unreadable", "empty", "not_an_image", "too_large", "truncated", "damaged"]


class _ProcessLock:
    """A lock of this process, which another process gets as one of its own."""

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        self.lock = threading.Lock()

    def __reduce__(self) -> tuple[type[_ProcessLock], tuple[()]]:
        return _ProcessLock, ()


_large_image = _ProcessLock()
if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_large_image.renew)  # a thread of the parent may hold the lock


class ImageError(UserError):
    """An image that cannot be used. problem: the kind of reason; reason: in plain words, without the file."""

    def __init__(self, reason: str, problem: ImageProblem = "damaged", path: Path | None = None) -> None:
        where = f"{path}: the image cannot be used: {reason}; replace or remove this file"
        super().__init__(where if path else reason)
        self.reason, self.problem = reason, problem


class OpenedImage:
    """An image whose header was read, and whose pixels were too unless it is a JPEG.

    width, height: pixels of the upright image. format, mode: Pillow's, of the file. orientation: EXIF, 1 to 8.
    info: Pillow's.
    """

    def __init__(
        self, image: Image.Image, data: bytes, path: Path | None, *, max_memory: int, max_pixels: int | None
    ) -> None:
        self._image, self._path, self._max_memory = image, path, max_memory
        self.format, self.mode = image.format or "", image.mode
        self._is_jpeg = self.format in JPEG_FORMATS
        self._scans = count_scans(data) if self._is_jpeg else 1
        if self._scans > MAX_SCANS:
            raise ImageError(f"a JPEG of {self._scans} scans, expected at most {MAX_SCANS}", "too_large")
        self._data = b"" if self._is_jpeg else data
        # A PNG's orientation may follow its pixels, and a TIFF is turned while it is loaded.
        self.orientation = read_orientation(image) if self._is_jpeg or self.format == "TIFF" else 1
        self._full_size = image.size
        if max_pixels is not None and image.width * image.height > max_pixels:
            raise ImageError(
                f"{image.width}x{image.height} pixels, expected at most {max_pixels:,} pixels", "too_large"
            )
        if not self._is_jpeg:
            with _take_turn(self._check_memory(image.size)):
                image.load()
        if self.format != "TIFF":
            self.orientation = read_orientation(image)
        turned = self.orientation >= 5 and self.format != "TIFF"  # Pillow gives a TIFF's upright size
        self.width, self.height = image.size[::-1] if turned else image.size
        self.has_transparency = image.has_transparency_data
        self.info = image.info

    @property
    def frames(self) -> int:
        """Pictures in the file, of which the first one is used; 1 for a JPEG."""
        return 1 if self._is_jpeg else _count_frames(self._data, self.format)

    @property
    def is_jpeg(self) -> bool:
        """Whether the file is a JPEG, with or without further pictures."""
        return self._is_jpeg

    def check_full_size(self) -> None:
        """Raise ImageError if there is too little memory to decode the image in full size."""
        self._check_memory(self._full_size)

    def decode(self, at_least: tuple[int, int] | None = None) -> Image.Image:
        """The upright image as RGB, once. at_least: width and height down to which a JPEG may be decoded smaller."""
        with _as_image_error(self._path):
            if self._is_jpeg and at_least is not None:
                self._image.draft(None, at_least[::-1] if self.orientation >= 5 else at_least)
            turn = None if self.format == "TIFF" else _UPRIGHT_TRANSPOSES.get(self.orientation)
            with _take_turn(self._check_memory(self._image.size if self._is_jpeg else self._full_size)):
                self._image.load()
                upright = to_rgb(self._image if turn is None else self._image.transpose(turn))
            upright.info = {}
            return upright

    def letterbox(self, size: tuple[int, int], fill: tuple[int, int, int]) -> LetterboxedImage:
        """Decode the image, once, and letterbox it as `letterbox` does."""
        fitted = fit_size(self.width, self.height, size[1], size[0])
        return letterbox(self.decode(at_least=fitted), size, fill, (self.width, self.height))

    def _check_memory(self, size: tuple[int, int]) -> int:
        """The bytes that decoding takes. Raises ImageError if they are too many."""
        memory = estimate_memory(self._image, size, self._full_size, is_turned=self.orientation > 1, scans=self._scans)
        if memory > self._max_memory:
            width, height = self._full_size
            raise ImageError(
                f"{width}x{height} pixels of mode {self.mode} take {memory >> 20:,} MB to decode, "
                f"expected at most {self._max_memory >> 20:,}",
                "too_large",
                self._path,
            )
        return memory


def _take_turn(memory: int) -> AbstractContextManager[Any]:
    """Let only one large image of a process be decoded or converted at a time."""
    return _large_image.lock if memory > LARGE_MEMORY else nullcontext()


def open_image(
    source: Path | bytes,
    *,
    formats: tuple[str, ...] = IMAGE_FORMATS,
    max_memory: int = MAX_DECODE_MEMORY,
    max_pixels: int | None = None,
    expected_size: tuple[int, int] | None = None,
) -> OpenedImage:
    """Open an image: a file, a shard member (see `tar_shards`) or the bytes of a file.

    formats: some of IMAGE_FORMATS. max_memory: bytes that decoding may take. max_pixels: None for any number.
    expected_size: width and height of the upright image that annotations are for, None for any. Raises ImageError for
    whatever is wrong.
    """
    _prepare_pillow()
    path = source if isinstance(source, Path) else None
    data = read_image(source) if isinstance(source, Path) else source
    with _as_image_error(path):
        if not data:
            raise ImageError("the file is empty", "empty")
        if (profiles := count_profiles(data)) > MAX_PROFILES:
            raise ImageError(f"a PNG with {profiles} color profiles, expected one", "too_large")
        image = Image.open(io.BytesIO(data), formats=formats)
        opened = OpenedImage(image, data, path, max_memory=max_memory, max_pixels=max_pixels)
        if expected_size is not None and expected_size != (opened.width, opened.height):
            expected = f"{expected_size[0]}x{expected_size[1]}"
            raise ImageError(f"it has {opened.width}x{opened.height} pixels, but its annotations are for {expected}")
        return opened


def _prepare_pillow() -> None:
    """Before every image, since a worker of a cluster gets the functions alone, without what is run at import."""
    Image.MAX_IMAGE_PIXELS = None  # `estimate_memory` decides, for every mode
    # Pillow refuses a whole PNG for more than 1 MB of text or color profile. Images generated with their workflow, and
    # those of scanners, have more.
    PngImagePlugin.MAX_TEXT_CHUNK, PngImagePlugin.MAX_TEXT_MEMORY = 16 << 20, 64 << 20  # bytes of one and of all
    if _ABOUT_PILLOW not in warnings.filters:
        warnings.filterwarnings("ignore", module=_ABOUT_PILLOW[3].pattern)


def read_image(path: Path) -> bytes:
    """The bytes of an image file or shard member. Raises ImageError if they cannot be read."""
    try:
        return read_image_bytes(path)
    except (FileNotFoundError, ValueError):  # ValueError: a name that no file can have
        raise ImageError("no such file", "missing", path) from None
    except OSError as error:
        raise ImageError(error.strerror or str(error), "unreadable", path) from None


def load_rgb(
    path: Path, at_least: tuple[int, int] | None = None, expected_size: tuple[int, int] | None = None
) -> Image.Image:
    """The upright image at `path` as RGB; see `OpenedImage.decode` and `open_image`. Raises ImageError."""
    return open_image(path, expected_size=expected_size).decode(at_least)


def load_letterboxed(
    path: Path, size: tuple[int, int], fill: tuple[int, int, int], expected_size: tuple[int, int] | None = None
) -> LetterboxedImage:
    """Decode the image at `path` and letterbox it as `letterbox` does; see `open_image`. Raises ImageError."""
    return open_image(path, expected_size=expected_size).letterbox(size, fill)


def read_orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 if it is missing or invalid. A PNG is to be loaded before: this would load it."""
    try:
        # A TIFF's getexif would keep what it read until an error, and loading would not see that.
        tags: Any = image.tag_v2 if image.format == "TIFF" else image.getexif()  # type: ignore[attr-defined]
        value = tags.get(ORIENTATION_TAG)
    except Exception:  # broken EXIF raises almost anything, and the pixels may be fine
        return 1
    return int(value) if value in _UPRIGHT_TRANSPOSES else 1


def _count_frames(data: bytes, format: str) -> int:
    """Counted in a second copy, since a damaged later picture may spoil the first."""
    try:
        with Image.open(io.BytesIO(data), formats=(format,)) as image:
            return int(getattr(image, "n_frames", 1))
    except Exception:  # as above
        return 1


@contextmanager
def _as_image_error(path: Path | None) -> Iterator[None]:
    """Report what Pillow raises, which is almost anything for a broken file, as ImageError."""
    try:
        yield
    except ImageError as error:
        raise ImageError(error.reason, error.problem, path) from None
    except UnidentifiedImageError:
        raise ImageError("not an image in one of the accepted formats", "not_an_image", path) from None
    except MemoryError:
        raise ImageError("not enough memory", "unreadable", path) from None
    except Exception as error:
        reason = str(error) or type(error).__name__
        is_truncated = "truncated" in reason.lower()
        raise ImageError(reason, "truncated" if is_truncated else "damaged", path) from None
