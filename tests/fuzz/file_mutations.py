"""Mutations of files: damaged bytes, other encodings, other kinds of images, and what is no file."""

from __future__ import annotations

import os
import random
import re
import socket
from collections.abc import Callable
from pathlib import Path

from tests.fuzz.datasets import FuzzDataset
from tests.fuzz.values import FILE_NAMES, PICTURES, picture

_IMAGE = re.compile(rb"\.(png|jpg|bmp|webp)$")


def mutate_file(dataset: FuzzDataset, rng: random.Random) -> None:
    """Change, add or remove one file."""
    if not dataset.files:
        return
    path = rng.choice(sorted(dataset.files))
    if rng.random() < 0.4:  # there may be far more images than annotation files, or far fewer
        wanted = bool(rng.getrandbits(1))
        path = rng.choice([name for name in sorted(dataset.files) if bool(_IMAGE.search(name)) == wanted] or [path])
    is_image = _IMAGE.search(path) is not None
    dataset.touch(path.decode() if is_image and dataset.format != "archive" else None)
    shard = path.startswith(b"shard-") and not path.endswith(b".jsonl")
    changes = (
        *_CHANGES,
        *(_IMAGE_CHANGES * 6 if is_image else _TEXT_CHANGES * 2),
        *(_SHARD_CHANGES * 6 if shard else ()),
    )
    change = rng.choice(changes)
    details = change(dataset, path, rng)
    dataset.story.append(f"{os.fsdecode(path)}: {change.__name__.strip('_')}: {details}")


def _slice(data: bytes, rng: random.Random) -> slice:
    start = rng.randrange(len(data) + 1)
    return slice(start, min(len(data), start + rng.choice((1, 1, 2, 8, 64, 1024))))


def _flip_bits(dataset: FuzzDataset, path: bytes, rng: random.Random) -> str:
    data = bytearray(dataset.files[path])
    for _ in range(rng.choice((1, 1, 1, 2, 5, 50)) if data else 0):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    dataset.files[path] = bytes(data)
    return ""


def _delete_bytes(dataset: FuzzDataset, path: bytes, rng: random.Random) -> str:
    data = dataset.files[path]
    part = _slice(data, rng)
    dataset.files[path] = data[: part.start] + data[part.stop :]
    return f"{part.start}:{part.stop}"


def _insert_bytes(dataset: FuzzDataset, path: bytes, rng: random.Random) -> str:
    data, start = dataset.files[path], rng.randrange(len(dataset.files[path]) + 1)
    new = rng.choice(
        (
            b"\0",
            b"\xff",
            b"\n",
            b"\r",
            b",",
            b"{",
            b"}",
            b"[",
            b"]",
            b"<",
            b">",
            b'"',
            b"\xe2\x80\xa8",
            rng.randbytes(50),
        )
    )
    dataset.files[path] = data[:start] + new + data[start:]
    return f"{new[:20]!r} at {start}"


def _double_bytes(dataset: FuzzDataset, path: bytes, rng: random.Random) -> str:
    data = dataset.files[path]
    part = _slice(data, rng)
    dataset.files[path] = data[: part.stop] + data[part] + data[part.stop :]
    return f"{part.start}:{part.stop}"


