"""The pictures of the sample dataset: parts placed among clutter on textured backgrounds."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sample_parts import Layer, Light, Part, cover_count, make_part
from sample_shapes import (
    LABELS,
    SUB,
    Box,
    Color,
    Rng,
    around,
    between,
    extent,
    fill,
    luminance,
    pick,
    ribbon,
    rough_circle,
)

Canvas = NDArray[np.int64]  # [h, w, 3], 0 to 255
Field = NDArray[np.int64]  # [h, w], 0 to 255

PAD = 16  # more than a part's window reaches beyond its box, pixels
STATES = ("intact",) * 11 + ("damaged",) * 3 + ("absent",) * 3 + ("occluded",) * 3
# Range of the box's longer side in pixels; at least STATE_SIZE for a part whose state is not intact.
SIZES = {"bolt": (46, 108), "gear": (34, 96), "plate": (38, 100), "ring": (30, 90)}
STATE_SIZE = 46
GROUND_COLORS: tuple[Color, ...] = (
    (150, 148, 142), (92, 98, 106), (196, 178, 142), (150, 112, 74), (94, 66, 46), (60, 96, 78),
    (76, 100, 130), (214, 208, 194), (54, 56, 60), (158, 98, 80), (126, 140, 116), (180, 190, 198),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Placed:
    """A part and the whole-pixel place of its centre in the scene."""

    part: Part
    x: int
    y: int

    @property
    def box_xyxy(self) -> Box:
        """The part's box in pixels of the scene."""
        left, top, right, bottom = self.part.box_xyxy
        return left + self.x, top + self.y, right + self.x, bottom + self.y


@dataclass(frozen=True, slots=True)
class Scene:
    """A painted canvas and its parts from the lowest to the topmost."""

    canvas: Canvas
    placed: list[Placed]


