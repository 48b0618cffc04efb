import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from epl_d2.data.label_io import make_label_map, read_image, read_label, read_record_label, unknown_ids


@pytest.fixture
def ids(rng) -> np.ndarray:
    return rng.choice([0, 1, 2, 15, 20, 255], (17, 23)).astype(np.uint8)


@pytest.mark.parametrize("palette", [None, [(7 * i + c) % 256 for i in range(256) for c in range(3)]])
def test_gray_and_palette_files_keep_their_ids(tmp_path, save, ids, palette):
    path = save(tmp_path / "label.png", ids, palette)
    assert Image.open(path).mode == ("L" if palette is None else "P")
    label = read_label(path)
    assert label.dtype == np.uint8
    np.testing.assert_array_equal(label, ids)


def test_sixteen_bit_files_keep_their_ids(tmp_path, save):
    ids = np.array([[0, 300, 26_001], [65_535, 1, 2]], dtype=np.uint16)
    np.testing.assert_array_equal(read_label(save(tmp_path / "label.png", ids)), ids)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_gray_files_of_few_bits_keep_their_ids(tmp_path, bits):
    """Pillow cannot write such files, so the PNG is put together by hand."""
    ids = np.arange(2**bits, dtype=np.uint8)[None].repeat(3, axis=0)
    path = tmp_path / "label.png"
    path.write_bytes(_gray_png(ids, bits))
    np.testing.assert_array_equal(read_label(path), ids)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("form", ["plain", "packed", "reversed"])
def test_gray_tiffs_of_few_bits_keep_their_ids(tmp_path, bits, form):
    """Nor does Pillow write these."""
    ids = np.arange(min(2**bits, 16), dtype=np.uint8)[None].repeat(3, axis=0)
    path = tmp_path / "label.tif"
    path.write_bytes(_gray_tiff(ids, bits, form))
    np.testing.assert_array_equal(read_label(path), ids)


def test_palette_files_of_few_bits_keep_their_ids(tmp_path, save):
    ids = np.array([[0, 1, 2, 3]] * 2, dtype=np.uint8)
    path = save(tmp_path / "label.png", ids, [0, 0, 0, 90, 0, 0, 0, 90, 0, 9, 9, 9], bits=2)
    np.testing.assert_array_equal(read_label(path), ids)


def test_label_map_is_applied(tmp_path, save, ids):
    path = save(tmp_path / "label.png", ids)
    label_map = make_label_map({0: 3, 20: 255}, default=7)
    expected = np.where(ids == 0, 3, np.where(ids == 20, 255, 7))
    np.testing.assert_array_equal(read_label(path, label_map=label_map), expected)
    unchanged = make_label_map({20: 4})
    record = {"sem_seg_file_name": str(path), "label_map": unchanged}
    np.testing.assert_array_equal(read_record_label(record), np.where(ids == 20, 4, ids))


def test_label_map_refuses_large_ids(tmp_path, save):
    path = save(tmp_path / "label.png", np.array([[256, 1]], dtype=np.uint16))
    with pytest.raises(ValueError, match=r"label\.png.*256"):
        read_label(path, label_map=make_label_map({}))


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_rgb_masks_are_decoded(tmp_path, save, rng, mode):
    colors = {(0, 0, 0): 255, (128, 0, 0): 0, (0, 0, 128): 1, (128, 0, 128): 2}
    table = np.array([*colors], dtype=np.uint8)
    choice = rng.integers(0, 4, (9, 11))
    picture = table[choice]
    if mode == "RGBA":
        picture = np.dstack([picture, np.full((9, 11), 255, np.uint8)])
    path = save(tmp_path / "mask.png", picture)
    expected = np.array([*colors.values()])[choice]
    np.testing.assert_array_equal(read_label(path, label_colors=colors), expected)


