"""Reader for Pascal VOC: one XML file per image, one text file per split.

    Annotations/000001.xml …
    ImageSets/Main/{train,val,test}.txt       optional; one name without extension per line
    JPEGImages/000001.jpg …                   files or links

    <annotation>
      <filename>000001.jpg</filename>         if JPEGImages has it; otherwise the name of the XML file
      <object>
        <name>wheel</name>
        <difficult>0</difficult>              optional; 1: ignored in evaluation, as VOC does
        <state>intact</state><trust>0.9</trust>      optional, not part of VOC
        <bndbox><xmin>260</xmin><ymin>177</ymin><xmax>491</xmax><ymax>376</ymax></bndbox>
      </object>
    </annotation>

Box coordinates are read unchanged. VOC counts pixels from 1 and includes the last one, so xmin - 1 would be
exact for its own files. But labeling tools such as LabelImg count from 0, most converters expect that, and a
file does not say which convention it follows. The raw values are exact for the tools' files and at most one
pixel off for VOC's own.

Images in trainval.txt belong to train, unless train.txt or val.txt lists them or both files exist.
Lists of one class (aeroplane_train.txt) are ignored; an image in no list has no predefined split.
Source: http://host.robots.ox.ac.uk/pascal/VOC/
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree  # expat fetches no external entities

from detector.core.errors import UserError
from detector.preprocessing.findings import FindingKind, FindingLog
from detector.preprocessing.formats.fields import build_mismatch_error, parse_image_size, parse_number
from detector.preprocessing.formats.files import IMAGE_SUFFIXES, is_file, make_dataset_relative, read_text_file
from detector.preprocessing.raw_annotations import RawBox, RawImage


def read_voc(folder: Path, log: FindingLog) -> Iterator[RawImage]:
    """Yield the images, sorted by the names of their XML files."""
    paths = sorted(folder.glob("Annotations/*.xml"))
    if not paths:
        raise UserError(f"{folder}: found no Annotations/*.xml, expected one per image")
    splits = _read_splits(folder, {path.stem for path in paths})
    for path in paths:
        where = make_dataset_relative(folder, path)
        root = _parse_xml(where, path)
        boxes = tuple(
            _parse_box(f"{where}: object {index}", element, log)
            for index, element in enumerate(root.findall("object"), start=1)
        )
        image = _find_image_path(folder, path.stem, _read_text(root, "filename"))
        sides = [_read_text(root, f"size/{side}") for side in ("width", "height")]
        size = parse_image_size(*(None if side is None else parse_number(f"{where}: size", side) for side in sides))
        yield RawImage(make_dataset_relative(folder, image), where, boxes, split=splits.get(path.stem), size=size)


def _read_splits(folder: Path, annotated: set[str]) -> dict[str, str]:
    """The split of each name in a list."""
    lists = {name: folder / "ImageSets/Main" / f"{name}.txt" for name in ("train", "val", "test")}
    lists = {name: path for name, path in lists.items() if path.exists()}
    found: dict[str, tuple[str, str]] = {}  # name → (split, place in the list)
    for split, path in lists.items():
        for where, name in _read_list(folder, path, annotated):
            if name in found:
                raise _build_repetition_error(where, name, found[name][1])
            found[name] = split, where
    both = folder / "ImageSets/Main/trainval.txt"
    if both.exists() and not {"train", "val"} <= lists.keys():
        for where, name in _read_list(folder, both, annotated):
            split, other = found.setdefault(name, ("train", where))
            if split == "test":
                raise _build_repetition_error(where, name, other)
    return {name: split for name, (split, _) in found.items()}


def _build_repetition_error(where: str, name: str, other: str) -> UserError:
    return build_mismatch_error(where, name, f"each image once in one list; it is already listed in {other}")


def _read_list(folder: Path, path: Path, annotated: set[str]) -> Iterator[tuple[str, str]]:
    """Yield (place, name) of a list."""
    for number, line in enumerate(read_text_file(folder, path).split("\n"), start=1):
        name, where = line.strip(), f"{make_dataset_relative(folder, path)}:{number}"
        if name and name not in annotated:
            raise build_mismatch_error(where, name, f"an annotated image; Annotations/{name}.xml is missing")
        if name:
            yield where, name


def _parse_xml(where: str, path: Path) -> ElementTree.Element:
    try:
        root = ElementTree.fromstring(path.read_bytes())
    except ElementTree.ParseError as error:
        problem = str(error).split(":")[0]
        raise UserError(f"{where}:{error.position[0]}: invalid XML: {problem}") from error
    except (LookupError, ValueError) as error:  # an encoding unknown to Python or expat
        raise UserError(f"{where}:1: invalid XML: {error}") from error
    except OSError as error:
        raise UserError(f"{where}: cannot be read: {error.strerror}") from error
    if root.tag != "annotation":
        raise build_mismatch_error(where, f"<{root.tag}>", "<annotation> as the root element")
    return root


def _parse_box(where: str, element: ElementTree.Element, log: FindingLog) -> RawBox:
    label = _read_required(where, element, "name")
    where = f"{where} ({label})"
    xmin, ymin, xmax, ymax = (
        parse_number(f"{where}: {tag}", _read_required(where, element, f"bndbox/{tag}"))
        for tag in ("xmin", "ymin", "xmax", "ymax")
    )
    difficult = _read_text(element, "difficult") or "0"
    if difficult not in ("0", "1"):
        raise build_mismatch_error(f"{where}: difficult", difficult, "0 or 1")
    trust = _read_text(element, "trust")
    if difficult == "1":
        log.unlisted[FindingKind.DIFFICULT_BOX] += 1
    return RawBox(
        label=label,
        xyxy=(xmin, ymin, xmax, ymax),
        state=_read_text(element, "state"),
        trust=None if trust is None else parse_number(f"{where}: trust", trust),
        iscrowd=difficult == "1",
    )


def _find_image_path(folder: Path, stem: str, given: str | None) -> Path:
    images = folder / "JPEGImages"
    names = [] if given is None else [given]
    names += [stem + suffix for lower in IMAGE_SUFFIXES for suffix in (lower, lower.upper())]
    return next((images / name for name in names if is_file(images / name)), images / names[0])


def _read_text(element: ElementTree.Element, tag: str) -> str | None:
    return (element.findtext(tag) or "").strip() or None


def _read_required(where: str, element: ElementTree.Element, tag: str) -> str:
    value = _read_text(element, tag)
    if value is None:
        raise UserError(f"{where}: <{tag.replace('/', '><')}> is missing or empty")
    return value
