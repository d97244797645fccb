"""The parts of the sample dataset, drawn in one of four states: intact, damaged, absent, occluded."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sample_shapes import (
    OUTLINES,
    SUBSAMPLES,
    Box,
    Color,
    Mask,
    Polygon,
    Rng,
    Window,
    choose,
    compute_extent,
    compute_luminance,
    count_samples,
    erode,
    fill_polygons,
    make_ribbon,
    make_rough_circle,
    pad_to_pixels,
    rotate_and_scale,
    sample_outline,
    sum_blocks,
    uniform,
)

Light = tuple[int, int]  # where the light comes from: (±1, ±1)
Mark = tuple[Mask, int]  # samples and their tone: -255 black, 0 the part's own color, 255 white

PART_COLORS: tuple[Color, ...] = (
    (186, 192, 200),
    (62, 66, 76),
    (208, 166, 70),
    (188, 108, 66),
    (190, 52, 46),
    (48, 92, 176),
    (58, 140, 82),
    (228, 194, 56),
    (232, 232, 226),
    (40, 150, 160),
    (122, 70, 140),
)
COVER_COLORS: tuple[Color, ...] = (
    (200, 160, 104),
    (60, 56, 68),
    (70, 124, 196),
    (238, 234, 222),
    (226, 190, 60),
)


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of paint over a window: `alpha` [h, w] from 0 to 255, `rgb` [h, w, 3] or one color."""

    window: Window
    alpha: NDArray[np.int64]
    rgb: NDArray[np.int64] | Color


@dataclass(frozen=True, slots=True)
class Part:
    """A drawn part centered at (0, 0), in pixels.

    box_xyxy: extent of the whole shape, including damaged, hidden or absent areas.
    shape: bool [h, w], the pixels of `window` that the whole shape covers at least half.
    reach: extent of everything drawn except shadows.
    """

    label: str
    state: str
    box_xyxy: Box
    reach: Window
    window: Window
    shape: Mask
    layers: list[Layer]


