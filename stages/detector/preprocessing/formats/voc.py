"""Reader of Pascal VOC: one XML file an image, text files for the splits.

    Annotations/000001.xml …
    ImageSets/Main/{train,val,test}.txt       optional; one name without extension a line
    JPEGImages/000001.jpg …                   links are fine

    <annotation>
      <filename>000001.jpg</filename>         when JPEGImages has it; otherwise the XML file's own name
      <object>
        <name>wheel</name>
        <difficult>0</difficult>              optional; 1: ignored in evaluation, as in VOC's own
        <state>intact</state><trust>0.9</trust>      optional, not part of VOC
        <bndbox><xmin>260</xmin><ymin>177</ymin><xmax>491</xmax><ymax>376</ymax></bndbox>
      </object>
    </annotation>

Boxes are taken as they stand. VOC counts pixels from 1 and includes the last one, so xmin - 1 would be
exact for its own files; but labelling tools (LabelImg and its kin) write edges counted from 0 into the
same elements, most converters read them so, and nothing in a file tells which it is. The raw values are
right for the tools' files and at most one pixel off for VOC's own.

trainval.txt counts as train unless train.txt and val.txt are both there; names in one of them keep it.
Lists of one class (aeroplane_train.txt) are ignored, and an image in no list has no given split.
Source: http://host.robots.ox.ac.uk/pascal/VOC/
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree  # expat fetches no external entities

from detector.core.errors import UserError
from detector.preprocessing.formats.fields import known_size, mismatch, parse_number
from detector.preprocessing.formats.files import IMAGE_SUFFIXES, dataset_path, is_file, read_text
from detector.preprocessing.raw_annotations import RawBox, RawImage


def read(folder: Path, notes: Counter[str]) -> Iterator[RawImage]:
    """Yield the images, sorted by the names of their XML files."""
    paths = sorted(folder.glob("Annotations/*.xml"))
    if not paths:
        raise UserError(f"{folder}: no Annotations/*.xml found, expected one for each image")
    splits = _splits(folder, {path.stem for path in paths})
    for path in paths:
        where = dataset_path(folder, path)
        root = _parse(where, path)
        boxes = tuple(
            _box(f"{where}: object {index}", element, notes)
            for index, element in enumerate(root.findall("object"), start=1)
        )
        image = _image_path(folder, path.stem, _text(root, "filename"))
        sides = [_text(root, f"size/{side}") for side in ("width", "height")]
        size = known_size(*(None if side is None else parse_number(f"{where}: size", side) for side in sides))
        yield RawImage(dataset_path(folder, image), where, boxes, split=splits.get(path.stem), size=size)


def _splits(folder: Path, annotated: set[str]) -> dict[str, str]:
    """The split of each listed name."""
    lists = {name: folder / "ImageSets/Main" / f"{name}.txt" for name in ("train", "val", "test")}
    lists = {name: path for name, path in lists.items() if path.exists()}
    found: dict[str, tuple[str, str]] = {}  # name → (split, where it is listed)
    for split, path in lists.items():
        for where, name in _listed(folder, path, annotated):
            if name in found:
                raise _in_two_lists(where, name, found[name][1])
            found[name] = split, where
    both = folder / "ImageSets/Main/trainval.txt"
    if both.exists() and not {"train", "val"} <= lists.keys():
        for where, name in _listed(folder, both, annotated):
            split, other = found.setdefault(name, ("train", where))
            if split == "test":
                raise _in_two_lists(where, name, other)
    return {name: split for name, (split, _) in found.items()}


def _in_two_lists(where: str, name: str, other: str) -> UserError:
    return mismatch(where, name, f"each image in one list, once; it also stands in {other}")


def _listed(folder: Path, path: Path, annotated: set[str]) -> Iterator[tuple[str, str]]:
    """The names of a list, each with its place."""
    for number, line in enumerate(read_text(folder, path).split("\n"), start=1):
        name, where = line.strip(), f"{dataset_path(folder, path)}:{number}"
        if name and name not in annotated:
            raise mismatch(where, name, f"a name with an annotation; Annotations/{name}.xml is missing")
        if name:
            yield where, name


def _parse(where: str, path: Path) -> ElementTree.Element:
    try:
        root = ElementTree.fromstring(path.read_bytes())
    except ElementTree.ParseError as error:
        problem = str(error).split(":")[0]
        raise UserError(f"{where}:{error.position[0]}: no valid XML in UTF-8: {problem}") from error
    except (LookupError, ValueError) as error:  # an encoding that Python or expat does not know
        raise UserError(f"{where}:1: cannot be read as XML: {error}") from error
    except OSError as error:
        raise UserError(f"{where}: cannot be read: {error.strerror}") from error
    if root.tag != "annotation":
        raise mismatch(where, f"<{root.tag}>", "<annotation> as the outermost element")
    return root


def _box(where: str, element: ElementTree.Element, notes: Counter[str]) -> RawBox:
    label = _required(where, element, "name")
    where = f"{where} ({label})"
    xmin, ymin, xmax, ymax = (
        parse_number(f"{where}: {tag}", _required(where, element, f"bndbox/{tag}"))
        for tag in ("xmin", "ymin", "xmax", "ymax")
    )
    difficult = _text(element, "difficult") or "0"
    if difficult not in ("0", "1"):
        raise mismatch(f"{where}: difficult", difficult, "0 or 1")
    trust = _text(element, "trust")
    if difficult == "1":
        notes["difficult boxes, ignored in evaluation"] += 1
    return RawBox(
        label=label,
        xyxy=(xmin, ymin, xmax, ymax),
        state=_text(element, "state"),
        trust=None if trust is None else parse_number(f"{where}: trust", trust),
        iscrowd=difficult == "1",
    )


def _image_path(folder: Path, stem: str, given: str | None) -> Path:
    images = folder / "JPEGImages"
    names = [] if given is None else [given]
    names += [stem + suffix for lower in IMAGE_SUFFIXES for suffix in (lower, lower.upper())]
    return next((images / name for name in names if is_file(images / name)), images / names[0])


def _text(element: ElementTree.Element, tag: str) -> str | None:
    return (element.findtext(tag) or "").strip() or None


def _required(where: str, element: ElementTree.Element, tag: str) -> str:
    value = _text(element, tag)
    if value is None:
        raise UserError(f"{where}: <{tag.replace('/', '><')}> is missing or empty")
    return value
