"""tools/pack_for_offline.py, with a pip that downloads nothing."""

import importlib
import re
import shutil
import subprocess
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import ExifTags, Image

from epl_d2.data.datasets.camvid import load_camvid
from epl_d2.data.label_io import read_image, read_label, read_record_label
from epl_d2.data.shape_annotations import write_shape_annotations
from epl_d2.data.shapes import write_shapes

ROOT = Path(__file__).parents[1]


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    return importlib.import_module("pack_for_offline")


@pytest.fixture
def installed(tool, monkeypatch) -> list[str]:
    """What pip was asked for; a package is a folder with a file of 1 MB."""
    asked = []

    def pip(folder: Path, arguments) -> None:
        asked.append(" ".join(arguments))
        names = [word.partition("==")[0] for word in arguments if "==" in word]
        names += ["detectron2", "tools"] if "-r" in arguments else []
        for name in names:
            (folder / name / "__pycache__").mkdir(parents=True)
            (folder / name / "__init__.py").write_bytes(b"#" * 1_000_000)
        for name in {"detectron2", "pycocotools"} & set(names):
            (folder / name / ("_C.cpython-310-x86.so" if name == "detectron2" else "_mask.abi3.so")).touch()

    monkeypatch.setattr(tool, "pip", pip)
    return asked


@pytest.fixture
def data(tmp_path, monkeypatch) -> Path:
    """CamVid's folders with one noisy photo, its label, and another one's label with a palette."""
    root = tmp_path / "data" / "camvid"
    for name in ("train", "trainannot"):
        (root / name).mkdir(parents=True)
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    Image.fromarray(noise).save(root / "train" / "a.png")
    Image.fromarray(noise[..., 0] % 11).save(root / "trainannot" / "a.png")
    palette = Image.fromarray(noise[..., 1] % 11, mode="P")
    palette.putpalette([0, 0, 0, 128, 0, 0] * 128)
    palette.save(root / "trainannot" / "b.png")
    (root / "README.md").write_text("where it comes from")
    monkeypatch.setenv("DETECTRON2_DATASETS", str(root.parent))
    return root


def run(tool, monkeypatch, *arguments) -> int:
    monkeypatch.setattr("sys.argv", ["pack_for_offline.py", *map(str, arguments)])
    return tool.main()


def test_packages_and_data(tool, installed, data, tmp_path, monkeypatch, capsys):
    output = tmp_path / "offline"
    assert run(tool, monkeypatch, output, "--data", "camvid", "--quality", 50) == 0
    assert "offline: " in capsys.readouterr().out
    # Not a package of ours, not a compiled file of another Python, nothing that was compiled here.
    assert not list(output.rglob("_C*.so")) + list(output.rglob("__pycache__")) + list(output.glob("tools"))
    names = {path.name for path in output.iterdir()}
    needed = {"detectron2", "fvcore", "iopath", "yacs", "omegaconf", "hydra-core", "antlr4-python3-runtime"}
    assert names >= needed | {"portalocker", "tabulate", "termcolor", "cloudpickle", "pycocotools", "README.txt"}
    assert "--python-version 3.12" in installed[0] and "manylinux_2_28_x86_64" in installed[0]
    assert "--require-hashes" in installed[2]
    copy = output / "datasets" / "camvid"
    assert (copy / "README.md").read_text() == "where it comes from"
    photo = copy / "train" / "a.jpg"
    assert photo.stat().st_size < (data / "train" / "a.png").stat().st_size / 2
    assert Image.open(photo).size == (80, 60)
    for name in "ab":
        label = f"trainannot/{name}.png"
        assert (copy / label).read_bytes() == (data / label).read_bytes()


def test_photos_of_camvid_are_found_by_its_reader(tool, data, tmp_path):
    tool.copy_pictures(data, tmp_path / "camvid", 85)
    (tmp_path / "camvid" / "trainannot" / "b.png").unlink()
    [record] = load_camvid(str(tmp_path / "camvid"), "train")
    np.testing.assert_array_equal(read_record_label(record), read_label(data / "trainannot" / "a.png"))
    assert record["file_name"].endswith("train/a.jpg") and read_image(record["file_name"]).shape == (60, 80, 3)