def noise(rng: Rng, height: int, width: int, cells: tuple[tuple[int, int], ...]) -> Field:
    """Value noise, an octave for each cell (height, width) in pixels; powers of two make the resize exact."""
    total, weight = np.zeros((height, width), np.int64), 0
    for k, (tall, wide) in enumerate(cells):
        grid = rng.integers(0, 256, (-(-height // tall) + 1, -(-width // wide) + 1), dtype=np.uint8)
        size = (grid.shape[1] * wide, grid.shape[0] * tall)
        smooth = np.asarray(Image.fromarray(grid).resize(size, Image.Resampling.BICUBIC), np.int64)
        total += smooth[:height, :width] << (len(cells) - 1 - k)
        weight += 1 << (len(cells) - 1 - k)
    return total // weight


def wave(field: NDArray[np.int64], period: int) -> Field:
    """A triangle wave over the field's values, 0 to 255."""
    phase = field % period * 510 // period
    return np.minimum(phase, 510 - phase)


def gradient(rng: Rng, height: int, width: int) -> Field:
    """Slanted light over a calm sheet."""
    a, b = (int(rng.integers(-64, 65)) for _ in "ab")
    slope = np.arange(height)[:, None] * a // height + np.arange(width) * b // width
    grain = noise(rng, height, width, ((32, 32), (2, 2))) // 4 - 32
    return np.clip(128 + slope - (a + b) // 2 + grain, 0, 255)


def cloud(rng: Rng, height: int, width: int) -> Field:
    """Soft stains of all sizes."""
    return noise(rng, height, width, ((64, 64), (32, 32), (16, 16), (8, 8), (2, 2)))


def concrete(rng: Rng, height: int, width: int) -> Field:
    """Fine grain with pores."""
    grain = noise(rng, height, width, ((32, 32), (4, 4), (2, 2), (1, 1)))
    pores = noise(rng, height, width, ((4, 4), (2, 2)))
    return np.where(pores > 208, grain // 3, grain)


def wood(rng: Rng, height: int, width: int) -> Field:
    """Planks with grain along x."""
    rows = np.arange(height)[:, None]
    rings = wave(rows * 24 + noise(rng, height, width, ((32, 128), (8, 64))) * 3, int(rng.integers(180, 420)))
    grain = (noise(rng, height, width, ((2, 64), (1, 16))) * 2 + rings) // 3
    plank = int(rng.integers(48, 90))
    tones = rng.integers(-40, 41, height // plank + 1)[np.arange(height) // plank][:, None]
    return np.where(rows % plank < 2, 0, np.clip(grain + tones, 0, 255))


def stripes(rng: Rng, height: int, width: int) -> Field:
    """Woven bands in a slanted direction."""
    a, b, period = int(rng.integers(-8, 9)), int(rng.integers(3, 9)), int(rng.integers(70, 180))
    bands = wave(np.arange(height)[:, None] * a + np.arange(width) * b, period)
    return (bands + noise(rng, height, width, ((16, 16), (2, 2)))) // 2


def speckles(rng: Rng, height: int, width: int) -> Field:
    """Terrazzo: light and dark grains on a calm ground."""
    grains = noise(rng, height, width, ((8, 8), (4, 4)))
    calm = 112 + noise(rng, height, width, ((64, 64), (1, 1))) // 8
    return np.where(grains > 176, 235, np.where(grains < 80, 20, calm))


def tiles(rng: Rng, height: int, width: int) -> Field:
    """A cutting mat or tiles: thin lines in a square grid."""
    pitch, calm = int(rng.integers(20, 60)), noise(rng, height, width, ((64, 64), (8, 8), (2, 2)))
    lines = (np.arange(height)[:, None] % pitch < 1) | (np.arange(width) % pitch < 1)
    return np.where(lines, 255, calm * 2 // 3)


Texture = Callable[[Rng, int, int], Field]
TEXTURES: tuple[Texture, ...] = (gradient, cloud, concrete, wood, stripes, speckles, tiles)


def background(rng: Rng, height: int, width: int) -> Canvas:
    """A texture between a darker and a lighter shade of one ground colour, with a broad fall of light."""
    texture = pick(rng, TEXTURES)
    field = texture(rng, width, height).T if rng.integers(2) else texture(rng, height, width)
    base = np.array(pick(rng, GROUND_COLORS)) + rng.integers(-14, 15, 3)
    depth = int(rng.integers(14, 34))
    light = (noise(rng, height, width, ((128, 128),)) - 128) // 8
    return np.clip(base + ((field - 128) * depth // 128 + light)[..., None], 0, 255)


def paint(canvas: Canvas, layer: Layer, x: int, y: int) -> None:
    """Blend a layer into the canvas, its (0, 0) at the pixel (x, y); what lies outside is cut."""
    left, top, right, bottom = layer.window
    x0, y0 = max(left + x, 0), max(top + y, 0)
    x1, y1 = min(right + x, canvas.shape[1]), min(bottom + y, canvas.shape[0])
    if x0 >= x1 or y0 >= y1:
        return
    inside = (slice(y0 - top - y, y1 - top - y), slice(x0 - left - x, x1 - left - x))
    alpha = layer.alpha[inside][..., None]
    rgb = np.array(layer.rgb) if isinstance(layer.rgb, tuple) else layer.rgb[inside]
    canvas[y0:y1, x0:x1] = (canvas[y0:y1, x0:x1] * (255 - alpha) + rgb * alpha + 127) // 255


def clutter(rng: Rng, canvas: Canvas) -> None:
    """A few things of no class under the parts: scratches, stains, scribbles, crumbs."""
    height, width = canvas.shape[:2]
    for _ in range(int(rng.integers(3, 10))):
        x, y, turn = between(rng, 0, width), between(rng, 0, height), between(rng, 0, 2 * math.pi)
        kind, points = int(rng.integers(4)), [(x, y)]
        if kind == 0:
            length = between(rng, 30, 150)
            points.append((x + length * math.cos(turn), y + length * math.sin(turn)))
        elif kind == 1:
            for _ in range(int(rng.integers(6, 16))):
                turn += between(rng, -1.1, 1.1)
                points.append((points[-1][0] + 6 * math.cos(turn), points[-1][1] + 6 * math.sin(turn)))
        stroke = between(rng, 1, 2.4)
        radius = between(rng, 2, 8)
        shape = ribbon(points, stroke, stroke) if kind < 2 else rough_circle(rng, x, y, radius)
        window = around(extent([shape]), 1)
        tone = pick(rng, ((20, 20, 24), (244, 242, 236), (110, 60, 50), (50, 80, 120)))
        alpha = cover_count(fill([shape], window)) * int(rng.integers(60, 150)) // (SUB * SUB)
        paint(canvas, Layer(window, alpha, tone), 0, 0)


def overlap(a: tuple[float, ...], b: tuple[float, ...], gap: float) -> bool:
    """Whether two boxes come closer than `gap` pixels."""
    return a[0] < b[2] + gap and b[0] < a[2] + gap and a[1] < b[3] + gap and b[1] < a[3] + gap


def iou(a: Box, b: Box) -> float:
    """Intersection over union of two boxes with an area."""
    sides = [min(a[k + 2], b[k + 2]) - max(a[k], b[k]) for k in (0, 1)]
    shared = max(sides[0], 0.0) * max(sides[1], 0.0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return shared / (sum(areas) - shared)


def moved(window: tuple[float, ...], x: int, y: int) -> tuple[float, ...]:
    """The window at (x, y)."""
    return window[0] + x, window[1] + y, window[2] + x, window[3] + y


def under(owner: NDArray[np.int64], item: Placed) -> NDArray[np.int64]:
    """The view of `owner` (which has PAD more pixels on each side than the scene) below the part's window."""
    left, top, right, bottom = item.part.window
    return owner[top + item.y + PAD : bottom + item.y + PAD, left + item.x + PAD : right + item.x + PAD]


def fits(owner: NDArray[np.int64], placed: list[Placed], item: Placed) -> bool:
    """Whether the part keeps clear of the others, or hides at most 20% of intact ones."""
    reach = moved(item.part.reach, item.x, item.y)
    near = [k for k, p in enumerate(placed) if overlap(reach, moved(p.part.reach, p.x, p.y), 5)]
    for k in near:
        other = placed[k]
        solid = other.part.state == "intact" and item.part.state in ("intact", "damaged")
        if not solid or iou(item.box_xyxy, other.box_xyxy) > 0.15:
            return False
        seen = (owner == k).sum() - ((under(owner, item) == k) & item.part.shape).sum()
        if seen * 10 < other.part.shape.sum() * 8:
            return False
    return True


def make_scene(rng: Rng, width: int, height: int, inset: int, count: int) -> Scene:
    """A scene with up to `count` parts, whose boxes keep `inset` + 2 pixels from the border."""
    canvas = background(rng, height, width)
    clutter(rng, canvas)
    ground = luminance([int(canvas[..., k].sum()) // (height * width) for k in range(3)])
    light: Light = (pick(rng, (-1, 1)), -1)
    owner = np.full((height + 2 * PAD, width + 2 * PAD), -1)
    placed: list[Placed] = []
    for _ in range(count):
        label, state = pick(rng, LABELS), pick(rng, STATES)
        low, high = SIZES[label]
        size = between(rng, low if state == "intact" else max(low, STATE_SIZE), high)
        part = make_part(rng, label, state, size, ground, light)
        left, top, right, bottom = around(part.box_xyxy, inset + 2)
        for _ in range(40):
            x, y = int(rng.integers(-left, width - right + 1)), int(rng.integers(-top, height - bottom + 1))
            item = Placed(part, x, y)
            if fits(owner, placed, item):
                for layer in part.layers:
                    paint(canvas, layer, item.x, item.y)
                under(owner, item)[part.shape] = len(placed)
                placed.append(item)
                break
    return Scene(canvas, placed)
