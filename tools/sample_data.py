"""Write the built-in sample dataset: bolts, gears, plates and rings in four states, with some defects to clean.

    python tools/sample_data.py [--out data/raw/sample] [--images 160] [--seed 0] [--force]

Writes OUT/dataset.jsonl (one image per line) and OUT/images/ in about 3 s on one core. The same versions
of NumPy and Pillow write the same bytes on every machine. Of the --images clean images, one in five or six
is a frame of a short sequence. Images with these defects are added:

    count  defect              what preprocess gets
    2      truncated           a JPEG that ends early
    1      empty               a file of zero bytes
    1      text                a text file named .jpg
    1      missing             a line whose image does not exist
    2      exif_6              a rotated image with EXIF orientation 6; boxes refer to the upright image
    1      exif_8              the same with orientation 8
    1      gray, cmyk          JPEGs of these modes (one each)
    1      palette, rgba       PNGs of these modes (one each)
    1      gray_16             a 16-bit gray PNG
    1      zero_area           an additional box of zero width
    2      outside             a part cut off by the right image border: x_max slightly above 1
    1      far_outside         an additional box far outside the image
    1      nan                 an additional box with x_min NaN
    1      swapped             a box with min and max swapped
    1      tiny                an additional box of 1 x 1 pixel
    2      low_trust           an additional box around nothing, trust 0.2
    2      duplicate_box       a box repeated with IoU > 0.95
    1      no_state            a box without a state
    1      listed_twice        the same line twice
    3      copy                a byte-identical copy of another clean image under its own name
"""

from __future__ import annotations

import argparse
import io
import json
import math
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from detector.core.errors import UserError, run_command
from sample_scenes import boxes_overlap, make_scene
from sample_shapes import Box, Rng, choose

DEFECTS = {
    "truncated": 2,
    "empty": 1,
    "text": 1,
    "missing": 1,
    "exif_6": 2,
    "exif_8": 1,
    "gray": 1,
    "cmyk": 1,
    "palette": 1,
    "rgba": 1,
    "gray_16": 1,
    "zero_area": 1,
    "outside": 2,
    "far_outside": 1,
    "nan": 1,
    "swapped": 1,
    "tiny": 1,
    "low_trust": 2,
    "duplicate_box": 2,
    "no_state": 1,
    "listed_twice": 1,
    "copy": 3,
}
SIZES = ((320, 240),) * 38 + ((240, 320), (288, 288))  # width, height
TRUST = (1.0,) * 17 + (0.9, 0.8, 0.7, 0.6)
MAX_SHIFT = 12  # pixels between the frames of a sequence, at most, in x and in y
MIN_IMAGES = 20


@dataclass(frozen=True, slots=True)
class SceneSpec:
    """One scene to draw, seeded by its number: `frames` images, with a `sequence`, a `defect` or neither."""

    scene: int
    frames: int = 1
    sequence: int | None = None
    defect: str | None = None


@dataclass(slots=True)
class LabeledBox:
    """An annotated box in pixels of its image."""

    label: str
    state: str | None
    trust: float
    xyxy: Box


@dataclass(slots=True)
class SampleImage:
    """An image uint8 [h, w, 3] with its labels, not yet written."""

    pixels: NDArray[np.uint8]
    boxes: list[LabeledBox]
    suffix: str = ".jpg"
    tags: list[str] = field(default_factory=list)


def make_rng(seed: int, number: int) -> Rng:
    """The random generator of a scene; number 0 is for the plan."""
    return np.random.Generator(np.random.PCG64([seed, number]))


