"""demo/demo.py on shapes scenes and on a generated video, with a small model of random weights."""

import importlib.util
import resource
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

import epl_d2
from epl_d2.data.shapes import render_scene
from epl_d2.inference.video import VideoReader, VideoWriter
from epl_d2.visualization import write_png

TOOL = Path(__file__).parents[2] / "demo" / "demo.py"
SIZE = (48, 64)


@pytest.fixture(scope="module")
def demo():
    spec = importlib.util.spec_from_file_location("epl_demo", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(3):
        write_png(folder / ("more" if number == 2 else "") / f"{number}.png", render_scene(number, SIZE)[0])
    return folder


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    path = tmp_path_factory.mktemp("video") / "drive.mp4"
    writer = VideoWriter(path, rate=5)
    for number in range(6):
        writer.write(render_scene(number, SIZE)[0])
    writer.finish()
    return path


@pytest.fixture(scope="module")
def predictor(config_file, weights, options):
    return epl_d2.Predictor.from_config(config_file, weights, options, "cpu")


@pytest.fixture
def run(demo, monkeypatch, config_file, weights, options):
    """run(*arguments, opts=()): the exit status of the tool."""

    def call(*arguments, opts=()):
        parts = ["demo.py", "--config-file", config_file, "--weights", weights, "--device", "cpu", *arguments]
        monkeypatch.setattr(sys, "argv", [str(part) for part in (*parts, "--opts", *options, *opts)])
        return demo.main()

    return call


def files_below(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_a_folder_gives_every_kind_of_result(run, pictures, predictor, tmp_path):
    assert run("--input", pictures, "--output", tmp_path, "--overlay", "--contours", "--ids") == 0
    names = ["0.png", "1.png", "more/2.png"]
    assert files_below(tmp_path) == sorted(
        f"{kind}/{name}" for kind in ("contours", "ids", "overlay") for name in names
    )
    for name in names:
        expected = predictor(pictures / name)
        ids = cv2.imread(str(tmp_path / "ids" / name), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(ids, expected.labels)
        for kind in ("overlay", "contours"):
            picture = cv2.imread(str(tmp_path / kind / name))[:, :, ::-1]
            np.testing.assert_array_equal(picture, expected.draw(kind))


def test_patterns_and_files_with_the_config_s_test_time_options(run, pictures, config_file, weights, options, tmp_path):
    opts = ["TEST.AUG.ENABLED", True, "TEST.AUG.SCALES", "[0.5,1.0]", "TEST.WINDOW.ENABLED", True]
    opts += ["TEST.WINDOW.SIZE", "[32,32]"]
    inputs = [f"{pictures}/0*.png", pictures / "1.png"]
    assert run("--input", *inputs, "--output", tmp_path, "--ids", opts=opts) == 0
    assert files_below(tmp_path) == ["ids/0.png", "ids/1.png"]
    expected = epl_d2.Predictor.from_config(config_file, weights, [*options, *opts], "cpu")(pictures / "1.png")
    ids = cv2.imread(str(tmp_path / "ids" / "1.png"), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(ids, expected.labels)


def test_unreadable_files_are_named_and_the_rest_goes_on(run, pictures, tmp_path, capsys):
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    output = tmp_path / "output"
    inputs = [tmp_path / "broken.jpg", tmp_path / "missing.png", pictures / "0.png"]
    assert run("--input", *inputs, "--video", tmp_path / "broken.mp4", "--output", output) == 1
    assert files_below(output) == ["overlay/0.png"]
    captured = capsys.readouterr()
    assert "1 images and 0 videos" in captured.out
    assert "3 could not be read" in captured.err
    assert all(name in captured.err for name in ("broken.jpg", "missing.png", "broken.mp4"))


def test_a_video_has_its_frames_rate_and_ids(run, video, predictor, tmp_path):
    assert run("--video", video, "--output", tmp_path, "--overlay", "--ids", "--no-legend") == 0
    assert files_below(tmp_path) == [f"ids/drive/{n:06d}.png" for n in range(6)] + ["overlay/drive.mp4"]
    source, result = VideoReader(video), VideoReader(tmp_path / "overlay" / "drive.mp4")
    assert result.rate == pytest.approx(5)
    pairs = list(zip(source, result, strict=True))
    assert len(pairs) == 6
    for number, (frame, drawn) in enumerate(pairs):
        expected = predictor(frame)
        ids = cv2.imread(str(tmp_path / "ids" / "drive" / f"{number:06d}.png"), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(ids, expected.labels)
        assert drawn.shape == frame.shape
        assert np.abs(drawn.astype(int) - expected.draw(legend=False)).mean() < 12  # the codec loses some


def test_ids_of_a_shorter_video_take_the_place_of_the_former_ones(run, video, tmp_path):
    assert run("--video", video, "--output", tmp_path, "--ids") == 0
    shorter = tmp_path / "input" / "drive.mp4"
    shorter.parent.mkdir()
    writer = VideoWriter(shorter, rate=5)
    for number in (7, 8):
        writer.write(render_scene(number, SIZE)[0])
    writer.finish()
    before = (tmp_path / "ids" / "drive" / "000000.png").read_bytes()
    assert run("--video", shorter, "--output", tmp_path, "--ids") == 0
    assert files_below(tmp_path / "ids") == ["drive/000000.png", "drive/000001.png"]
    assert (tmp_path / "ids" / "drive" / "000000.png").read_bytes() != before


def test_an_interrupted_video_leaves_the_ids_of_the_former_one(demo, run, video, tmp_path, monkeypatch, capsys):
    assert run("--video", video, "--output", tmp_path, "--ids") == 0
    before = {name: (tmp_path / name).read_bytes() for name in files_below(tmp_path)}
    calls = []

    def fail(path, labels, write=demo.LabelFolder.write):
        calls.append(path)
        if len(calls) == 3:
            raise OSError(28, "No space left on device", "drive")
        write(path, labels)

    monkeypatch.setattr(demo.LabelFolder, "write", fail)
    assert run("--video", video, "--output", tmp_path, "--ids") == 1
    assert "No space left" in capsys.readouterr().err
    assert {name: (tmp_path / name).read_bytes() for name in files_below(tmp_path)} == before


def test_other_files_among_a_video_s_ids_are_kept(run, no_model, video, tmp_path, capsys):
    notes = tmp_path / "ids" / "drive" / "notes.txt"
    notes.parent.mkdir(parents=True)
    notes.write_text("mine")
    assert run("--video", video, "--output", tmp_path, "--ids") == 1
    assert "notes.txt" in capsys.readouterr().err
    assert notes.read_text() == "mine"


def test_a_stream_is_recorded_like_a_camera(run, video, tmp_path):
    """OpenCV opens cameras and addresses of streams, here that of a file, the same way."""
    assert run("--webcam", f"file://{video}", "--output", tmp_path) == 0
    assert len(list(VideoReader(tmp_path / "overlay" / "webcam.mp4"))) == 6


@pytest.fixture
def no_model(demo, monkeypatch):
    """Fails the test if a model is built."""

    def build(*_):
        raise AssertionError("the model was built")

    monkeypatch.setattr(demo, "load_predictor", build)


def test_an_unwritable_output_is_found_before_the_model_is_built(run, no_model, pictures, tmp_path, capsys):
    (tmp_path / "file").touch()
    assert run("--input", pictures, "--output", tmp_path / "file" / "below") == 1
    assert "cannot write to the output folder" in capsys.readouterr().err


def test_a_full_disk_is_found_before_the_model_is_built(run, no_model, pictures, tmp_path, capsys):
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**19, limit[1]))
    try:
        status = run("--input", pictures, "--output", tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert status == 1
    assert "cannot write to the output folder" in capsys.readouterr().err
    assert files_below(tmp_path) == []


@pytest.mark.parametrize(("inputs", "message"), [(["empty"], "no images"), (["*.gif"], "no images")])
def test_inputs_without_images_are_errors(run, no_model, tmp_path, capsys, inputs, message):
    (tmp_path / "empty").mkdir()
    assert run("--input", *(tmp_path / given for given in inputs), "--output", tmp_path / "output") == 1
    assert message in capsys.readouterr().err


def test_two_images_of_one_name_are_an_error(run, no_model, pictures, tmp_path, capsys):
    write_png(tmp_path / "0.png", render_scene(0, SIZE)[0])
    assert run("--input", tmp_path / "0.png", pictures, "--output", tmp_path / "output") == 1
    assert "one name, 0" in capsys.readouterr().err


def test_results_are_no_input_of_a_second_run(run, pictures, tmp_path):
    for number in range(2):
        write_png(tmp_path / f"{number}.png", render_scene(number, SIZE)[0])
    for inputs in ([tmp_path], [f"{tmp_path}/**/*.png"], [tmp_path]):
        assert run("--input", *inputs, "--output", tmp_path, "--overlay", "--ids") == 0
        assert files_below(tmp_path) == ["0.png", "1.png", "ids/0.png", "ids/1.png", "overlay/0.png", "overlay/1.png"]


def test_an_input_is_not_overwritten(run, no_model, pictures, video, tmp_path, capsys):
    picture, film = tmp_path / "overlay" / "0.png", tmp_path / "overlay" / "drive.mp4"
    picture.parent.mkdir()
    for source, copy in ((pictures / "0.png", picture), (video, film)):
        copy.write_bytes(source.read_bytes())
        assert run("--input" if copy is picture else "--video", copy, "--output", tmp_path) == 1
        assert f"overwrite {copy}" in capsys.readouterr().err
        assert copy.read_bytes() == source.read_bytes()
    assert run("--input", picture.parent, "--output", tmp_path) == 1
    assert "no images but results" in capsys.readouterr().err


def test_a_folder_named_like_a_video_does_not_mix_with_its_ids(run, no_model, video, tmp_path, capsys):
    write_png(tmp_path / "drive" / "000000.png", render_scene(0, SIZE)[0])
    assert run("--input", tmp_path, "--video", video, "--output", tmp_path / "out", "--ids") == 1
    assert "among those of" in capsys.readouterr().err


def test_a_picture_that_the_model_refuses_does_not_end_the_run(demo, run, pictures, tmp_path, monkeypatch, capsys):
    whole = demo.Predictor.__call__

    def refuse_first(predictor, picture, calls=[]):  # noqa: B006
        calls.append(picture)
        if len(calls) == 1:
            raise RuntimeError("not enough memory")
        return whole(predictor, picture)

    monkeypatch.setattr(demo.Predictor, "__call__", refuse_first)
    assert run("--input", pictures, "--output", tmp_path) == 1
    assert files_below(tmp_path) == ["overlay/1.png", "overlay/more/2.png"]
    assert f"{pictures / '0.png'}: not enough memory" in capsys.readouterr().err


def test_a_checkpoint_of_another_model_is_an_error(run, pictures, tmp_path, capsys):
    assert run("--input", pictures, "--output", tmp_path, opts=["MODEL.SEM_SEG_HEAD.CONVS_DIM", 16]) == 1
    assert "is no checkpoint of this model" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--output", "x"], ["--input", "x.png"]])
def test_missing_arguments(run, arguments):
    with pytest.raises(SystemExit, match="2"):
        run(*arguments)


def test_a_model_of_the_zoo(demo, monkeypatch, pictures, config_file, weights, options, predictor, tmp_path):
    asked = []
    monkeypatch.setattr(demo, "get_config_file", lambda name: asked.append(name) or str(config_file))
    monkeypatch.setattr(demo, "get_checkpoint_url", lambda name: asked.append(name) or str(weights))
    parts = ["demo.py", "--zoo", "CamVid/x.yaml", "--device", "cpu", "--input", pictures / "0.png", "--ids"]
    monkeypatch.setattr(sys, "argv", [str(part) for part in (*parts, "--output", tmp_path, "--opts", *options)])
    assert demo.main() == 0
    assert asked == ["CamVid/x.yaml"] * 2
    ids = cv2.imread(str(tmp_path / "ids" / "0.png"), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(ids, predictor(pictures / "0.png").labels)


@pytest.mark.parametrize("arguments", [["--config-file", "x.yaml"], ["--weights", "x.pth"]])
def test_a_model_of_the_zoo_has_a_config_and_weights_of_its_own(demo, monkeypatch, arguments):
    command = ["demo.py", "--zoo", "CamVid/x.yaml", "--input", "x.png", "--output", "x", *arguments]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit, match="2"):
        demo.main()
