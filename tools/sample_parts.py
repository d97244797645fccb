"""The parts of the sample dataset, painted in one of four states: intact, damaged, absent, occluded."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sample_shapes import (
    OUTLINES,
    SUB,
    Box,
    Color,
    Mask,
    Polygon,
    Rng,
    Window,
    around,
    between,
    block_sum,
    erode,
    extent,
    fill,
    luminance,
    pick,
    ribbon,
    rough_circle,
    turned,
    walk,
)

Light = tuple[int, int]  # where the light comes from: (±1, ±1)
Mark = tuple[Mask, int]  # samples and the tone they take: -255 black, 0 the thing's colour, 255 white

PART_COLORS: tuple[Color, ...] = (
    (186, 192, 200), (62, 66, 76), (208, 166, 70), (188, 108, 66), (190, 52, 46), (48, 92, 176),
    (58, 140, 82), (228, 194, 56), (232, 232, 226), (40, 150, 160), (122, 70, 140),
)  # fmt: skip
COVER_COLORS: tuple[Color, ...] = (
    (200, 160, 104), (60, 56, 68), (70, 124, 196), (238, 234, 222), (226, 190, 60),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Layer:
    """One coat of paint over a window: `alpha` [h, w] from 0 to 255, `rgb` [h, w, 3] or one colour."""

    window: Window
    alpha: NDArray[np.int64]
    rgb: NDArray[np.int64] | Color


@dataclass(frozen=True, slots=True)
class Part:
    """A drawn part around its centre (0, 0), all in pixels.

    box_xyxy: extent of the whole shape, also where it is bitten off, hidden or absent.
    shape: bool [h, w], the pixels of `window` that the whole shape covers by half or more.
    reach: extent of everything drawn except shadows.
    """

    label: str
    state: str
    box_xyxy: Box
    reach: Window
    window: Window
    shape: Mask
    layers: list[Layer]


def cover_count(mask: Mask) -> NDArray[np.int64]:
    """How many of a pixel's SUB² samples are set: bool [h * SUB, w * SUB] -> [h, w]."""
    return block_sum(mask.view(np.uint8))


