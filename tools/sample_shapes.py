"""Geometry of the sample dataset: exact polygon filling and the outlines of the four classes.

Coordinates are snapped to 1/16 px; everything after that is integer arithmetic, so the same NumPy version
draws the same bytes on every processor. Coordinates are in pixels unless stated otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
Color = tuple[int, int, int]
Polygon = list[tuple[float, float]]
Window = tuple[int, int, int, int]  # left, top, right, bottom in whole pixels
Box = tuple[float, float, float, float]  # left, top, right, bottom
Rng = np.random.Generator
T = TypeVar("T")

SUBSAMPLES = 4  # per axis
UNITS_PER_PIXEL = 16  # snapped units, per axis
LABELS = ("bolt", "gear", "plate", "ring")


def uniform(rng: Rng, low: float, high: float) -> float:
    """Draw from [low, high); in plain Python arithmetic, which no compiler fuses."""
    return low + (high - low) * float(rng.random())


def choose(rng: Rng, options: Sequence[T]) -> T:
    """Draw one of the options with equal probability."""
    return options[int(rng.integers(len(options)))]


def compute_luminance(color: Sequence[int]) -> int:
    """Luminance of an RGB color, 0 to 255."""
    return (299 * color[0] + 587 * color[1] + 114 * color[2]) // 1000


def snap_to_grid(polygon: Polygon) -> NDArray[np.int64]:
    """Vertices [n, 2] in 1/16 px. Adding 0.49 instead of 0.5 avoids ties such as sin 30° * 1 px."""
    return np.floor(np.array(polygon) * UNITS_PER_PIXEL + 0.49).astype(np.int64)


def fill_polygons(polygons: list[Polygon], window: Window) -> Mask:
    """Even-odd fill of all polygons: bool [height * SUBSAMPLES, width * SUBSAMPLES] samples of the window."""
    left, top, right, bottom = window
    height, width = (bottom - top) * SUBSAMPLES, (right - left) * SUBSAMPLES
    corners = [snap_to_grid(polygon) - (left * UNITS_PER_PIXEL, top * UNITS_PER_PIXEL) for polygon in polygons]
    edges = np.concatenate([np.hstack([points, np.roll(points, -1, axis=0)]) for points in corners])
    edges = np.where(edges[:, :1] > edges[:, 2:3], edges[:, [2, 3, 0, 1]], edges)
    x0, y0, x1, y1 = edges.T
    step, half = UNITS_PER_PIXEL // SUBSAMPLES, UNITS_PER_PIXEL // SUBSAMPLES // 2
    first = np.clip(-((half - x0) // step), 0, width)  # sample columns [first, last) that the edge crosses
    counts = np.clip(-((half - x1) // step), 0, width) - first
    edge = np.repeat(np.arange(len(edges)), counts)
    column = first[edge] + np.arange(len(edge)) - np.repeat(np.cumsum(counts) - counts, counts)
    run = (x1 - x0)[edge]
    rise = (y0 - half)[edge] * run + (column * step + half - x0[edge]) * (y1 - y0)[edge]
    row = np.clip(-(-rise // (step * run)), 0, height)
    crossings = np.bincount(row * width + column, minlength=(height + 1) * width)
    parity = (crossings & 1).astype(bool).reshape(height + 1, width)[:height]
    return np.bitwise_xor.accumulate(parity, axis=0)


def count_samples(mask: Mask) -> NDArray[np.int64]:
    """Count the set samples of each pixel: [h * SUBSAMPLES, w * SUBSAMPLES] -> [h, w]."""
    return sum_blocks(mask.view(np.uint8))


def sum_blocks(samples: NDArray[np.generic]) -> NDArray[np.int64]:
    """Sum the samples of each pixel: [h * SUBSAMPLES, w * SUBSAMPLES] -> [h, w]."""
    height, width = samples.shape[0] // SUBSAMPLES, samples.shape[1] // SUBSAMPLES
    rows = samples.reshape(height, SUBSAMPLES, width * SUBSAMPLES).sum(axis=1, dtype=np.int64)
    counts: NDArray[np.int64] = rows.reshape(height, width, SUBSAMPLES).sum(axis=2, dtype=np.int64)
    return counts


def erode(mask: Mask, samples: int) -> Mask:
    """Remove a rim of about `samples` samples; the shape must keep that distance from the mask's border."""
    slant = samples * 7 // 10
    steps = [(samples, 0), (0, samples), (slant, slant), (slant, -slant)]
    result = mask.copy()
    for dy, dx in steps:
        result &= np.roll(mask, (dy, dx), axis=(0, 1))
        result &= np.roll(mask, (-dy, -dx), axis=(0, 1))
    return result


def make_circle(radius: float, points: int = 48) -> Polygon:
    """A regular polygon that approximates a circle."""
    angles = [2 * math.pi * k / points for k in range(points)]
    return [(radius * math.cos(angle), radius * math.sin(angle)) for angle in angles]


def outline_bolt(rng: Rng) -> tuple[list[Polygon], list[Polygon]]:
    """A bolt from the side: wide head, slim shaft; details: threads."""
    head, shaft, neck = uniform(rng, 0.42, 0.5), uniform(rng, 0.2, 0.24), uniform(rng, -0.55, -0.45)
    upper = [(-1.0, head - 0.12), (-0.92, head), (neck, head), (neck, shaft)]
    upper += [(0.92, shaft), (1.0, shaft - 0.09)]
    outline = upper + [(x, -y) for x, y in reversed(upper)]
    starts = [neck + 0.3 + 0.16 * k for k in range(7)]
    threads = [[(x, shaft), (x + 0.06, shaft), (x + 0.14, -shaft), (x + 0.08, -shaft)] for x in starts]
    tops = (0.05 - head / 2, head / 2)
    ridges = [[(-0.97, y), (neck, y), (neck, y - 0.05), (-0.97, y - 0.05)] for y in tops]
    return [outline], [thread for thread in threads if thread[0][0] < 0.84] + ridges


