"""Videos there and back."""

import numpy as np
import pytest

from epl_d2.inference.video import VideoReader, VideoWriter


def frames(count: int, size: tuple[int, int]) -> list[np.ndarray]:
    """Flat colors, which the codec keeps."""
    return [np.full((*size, 3), (20 * number, 200, 255 - 20 * number), np.uint8) for number in range(count)]


@pytest.mark.parametrize("size", [(48, 64), (47, 65)])
def test_frames_come_back_in_order_and_color(tmp_path, size):
    path = tmp_path / "clip.mp4"
    writer = VideoWriter(path, rate=12.0)
    for frame in frames(8, size):
        writer.write(frame)
        assert not path.exists()  # nobody sees half a video
    writer.finish()
    writer.abandon()  # does nothing to a finished one
    assert [file.name for file in tmp_path.iterdir()] == ["clip.mp4"]

    reader = VideoReader(path)
    assert reader.rate == pytest.approx(12.0) and reader.announced == 8
    received = list(reader)
    reader.close()
    assert len(received) == 8
    for frame, expected in zip(received, frames(8, size), strict=True):
        assert frame.shape == (48, frame.shape[1], 3) and frame.shape[1] in (64, 66)
        np.testing.assert_allclose(frame[: size[0], : size[1]], expected, atol=8)


def test_an_abandoned_video_leaves_nothing(tmp_path):
    writer = VideoWriter(tmp_path / "clip.mp4", 10)
    writer.write(frames(1, (48, 64))[0])
    writer.abandon()
    assert not list(tmp_path.iterdir())


def test_frames_of_two_sizes_are_refused(tmp_path):
    writer = VideoWriter(tmp_path / "clip.mp4", 10)
    writer.write(frames(1, (48, 64))[0])
    with pytest.raises(ValueError, match=r"clip\.mp4: a frame of 32 x 48"):
        writer.write(frames(1, (48, 32))[0])
    writer.abandon()


def test_unwritable_and_unreadable_files_are_named(tmp_path):
    with pytest.raises(OSError, match=r"clip\.mp4"):
        VideoWriter(tmp_path / "nowhere" / "clip.mp4", 10).write(frames(1, (48, 64))[0])
    with pytest.raises(FileNotFoundError, match=r"nothing\.mp4"):
        VideoReader(tmp_path / "nothing.mp4")
    (tmp_path / "junk.mp4").write_bytes(b"junk")
    with pytest.raises(ValueError, match=r"junk\.mp4: not a readable video"):
        VideoReader(tmp_path / "junk.mp4")
