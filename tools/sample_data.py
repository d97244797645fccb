"""Write the embedded sample dataset: bolts, gears, plates and rings in four states, with some dirt to clean.

    python tools/sample_data.py [--out data/raw/sample] [--images 400] [--seed 0] [--force]

Writes OUT/dataset.jsonl (one image a line) and OUT/images/; takes about 7 s on one core. The same
versions of numpy and Pillow write the same bytes everywhere. --images counts the clean images, of
which every fifth or sixth is a frame of a short sequence; the dirty ones below come on top:

    items  dirt                what preprocessing meets
    2      truncated           a JPEG that ends early
    1      empty               a file of zero bytes
    1      text                a text file named .jpg
    1      missing             a line whose image does not exist
    2      exif_6              pixels stored turned, orientation 6; boxes are upright, as viewers show it
    1      exif_8              the same with orientation 8
    1      grey, cmyk          JPEGs of these modes (one each)
    1      palette, rgba       PNGs of these modes (one each)
    1      grey_16             a 16-bit grey PNG
    1      no_area             one box more, of zero width
    2      outside             a part cut by the image's right border: x_max slightly above 1
    1      far_outside         one box more, far outside the image
    1      nan                 one box more, with x_min NaN
    1      inverted            a box with min and max exchanged
    1      tiny                one box more, 1 x 1 pixel
    2      low_trust           one box more around nothing, trust 0.2
    2      twin_box            a box repeated with IoU > 0.95
    1      unknown_state       a state "scratched"
    1      listed_twice        the same line twice
    3      copy                another clean image's file, byte for byte, under its own name
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
from sample_scenes import make_scene, overlap
from sample_shapes import Box, Rng, pick

DIRT = {
    "truncated": 2, "empty": 1, "text": 1, "missing": 1, "exif_6": 2, "exif_8": 1, "grey": 1, "cmyk": 1,
    "palette": 1, "rgba": 1, "grey_16": 1, "no_area": 1, "outside": 2, "far_outside": 1, "nan": 1,
    "inverted": 1, "tiny": 1, "low_trust": 2, "twin_box": 2, "unknown_state": 1, "listed_twice": 1, "copy": 3,
}  # fmt: skip
SIZES = ((320, 240),) * 12 + ((240, 320),) * 2 + ((288, 288),) * 2  # width, height
TRUST = (1.0,) * 17 + (0.9, 0.8, 0.7, 0.6)
SWAY = 12  # a sequence's frames lie up to this many pixels apart, in x and in y
FEWEST_IMAGES = 20


@dataclass(frozen=True, slots=True)
class Job:
    """One scene to draw, seeded by its number: `frames` pictures, with a `sequence`, `dirt` or neither."""

    scene: int
    frames: int = 1
    sequence: int | None = None
    dirt: str | None = None


@dataclass(slots=True)
class LabelledBox:
    """A box in pixels of its image, as the annotator would give it."""

    label: str
    state: str
    trust: float
    xyxy: Box


@dataclass(slots=True)
class Picture:
    """An image uint8 [h, w, 3] on its way to the disk."""

    pixels: NDArray[np.uint8]
    boxes: list[LabelledBox]
    suffix: str = ".jpg"
    tags: list[str] = field(default_factory=list)


def generator(seed: int, number: int) -> Rng:
    """The random numbers of one scene; 0 is the plan's."""
    return np.random.Generator(np.random.PCG64([seed, number]))