def _truncate(dataset: FuzzDataset, path: bytes, rng: random.Random) -> str:
    data = dataset.files[path]
    length = rng.choice((0, len(data) // 2, max(0, len(data) - 1), rng.randrange(len(data) + 1)))
    dataset.files[path] = data[:length]
    return f"to {length} of {len(data)}"


def _concatenate(dataset: FuzzDataset, path: bytes, rng: random.Random) -> str:
    other = rng.choice(sorted(dataset.files))
    dataset.files[path] += dataset.files[other]
    return f"with {os.fsdecode(other)}"


def _exchange(dataset: FuzzDataset, path: bytes, rng: random.Random) -> str:
    """The content of another file."""
    other = rng.choice(sorted(dataset.files))
    dataset.touched = None
    dataset.files[path] = dataset.files[other]
    return f"content of {os.fsdecode(other)}"


def _remove(dataset: FuzzDataset, path: bytes, rng: random.Random) -> str:
    del dataset.files[path]
    return ""


def _rename(dataset: FuzzDataset, path: bytes, rng: random.Random) -> str:
    folder, _, name = path.rpartition(b"/")
    names = (
        name.upper(),
        name.lower() + b"x",
        name.rpartition(b".")[0],
        b"." + name,
        b"._" + name,
        rng.choice(FILE_NAMES),
    )
    new = b"/".join([*filter(None, [folder]), rng.choice(names)])
    dataset.touched = None
    dataset.files[new] = dataset.files.pop(path)
    return repr(new)


def _copy(dataset: FuzzDataset, path: bytes, rng: random.Random) -> str:
    """The same content once more, under another name or suffix or in another folder."""
    folder, _, name = path.rpartition(b"/")
    stem = name.rpartition(b".")[0]
    names = [
        stem + b"." + new
        for new in (b"png", b"jpg", b"PNG", b"jpeg", b"xml", b"XML", b"json", b"jsonl", b"txt", b"tar")
    ]
    names += [
        b"copy/" + name,
        b".ipynb_checkpoints/" + name,
        b"__MACOSX/._" + name,
        b"a/b/c/d/" + name,
        rng.choice(FILE_NAMES),
    ]
    new = b"/".join([*filter(None, [folder]), rng.choice(names)])
    if new not in dataset.files:
        dataset.files[new] = dataset.files[path]
    dataset.touched = None  # of two files that could be meant, either may be taken
    return repr(new)


def _add(dataset: FuzzDataset, path: bytes, rng: random.Random) -> str:
    """A file that nothing names."""
    new = path.rpartition(b"/")[0] + b"/" + rng.choice(FILE_NAMES)
    data = rng.choice(
        (b"", b"junk", picture(50, 20, 20, ".png"), rng.randbytes(40), b"[]", b"{}", b"<annotation/>", b"1 2 3\n")
    )
    dataset.files.setdefault(new.lstrip(b"/"), data)
    dataset.touched = None
    return f"{new!r} of {len(data)} bytes"


_KINDS: dict[str, Callable[[Path], None]] = {
    "folder": lambda path: path.mkdir(),
    "folder with a file": lambda path: _make_folder(path),
    "pipe": lambda path: os.mkfifo(path),
    "socket": lambda path: _bind(path),
    "link to itself": lambda path: path.symlink_to(path.name),
    "link to nowhere": lambda path: path.symlink_to("nowhere"),
    "link to /dev/zero": lambda path: path.symlink_to("/dev/zero"),
    "link to /dev/tty": lambda path: path.symlink_to("/dev/tty"),
    "link to /proc/self/mem": lambda path: path.symlink_to("/proc/self/mem"),
    "link to its folder": lambda path: path.symlink_to("."),
    "link to the root": lambda path: path.symlink_to("/nothing/.."),
    "link to a folder": lambda path: path.symlink_to(path.parent),
    "huge hole": lambda path: _make_hole(path, 1 << 40),
    "large hole": lambda path: _make_hole(path, 300 << 20),
}


def _make_folder(path: Path) -> None:
    path.mkdir()
    (path / "0.png").write_bytes(picture(51, 20, 20, ".png"))


def _make_hole(path: Path, size: int) -> None:
    with path.open("wb") as file:
        file.truncate(size)


def _bind(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # the name of a socket may have 100 bytes only
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.fsencode(path.name))
    os.chdir(here)


def _make_special(dataset: FuzzDataset, path: bytes, rng: random.Random) -> str:
    """Something that is no file, in the place of the file or beside it."""
    kind = rng.choice(sorted(_KINDS))
    if rng.random() < 0.6:
        dataset.files.pop(path)
    else:
        path = (
            path.rpartition(b"/")[0]
            + b"/"
            + rng.choice((b"extra", b"extra.png", b"extra.json", b"extra.xml", b"extra.txt"))
        )

    def create(folder: Path) -> None:
        place = Path(os.fsdecode(os.path.join(os.fsencode(folder), path.lstrip(b"/"))))  # noqa: PTH118
        place.parent.mkdir(parents=True, exist_ok=True)
        if not os.path.lexists(place):
            _KINDS[kind](place)

    dataset.specials.append(create)
    dataset.touched = None
    return f"{kind} as {os.fsdecode(path)}"


def _replace_picture(dataset: FuzzDataset, path: bytes, rng: random.Random) -> str:
    kind = rng.choice(sorted(PICTURES))
    dataset.files[path] = PICTURES[kind]()
    return kind


def _reencode(dataset: FuzzDataset, path: bytes, rng: random.Random) -> str:
    encoding = rng.choice(("utf-16", "utf-16-le", "utf-32", "latin-1", "utf-7", "cp1252", "shift_jis"))
    dataset.touched = None
    text = dataset.files[path].decode("utf-8", "replace")
    dataset.files[path] = (text + rng.choice(("", "é"))).encode(encoding, "replace")
    return encoding


def _change_text(dataset: FuzzDataset, path: bytes, rng: random.Random) -> str:
    """One of the slips of people who edit text by hand."""
    old, new = rng.choice(_SLIPS)
    dataset.files[path] = dataset.files[path].replace(old, new, rng.choice((1, -1)))
    return f"{old!r} -> {new[:20]!r}"


def _change_index(dataset: FuzzDataset, path: bytes, rng: random.Random) -> str:
    """Offsets and sizes that do not fit, or a shard without some of its bytes."""
    index = path.rpartition(b".")[0] + b".idx"
    lines = dataset.files.get(index, b"").split(b"\n")
    number = rng.randrange(len(lines))
    offset, _, size = lines[number].partition(b" ")
    values = (
        b"0" * 14,
        b"9" * 14,
        b"-" + b"9" * 13,
        b"x" * 14,
        b" " * 14,
        b"00000000000512",
        b"1e12".rjust(14),
        b"\0" * 14,
        offset,
    )
    sizes = (b"0" * 12, b"9" * 12, b"-" + b"9" * 11, b"x" * 12, b"000000000001", size, b"0" * 10)
    choice = rng.randrange(4)
    if choice < 2:
        lines[number] = rng.choice(values) + b" " + rng.choice(sizes)
    elif choice == 2:
        lines.insert(number, lines[rng.randrange(len(lines))])
    else:
        del lines[number]
    dataset.files[index] = b"\n".join(lines)
    return f"line {number}: change {choice}"


def _drop_line(dataset: FuzzDataset, path: bytes, rng: random.Random) -> str:
    """Labels one line short or one too many."""
    labels = path.rpartition(b".")[0] + b".jsonl"
    lines = dataset.files.get(labels, b"").splitlines(keepends=True)
    if lines and rng.random() < 0.5:
        del lines[rng.randrange(len(lines))]
    elif lines:
        lines.append(rng.choice(lines))
    dataset.files[labels] = b"".join(lines)
    return f"{len(lines)} left"


_SLIPS = (
    (b"\n", b"\r"), (b"\n", b""), (b"\n", b"\0\n"), (b"}", b",}"), (b"]", b",]"), (b'"', b"'"), (b":", b"="),
    (b", ", b"; "), (b"true", b"True"), (b".", b","), (b" ", b"\xc2\xa0"), (b"1", b"\xef\xbc\x91"), (b"{", b"{/**/"),
    (b"[", b"[//\n"), (b"1", b"1" * 5000), (b"<", b"&lt;"), (b"</name>", b""),
)  # fmt: skip
_BYTES = (_flip_bits, _flip_bits, _delete_bytes, _insert_bytes, _double_bytes, _truncate)
_CHANGES = (*_BYTES, *_BYTES, _concatenate, _exchange, _remove, _rename, _copy, _copy, _add, _add, *[_make_special] * 4)
_IMAGE_CHANGES = (_replace_picture, _replace_picture)
_TEXT_CHANGES = (_reencode, _change_text, _change_text)
_SHARD_CHANGES = (_change_index, _drop_line)