@pytest.mark.parametrize("ignore_value", [255, 256, 1000, 65_535, -1])
def test_rgb_masks_give_ids_of_any_size(tmp_path, save, rng, ignore_value):
    colors = {(k // 20, k % 20, 7): k for k in range(400)} | {(255, 255, 255): ignore_value}
    table = np.array([*colors], dtype=np.uint8)
    choice = rng.integers(0, 401, (30, 40))
    path = save(tmp_path / "mask.png", table[choice])
    np.testing.assert_array_equal(read_label(path, label_colors=colors), np.where(choice == 400, ignore_value, choice))


def test_rgb_masks_with_a_foreign_color_name_it(tmp_path, save):
    path = save(tmp_path / "mask.png", np.full((4, 4, 3), (1, 2, 3), np.uint8))
    with pytest.raises(ValueError, match=r"mask\.png: 16 pixels.*\(1, 2, 3\)"):
        read_label(path, label_colors={(0, 0, 0): 0})


def test_rgb_mask_without_palette_is_refused(tmp_path, save):
    path = save(tmp_path / "mask.png", np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(ValueError, match=r"mask\.png.*3 channels"):
        read_label(path)


def test_lossy_and_float_labels_are_refused(tmp_path, save):
    with pytest.raises(ValueError, match=r"label\.jpg.*lossy"):
        read_label(save(tmp_path / "label.jpg", np.zeros((8, 8), np.uint8)))
    with pytest.raises(ValueError, match=r"label\.tif.*lossy"):
        read_label(save(tmp_path / "label.tif", np.zeros((16, 16), np.uint8), compression="jpeg"))
    with pytest.raises(ValueError, match=r"label\.tif.*'F'"):
        read_label(save(tmp_path / "label.tif", np.zeros((8, 8), np.float32)))


@pytest.mark.parametrize("read", [read_label, read_image])
@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_damaged_files_are_named(tmp_path, save, rng, read, suffix):
    whole = save(tmp_path / f"whole{suffix}", rng.integers(0, 256, (64, 64, 3), dtype=np.uint8))
    cut = tmp_path / f"cut{suffix}"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    if not (read is read_label and suffix == ".jpg"):  # a JPEG label is refused before its pixels are read
        with pytest.raises(ValueError, match=rf"cut\{suffix}.*truncated"):
            read(cut)
    text = tmp_path / f"text{suffix}"
    text.write_text("no picture")
    with pytest.raises(ValueError, match=rf"text\{suffix}.*not a readable image"):
        read(text)
    with pytest.raises(FileNotFoundError, match=r"missing\.png"):
        read(tmp_path / "missing.png")


def test_images_of_all_kinds_become_rgb(tmp_path, save, rng):
    rgb = rng.integers(0, 256, (6, 7, 3), dtype=np.uint8)
    gray = rgb[:, :, 0]
    alpha = np.dstack([rgb, gray])
    np.testing.assert_array_equal(read_image(save(tmp_path / "rgb.png", rgb)), rgb)
    np.testing.assert_array_equal(read_image(save(tmp_path / "rgb.png", rgb), "BGR"), rgb[:, :, ::-1])
    np.testing.assert_array_equal(read_image(save(tmp_path / "alpha.png", alpha)), rgb)
    repeated = gray[:, :, None].repeat(3, axis=2)
    np.testing.assert_array_equal(read_image(save(tmp_path / "gray.png", gray)), repeated)
    deep = gray.astype(np.uint16) * 256 + 77
    np.testing.assert_array_equal(read_image(save(tmp_path / "deep.png", deep)), repeated)


def test_exif_rotation_is_applied(tmp_path, rng):
    pixels = rng.integers(0, 256, (5, 8, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it rotated by 90 degrees clockwise
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", exif=exif)
    path = tmp_path / "turned.png"
    path.write_bytes(buffer.getvalue())
    np.testing.assert_array_equal(read_image(path), np.rot90(pixels, -1))


def test_unknown_image_format_is_refused(tmp_path):
    with pytest.raises(ValueError, match="YUV"):
        read_image(tmp_path / "any.png", "YUV")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32])
def test_unknown_ids(dtype):
    label = np.array([[0, 4, 255], [5, 37, 254]], dtype=dtype)
    assert unknown_ids(label, 5, 255) == [5, 37, 254]
    assert unknown_ids(label, 38, 255) == [254]
    assert unknown_ids(label, 255, 255) == []


@pytest.mark.parametrize("shape", [(256, 1), (256,)], ids=["OpenCV 4", "OpenCV 5"])
def test_unknown_ids_with_either_shape_of_a_histogram(monkeypatch, shape):
    calc_hist = cv2.calcHist
    monkeypatch.setattr(cv2, "calcHist", lambda *arguments: calc_hist(*arguments).reshape(shape))
    assert unknown_ids(np.array([[0, 4, 255], [5, 37, 254]], np.uint8), 5, 255) == [5, 37, 254]


def _gray_png(ids: np.ndarray, bits: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width = ids.shape
    header = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    rows = b""
    for row in ids:
        digits = "".join(f"{value:0{bits}b}" for value in row)
        digits += "0" * (-len(digits) % 8)
        rows += b"\0" + int(digits, 2).to_bytes(len(digits) // 8, "big")
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def _gray_tiff(ids: np.ndarray, bits: int, form: str) -> bytes:
    """As baseline TIFF describes it, in one strip: as it is, by PackBits, or with the bits of a byte in reverse."""
    packed, reverse = form == "packed", form == "reversed"
    rows = [np.unpackbits(row[:, None], axis=1)[:, 8 - bits :].ravel() for row in ids]
    rows = [np.packbits(row, bitorder="little" if reverse else "big").tobytes() for row in rows]
    strip = b"".join(bytes([len(row) - 1]) + row if packed else row for row in rows)  # runs of literals
    height, width = ids.shape
    tags = {256: width, 257: height, 258: bits, 259: 32773 if packed else 1, 262: 1, 266: 2 if reverse else 1}
    tags |= {273: 0, 277: 1, 278: height, 279: len(strip)}
    tags[273] = 8 + 2 + 12 * len(tags) + 4
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", 0) + strip
