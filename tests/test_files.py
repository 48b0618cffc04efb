"""Files appear whole or not at all, what killed writers left is removed, and cores are those that may be used."""

import errno
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from epl_d2 import files
from epl_d2.checkpoint.conversion import write_checkpoint
from epl_d2.data.shapes import write_shapes
from epl_d2.files import (
    remove_stale_temporaries,
    temporary_beside,
    usable_cores,
    whole_file,
    whole_folder,
    write_whole,
)


def test_a_file_appears_when_it_is_whole(tmp_path):
    path = tmp_path / "new" / "scores.json"
    with whole_file(path) as temporary:
        temporary.write_text("half")
        assert not path.exists()
        assert (temporary.parent, temporary.suffix) == (path.parent, ".json")
        temporary.write_text("whole")
    assert path.read_text() == "whole"
    assert os.listdir(path.parent) == ["scores.json"]
    with whole_file(path, suffix=".onnx", durable=True) as temporary:
        assert temporary.suffix == ".onnx"
        temporary.write_text("newer")
    assert path.read_text() == "newer"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_failed_writer_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "scores.json"
    path.write_text("old")
    with pytest.raises(error), whole_file(path) as temporary:
        temporary.write_text("half")
        raise error
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["scores.json"]


def test_a_full_disk_is_named_with_file_and_space(tmp_path):
    path = tmp_path / "model.pth"
    path.write_text("old")

    def write(temporary):
        temporary.write_text("half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    expected = r"No space left on device \([\d,]+ MiB free\); the file that stood there is kept.*model\.pth"
    with pytest.raises(OSError, match=expected) as caught:
        write_whole(path, write)
    assert caught.value.errno == errno.ENOSPC
    assert path.read_text() == "old"


def test_an_error_about_another_file_stays_as_it_is(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"No such file or directory: .*source"):
        write_whole(tmp_path / "copy", lambda file: file.write_bytes((tmp_path / "source").read_bytes()))


@pytest.mark.parametrize(
    "name",
    [
        "漢" * 84 + ".go",
        "漢" * 85,
        "a." + "x" * 253,
        "a." + "漢" * 84 + "b",
        "é" * 120 + "." + "é" * 7,
        "x" * 251 + ".png",
    ],
    ids=["three_bytes", "no_suffix", "long_suffix", "long_wide_suffix", "two_bytes", "one_byte"],
)
def test_every_name_of_255_bytes_can_be_written(tmp_path, monkeypatch, name):
    monkeypatch.setattr("socket.gethostname", lambda: "h" * 64)
    assert len(name.encode()) == 255
    write_whole(tmp_path / name, lambda file: file.write_text("whole"))
    assert (tmp_path / name).read_text() == "whole"
    with whole_folder(tmp_path / "folders" / name) as temporary:
        (temporary / "a").touch()
    assert os.listdir(tmp_path / "folders") == [name] and os.listdir(tmp_path / "folders" / name) == ["a"]

    # What is left of a writer that was killed is known by its name, cut or not.
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    left = temporary_beside(tmp_path / name)
    left = left.with_name(left.name.replace(f"-{os.getpid()}-", f"-{gone.pid}-"))
    left.touch()
    assert remove_stale_temporaries(tmp_path) == [left]
    assert set(os.listdir(tmp_path)) == {name, "folders"}


def test_permissions_follow_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        write_whole(tmp_path / "file", lambda file: file.write_text("x"))
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640


def test_temporaries_of_writers_that_are_gone_are_removed(tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    ours = temporary_beside(tmp_path / "model_final.pth")
    mine, dead = ours.name, ours.name.replace(f"-{os.getpid()}-", f"-{gone.pid}-")
    fresh = f".model_final.elsewhere-{os.getpid()}-0a1b2c.partial.pth"
    old = fresh.replace("elsewhere", "elsewhere2")
    other = ".notes.partial.txt"
    for name in (mine, dead, fresh, old, other, "model_final.pth"):
        (tmp_path / name).write_text("x")
    os.utime(tmp_path / old, (time.time() - 7200,) * 2)
    assert {path.name for path in remove_stale_temporaries(tmp_path)} == {dead, old}
    assert set(os.listdir(tmp_path)) == {mine, fresh, other, "model_final.pth"}


def test_usable_cores_are_bounded_by_affinity_and_by_the_quota_of_a_container(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(12)), raising=False)
    quota = tmp_path / "cpu.max"
    for text, cores in (("max 100000", 12), ("250000 100000", 3), ("50000 100000", 1), ("6400000 100000", 12)):
        quota.write_text(text + "\n")
        monkeypatch.setattr(files, "_QUOTA", quota)
        assert usable_cores() == cores
    monkeypatch.setattr(files, "_QUOTA", tmp_path / "none")
    assert usable_cores() == 12


def test_a_folder_appears_when_it_is_whole(tmp_path):
    path = tmp_path / "new" / "model"
    with whole_folder(path) as temporary:
        (temporary / "a").write_text("whole")
        assert not path.exists() and temporary.parent == path.parent
    assert os.listdir(path.parent) == ["model"] and (path / "a").read_text() == "whole"
    with pytest.raises(OSError, match="not empty"), whole_folder(path) as temporary:
        (temporary / "a").write_text("another")
    with pytest.raises(ValueError, match="failed"), whole_folder(tmp_path / "other"):
        raise ValueError("failed")
    assert os.listdir(tmp_path) == ["new"] and os.listdir(path.parent) == ["model"]
    assert (path / "a").read_text() == "whole"


@pytest.mark.parametrize(("umask", "file_mode", "folder_mode"), [(0o022, 0o644, 0o755), (0o027, 0o640, 0o750)])
def test_others_may_read_what_the_umask_lets_them(tmp_path, umask, file_mode, folder_mode):
    before = os.umask(umask)
    try:
        write_checkpoint({"weight": torch.zeros(1)}, tmp_path / "model.pth")
        write_whole(tmp_path / "scores.json", lambda path: path.write_text("{}"))
        write_shapes(str(tmp_path / "shapes"), train=1, val=1, size=(32, 32), seed=0)
    finally:
        os.umask(before)
    paths = tmp_path.rglob("*")
    modes = {path.relative_to(tmp_path).as_posix(): (path.is_dir(), path.stat().st_mode & 0o777) for path in paths}
    assert {"model.pth", "scores.json", "shapes", "shapes/train/images", "shapes/manifest.json"} <= modes.keys()
    for name, (is_folder, mode) in modes.items():
        assert mode == (folder_mode if is_folder else file_mode), name


@pytest.mark.skipif(not shutil.which("make"), reason="there is no make")
def test_make_clean_leaves_trainings(tmp_path):
    shutil.copy(Path(__file__).parents[1] / "Makefile", tmp_path)
    built = (".venv/bin/python", ".venv-docs/bin/python", "build/lib/a.py", "dist/a.whl", "output/site/index.html")
    kept = ("output/grids/one/seed_1/model_final.pth", "datasets/camvid/train/a.png")
    for name in (*built, *kept):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    subprocess.run(["make", "clean"], cwd=tmp_path, check=True, capture_output=True)
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {"Makefile", *kept}
