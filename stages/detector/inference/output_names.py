"""Names of output files, made from those of the inputs."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from detector.inference.decoding import DecodedImage
from detector.inference.inputs import name_input


def name_picture(decoded: DecodedImage, root: Path) -> str:
    """Return the name of an image relative to the root of the inputs; `clip.mp4/000012.jpg` for a video's frame."""
    name = name_input(decoded.path, root)
    return name if decoded.frame is None else f"{name}/{decoded.frame.number:06d}.jpg"


class StemNames:
    """Names without their suffix, each given out once."""

    def __init__(self) -> None:
        self.given: set[str] = set()

    def choose(self, name: str) -> str:
        """Return the name without suffix; if a.jpg has taken `a`, then `a.png`, and so on."""
        path = PurePosixPath(name)
        stem, number = path.with_suffix("").as_posix(), 1
        while stem in self.given:
            stem = name if number == 1 else f"{name}_{number}"
            number += 1
        self.given.add(stem)
        return stem


def name_folders(names: list[str]) -> list[str]:
    """Return a different folder name for each class; what a file system may refuse becomes `_`."""
    folders: list[str] = []
    for name in names:
        safe = re.sub(r"[^\w .+()-]", "_", name).strip(" .")[:100] or "_"
        number, folder = 1, safe
        while folder in folders:
            number += 1
            folder = f"{safe}_{number}"
        folders.append(folder)
    return folders