def plan(images: int, seed: int) -> list[Job]:
    """All scenes in the dataset's order: `images` clean pictures, a twentieth as many sequences, the dirt."""
    lengths = [3 + number % 2 for number in range(images // 20)]
    singles = images - sum(lengths)
    jobs = [Job(1 + number) for number in range(singles)]
    jobs += [Job(1 + singles + k, frames=length, sequence=k) for k, length in enumerate(lengths)]
    for dirt, count in DIRT.items():
        for k in range(count):
            jobs.append(Job(1 + k if dirt == "copy" else 1 + len(jobs), dirt=dirt))
    order = generator(seed, 0).permutation(len(jobs))
    return [jobs[k] for k in order]


def draw(job: Job, seed: int) -> Iterator[Picture]:
    """The pictures of one scene: swaying windows of its canvas, each with its own brightness and noise."""
    rng = generator(seed, job.scene)
    (width, height), inset = pick(rng, SIZES), SWAY if job.sequence is not None else 0
    bare = not rng.integers(40) and job.sequence is None and job.dirt in (None, "copy")
    count = 0 if bare else int(rng.integers(2, 7))
    scene = make_scene(rng, width + inset, height + inset, inset, count)
    suffix = ".png" if job.sequence is None and rng.integers(45) == 0 else ".jpg"
    boxes = [(item.part.label, item.part.state, pick(rng, TRUST), item.box_xyxy) for item in scene.placed]
    for frame in range(job.frames):
        dx, dy = (int(step) for step in rng.integers(0, inset + 1, 2))
        gain = int(rng.integers(-8, 9)) if inset else 0
        view = scene.canvas[dy : dy + height, dx : dx + width] + rng.integers(-3, 4, (height, width, 1))
        picture = Picture(np.clip(view + gain, 0, 255).astype(np.uint8), [], suffix)
        for label, state, trust, (left, top, right, bottom) in boxes:
            xyxy = (left - dx, top - dy, right - dx, bottom - dy)
            picture.boxes.append(LabelledBox(label, state, trust, xyxy))
        if job.sequence is not None:
            picture.tags.append(f"sequence_{job.sequence:03d}--frame_{frame}")
        yield picture


def cut_right(picture: Picture) -> None:
    """Cut the image through its rightmost part, whose box then reaches outside."""
    left, _, right, _ = max(box.xyxy for box in picture.boxes)
    picture.pixels = picture.pixels[:, : math.ceil(left + 0.8 * (right - left))]


def free_spot(picture: Picture, side: float) -> Box:
    """A square that touches no box; the image's corner where there is none."""
    height, width = picture.pixels.shape[:2]
    corners = [(float(x), float(y)) for y in range(0, height - 40, 16) for x in range(0, width - 40, 16)]
    spots = [(x, y, x + side, y + side) for x, y in corners]
    free = (spot for spot in spots if not any(overlap(spot, box.xyxy, 2) for box in picture.boxes))
    return next(free, spots[0])


def soil_boxes(picture: Picture, dirt: str) -> None:
    """Add the dirt that sits in the boxes; other kinds leave the picture as it is."""
    height, width = picture.pixels.shape[:2]
    first = picture.boxes[0]
    left, top, right, bottom = first.xyxy
    more: dict[str, Box] = {
        "no_area": (left, top, left, bottom),
        "far_outside": (width * 1.4, height * 1.2, width * 1.7, height * 1.5),
        "nan": (math.nan, top, right, bottom),
        "tiny": (left, top, left + 1, top + 1),
        "low_trust": free_spot(picture, 38.0),
        "twin_box": (left, top, right, bottom + 0.4),
    }
    if dirt in more:
        trust = 0.2 if dirt == "low_trust" else first.trust
        picture.boxes.append(LabelledBox(first.label, first.state, trust, more[dirt]))
    elif dirt == "outside":
        cut_right(picture)
    elif dirt == "inverted":
        first.xyxy = (right, bottom, left, top)
    elif dirt == "unknown_state":
        first.state = "scratched"


def saved(image: Image.Image, suffix: str, exif: bytes = b"") -> bytes:
    """The image's file. PNGs are compressed by run lengths, which no processor's fast path changes."""
    buffer = io.BytesIO()
    if suffix == ".png":
        image.save(buffer, "PNG", compress_type=3)  # Z_RLE
    else:
        image.save(buffer, "JPEG", quality=88, exif=exif)
    return buffer.getvalue()


def turned_file(image: Image.Image, orientation: int) -> bytes:
    """A JPEG that is stored turned, with the EXIF orientation (6 or 8) by which a viewer shows it upright."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    turn = {6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}[orientation]
    return saved(image.transpose(turn), ".jpg", exif.tobytes())


def sixteen_bits(image: Image.Image) -> Image.Image:
    """The image in 16-bit grey."""
    return Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)


# How a dirty file comes to be, by dirt; None stands for no file.
FILES: dict[str, tuple[str, Callable[[Image.Image], bytes | None]]] = {
    "truncated": (".jpg", lambda image: saved(image, ".jpg")[:-4000]),
    "empty": (".jpg", lambda image: b""),
    "text": (".jpg", lambda image: b"This is not an image.\n"),
    "missing": (".jpg", lambda image: None),
    "exif_6": (".jpg", lambda image: turned_file(image, 6)),
    "exif_8": (".jpg", lambda image: turned_file(image, 8)),
    "grey": (".jpg", lambda image: saved(image.convert("L"), ".jpg")),
    "cmyk": (".jpg", lambda image: saved(image.convert("CMYK"), ".jpg")),
    "palette": (".png", lambda image: saved(image.convert("P"), ".png")),
    "rgba": (".png", lambda image: saved(image.convert("RGBA"), ".png")),
    "grey_16": (".png", lambda image: saved(sixteen_bits(image), ".png")),
}


def line(picture: Picture, name: str) -> str:
    """The image's line of dataset.jsonl; boxes as shares of the width and height, 6 digits."""
    height, width = picture.pixels.shape[:2]
    annotations = []
    for box in picture.boxes:
        shares = zip(("x_min", "y_min", "x_max", "y_max"), box.xyxy, (width, height) * 2, strict=True)
        corners = {f"{key}_normalized": round(value / size, 6) for key, value, size in shares}
        annotations.append({"annotation_label": box.label, **corners, "state": box.state, "trust": box.trust})
    row: dict[str, object] = {"image_path": name, "bounding_box_annotations": annotations}
    if picture.tags:
        row["classification_annotations"] = [{"annotation_label": tag} for tag in picture.tags]
    return json.dumps(row)


def write_dataset(folder: Path, images: int, seed: int) -> int:
    """Write dataset.jsonl and images/ into a new folder; the number of lines."""
    (folder / "images").mkdir(parents=True)
    lines: list[str] = []
    number = 0
    for job in plan(images, seed):
        for picture in draw(job, seed):
            if job.dirt and job.dirt != "copy":
                soil_boxes(picture, job.dirt)
            suffix, encode = FILES.get(job.dirt or "", (picture.suffix, None))
            name, image = f"images/{number:06d}{suffix}", Image.fromarray(picture.pixels)
            data = encode(image) if encode else saved(image, suffix)
            if data is not None:
                (folder / name).write_bytes(data)
            lines += [line(picture, name)] * (2 if job.dirt == "listed_twice" else 1)
            number += 1
    (folder / "dataset.jsonl").write_bytes("".join(f"{text}\n" for text in lines).encode())
    return len(lines)


def check_target(out: Path, force: bool) -> None:
    """Refuse to replace a folder with files in it, and even with --force one that holds anything else."""
    names = {path.name for path in out.iterdir()} if out.is_dir() else set()
    if out.exists() and not out.is_dir():
        raise UserError(f"{out}: is a file; expected a folder to write. Give another --out.")
    if names - {"dataset.jsonl", "images"}:
        raise UserError(f"{out}: holds {sorted(names)[0]}, so it is no sample dataset. Give another --out.")
    if names and not force:
        raise UserError(f"{out}: is not empty. Give --force to write it anew, or another --out.")


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Write the embedded sample dataset.")
    parser.add_argument("--out", type=Path, default=Path("data/raw/sample"), help="folder to write (%(default)s)")
    parser.add_argument("--images", type=int, default=400, help="number of clean images (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="another seed, another dataset (%(default)s)")
    parser.add_argument("--force", action="store_true", help="replace an earlier sample dataset")
    return parser.parse_args()


def main() -> None:
    """Write to a temporary folder beside the target and move it there when it is whole."""
    options = arguments()
    if options.images < FEWEST_IMAGES or options.seed < 0:
        raise UserError(f"--images must be {FEWEST_IMAGES} or more and --seed 0 or more.")
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
