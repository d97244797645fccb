"""Hostile values: numbers, text, file names, images and whole annotation files that something once stumbled over."""

from __future__ import annotations

import functools
import io
import random
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image


class Raw(str):
    """Text that goes into a JSON or YAML file as it is."""


DEEP = 100_000
NUMBERS: tuple[Any, ...] = (
    0, -1, 1, 2, 0.5, -0.0, 1e-320, 1e300, -1e300, 2**31, -(2**63), 2**64, True, False, 3.999, -0.01, 1.01,
    Raw("NaN"), Raw("Infinity"), Raw("-Infinity"), Raw("1e999"), Raw("9" * 5000), Raw("-" + "9" * 400), Raw("1e-999"),
    Raw("0." + "3" * 5000), Raw("01"), Raw("+1"), Raw("1."), Raw("0x10"), Raw("1_000"), Raw("nan"),
)  # fmt: skip
TEXTS = (
    "", " ", "0", "1", "-1", "1.5", "1,5", "1e3", "NaN", "inf", "null", "true", "no", "12:30", "1_000", "0x1F", "１２",
    "bolt", "nut", "Bolt", " bolt", "bolt ", "caf\u00e9", "cafe\u0301", "\u202egnp.exe", "a\x00b", "a\x07b", "a\nb",
    "a\r\nb", "a\u2028b", "a\u2029b", "a\x85b", "\x1b[2Jx", "\ud800", "\udcff", "\ufeffbolt", "=1+1", "+1", "-1+2",
    "@SUM(1)",
    "'x'", '"x"', "a,b", "a;b", "a\tb", "<b>&amp;</b>", "{}", "%s%n", "$HOME", "`touch pwned`", "$(touch pwned)",
    "x" * 300,
    "x" * 100_000, "\U0001f6b2", "train", "val", "sequence_1--frame_2", "sequence_--", "intact", "0_0",
)  # fmt: skip
PATHS = (
    "..", ".", "/", "//", "../outside.png", "../../../../etc/passwd", "/etc/passwd", "/dev/zero", "/dev/stdin",
    "/proc/self/mem",
    "/proc/self/maps", "C:\\images\\0.png", "\\\\server\\share\\0.png", "file:///etc/passwd", "http://localhost/0.png",
    "a%20b.png", "%2e%2e/0.png", "a/../0.png", "./0.png", "a//b.png", "0.png/", "0.png/.", "~/0.png", "con", "nul.png",
    "x" * 255 + ".png", "y/" * 3000 + "0.png", "0.png\x00.jpg", "0.png\n1.png", "caf\u00e9.png", "cafe\u0301.png",
    "a\u2028b.png", "\udcff.png", "=1+1.png", "-rf.png", "'0'.png", '"0".png', "shard-00000.tar/00000_000000.png",
    "shard-00000.tar/00000_999999.png", "shard-99999.tar/99999_000000.png", "shard-00000.tar", ".hidden.png", " .png",
)  # fmt: skip
FILE_NAMES: tuple[bytes, ...] = (
    b"new\nline.png", b"bell\x07.png", b"esc\x1b[2J.png", b"\xff\xfe.png", "a\u2028b.png".encode(),
    "cafe\u0301.png".encode(),
    "caf\u00e9.png".encode(), b"=1+1.png", b"-x.png", b"@a.png", b"+1.png", b"back\\slash.png", b"quote\".png",
    b"a'b.png",
    b"a,b.png", b"space .png", b"%2e%2e.png", b"x" * 240 + b".png", b"~.png", b".png", b"a.PNG", b"a.png.png", b"a.xml",
    b"a.json", b"a.txt", b"a.jsonl", b"captions_train2017.json", b"shard-00009.tar", b"shard-00009.idx",
    b"shard-1.jsonl",
    b"Thumbs.db", b".DS_Store", b"._0.png", b"README.md", b"a.png~", b"a.jpg.crdownload", b"notes", b"a.XML", b"a.JSON",
    b"classes.txt", b"a.yaml", b"data.yml", b"a.zip", b"\xe2\x80\xaeb.png",
)  # fmt: skip


def nested(random_: random.Random) -> Raw:
    """Brackets within brackets."""
    depth = random_.choice((60, 900, 1500, DEEP))
    opened, closed = random_.choice((("[", "]"), ('{"a":', "}")))
    return Raw(opened * depth + "0" + closed * depth)


