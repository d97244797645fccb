"""Videos are written, read back, and reported when broken."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detector.core.errors import UserError
from detector.inference.decoding import DecodedImage, DecodeOptions, UnreadableInput, decode_ahead
from detector.inference.inputs import Input
from detector.inference.video import Frame, VideoError, VideoWriter, count_frames, import_opencv, read_frames
from detector.runners.model_metadata import ModelMetadata

COUNT, SIZE = 30, (96, 64)
OPTIONS = DecodeOptions(
    ModelMetadata(model="m", classes=["a"], states=[], size=(64, 64), fill=(0, 0, 0), data=""),
    keep_full_size=False,
    keep_frames=False,
)


def write_video(path: Path, count: int = COUNT) -> Path:
    """Write frames of increasing red."""
    video = VideoWriter(path, 10.0, SIZE)
    for number in range(count):
        video.add(Image.new("RGB", SIZE, (number * 8, 0, 0)))
    video.close()
    return path


def test_frames_are_in_order_with_their_time(tmp_path: Path) -> None:
    path = write_video(tmp_path / "deep" / "clip.mp4")
    assert [file.name for file in path.parent.iterdir()] == ["clip.mp4"]
    assert count_frames(path) == COUNT
    frames = list(read_frames(Input(path, "video")))
    assert [frame for frame, _ in frames] == [Frame(number + 1, number / 10, 10.0) for number in range(COUNT)]
    reds = [int(np.asarray(image)[32, 48, 0]) for _, image in frames]
    assert reds == pytest.approx([number * 8 for number in range(COUNT)], abs=12)
    assert np.asarray(frames[-1][1])[32, 48, 2] < 20, "red is not blue"


def test_a_broken_video(tmp_path: Path) -> None:
    whole = write_video(tmp_path / "clip.mkv").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(write_video(tmp_path / "clip.mp4").read_bytes()[:1000])
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "cut.mkv").write_bytes(whole[: len(whole) // 2])
    for name in ("cut.mp4", "text.mp4", "empty.mp4", "missing.mp4"):
        assert count_frames(tmp_path / name) == 0
        with pytest.raises(VideoError, match="not a video, or a broken one"):
            next(read_frames(Input(tmp_path / name, "video")))
    frames: list[object] = []
    with pytest.raises(VideoError, match=rf"it ended after \d+ of {COUNT} frames"):
        frames.extend(read_frames(Input(tmp_path / "cut.mkv", "video")))


def test_a_missing_camera() -> None:
    with pytest.raises(VideoError, match="no such camera"):
        next(read_frames(Input(Path("99"), "camera")))


def test_videos_among_images(tmp_path: Path) -> None:
    clip = write_video(tmp_path / "clip.mp4", 3)
    (tmp_path / "broken.mp4").write_text("")
    Image.new("RGB", (5, 5)).save(tmp_path / "a.png")
    paths = [tmp_path / "a.png", clip, tmp_path / "broken.mp4", clip]
    inputs = [Input(path, "image" if path.suffix == ".png" else "video") for path in paths]
    decoded = list(decode_ahead(inputs, OPTIONS, 2, 2))
    assert [one.path.name for one in decoded] == ["a.png", *["clip.mp4"] * 3, "broken.mp4", *["clip.mp4"] * 3]
    assert [type(one) for one in decoded] == [DecodedImage] * 4 + [UnreadableInput] + [DecodedImage] * 3
    assert [one.frame.number for one in decoded if isinstance(one, DecodedImage) and one.frame] == [1, 2, 3] * 2
    assert all(one.image is None for one in decoded if isinstance(one, DecodedImage)), "kept only if needed"


@pytest.mark.parametrize(("name", "problem"), [("a\n.mp4", "U+000A"), ("a\udcff.mp4", "not UTF-8")])
def test_a_video_whose_name_results_cannot_contain(tmp_path: Path, name: str, problem: str) -> None:
    path = write_video(tmp_path / "clip.mp4", 3).rename(tmp_path / name)
    (unreadable,) = decode_ahead([Input(path, "video")], OPTIONS, 1, 1)
    assert isinstance(unreadable, UnreadableInput)
    assert problem in unreadable.reason
    assert count_frames(path) == 0


def test_without_opencv(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(UserError, match=r"OpenCV.*pip install opencv-python-headless"):
        import_opencv()


def test_a_video_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").mkdir()
    with pytest.raises(UserError, match=r"odd\.xyz: OpenCV cannot write"):
        VideoWriter(tmp_path / "odd.xyz", 10.0, SIZE)
    video = VideoWriter(tmp_path / "full.mp4", 10.0, SIZE)
    video.add(Image.new("RGB", SIZE))
    video.part.unlink()  # as if the disk had been full from the start
    with pytest.raises(UserError, match=r"full\.mp4: .*could not be written"):
        video.close()
