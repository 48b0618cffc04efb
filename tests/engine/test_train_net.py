"""`train_net.py` as a user runs it: one process, two gloo processes, resumed, evaluated; and what bad input gets."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from epl_d2.data.shapes import write_shapes

ROOT = Path(__file__).parents[2]
CONFIG = "configs/shapes/deeplab_v3_plus_mobilenet_v2_epl.yaml"
# Small enough for seconds. The official line loss pools over the images of a process, so that two processes with half a
# batch each do not compute what one computes with the whole; it stays out where the two are compared.
OPTIONS = {
    "MODEL.DEVICE": "cpu",
    "MODEL.SEM_SEG_HEAD.CONVS_DIM": 8,
    "MODEL.SEM_SEG_HEAD.ASPP_CHANNELS": 8,
    "MODEL.SEM_SEG_HEAD.ASPP_DROPOUT": 0.0,
    "MODEL.EPL.LINE.WEIGHT": 0.0,
    "INPUT.CROP.SIZE": "[64,64]",
    "SOLVER.IMS_PER_BATCH": 4,
    "SOLVER.BASE_LR": 0.01,
    "SOLVER.MAX_ITER": 4,
    "SOLVER.CHECKPOINT_PERIOD": 2,
    "TEST.BOUNDARY.WIDTHS": "[1,2,3]",
    "TEST.BOUNDARY.REPORT_WIDTHS": "[1,3]",
    "DATALOADER.NUM_WORKERS": 0,
}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("datasets")
    write_shapes(str(folder / "shapes"), train=8, val=3, size=(64, 64), seed=0)
    return folder


def run(root, *arguments, check=True, **options):
    options = {**OPTIONS, **{key.replace("__", "."): value for key, value in options.items()}}
    opts = [str(part) for pair in options.items() for part in pair]
    finished = subprocess.run(
        [sys.executable, "train_net.py", "--config-file", CONFIG, *arguments, *opts],
        cwd=ROOT,
        # One thread: with several a convolution may add up in another order, and predictions change.
        env={**os.environ, "DETECTRON2_DATASETS": str(root), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if check:
        assert finished.returncode == 0, finished.stdout[-3000:] + finished.stderr[-3000:]
    return finished


def metrics_of(folder):
    return [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]


def weights_of(folder, name="model_final.pth"):
    return torch.load(folder / name, weights_only=True)["model"]


@pytest.fixture(scope="module")
def one_process(root, tmp_path_factory):
    folder = tmp_path_factory.mktemp("one_process")
    return folder, run(root, OUTPUT_DIR=folder)


@pytest.mark.slow
def test_one_process_trains_and_evaluates(one_process):
    folder, finished = one_process
    logged = metrics_of(folder)
    assert {line["iteration"] for line in logged} == {3, 4}  # the last step, and the evaluation after it
    names = set().union(*logged)
    assert {"total_loss", "loss_sem_seg", "loss_epl_point", "loss_epl_line", "lr"} <= names
    assert {"sem_seg/mIoU", "sem_seg/BF@3px", "sem_seg/Trimap-mIoU@3px"} <= names
    assert "copypaste: Task: sem_seg" in finished.stdout
    assert "BN instead of SyncBN, because there is one process" in finished.stdout
    assert (folder / "inference" / "boundary_curves.json").is_file()


@pytest.mark.slow
def test_two_processes_train_as_one_and_gather_the_same_counts(root, one_process, tmp_path):
    """Same batches, averaged gradients, synchronized norms: the same weights, to the order of summation."""
    finished = run(root, "--num-gpus", "2", "--dist-url", f"file://{tmp_path}/rendezvous", OUTPUT_DIR=tmp_path / "two")
    assert "naiveSyncBN instead of SyncBN, because gloo cannot run SyncBN" in finished.stdout
    ours, expected = weights_of(tmp_path / "two"), weights_of(one_process[0])
    start = weights_of(one_process[0], "model_0000001.pth")
    assert ours.keys() == expected.keys()
    moved = torch.cat([(expected[k] - start[k]).flatten() for k in expected if "running" not in k and "num_b" not in k])
    apart = torch.cat([(expected[k] - ours[k]).flatten() for k in expected if "running" not in k and "num_b" not in k])
    assert apart.norm() < 0.02 * moved.norm()

    # Uneven shares: three images over two processes.
    weights = one_process[0] / "model_final.pth"
    results = {}
    for processes in (1, 2):
        folder = tmp_path / f"eval{processes}"
        run(
            root,
            *("--eval-only", "--num-gpus", str(processes), "--dist-url", f"file://{tmp_path}/eval_rendezvous"),
            OUTPUT_DIR=folder,
            MODEL__WEIGHTS=weights,
        )
        results[processes] = json.loads((folder / "inference" / "boundary_curves.json").read_text())
    assert results[1] == results[2]
    trained = json.loads((one_process[0] / "inference" / "boundary_curves.json").read_text())
    assert results[1] == trained


@pytest.mark.slow
def test_resumed_training_equals_the_uninterrupted_run(root, one_process, tmp_path):
    shutil.copy(one_process[0] / "model_0000001.pth", tmp_path)
    (tmp_path / "last_checkpoint").write_text("model_0000001.pth")
    finished = run(root, "--resume", OUTPUT_DIR=tmp_path)
    assert "Starting training from iteration 2" in finished.stdout
    ours, expected = weights_of(tmp_path), weights_of(one_process[0])
    for key in expected:
        assert torch.equal(ours[key], expected[key]), key


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"MODEL__SEM_SEG_HEAD__NUM_CLASSES": 19}, "NUM_CLASSES is 19, but shapes_sem_seg_train has 6 classes"),
        ({"DATASETS__TRAIN": "('camvid_sem_seg_train',)", "MODEL__SEM_SEG_HEAD__NUM_CLASSES": 11}, "camvid"),
        ({"MODEL__EPL__POINT__KERNEL_SIZE": 4}, "MODEL.EPL.POINT.KERNEL_SIZE must be"),
        ({"MODEL__EPL__NO_SUCH_KEY": 1}, "NO_SUCH_KEY"),
    ],
)
def test_bad_input_stops_before_training(root, tmp_path, options, message):
    finished = run(root, check=False, OUTPUT_DIR=tmp_path, **options)
    assert finished.returncode != 0
    assert message in finished.stderr
    assert not list(tmp_path.glob("*.pth"))
