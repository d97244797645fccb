"""The scenes of the sample dataset: parts among clutter on textured backgrounds."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sample_parts import Layer, Light, Part, count_samples, make_part
from sample_shapes import (
    LABELS,
    SUBSAMPLES,
    Box,
    Color,
    Rng,
    choose,
    compute_extent,
    compute_luminance,
    fill_polygons,
    make_ribbon,
    make_rough_circle,
    pad_to_pixels,
    uniform,
)

Canvas = NDArray[np.int64]  # [h, w, 3], 0 to 255
IntensityField = NDArray[np.int64]  # [h, w], 0 to 255

PAD = 16  # pixels; more than a part's window extends beyond its box
STATES = ("intact",) * 11 + ("damaged",) * 3 + ("absent",) * 3 + ("occluded",) * 3
# Range of the box's longer side in pixels; at least MIN_SIZE_WITH_STATE for a part that is not intact.
SIZES = {"bolt": (46, 108), "gear": (34, 96), "plate": (38, 100), "ring": (30, 90)}
MIN_SIZE_WITH_STATE = 46
BACKGROUND_COLORS: tuple[Color, ...] = (
    (150, 148, 142),
    (92, 98, 106),
    (196, 178, 142),
    (150, 112, 74),
    (94, 66, 46),
    (60, 96, 78),
    (76, 100, 130),
    (214, 208, 194),
    (54, 56, 60),
    (158, 98, 80),
    (126, 140, 116),
    (180, 190, 198),
)


@dataclass(frozen=True, slots=True)
class PlacedPart:
    """A part and the position of its center in the scene, in whole pixels."""

    part: Part
    x: int
    y: int

    @property
    def box_xyxy(self) -> Box:
        """The part's box in scene pixels."""
        left, top, right, bottom = self.part.box_xyxy
        return left + self.x, top + self.y, right + self.x, bottom + self.y


@dataclass(frozen=True, slots=True)
class Scene:
    """A painted canvas and its parts, from bottom to top."""

    canvas: Canvas
    placed: list[PlacedPart]