def shadow(mask: Mask, window: Window, light: Light, depth: int) -> Layer:
    """A soft shadow, `depth` pixels long, on the side away from the light."""
    count = cover_count(mask)
    steps = [np.roll(count, (-light[1] * k, -light[0] * k), axis=(0, 1)) for k in range(1, depth + 1)]
    return Layer(window, sum(steps[1:], steps[0]) * 120 // (depth * SUB * SUB), (12, 12, 16))


def body(mask: Mask, window: Window, color: Color, light: Light, marks: list[Mark]) -> Layer:
    """Paint a solid thing: slanted light, bevel, marks, outline."""
    height, width = mask.shape
    bevel = max(3, min(height, width) // 26)
    x, y = np.arange(-width, width, 2), np.arange(-height, height, 2)[:, None]
    tone = 40 * (x * light[0] + y * light[1]) // (width + height)
    tone[mask & ~np.roll(mask, (-light[1] * bevel, -light[0] * bevel), axis=(0, 1))] += 80
    tone[mask & ~np.roll(mask, (light[1] * bevel, light[0] * bevel), axis=(0, 1))] -= 60
    for samples, value in marks:
        tone[samples] = value
    tone[~erode(mask, 4)] = -175
    tone[~mask] = 0
    count = cover_count(mask)
    mean = (block_sum(tone) // np.maximum(count, 1))[..., None]
    base = np.array(color)
    rgb = base + np.where(mean < 0, base, 255 - base) * mean // 255
    return Layer(window, count * 255 // (SUB * SUB), rgb)


def damage(rng: Rng, outline: Polygon, full: Mask, window: Window, dark: bool) -> tuple[Mask, list[Mark]]:
    """Bite a chunk off and crack the rest to the opposite rim: what is left, the crack (light on `dark`)."""
    start = between(rng, 0, 1)
    (x, y, _, _), (ex, ey, _, _) = walk(outline, (start, start + between(rng, 0.42, 0.58)))
    radius = max(5.0, 0.27 * math.sqrt(int(full.sum())) / SUB)
    left = full & ~fill([rough_circle(rng, x, y, radius)], window)
    length = math.dist((x, y), (ex, ey)) or 1.0
    nx, ny = (y - ey) / length, (ex - x) / length
    points = []
    for k in range(8):
        aside, along = (between(rng, 0.3, 1) * radius * 0.4 * (-1) ** k if k else 0.0), k / 7
        points.append((x + (ex - x) * along + nx * aside, y + (ey - y) * along + ny * aside))
    width = max(2.6, radius * 0.28)
    crack = fill([ribbon(points, width, width * 0.5)], window)
    glint = np.roll(crack, (3, 3), axis=(0, 1))
    return left, [(glint, -90 if dark else 90), (crack, 190 if dark else -235)]


def ghost(polygons: list[Polygon], full: Mask, window: Window, ink: Color, size: float) -> list[Layer]:
    """The place where a part was: a faint imprint and a dashed outline."""
    stroke = max(1.5, size * 0.032)
    band = full & ~erode(full, round(stroke * SUB))
    gaps = []
    for polygon in polygons:
        perimeter = sum(math.dist(a, b) for a, b in zip(polygon, polygon[1:] + polygon[:1], strict=True))
        if perimeter < size / 2:
            continue  # a small hole keeps its full rim
        dashes = max(5, round(perimeter / max(6.5, size * 0.11)))
        for x, y, tx, ty in walk(polygon, [k / dashes for k in range(dashes)]):
            half, out = perimeter / dashes * 0.21, 1.7 * stroke
            along = [(x - tx * half, y - ty * half), (x + tx * half, y + ty * half)]
            gaps.append([(px - ty * out, py + tx * out) for px, py in along])
            gaps[-1] += [(px + ty * out, py - tx * out) for px, py in reversed(along)]
    band &= ~(fill(gaps[::2], window) | fill(gaps[1::2], window))  # neighbours may meet at a corner
    imprint = Layer(window, cover_count(full) * 26 // (SUB * SUB), (20, 20, 20))
    return [imprint, Layer(window, cover_count(band) * 225 // (SUB * SUB), ink)]


def cover(rng: Rng, shape: Mask, window: Window, color: Color, light: Light) -> tuple[list[Layer], Window]:
    """A strip or sheet over 30 to 50% of the shape's pixels, and its extent."""
    turn, share = between(rng, 0, 2 * math.pi), between(rng, 0.36, 0.45)
    nx, ny = math.cos(turn), math.sin(turn)
    rows, columns = np.nonzero(shape)
    places = list(zip((columns + window[0] + 0.5).tolist(), (rows + window[1] + 0.5).tolist(), strict=True))
    depths = sorted(x * nx + y * ny for x, y in places)
    sides = [y * nx - x * ny for x, y in places]
    sheet = bool(rng.integers(2))
    start = 0.0 if sheet else between(rng, 0.12, 0.88 - share)
    low = depths[int(start * len(depths))] - (between(rng, 4, 9) if sheet else 0)
    high = depths[int((start + share) * len(depths))]
    first, last = min(sides) - between(rng, 4, 12), max(sides) + between(rng, 4, 12)

    def at(depth: float, side: float) -> tuple[float, float]:
        return depth * nx - side * ny, depth * ny + side * nx

    outline = [at(low, first), at(high, first), at(high, last), at(low, last)]
    outer = around(extent([outline]), 8)
    mask = fill([outline], outer)
    marks = []
    if rng.integers(2):
        pitch = (last - first) / round((last - first) / between(rng, 8, 14))
        starts = [first + k * pitch for k in range(round((last - first) / pitch))]
        half = pitch / 2
        lines = [[at(low, s), at(low, s + half), at(high, s + pitch), at(high, s + half)] for s in starts]
        marks.append((fill(lines, outer), -190 if luminance(color) > 120 else 150))
    layers = [shadow(mask, outer, light, 4), body(mask, outer, color, light, marks)]
    return layers, around(extent([outline]), 0)


def oriented(rng: Rng, label: str, size: float) -> tuple[list[Polygon], list[Polygon]]:
    """Outline and details turned at random; the outline's box is centred, its longer side `size` pixels."""
    outline, details = OUTLINES[label](rng)
    angle = between(rng, 0, 2 * math.pi)
    left, top, right, bottom = extent(turned(outline, angle, 100, (0, 0)))
    scale = size / max(right - left, bottom - top)
    center = ((left + right) / 2 * scale, (top + bottom) / 2 * scale)
    return turned(outline, angle, scale * 100, center), turned(details, angle, scale * 100, center)


def make_part(rng: Rng, label: str, state: str, size: float, ground: int, light: Light) -> Part:
    """Draw a part with a box of `size` pixels, to stand out from a `ground` of that brightness (0 to 255)."""
    outline, details = oriented(rng, label, size)
    box_xyxy = extent(outline)
    window, reach = around(box_xyxy, 8), around(box_xyxy, 0)
    full = fill(outline, window)
    shape = cover_count(full) * 2 >= SUB * SUB
    if state == "absent":
        ink = (250, 250, 244) if ground < 130 else (24, 24, 30)
        return Part(label, state, box_xyxy, reach, window, shape, ghost(outline, full, window, ink, size))
    color = pick(rng, [c for c in PART_COLORS if abs(luminance(c) - ground) >= 50])
    dark = luminance(color) < 100
    solid = full
    marks = [(fill(details, window), 85 if dark else -95)] if details else []
    if state == "damaged":
        solid, crack = damage(rng, outline[0], full, window, dark)
        marks += crack
    layers = [shadow(solid, window, light, 4), body(solid, window, color, light, marks)]
    if state == "occluded":
        other = pick(rng, [c for c in COVER_COLORS if abs(luminance(c) - luminance(color)) >= 40])
        above, (left, top, right, bottom) = cover(rng, shape, window, other, light)
        layers += above
        reach = min(left, reach[0]), min(top, reach[1]), max(right, reach[2]), max(bottom, reach[3])
    return Part(label, state, box_xyxy, reach, window, shape, layers)
