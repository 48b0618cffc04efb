"""tools/gpu_report.py on a CPU: what it measures is real, and a part that breaks does not take the others along."""

import importlib
import json
import subprocess
import sys
import time
import warnings
from pathlib import Path
from types import ModuleType

import pytest
import torch

ROOT = Path(__file__).parents[1]


def load(monkeypatch: pytest.MonkeyPatch, name: str) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    return importlib.import_module(name)


@pytest.fixture
def report(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return load(monkeypatch, "gpu_report")


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return load(monkeypatch, "gpu_report_parts")


def rows_of(measure, parts: ModuleType, folder: Path) -> list[dict]:
    rows = []
    assert not measure("cpu", parts.TINY, lambda **values: rows.append(values), folder)
    return rows


def test_losses(parts, monkeypatch, tmp_path):
    """Times are those of a clock, and what could not be computed is said in its place."""
    compiled = []

    def compile_nothing(function):
        compiled.append(function)
        return lambda *_: (_ for _ in ()).throw(RuntimeError("no compiler"))

    monkeypatch.setattr(torch, "compile", compile_nothing)
    clock = iter(range(10**6))
    monkeypatch.setattr(parts, "seconds", lambda loss, *given: (loss(*given), next(clock) * 1e-3)[1])
    rows = rows_of(parts.measure_losses, parts, tmp_path)
    assert rows[0]["gigabytes_a_second"] > 0.01
    titles = [f"float32 [1, 3, 24, 40], {present} classes present" for present in (3, 1)]
    assert {row["title"] for row in rows[1:]} == set(titles)
    assert len(compiled) == 2
    for title in titles:
        table = {row["loss"]: row for row in rows if row["title"] == title}
        assert table["cross entropy, compiled"]["error"] == "RuntimeError: no compiler"
        assert table["cross entropy"]["x eager cross entropy"] == 1
        line, plain = table["EPL line, w 7"], table["EPL point and line, w 7, plain path"]
        assert (table["cross entropy"]["computed_by"], line["computed_by"]) == ("PyTorch", "numba")
        assert plain["computed_by"] == "plain"
        assert line["x eager cross entropy"] == pytest.approx(line["ms"] / table["cross entropy"]["ms"])
        share = 100 * 2 * 3 * 24 * 40 * 4 / (rows[0]["gigabytes_a_second"] * 1e9) / (line["ms"] / 1e3)
        assert line["% of the copy bandwidth"] == pytest.approx(share)


def test_steps_change_what_they_say(parts, monkeypatch, tmp_path):
    """Eight variants: with EPL its losses are in the sum, and mixed precision and layout are those of the row."""
    seen = []
    build = parts.Trainer.build_model

    def build_and_watch(cfg):
        model = build(cfg)
        head, losses = model.sem_seg_head, model.sem_seg_head.losses

        def watched(predictions, *given):
            found = losses(predictions, *given)
            layout = model.backbone.stem.weight if hasattr(model.backbone, "stem") else next(model.parameters())
            last = layout.is_contiguous(memory_format=torch.channels_last) and not layout.is_contiguous()
            seen.append(("loss_epl_line" in found, predictions.dtype, last))
            return found

        head.losses = watched
        return model

    monkeypatch.setattr(parts.Trainer, "build_model", build_and_watch)
    rows = rows_of(parts.measure_steps, parts, tmp_path)
    assert len(rows) == 8
    for row, (epl, dtype, last) in zip(rows, seen[-8:], strict=True):
        assert ("EPL" in row["loss"]) == epl
        assert row["precision"].startswith(str(dtype).removeprefix("torch."))
        assert (row["layout"] == "channels_last") == last
        assert row["images/s"] == pytest.approx(2 / (row["ms"] / 1e3))


def test_inference(parts, tmp_path):
    *protocols, evaluation = rows_of(parts.measure_inference, parts, tmp_path)
    assert [row["protocol"] for row in protocols] == list(parts.PROTOCOLS)
    assert all(row["s an image"] >= row["s in the model"] > 0 for row in protocols)
    assert all(row["peak memory, MiB"] > 50 for row in protocols)
    assert evaluation["pixels"] == 64 * 64


FAKE = """
import json, os, subprocess, sys, time
name = sys.argv[1]
if name == "environment":
    print(json.dumps({"torch": "2", "devices": []}))
    sys.exit()
file = open(sys.argv[sys.argv.index("--rows") + 1], "a")
print(json.dumps({"title": "Table", "part": name, "x": 1.5}), file=file, flush=True)
if name == "losses":
    file.write('{"title": "cut o')
    file.flush()
    print("a driver's last words", flush=True)
    os.kill(os.getpid(), 11)
if name == "steps":
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    open("child", "w").write(str(child.pid))
    time.sleep(60)
"""


def is_running(process: int) -> bool:
    """False for a zombie too, which nobody may be there to wait for."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_part_that_breaks_or_hangs_is_reported_and_the_next_one_runs(report, monkeypatch, tmp_path, capsys):
    (tmp_path / "gpu_report_parts.py").write_text(FAKE)
    monkeypatch.setattr(report, "TOOLS", tmp_path)
    monkeypatch.setattr(report, "ROOT", tmp_path)
    output = tmp_path / "output"
    parts = ["losses", "steps", "training"]
    monkeypatch.setattr(
        "sys.argv",
        ["gpu_report.py", "--device", "cpu", "--output", str(output), "--limit", "3", "--parts", *parts],
    )
    assert report.main() == 1
    found = json.loads((output / "report.json").read_text())
    states = {part["name"]: part["state"] for part in found["parts"]}
    assert states == {
        "losses": "failed (exit status -11)",
        "steps": "stopped after its limit of 3 s",
        "training": "finished",
    }
    assert all(part["rows"] == [{"title": "Table", "part": part["name"], "x": 1.5}] for part in found["parts"])
    assert found["parts"][0]["end of the log"] == ["a driver's last words"]
    text = (output / "report.md").read_text()
    assert "a driver's last words" in text
    assert all(f"## {report.PARTS[name]}" in text for name in parts)
    assert text.count("| part") == 3
    assert "## The tests" not in text
    # What a stopped part has started is stopped as well.
    deadline = time.monotonic() + 10
    child = int((tmp_path / "child").read_text())
    while is_running(child):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_without_a_cuda_device_it_says_so(report, monkeypatch, tmp_path, capsys):
    (tmp_path / "gpu_report_parts.py").write_text(FAKE)
    monkeypatch.setattr(report, "TOOLS", tmp_path)
    monkeypatch.setattr("sys.argv", ["gpu_report.py", "--output", str(tmp_path / "output")])
    with pytest.raises(SystemExit, match="2"):
        report.main()
    assert "--device cpu runs the same program" in capsys.readouterr().err


def test_warnings_of_the_losses_are_rows(parts, monkeypatch, tmp_path):
    def warn(*_):
        warnings.warn("EPL's Triton kernels are not used", RuntimeWarning, stacklevel=1)

    monkeypatch.setitem(parts.MEASURE, "losses", warn)
    rows = tmp_path / "rows.jsonl"
    monkeypatch.setattr("sys.argv", ["gpu_report_parts.py", "losses", "--device", "cpu", "--rows", str(rows)])
    with warnings.catch_warnings():
        monkeypatch.setattr(warnings, "showwarning", lambda *_: None)
        assert parts.main() == 0
    assert json.loads(rows.read_text()) == {"title": "Warnings", "warning": "EPL's Triton kernels are not used"}


@pytest.mark.slow
def test_the_command(tmp_path):
    """A training as train_net.py runs it, from the command line to the table."""
    command = [sys.executable, "-W", "ignore", "tools/gpu_report.py", "--device", "cpu", "--scale", "tiny"]
    subprocess.run([*command, "--parts", "training", "--output", str(tmp_path)], cwd=ROOT, check=True)
    (part,) = json.loads((tmp_path / "report.json").read_text())["parts"]
    assert part["state"] == "finished"
    (row,) = part["rows"]
    assert (row["processes"], row["images"]) == (1, 4)
    assert 0 <= row["mIoU"] <= 100
    assert "| torch " in (tmp_path / "report.md").read_text()