def test_labels_and_names_of_other_data_sets_stay(tool, tmp_path):
    """Labels in color, photos that lists and JSON files name, and CamVid's folder names within another data set."""
    write_shapes(str(tmp_path / "shapes"), train=2, val=1, size=(32, 40), seed=0)
    write_shape_annotations(str(tmp_path / "shapes" / "annotations"), train=2, val=1, size=(32, 40), seed=0)
    city = tmp_path / "shapes" / "leftImg8bit" / "train"
    city.mkdir(parents=True)
    shutil.copy(tmp_path / "shapes" / "train" / "images" / "0000.png", city / "a_leftImg8bit.png")
    tool.copy_pictures(tmp_path / "shapes", tmp_path / "copy", 85)
    before, after = (
        {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}
        for root in (tmp_path / "shapes", tmp_path / "copy")
    )
    assert Image.open(tmp_path / "shapes" / "annotations" / "panoptic_val" / "0000.png").mode == "RGB"
    assert before == after


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photos_lie_as_before(tool, tmp_path, orientation):
    rows, columns = np.mgrid[:32, :48]
    pixels = np.stack([rows * 5, columns * 4, rows + columns], axis=2).astype(np.uint8)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    (tmp_path / "streets").mkdir()
    for name in ("a.jpg", "b.JPEG"):
        Image.fromarray(pixels).save(tmp_path / "streets" / name, quality=95, exif=exif)
    tool.copy_pictures(tmp_path / "streets", tmp_path / "copy", 90)
    assert sorted(path.name for path in (tmp_path / "copy").iterdir()) == ["a.jpg", "b.JPEG"]
    for name in ("a.jpg", "b.JPEG"):
        before, after = (read_image(tmp_path / folder / name).astype(int) for folder in ("streets", "copy"))
        assert (tmp_path / "copy" / name).read_bytes() != (tmp_path / "streets" / name).read_bytes()
        assert after.shape == before.shape and np.abs(after - before).max() < 16


def test_what_links_lead_to_is_copied(tool, installed, data, tmp_path, monkeypatch, capsys):
    """A data set often lies on another disk, with links to its folders."""
    elsewhere = tmp_path / "disk" / "annotations"
    shutil.copytree(data / "trainannot", elsewhere / "more")
    shutil.rmtree(data / "trainannot")
    (data / "trainannot").symlink_to(elsewhere, target_is_directory=True)
    (data / "list.txt").symlink_to(data / "README.md")
    tool.copy_pictures(data, tmp_path / "copy", 85)
    copy = tmp_path / "copy" / "trainannot" / "more"
    assert {path.name: path.read_bytes() for path in copy.iterdir()} == {
        path.name: path.read_bytes() for path in (elsewhere / "more").iterdir()
    }
    assert not any(path.is_symlink() for path in (tmp_path / "copy").rglob("*"))
    assert (tmp_path / "copy" / "list.txt").read_text() == "where it comes from"

    (data / "train" / "again").symlink_to(data, target_is_directory=True)
    assert run(tool, monkeypatch, tmp_path / "offline", "--data", "camvid") == 1
    assert "train/again is a link to " in capsys.readouterr().err
    assert not list(tmp_path.glob("offline*"))


@pytest.mark.parametrize("way", ["absolute", "../data/streets", "x/../streets"])
def test_data_is_a_name_below_the_data_sets(tool, installed, data, tmp_path, monkeypatch, capsys, way):
    """Any other path would be its own target, or one beside the new folder."""
    streets = data.parent / "streets"
    streets.mkdir()
    (data.parent / "x").mkdir()
    Image.open(data / "train" / "a.png").save(streets / "a.jpg", quality=100)
    before = {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")}
    assert run(tool, monkeypatch, tmp_path / "offline", "--data", streets if way == "absolute" else way) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: --data is ") and "a folder below DETECTRON2_DATASETS" in said
    assert {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")} == before
    assert installed == []


def test_versions_are_those_of_the_requirements(tool, installed, tmp_path):
    tool.collect_packages(tmp_path, "3.11", "aarch64")
    text = (ROOT / "requirements" / "base.txt").read_text()
    for requirement in re.findall(r"[\w.-]+==[\w.]+", " ".join(installed[:2])):
        assert requirement in text or requirement in tool.ALSO
    assert "manylinux_2_28_aarch64" in installed[0]


def test_too_large_a_folder_is_not_written(tool, installed, data, tmp_path, monkeypatch, capsys):
    assert run(tool, monkeypatch, tmp_path / "offline", "--limit", 10) == 1
    assert "--limit is 10" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]


def test_what_is_in_the_way(tool, installed, data, tmp_path, monkeypatch, capsys):
    assert run(tool, monkeypatch, data) == 1
    assert "exists" in capsys.readouterr().err
    assert run(tool, monkeypatch, tmp_path / "offline", "--data", "roads") == 1
    assert "roads is no folder" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        run(tool, monkeypatch, tmp_path / "offline", "--python", "3.13")
    (tmp_path / "so").mkdir()
    (tmp_path / "so" / "_x.cpython-311-x86_64-linux-gnu.so").touch()
    tool.check_compiled(tmp_path, "3.11")
    with pytest.raises(tool.PackingError, match=r"so/_x\.cpython-311.* cannot be loaded by Python 3.12"):
        tool.check_compiled(tmp_path, "3.12")


def test_pip_that_fails_leaves_nothing(tool, tmp_path, monkeypatch, capsys):
    failed = subprocess.CompletedProcess([], 1)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    assert run(tool, monkeypatch, tmp_path / "offline") == 1
    assert "pip could not install" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