def make_noise(rng: Rng, height: int, width: int, cells: tuple[tuple[int, int], ...]) -> IntensityField:
    """Value noise with one octave per cell (height, width) in pixels; powers of two make the resize exact."""
    total, weight = np.zeros((height, width), np.int64), 0
    for k, (tall, wide) in enumerate(cells):
        grid = rng.integers(0, 256, (-(-height // tall) + 1, -(-width // wide) + 1), dtype=np.uint8)
        size = (grid.shape[1] * wide, grid.shape[0] * tall)
        smooth = np.asarray(Image.fromarray(grid).resize(size, Image.Resampling.BICUBIC), np.int64)
        total += smooth[:height, :width] << (len(cells) - 1 - k)
        weight += 1 << (len(cells) - 1 - k)
    return total // weight


def triangle_wave(field: NDArray[np.int64], period: int) -> IntensityField:
    """A triangle wave over the field's values, 0 to 255."""
    phase = field % period * 510 // period
    return np.minimum(phase, 510 - phase)


def render_gradient(rng: Rng, height: int, width: int) -> IntensityField:
    """Oblique light on a plain sheet."""
    a, b = (int(rng.integers(-64, 65)) for _ in "ab")
    slope = np.arange(height)[:, None] * a // height + np.arange(width) * b // width
    grain = make_noise(rng, height, width, ((32, 32), (2, 2))) // 4 - 32
    gradient: IntensityField = np.clip(128 + slope - (a + b) // 2 + grain, 0, 255)
    return gradient


def render_cloud(rng: Rng, height: int, width: int) -> IntensityField:
    """Soft stains of all sizes."""
    return make_noise(rng, height, width, ((64, 64), (32, 32), (16, 16), (8, 8), (2, 2)))


def render_concrete(rng: Rng, height: int, width: int) -> IntensityField:
    """Fine grain with pores."""
    grain = make_noise(rng, height, width, ((32, 32), (4, 4), (2, 2), (1, 1)))
    pores = make_noise(rng, height, width, ((4, 4), (2, 2)))
    return np.where(pores > 208, grain // 3, grain)


def render_wood(rng: Rng, height: int, width: int) -> IntensityField:
    """Planks with grain along x."""
    rows = np.arange(height)[:, None]
    warp = make_noise(rng, height, width, ((32, 128), (8, 64)))
    rings = triangle_wave(rows * 24 + warp * 3, int(rng.integers(180, 420)))
    grain = (make_noise(rng, height, width, ((2, 64), (1, 16))) * 2 + rings) // 3
    plank = int(rng.integers(48, 90))
    tones = rng.integers(-40, 41, height // plank + 1)[np.arange(height) // plank][:, None]
    return np.where(rows % plank < 2, 0, np.clip(grain + tones, 0, 255))


def render_stripes(rng: Rng, height: int, width: int) -> IntensityField:
    """Woven bands in an oblique direction."""
    a, b, period = int(rng.integers(-8, 9)), int(rng.integers(3, 9)), int(rng.integers(70, 180))
    bands = triangle_wave(np.arange(height)[:, None] * a + np.arange(width) * b, period)
    return (bands + make_noise(rng, height, width, ((16, 16), (2, 2)))) // 2


def render_speckles(rng: Rng, height: int, width: int) -> IntensityField:
    """Terrazzo: light and dark grains on a plain ground."""
    grains = make_noise(rng, height, width, ((8, 8), (4, 4)))
    calm = 112 + make_noise(rng, height, width, ((64, 64), (1, 1))) // 8
    return np.where(grains > 176, 235, np.where(grains < 80, 20, calm))


def render_tiles(rng: Rng, height: int, width: int) -> IntensityField:
    """A cutting mat or tiles: thin lines in a square grid."""
    pitch, calm = int(rng.integers(20, 60)), make_noise(rng, height, width, ((64, 64), (8, 8), (2, 2)))
    lines = (np.arange(height)[:, None] % pitch < 1) | (np.arange(width) % pitch < 1)
    return np.where(lines, 255, calm * 2 // 3)


Texture = Callable[[Rng, int, int], IntensityField]
TEXTURES: tuple[Texture, ...] = (
    render_gradient,
    render_cloud,
    render_concrete,
    render_wood,
    render_stripes,
    render_speckles,
    render_tiles,
)


def paint_background(rng: Rng, height: int, width: int) -> Canvas:
    """A texture between a darker and a lighter shade of one color, with a broad gradient of light."""
    texture = choose(rng, TEXTURES)
    field = texture(rng, width, height).T if rng.integers(2) else texture(rng, height, width)
    base = np.array(choose(rng, BACKGROUND_COLORS)) + rng.integers(-14, 15, 3)
    depth = int(rng.integers(14, 34))
    light = (make_noise(rng, height, width, ((128, 128),)) - 128) // 8
    return np.clip(base + ((field - 128) * depth // 128 + light)[..., None], 0, 255)


def blend_layer(canvas: Canvas, layer: Layer, x: int, y: int) -> None:
    """Blend a layer into the canvas, its (0, 0) at pixel (x, y), clipped to the canvas."""
    left, top, right, bottom = layer.window
    x0, y0 = max(left + x, 0), max(top + y, 0)
    x1, y1 = min(right + x, canvas.shape[1]), min(bottom + y, canvas.shape[0])
    if x0 >= x1 or y0 >= y1:
        return
    inside = (slice(y0 - top - y, y1 - top - y), slice(x0 - left - x, x1 - left - x))
    alpha = layer.alpha[inside][..., None]
    rgb = np.array(layer.rgb) if isinstance(layer.rgb, tuple) else layer.rgb[inside]
    canvas[y0:y1, x0:x1] = (canvas[y0:y1, x0:x1] * (255 - alpha) + rgb * alpha + 127) // 255


def paint_clutter(rng: Rng, canvas: Canvas) -> None:
    """Draw background clutter below the parts: scratches, stains, scribbles, crumbs."""
    height, width = canvas.shape[:2]
    for _ in range(int(rng.integers(3, 10))):
        x, y, angle = uniform(rng, 0, width), uniform(rng, 0, height), uniform(rng, 0, 2 * math.pi)
        kind, points = int(rng.integers(4)), [(x, y)]
        if kind == 0:
            length = uniform(rng, 30, 150)
            points.append((x + length * math.cos(angle), y + length * math.sin(angle)))
        elif kind == 1:
            for _ in range(int(rng.integers(6, 16))):
                angle += uniform(rng, -1.1, 1.1)
                points.append((points[-1][0] + 6 * math.cos(angle), points[-1][1] + 6 * math.sin(angle)))
        stroke = uniform(rng, 1, 2.4)
        radius = uniform(rng, 2, 8)
        shape = make_ribbon(points, stroke, stroke) if kind < 2 else make_rough_circle(rng, x, y, radius)
        window = pad_to_pixels(compute_extent([shape]), 1)
        tone = choose(rng, ((20, 20, 24), (244, 242, 236), (110, 60, 50), (50, 80, 120)))
        alpha = count_samples(fill_polygons([shape], window)) * int(rng.integers(60, 150)) // (SUBSAMPLES * SUBSAMPLES)
        blend_layer(canvas, Layer(window, alpha, tone), 0, 0)


def boxes_overlap(a: tuple[float, ...], b: tuple[float, ...], gap: float) -> bool:
    """Whether two boxes overlap or are less than `gap` pixels apart."""
    return a[0] < b[2] + gap and b[0] < a[2] + gap and a[1] < b[3] + gap and b[1] < a[3] + gap


def compute_iou(a: Box, b: Box) -> float:
    """IoU of two boxes with a non-zero area."""
    sides = [min(a[k + 2], b[k + 2]) - max(a[k], b[k]) for k in (0, 1)]
    shared = max(sides[0], 0.0) * max(sides[1], 0.0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return shared / (sum(areas) - shared)


def translate(window: tuple[float, ...], x: int, y: int) -> tuple[float, ...]:
    """The window moved by (x, y)."""
    return window[0] + x, window[1] + y, window[2] + x, window[3] + y


def view_under(owner: NDArray[np.int64], item: PlacedPart) -> NDArray[np.int64]:
    """The part of `owner`, which is padded by PAD pixels on each side, that lies below the part's window."""
    left, top, right, bottom = item.part.window
    return owner[top + item.y + PAD : bottom + item.y + PAD, left + item.x + PAD : right + item.x + PAD]


def fits_scene(owner: NDArray[np.int64], placed: list[PlacedPart], item: PlacedPart) -> bool:
    """Whether the part keeps its distance from the others, or hides at most 20% of intact ones."""
    reach = translate(item.part.reach, item.x, item.y)
    near = [k for k, p in enumerate(placed) if boxes_overlap(reach, translate(p.part.reach, p.x, p.y), 5)]
    for k in near:
        other = placed[k]
        solid = other.part.state == "intact" and item.part.state in ("intact", "damaged")
        if not solid or compute_iou(item.box_xyxy, other.box_xyxy) > 0.15:
            return False
        seen = (owner == k).sum() - ((view_under(owner, item) == k) & item.part.shape).sum()
        if seen * 10 < other.part.shape.sum() * 8:
            return False
    return True


def make_scene(rng: Rng, width: int, height: int, inset: int, count: int) -> Scene:
    """A scene with up to `count` parts, whose boxes lie at least `inset` + 2 pixels from the border."""
    canvas = paint_background(rng, height, width)
    paint_clutter(rng, canvas)
    luminance = compute_luminance([int(canvas[..., k].sum()) // (height * width) for k in range(3)])
    light: Light = (choose(rng, (-1, 1)), -1)
    owner = np.full((height + 2 * PAD, width + 2 * PAD), -1)
    placed: list[PlacedPart] = []
    for _ in range(count):
        label, state = choose(rng, LABELS), choose(rng, STATES)
        low, high = SIZES[label]
        size = uniform(rng, low if state == "intact" else max(low, MIN_SIZE_WITH_STATE), high)
        part = make_part(rng, label, state, size, background=luminance, light=light)
        left, top, right, bottom = pad_to_pixels(part.box_xyxy, inset + 2)
        for _ in range(40):
            x, y = int(rng.integers(-left, width - right + 1)), int(rng.integers(-top, height - bottom + 1))
            item = PlacedPart(part, x, y)
            if fits_scene(owner, placed, item):
                for layer in part.layers:
                    blend_layer(canvas, layer, item.x, item.y)
                view_under(owner, item)[part.shape] = len(placed)
                placed.append(item)
                break
    return Scene(canvas, placed)