def draw_shadow(mask: Mask, window: Window, light: Light, depth: int) -> Layer:
    """Draw a soft shadow, `depth` pixels long, on the side away from the light."""
    count = count_samples(mask)
    steps = [np.roll(count, (-light[1] * k, -light[0] * k), axis=(0, 1)) for k in range(1, depth + 1)]
    return Layer(window, sum(steps[1:], steps[0]) * 120 // (depth * SUBSAMPLES * SUBSAMPLES), (12, 12, 16))


def draw_body(mask: Mask, window: Window, color: Color, light: Light, marks: list[Mark]) -> Layer:
    """Draw a solid part: oblique light, bevel, marks, outline."""
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
    count = count_samples(mask)
    mean = (sum_blocks(tone) // np.maximum(count, 1))[..., None]
    base = np.array(color)
    rgb = base + np.where(mean < 0, base, 255 - base) * mean // 255
    return Layer(window, count * 255 // (SUBSAMPLES * SUBSAMPLES), rgb)


def draw_damage(rng: Rng, outline: Polygon, full: Mask, window: Window, dark: bool) -> tuple[Mask, list[Mark]]:
    """Remove a chunk and crack the rest to the opposite rim; return the remaining mask and the crack's marks."""
    start = uniform(rng, 0, 1)
    (x, y, _, _), (ex, ey, _, _) = sample_outline(outline, (start, start + uniform(rng, 0.42, 0.58)))
    radius = max(5.0, 0.27 * math.sqrt(int(full.sum())) / SUBSAMPLES)
    remaining = full & ~fill_polygons([make_rough_circle(rng, x, y, radius)], window)
    length = math.dist((x, y), (ex, ey)) or 1.0
    nx, ny = (y - ey) / length, (ex - x) / length
    points = []
    for k in range(8):
        aside, along = (uniform(rng, 0.3, 1) * radius * 0.4 * (-1) ** k if k else 0.0), k / 7
        points.append((x + (ex - x) * along + nx * aside, y + (ey - y) * along + ny * aside))
    width = max(2.6, radius * 0.28)
    crack = fill_polygons([make_ribbon(points, width, width * 0.5)], window)
    glint = np.roll(crack, (3, 3), axis=(0, 1))
    return remaining, [(glint, -90 if dark else 90), (crack, 190 if dark else -235)]


def draw_imprint(polygons: list[Polygon], full: Mask, window: Window, ink: Color, size: float) -> list[Layer]:
    """Draw the place of an absent part: a faint imprint and a dashed outline."""
    stroke = max(1.5, size * 0.032)
    band = full & ~erode(full, round(stroke * SUBSAMPLES))
    gaps = []
    for polygon in polygons:
        perimeter = sum(math.dist(a, b) for a, b in zip(polygon, polygon[1:] + polygon[:1], strict=True))
        if perimeter < size / 2:
            continue  # a small hole keeps a solid rim
        dashes = max(5, round(perimeter / max(6.5, size * 0.11)))
        for x, y, tx, ty in sample_outline(polygon, [k / dashes for k in range(dashes)]):
            half, out = perimeter / dashes * 0.21, 1.7 * stroke
            along = [(x - tx * half, y - ty * half), (x + tx * half, y + ty * half)]
            gaps.append([(px - ty * out, py + tx * out) for px, py in along])
            gaps[-1] += [(px + ty * out, py - tx * out) for px, py in reversed(along)]
    band &= ~(fill_polygons(gaps[::2], window) | fill_polygons(gaps[1::2], window))  # neighbors may meet at a corner
    imprint = Layer(window, count_samples(full) * 26 // (SUBSAMPLES * SUBSAMPLES), (20, 20, 20))
    return [imprint, Layer(window, count_samples(band) * 225 // (SUBSAMPLES * SUBSAMPLES), ink)]


def draw_cover(rng: Rng, shape: Mask, window: Window, color: Color, light: Light) -> tuple[list[Layer], Window]:
    """Draw a strip or sheet over 30 to 50% of the shape's pixels; return its layers and extent."""
    angle, fraction = uniform(rng, 0, 2 * math.pi), uniform(rng, 0.36, 0.45)
    nx, ny = math.cos(angle), math.sin(angle)
    rows, columns = np.nonzero(shape)
    places = list(zip((columns + window[0] + 0.5).tolist(), (rows + window[1] + 0.5).tolist(), strict=True))
    depths = sorted(x * nx + y * ny for x, y in places)
    sides = [y * nx - x * ny for x, y in places]
    sheet = bool(rng.integers(2))
    start = 0.0 if sheet else uniform(rng, 0.12, 0.88 - fraction)
    low = depths[int(start * len(depths))] - (uniform(rng, 4, 9) if sheet else 0)
    high = depths[int((start + fraction) * len(depths))]
    first, last = min(sides) - uniform(rng, 4, 12), max(sides) + uniform(rng, 4, 12)

    def to_xy(depth: float, side: float) -> tuple[float, float]:
        return depth * nx - side * ny, depth * ny + side * nx

    outline = [to_xy(low, first), to_xy(high, first), to_xy(high, last), to_xy(low, last)]
    outer = pad_to_pixels(compute_extent([outline]), 8)
    mask = fill_polygons([outline], outer)
    marks = []
    if rng.integers(2):
        pitch = (last - first) / round((last - first) / uniform(rng, 8, 14))
        starts = [first + k * pitch for k in range(round((last - first) / pitch))]
        half = pitch / 2
        lines = [[to_xy(low, s), to_xy(low, s + half), to_xy(high, s + pitch), to_xy(high, s + half)] for s in starts]
        marks.append((fill_polygons(lines, outer), -190 if compute_luminance(color) > 120 else 150))
    layers = [draw_shadow(mask, outer, light, 4), draw_body(mask, outer, color, light, marks)]
    return layers, pad_to_pixels(compute_extent([outline]), 0)


def orient_outline(rng: Rng, label: str, size: float) -> tuple[list[Polygon], list[Polygon]]:
    """Outline and details at a random angle; the outline's box is centered, its longer side `size` pixels."""
    outline, details = OUTLINES[label](rng)
    angle = uniform(rng, 0, 2 * math.pi)
    left, top, right, bottom = compute_extent(rotate_and_scale(outline, angle, 100, (0, 0)))
    scale = size / max(right - left, bottom - top)
    center = ((left + right) / 2 * scale, (top + bottom) / 2 * scale)
    return rotate_and_scale(outline, angle, scale * 100, center), rotate_and_scale(details, angle, scale * 100, center)


def make_part(rng: Rng, label: str, state: str, size: float, *, background: int, light: Light) -> Part:
    """Draw a part whose box has a longer side of `size` pixels, in contrast to a `background` luminance (0 to 255)."""
    outline, details = orient_outline(rng, label, size)
    box_xyxy = compute_extent(outline)
    window, reach = pad_to_pixels(box_xyxy, 8), pad_to_pixels(box_xyxy, 0)
    full = fill_polygons(outline, window)
    shape = count_samples(full) * 2 >= SUBSAMPLES * SUBSAMPLES
    if state == "absent":
        ink = (250, 250, 244) if background < 130 else (24, 24, 30)
        layers = draw_imprint(outline, full, window, ink, size)
        return Part(label, state, box_xyxy, reach=reach, window=window, shape=shape, layers=layers)
    color = choose(rng, [c for c in PART_COLORS if abs(compute_luminance(c) - background) >= 50])
    dark = compute_luminance(color) < 100
    solid = full
    marks = [(fill_polygons(details, window), 85 if dark else -95)] if details else []
    if state == "damaged":
        solid, crack = draw_damage(rng, outline[0], full, window, dark)
        marks += crack
    layers = [draw_shadow(solid, window, light, 4), draw_body(solid, window, color, light, marks)]
    if state == "occluded":
        other = choose(rng, [c for c in COVER_COLORS if abs(compute_luminance(c) - compute_luminance(color)) >= 40])
        above, (left, top, right, bottom) = draw_cover(rng, shape, window, other, light)
        layers += above
        reach = min(left, reach[0]), min(top, reach[1]), max(right, reach[2]), max(bottom, reach[3])
    return Part(label, state, box_xyxy, reach=reach, window=window, shape=shape, layers=layers)
