"""Reader for Pascal VOC: one XML file per image, one text file per split.

    Annotations/000001.xml …                  also in subfolders
    ImageSets/Main/{train,val,test}.txt       optional; one name without extension per line
    JPEGImages/000001.jpg …                   files or links

    train/1.xml, train/1.jpg …                beside each other (Roboflow)
    annotations/1.xml …, images/1.png …       under other names, and all of it at any depth (Kaggle)

    <annotation>
      <filename>000001.jpg</filename>         used only if no image is named like the XML file
      <object>
        <name>wheel</name>
        <difficult>0</difficult>              optional; 1: ignored in evaluation, as VOC does
        <state>intact</state><trust>0.9</trust>      optional, not part of VOC
        <bndbox><xmin>260</xmin><ymin>177</ymin><xmax>491</xmax><ymax>376</ymax></bndbox>
      </object>
    </annotation>

The name of the XML file says which image it describes, as VOC's own lists do; a <filename> of another image is counted
as stale. Of several images of that name, the nearest in the folders counts (`voc_images.py`). An object that cannot be
read, such as one with two names or two boxes, is dropped and counted.

Box coordinates are read unchanged. VOC counts pixels from 1 and includes the last one, so xmin - 1 would be
exact for its own files. But labeling tools such as LabelImg count from 0, most converters expect that, and a
file does not say which convention it follows. The raw values are exact for the tools' files and at most one
pixel off for VOC's own.

Images in trainval.txt belong to train, unless train.txt or val.txt lists them or both files exist. Lists of one class
(aeroplane_train.txt) are ignored. Without lists, folders named after splits say it (train/, valid/, test/).
Source: http://host.robots.ox.ac.uk/pascal/VOC/
"""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from xml.etree import ElementTree  # expat fetches no external entities

from detector.core.errors import UserError
from detector.preprocessing.dataset_folder import find_files
from detector.preprocessing.findings import Finding, FindingKind, FindingLog
from detector.preprocessing.formats.fields import build_mismatch_error, check_string, parse_image_size, parse_number
from detector.preprocessing.formats.files import infer_folder_split, make_dataset_relative, read_bytes, read_text_file
from detector.preprocessing.formats.image_lookup import locate_images
from detector.preprocessing.formats.voc_images import ImagePairing, get_last_part, lies_elsewhere, name_image
from detector.preprocessing.raw_annotations import RawBox, RawImage


def read_voc(folder: Path, log: FindingLog) -> Iterator[RawImage]:
    """Yield the images, sorted by the paths of their XML files."""
    yield from locate_images(folder, _read_files(folder, log), log)


def _read_files(folder: Path, log: FindingLog) -> Iterator[RawImage]:
    roots = _read_roots(folder, log)
    names = {where: name_image(where) for where in roots}
    splits = _read_splits(folder, names.values(), log)
    pairing = ImagePairing(folder, names.values())
    for where, root in roots.items():
        name = names[where]
        boxes = tuple(_parse_boxes(where, root, log))
        filenames = [text for element in root.findall("filename") if (text := (element.text or "").strip())]
        image = pairing.find(name, filenames)
        stale = any(name_image(get_last_part(text)) != get_last_part(name) for text in filenames)
        if stale and get_last_part(name_image(image.file)) == get_last_part(name) and not image.is_missing:
            log.listed.append(Finding(FindingKind.STALE_FILENAME, where, image.file, details=filenames[0]))
        if not (image.is_missing or image.ambiguity) and lies_elsewhere(name, image.file):
            details = f"{where} -> {image.file} (other folder)"
            log.listed.append(Finding(FindingKind.IMAGE_FOUND_ELSEWHERE, where, image.file, details=details))
        sides = [_read_text(where, root, f"size/{side}") for side in ("width", "height")]
        size = parse_image_size(*(None if side is None else parse_number(f"{where}: size", side) for side in sides))
        split = splits.get(name) if splits else infer_folder_split(where)
        yield RawImage(image.file, where, boxes, split=split, size=size, ambiguity=image.ambiguity)


def _read_roots(folder: Path, log: FindingLog) -> dict[str, ElementTree.Element]:
    """The root of each XML file, by its path; outside of Annotations/, XML files of another kind are passed over."""
    roots: dict[str, ElementTree.Element] = {}
    for path in find_files(folder, (".xml",)):
        where = make_dataset_relative(folder, path)
        root = _parse_xml(where, read_bytes(folder, path, log))
        if root.tag == "annotation":
            roots[where] = root
            continue
        error = build_mismatch_error(where, f"<{root.tag[:80]}>", "<annotation> as the root element")
        if where.startswith("Annotations/"):
            raise error
        log.listed.append(Finding(FindingKind.SKIPPED_ANNOTATION_FILE, where, details=str(error)))
    if not roots:
        raise UserError(f"{folder}: found no Annotations/*.xml or other XML files of VOC, expected one per image")
    return roots


