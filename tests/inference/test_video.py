"""Videos: what is written is read back, and broken ones are told of."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detector.core.errors import UserError
from detector.inference.decoding import Asked, Problem, Seen, see_all
from detector.inference.inputs import Input
from detector.inference.video import Film, Frame, Unreadable, count_frames, opencv, read_frames
from detector.runners.tiled import ModelMetadata

COUNT, SIZE = 30, (96, 64)
ASKED = Asked(ModelMetadata("m", ["a"], [], (64, 64), (0, 0, 0), ""), pixels=False, frames=False)


def write(path: Path, count: int = COUNT) -> Path:
    """Frames that grow redder."""
    film = Film(path, 10.0, SIZE)
    for number in range(count):
        film.add(Image.new("RGB", SIZE, (number * 8, 0, 0)))
    film.close()
    return path


def test_frames_come_in_order_with_their_time(tmp_path: Path) -> None:
    path = write(tmp_path / "deep" / "clip.mp4")
    assert [file.name for file in path.parent.iterdir()] == ["clip.mp4"]
    assert count_frames(path) == COUNT
    frames = list(read_frames(Input(path, "video")))
    assert [frame for frame, _ in frames] == [Frame(number + 1, number / 10, 10.0) for number in range(COUNT)]
    reds = [int(np.asarray(image)[32, 48, 0]) for _, image in frames]
    assert reds == pytest.approx([number * 8 for number in range(COUNT)], abs=12)
    assert np.asarray(frames[-1][1])[32, 48, 2] < 20, "red is not blue"


def test_a_broken_video(tmp_path: Path) -> None:
    whole = write(tmp_path / "clip.mkv").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(write(tmp_path / "clip.mp4").read_bytes()[:1000])
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "cut.mkv").write_bytes(whole[: len(whole) // 2])
    for name in ("cut.mp4", "text.mp4", "empty.mp4", "missing.mp4"):
        assert count_frames(tmp_path / name) == 0
        with pytest.raises(Unreadable, match="not a video, or a broken one"):
            next(read_frames(Input(tmp_path / name, "video")))
    frames = []
    with pytest.raises(Unreadable, match=rf"it ended after \d+ of {COUNT} frames"):
        frames.extend(read_frames(Input(tmp_path / "cut.mkv", "video")))


def test_a_camera_that_is_not_there() -> None:
    with pytest.raises(Unreadable, match="no such camera"):
        next(read_frames(Input(Path("99"), "camera")))


def test_videos_among_images(tmp_path: Path) -> None:
    clip = write(tmp_path / "clip.mp4", 3)
    (tmp_path / "broken.mp4").write_text("")
    Image.new("RGB", (5, 5)).save(tmp_path / "a.png")
    paths = [tmp_path / "a.png", clip, tmp_path / "broken.mp4", clip]
    inputs = [Input(path, "image" if path.suffix == ".png" else "video") for path in paths]
    seen = list(see_all(inputs, ASKED, 2, 2))
    assert [one.path.name for one in seen] == ["a.png", *["clip.mp4"] * 3, "broken.mp4", *["clip.mp4"] * 3]
    assert [type(one) for one in seen] == [Seen] * 4 + [Problem] + [Seen] * 3
    assert [one.frame.number for one in seen if isinstance(one, Seen) and one.frame] == [1, 2, 3] * 2
    assert all(one.image is None for one in seen if isinstance(one, Seen)), "kept only where it is needed"


def test_without_opencv(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(UserError, match=r"videos and cameras need OpenCV.*pip install opencv-python-headless"):
        opencv()


def test_a_video_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").mkdir()
    with pytest.raises(UserError, match=r"odd\.xyz: OpenCV cannot write this video"):
        Film(tmp_path / "odd.xyz", 10.0, SIZE)
    film = Film(tmp_path / "full.mp4", 10.0, SIZE)
    film.add(Image.new("RGB", SIZE))
    film.part.unlink()  # as if the disk had been full from the start
    with pytest.raises(UserError, match=r"full\.mp4: the video could not be written to its end"):
        film.close()