def plan_scenes(images: int, seed: int) -> list[SceneSpec]:
    """All scenes in dataset order: `images` clean images, one sequence per 20 of them, and the defects."""
    lengths = [3 + number % 2 for number in range(images // 20)]
    singles = images - sum(lengths)
    scenes = [SceneSpec(1 + number) for number in range(singles)]
    scenes += [SceneSpec(1 + singles + k, frames=length, sequence=k) for k, length in enumerate(lengths)]
    for defect, count in DEFECTS.items():
        for k in range(count):
            scenes.append(SceneSpec(1 + k if defect == "copy" else 1 + len(scenes), defect=defect))
    return [scenes[k] for k in make_rng(seed, 0).permutation(len(scenes))]


def draw_frames(spec: SceneSpec, seed: int) -> Iterator[SampleImage]:
    """The images of one scene: shifted crops of its canvas, each with its own brightness and noise."""
    rng = make_rng(seed, spec.scene)
    (width, height), inset = choose(rng, SIZES), MAX_SHIFT if spec.sequence is not None else 0
    empty = not rng.integers(40) and spec.sequence is None and spec.defect in (None, "copy")
    count = 0 if empty else int(rng.integers(2, 7))
    scene = make_scene(rng, width + inset, height + inset, inset, count)
    suffix = ".png" if spec.sequence is None and rng.integers(45) == 0 else ".jpg"
    boxes = [(item.part.label, item.part.state, choose(rng, TRUST), item.box_xyxy) for item in scene.placed]
    for frame in range(spec.frames):
        dx, dy = (int(step) for step in rng.integers(0, inset + 1, 2))
        gain = int(rng.integers(-8, 9)) if inset else 0
        view = scene.canvas[dy : dy + height, dx : dx + width] + rng.integers(-3, 4, (height, width, 1))
        picture = SampleImage(np.clip(view + gain, 0, 255).astype(np.uint8), [], suffix)
        for label, state, trust, (left, top, right, bottom) in boxes:
            xyxy = (left - dx, top - dy, right - dx, bottom - dy)
            picture.boxes.append(LabeledBox(label, state, trust, xyxy))
        if spec.sequence is not None:
            picture.tags.append(f"sequence_{spec.sequence:03d}--frame_{frame}")
        yield picture


def crop_right(picture: SampleImage) -> None:
    """Crop the image through its rightmost part, whose box then extends beyond the image."""
    left, _, right, _ = max(box.xyxy for box in picture.boxes)
    picture.pixels = picture.pixels[:, : math.ceil(left + 0.8 * (right - left))]


def find_free_spot(picture: SampleImage, side: float) -> Box:
    """A square that touches no box; the image corner if there is none."""
    height, width = picture.pixels.shape[:2]
    corners = [(float(x), float(y)) for y in range(0, height - 40, 16) for x in range(0, width - 40, 16)]
    spots = [(x, y, x + side, y + side) for x, y in corners]
    free = (spot for spot in spots if not any(boxes_overlap(spot, box.xyxy, 2) for box in picture.boxes))
    return next(free, spots[0])


def add_box_defect(picture: SampleImage, defect: str) -> None:
    """Add a defect of the boxes; other defects leave the image unchanged."""
    height, width = picture.pixels.shape[:2]
    first = picture.boxes[0]
    left, top, right, bottom = first.xyxy
    more: dict[str, Box] = {
        "zero_area": (left, top, left, bottom),
        "far_outside": (width * 1.4, height * 1.2, width * 1.7, height * 1.5),
        "nan": (math.nan, top, right, bottom),
        "tiny": (left, top, left + 1, top + 1),
        "low_trust": find_free_spot(picture, 38.0),
        "duplicate_box": (left, top, right, bottom + 0.4),
    }
    if defect in more:
        trust = 0.2 if defect == "low_trust" else first.trust
        picture.boxes.append(LabeledBox(first.label, first.state, trust, more[defect]))
    elif defect == "outside":
        crop_right(picture)
    elif defect == "swapped":
        first.xyxy = (right, bottom, left, top)
    elif defect == "no_state":
        first.state = None


def encode_image(image: Image.Image, suffix: str, exif: bytes = b"") -> bytes:
    """Encode an image file. PNGs use run-length compression, which is the same on every processor."""
    buffer = io.BytesIO()
    if suffix == ".png":
        image.save(buffer, "PNG", compress_type=3)  # Z_RLE
    else:
        image.save(buffer, "JPEG", quality=88, exif=exif)
    return buffer.getvalue()


def encode_rotated(image: Image.Image, orientation: int) -> bytes:
    """Encode a rotated JPEG with the EXIF orientation (6 or 8) that makes it upright."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    rotation = {6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}[orientation]
    return encode_image(image.transpose(rotation), ".jpg", exif.tobytes())


def convert_to_16_bit(image: Image.Image) -> Image.Image:
    """The image in 16-bit gray."""
    return Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)


# Suffix and encoder of the file, by defect; None stands for no file.
ENCODERS: dict[str, tuple[str, Callable[[Image.Image], bytes | None]]] = {
    "truncated": (".jpg", lambda image: encode_image(image, ".jpg")[:-4000]),
    "empty": (".jpg", lambda image: b""),
    "text": (".jpg", lambda image: b"This is not an image.\n"),
    "missing": (".jpg", lambda image: None),
    "exif_6": (".jpg", lambda image: encode_rotated(image, 6)),
    "exif_8": (".jpg", lambda image: encode_rotated(image, 8)),
    "gray": (".jpg", lambda image: encode_image(image.convert("L"), ".jpg")),
    "cmyk": (".jpg", lambda image: encode_image(image.convert("CMYK"), ".jpg")),
    "palette": (".png", lambda image: encode_image(image.convert("P"), ".png")),
    "rgba": (".png", lambda image: encode_image(image.convert("RGBA"), ".png")),
    "gray_16": (".png", lambda image: encode_image(convert_to_16_bit(image), ".png")),
}


def format_line(picture: SampleImage, name: str) -> str:
    """The image's line in dataset.jsonl; boxes as fractions of width and height, 6 digits."""
    height, width = picture.pixels.shape[:2]
    annotations = []
    for box in picture.boxes:
        edges = zip(("x_min", "y_min", "x_max", "y_max"), box.xyxy, (width, height) * 2, strict=True)
        corners = {f"{key}_normalized": round(value / size, 6) for key, value, size in edges}
        annotations.append({"annotation_label": box.label, **corners, "state": box.state, "trust": box.trust})
    row: dict[str, object] = {"image_path": name, "bounding_box_annotations": annotations}
    if picture.tags:
        row["classification_annotations"] = [{"annotation_label": tag} for tag in picture.tags]
    return json.dumps(row)


def write_dataset(folder: Path, images: int, seed: int) -> int:
    """Write dataset.jsonl and images/ into a new folder; return the number of lines."""
    (folder / "images").mkdir(parents=True)
    lines, number = [], 0
    for spec in plan_scenes(images, seed):
        for picture in draw_frames(spec, seed):
            if spec.defect and spec.defect != "copy":
                add_box_defect(picture, spec.defect)
            suffix, encode = ENCODERS.get(spec.defect or "", (picture.suffix, None))
            name, image = f"images/{number:06d}{suffix}", Image.fromarray(picture.pixels)
            data = encode(image) if encode else encode_image(image, suffix)
            if data is not None:
                (folder / name).write_bytes(data)
            lines += [format_line(picture, name)] * (2 if spec.defect == "listed_twice" else 1)
            number += 1
    (folder / "dataset.jsonl").write_bytes("".join(f"{text}\n" for text in lines).encode())
    return len(lines)


def check_target(out: Path, force: bool) -> None:
    """Raise UserError for a non-empty folder without --force, and for one that holds other files even with it."""
    names = {path.name for path in out.iterdir()} if out.is_dir() else set()
    if out.is_file():
        raise UserError(f"{out} is a file, not a folder; choose another --out.")
    if names - {"dataset.jsonl", "images"}:
        raise UserError(f"{out} contains {sorted(names)[0]}, so it is not a sample dataset; choose another --out.")
    if names and not force:
        raise UserError(f"{out} is not empty; use --force to overwrite it, or choose another --out.")


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description="Write the built-in sample dataset.")
    parser.add_argument("--out", type=Path, default="data/raw/sample", help="output folder (default: %(default)s)")
    parser.add_argument("--images", type=int, default=160, help="number of clean images (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="random seed (default: %(default)s)")
    parser.add_argument("--force", action="store_true", help="overwrite an earlier sample dataset")
    return parser.parse_args()


def main() -> None:
    """Write to a temporary folder beside the target and move it there when it is complete."""
    options = parse_arguments()
    if options.images < MIN_IMAGES or options.seed < 0:
        raise UserError(f"--images must be {MIN_IMAGES} or more and --seed 0 or more.")
    check_target(options.out, options.force)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".sample-", dir=options.out.parent) as scratch:
        count = write_dataset(Path(scratch) / "new", options.images, options.seed)
        if options.out.exists():
            shutil.rmtree(options.out)
        (Path(scratch) / "new").rename(options.out)
    print(f"{count} images -> {options.out}")


if __name__ == "__main__":
    run_command(main)