def _read_splits(folder: Path, names: Collection[str], log: FindingLog) -> dict[str, str]:
    """The split of each image in a list, with + between several; there may be several ImageSets (VOC2007, VOC2012)."""
    found: dict[str, list[str]] = defaultdict(list)
    mains = {path.parent for path in find_files(folder, (".txt",)) if path.parts[-3:-1] == ("ImageSets", "Main")}
    for main in sorted(mains):
        base = make_dataset_relative(folder, main.parent.parent)
        short: dict[str, list[str]] = defaultdict(list)  # what a list may call a name -> the names
        for name in names:
            parts = name.split("/")
            if base == "." or name.startswith(f"{base}/"):
                for start in range(len(parts)):
                    short["/".join(parts[start:])].append(name)
        lists = {split: main / f"{split}.txt" for split in ("train", "val", "test", "trainval")}
        lists = {split: path for split, path in lists.items() if path.exists()}
        if {"train", "val"} <= lists.keys():
            lists.pop("trainval", None)
        for split, path in lists.items():
            for name in _read_list(folder, path, short, log):
                if split != "trainval":
                    found[name] += [split] if split not in found[name] else []
                elif not {"train", "val"} & set(found[name]):
                    found[name].insert(0, "train")
    return {name: "+".join(splits) for name, splits in found.items()}


def _read_list(folder: Path, path: Path, short: Mapping[str, list[str]], log: FindingLog) -> Iterator[str]:
    """Yield the names in a list."""
    for number, line in enumerate(read_text_file(folder, path, log).split("\n"), start=1):
        name = unicodedata.normalize("NFC", line.strip())
        matches = short.get(name, [])
        highest = min((match.count("/") for match in matches), default=0)
        matches = [match for match in matches if match.count("/") == highest]
        if name and len(matches) != 1:
            where = f"{make_dataset_relative(folder, path)}:{number}"
            problem = "is missing" if not matches else f"is there {len(matches)} times, in subfolders"
            raise build_mismatch_error(where, name, f"an annotated image; Annotations/{name[:80]}.xml {problem}")
        yield from matches


def _parse_xml(where: str, source: bytes) -> ElementTree.Element:
    try:
        root = ElementTree.fromstring(source)
    except ElementTree.ParseError as error:
        problem = str(error).split(":")[0]
        raise UserError(f"{where}:{error.position[0]}: invalid XML: {problem}") from error
    except (LookupError, ValueError) as error:  # an encoding unknown to Python or expat
        raise UserError(f"{where}:1: invalid XML: {error}") from error
    return root


def _parse_boxes(where: str, root: ElementTree.Element, log: FindingLog) -> Iterator[RawBox]:
    for number, element in enumerate(root.findall("object"), start=1):
        try:
            box = _parse_box(f"{where}: object {number}", element)
        except UserError as error:
            log.drop_box(where, number, error)
            continue
        if box.iscrowd:
            log.unlisted[FindingKind.DIFFICULT_BOX] += 1
        yield box


def _parse_box(where: str, element: ElementTree.Element) -> RawBox:
    label = check_string(f"{where}: name", _read_required(where, element, "name"))
    where = f"{where} ({label})"
    xmin, ymin, xmax, ymax = (
        parse_number(f"{where}: {tag}", _read_required(where, element, f"bndbox/{tag}"))
        for tag in ("xmin", "ymin", "xmax", "ymax")
    )
    difficult = _read_text(where, element, "difficult") or "0"
    if difficult not in ("0", "1"):
        raise build_mismatch_error(f"{where}: difficult", difficult, "0 or 1")
    trust = _read_text(where, element, "trust")
    state = _read_text(where, element, "state")
    return RawBox(
        label=label,
        xyxy=(xmin, ymin, xmax, ymax),
        state=None if state is None else check_string(f"{where}: state", state),
        trust=None if trust is None else parse_number(f"{where}: trust", trust),
        iscrowd=difficult == "1",
    )


def _read_text(where: str, element: ElementTree.Element, path: str) -> str | None:
    """The text at a path such as `bndbox/xmin`, or None. Raises UserError if an element on the way is there twice."""
    found: ElementTree.Element | None = element
    for tag in path.split("/"):
        children = [] if found is None else found.findall(tag)
        if len(children) > 1:
            raise UserError(f"{where}: found <{tag}> {len(children)} times, expected it once")
        found = children[0] if children else None
    return (("" if found is None else found.text) or "").strip() or None


def _read_required(where: str, element: ElementTree.Element, path: str) -> str:
    value = _read_text(where, element, path)
    if value is None:
        raise UserError(f"{where}: <{path.replace('/', '><')}> is missing or empty")
    return value