def hostile(random_: random.Random) -> Any:
    """A value of any type."""
    kind = random_.randrange(9)
    if kind < 3:
        return random_.choice(NUMBERS)
    if kind < 5:
        return random_.choice(TEXTS)
    if kind == 5:
        return random_.choice(PATHS)
    if kind == 6:
        return nested(random_)
    return random_.choice((None, [], {}, [None], [1, 2], {"a": 1}, [[1]], {"id": 0, "name": "bolt"}, [0, 0, 1, 1, 1]))


@functools.cache
def picture(seed: int, width: int, height: int, suffix: str, mode: str = "RGB") -> bytes:
    """Noise as an image file: no two are near-duplicates."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return encode(Image.fromarray(pixels).convert(mode), suffix)


def encode(image: Image.Image, suffix: str, **options: Any) -> bytes:
    """The bytes of an image file with this suffix."""
    buffer = io.BytesIO()
    image.save(buffer, Image.registered_extensions()[suffix], **options)
    return buffer.getvalue()


def _patched_png(width: int, height: int, depth: int = 8, color: int = 2) -> bytes:
    """A PNG whose header promises so many pixels."""
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    chunk = b"IHDR" + header
    body = b"IDAT" + zlib.compress(b"\0" * 100_000)
    parts = [b"\x89PNG\r\n\x1a\n"]
    for data in (chunk, body, b"IEND"):
        parts.append(struct.pack(">I", len(data) - 4) + data + struct.pack(">I", zlib.crc32(data)))
    return b"".join(parts)


def _sample(mode: str = "RGB") -> Image.Image:
    return Image.open(io.BytesIO(picture(99, 32, 24, ".png"))).convert(mode)


def _gray16(brightest: int) -> bytes:
    values = np.random.default_rng(5).integers(0, brightest + 1, (24, 32)).astype(np.uint16)
    return encode(Image.fromarray(values), ".png")


def _with_orientation(value: int, suffix: str) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = value
    return encode(_sample(), suffix, exif=exif.tobytes())


def _frames(suffix: str) -> bytes:
    others = [Image.open(io.BytesIO(picture(seed, 32, 24, ".png"))) for seed in (97, 98)]
    return encode(_sample(), suffix, save_all=True, append_images=others)


_EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 32 24\n%%EndComments\n0 0 moveto showpage\n%%EOF\n"
PICTURES: dict[str, Callable[[], bytes]] = {
    "CMYK": lambda: encode(_sample("CMYK"), ".jpg"),
    "16 bits": lambda: _gray16(65535),
    "12 bits": lambda: _gray16(4095),
    "10 bits": lambda: _gray16(1023),
    "float": lambda: encode(Image.fromarray(np.random.default_rng(5).random((24, 32), np.float32)), ".tif"),
    "NaN pixels": lambda: encode(Image.fromarray(np.full((24, 32), np.nan, np.float32)), ".tif"),
    "palette": lambda: encode(_sample("P"), ".png"),
    "transparent palette": lambda: encode(_sample("P"), ".png", transparency=3),
    "gray and alpha": lambda: encode(_sample("LA"), ".png"),
    "transparent": lambda: encode(_sample("RGBA"), ".png"),
    "one bit": lambda: encode(_sample("1"), ".png"),
    "LAB": lambda: encode(_sample("LAB"), ".tif"),
    "animated GIF": lambda: _frames(".gif"),
    "animated PNG": lambda: _frames(".png"),
    "animated WebP": lambda: _frames(".webp"),
    "TIFF of pages": lambda: _frames(".tif"),
    "MPO": lambda: _frames(".mpo"),
    "1x1": lambda: encode(_sample().resize((1, 1)), ".png"),
    "1x3000": lambda: encode(_sample().resize((1, 3000)), ".png"),
    "turned": lambda: _with_orientation(6, ".jpg"),
    "turned PNG": lambda: _with_orientation(8, ".png"),
    "turned TIFF": lambda: _with_orientation(5, ".tif"),
    "invalid orientation": lambda: _with_orientation(77, ".jpg"),
    "broken EXIF": lambda: encode(_sample(), ".jpg", exif=b"Exif\0\0II*\0\xff\xff\xff\xff"),
    "progressive": lambda: encode(_sample(), ".jpg", progressive=True),
    "huge PNG": lambda: _patched_png(60_000, 60_000),
    "endless PNG": lambda: _patched_png(2**31 - 1, 2**31 - 1),
    "large PNG": lambda: _patched_png(12_000, 12_000),
    "large 16-bit PNG": lambda: _patched_png(13_000, 13_000, 16, 0),
    "no width": lambda: _patched_png(0, 10),
    "huge BMP": lambda: encode(_sample(), ".bmp")[:18] + struct.pack("<ii", 50_000, 50_000) + b"\0" * 60,
    "huge GIF": lambda: b"GIF89a" + struct.pack("<HH", 65535,
    65535) + b"\x80\0\0" + b"\0" * 6 + b",\0\0\0\0\xff\xff\xff\xff\0\x02\0;",
    "EPS": lambda: _EPS,
    "SVG": lambda: b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
    "ICO": lambda: encode(_sample(), ".ico"),
    "PCX": lambda: encode(_sample(), ".pcx"),
    "TGA": lambda: encode(_sample(), ".tga"),
    "PDF": lambda: b"%PDF-1.4\n1 0 obj<</Type/Catalog>>endobj\n%%EOF",
    "text": lambda: b"no image\n",
    "HTML": lambda: b"<html><title>404</title></html>",
    "ZIP": lambda: b"PK\x05\x06" + b"\0" * 18,
    "zeros": lambda: b"\0" * 1000,
    "large text": lambda: _with_text(),
    "PPM": lambda: encode(_sample(), ".ppm"),
    "PPM with a huge header": lambda: b"P6\n" + b"9" * 4000 + b" 1\n255\n\0\0\0",
}  # fmt: skip


def _with_text() -> bytes:
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("history", "x" * 3_000_000, zip=True)
    return encode(_sample(), ".png", pnginfo=info)


YAMLS = (
    "a: &a [x,x,x,x,x,x,x,x,x]\n{}", "names: &a [*a]\ntrain: images", "? [a]\n: b",
    "names: !!python/object/apply:os.system ['touch pwned']",
    "names: !!int 'zz'", "names: 2020-01-01", "%YAML 9.9\n---\nnames: [a]", "--- a\n--- b\n",
    "names: [a, a]\ntrain: .", "\t\tnames: x",
    "names: {0: a, 0: b}\ntrain: .", "names: {0: a, 0.0: b, '0': c}\ntrain: .", "names: {-1: a, 5: b}\ntrain: .",
    "names: " + "[" * 3000,
    "names: {9999999999999999999999: a}\ntrain: .", "names: [a]\ntrain: /", "names: [a]\ntrain: ..",
    "names: [a]\ntrain: ~/x",
    "<<: {names: [a]}\ntrain: .", "names: [a]\ntrain: .\npath: /", "names: [a]\ntrain: .\npath: ../..",
    "names: !!binary aGk=\ntrain: .",
    "names: [bolt, nut]\ntrain: .\nval: .\nkpt_shape: [17, 3]", "names: [bolt, nut]\ntrain: [., .]\nval: .", "- names",
    "null", "",
    "names: !!set {a, b}\ntrain: .", "names: 'a\\x07b'\ntrain: .", "names: [yes, no, 12:30, 1e3, ~]\ntrain: .",
    "names: " + "9" * 5000,
    "names: [bolt, nut]\ntrain: /dev/zero", "names: [bolt, nut]\ntrain: /proc/self/fd",
    "names: [bolt, nut]\ntrain: data.yaml",
)  # fmt: skip
_BOMB = "".join(
    f"{name}: &{name} [{','.join([f'*{other}'] * 9)}]\n" for other, name in zip("abcdefgh", "bcdefghi", strict=True)
)
YAML_BOMB = f"a: &a [x,x,x,x,x,x,x,x,x]\n{_BOMB}names: *i\ntrain: .\n"
_LAUGHS = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
XML_PROLOGS = (
    f'<!DOCTYPE annotation [<!ENTITY l0 "ha">{_LAUGHS}]>',
    '<!DOCTYPE annotation [<!ENTITY x SYSTEM "file:///etc/passwd">]>',
    '<!DOCTYPE annotation SYSTEM "http://localhost/a.dtd">', '<?xml version="1.0" encoding="utf-7"?>',
    '<?xml version="9"?>',
    '<?xml version="1.0" encoding="ebcdic"?>', '<?xml-stylesheet href="/etc/passwd"?>', "<!-- <object> -->", "\n\n",
    "x",
)  # fmt: skip
XML_BODIES = ("&l9;", "&x;", "<![CDATA[<object><name>bolt</name></object>]]>", "<a>" * DEEP + "</a>" * DEEP,
"<object/>",
              "<object" + " a='1'" * 2 + "/>", "<x:object xmlns:x='u'><x:name>bolt</x:name></x:object>",
              "<object><object/></object>",
              "<!-- <object/> -->", "<?php exit ?>", "\x00", "&#0;", "&#x1F;",
              "<size><width>1</width></size>")  # fmt: skip
