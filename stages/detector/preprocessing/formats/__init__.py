"""The dataset formats that can be read: one module a format, each with one function `read`."""

from __future__ import annotations

from detector.preprocessing.formats import archive, coco, jsonl, parts, voc, yolo
from detector.preprocessing.raw_annotations import Reader

READERS: dict[str, Reader] = {
    "jsonl": jsonl.read,
    "parts": parts.read,
    "coco": coco.read,
    "voc": voc.read,
    "yolo": yolo.read,
    "archive": archive.read,
}