def outline_gear(rng: Rng) -> tuple[list[Polygon], list[Polygon]]:
    """A toothed wheel with a bore; detail: a groove."""
    teeth, root = int(rng.integers(8, 12)), uniform(rng, 0.72, 0.77)
    outline = []
    for tooth in range(teeth):
        for fraction, radius in ((0.0, root), (0.22, root), (0.34, 1.0), (0.66, 1.0), (0.78, root)):
            angle = 2 * math.pi * (tooth + fraction) / teeth
            outline.append((radius * math.cos(angle), radius * math.sin(angle)))
    bore = uniform(rng, 0.24, 0.32)
    return [outline, make_circle(bore)], [make_circle(root - 0.12), make_circle(root - 0.18)]


def outline_plate(rng: Rng) -> tuple[list[Polygon], list[Polygon]]:
    """A rectangle with cut corners and a hole in each; detail: a stamped frame."""
    tall, cut = uniform(rng, 0.58, 0.82), 0.1
    corner = [(1.0, tall - cut), (1.0 - cut, tall)]
    outline = corner + [(-x, y) for x, y in reversed(corner)]
    outline += [(-x, -y) for x, y in outline]
    centers = [(sx * 0.76, sy * (tall - 0.24)) for sx in (-1, 1) for sy in (-1, 1)]
    holes = [[(x + dx, y + dy) for x, y in make_circle(0.11, 20)] for dx, dy in centers]
    stamp = ((0.56, 0.3), (-0.56, 0.3), (-0.56, -0.3), (0.56, -0.3))
    return [outline, *holes], [[(x * scale, y * scale) for x, y in stamp] for scale in (1.0, 0.86)]


def outline_ring(rng: Rng) -> tuple[list[Polygon], list[Polygon]]:
    """A washer."""
    return [make_circle(1.0, 64), make_circle(uniform(rng, 0.5, 0.62))], []


OUTLINES: dict[str, Callable[[Rng], tuple[list[Polygon], list[Polygon]]]] = {
    "bolt": outline_bolt,
    "gear": outline_gear,
    "plate": outline_plate,
    "ring": outline_ring,
}


def rotate_and_scale(polygons: list[Polygon], angle: float, scale: float, center: tuple[float, float]) -> list[Polygon]:
    """Rotate by `angle` radians, scale, and move `center` (of the rotated and scaled points) to (0, 0)."""
    cosine, sine, (cx, cy) = scale * math.cos(angle), scale * math.sin(angle), center
    return [[(x * cosine - y * sine - cx, x * sine + y * cosine - cy) for x, y in p] for p in polygons]


def compute_extent(polygons: list[Polygon]) -> Box:
    """The bounding box (left, top, right, bottom) of the snapped polygons, in pixels."""
    points = np.concatenate([snap_to_grid(polygon) for polygon in polygons])
    low, high = points.min(axis=0) / UNITS_PER_PIXEL, points.max(axis=0) / UNITS_PER_PIXEL
    return float(low[0]), float(low[1]), float(high[0]), float(high[1])


def pad_to_pixels(box_xyxy: Box, pad: int) -> Window:
    """The whole pixels that contain the box, plus `pad` on each side."""
    left, top, right, bottom = box_xyxy
    return math.floor(left) - pad, math.floor(top) - pad, math.ceil(right) + pad, math.ceil(bottom) + pad


def make_ribbon(points: Polygon, start: float, end: float) -> Polygon:
    """A line whose width goes from `start` to `end` pixels, as a polygon."""
    left, right = [], []
    for k, (x, y) in enumerate(points):
        (ax, ay), (bx, by) = points[max(k - 1, 0)], points[min(k + 1, len(points) - 1)]
        length = math.hypot(bx - ax, by - ay) or 1.0
        half = (start + (end - start) * k / (len(points) - 1)) / 2
        dx, dy = (ay - by) / length * half, (bx - ax) / length * half
        left.append((x + dx, y + dy))
        right.append((x - dx, y - dy))
    return left + right[::-1]


def make_rough_circle(rng: Rng, x: float, y: float, radius: float, points: int = 11) -> Polygon:
    """A jagged blob around (x, y)."""
    radii = [radius * uniform(rng, 0.72, 1.2) for _ in range(points)]
    angles = [2 * math.pi * k / points for k in range(points)]
    return [(x + r * math.cos(a), y + r * math.sin(a)) for r, a in zip(radii, angles, strict=True)]


def sample_outline(polygon: Polygon, fractions: Sequence[float]) -> list[tuple[float, float, float, float]]:
    """Points at the given fractions (0 to 1) of the outline's length, with unit tangents: (x, y, tx, ty)."""
    ends = polygon[1:] + polygon[:1]
    lengths = [math.dist(a, b) for a, b in zip(polygon, ends, strict=True)]
    points = []
    for fraction in fractions:
        rest, edge = fraction % 1.0 * sum(lengths), 0
        while edge < len(lengths) - 1 and rest > lengths[edge]:
            rest -= lengths[edge]
            edge += 1
        (ax, ay), (bx, by), length = polygon[edge], ends[edge], lengths[edge] or 1.0
        tx, ty = (bx - ax) / length, (by - ay) / length
        points.append((ax + rest * tx, ay + rest * ty, tx, ty))
    return points
