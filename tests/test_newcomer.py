"""A newcomer with a folder of pictures follows docs/data.md, command by command, and takes the model elsewhere.

Every command of "From a folder to a model" runs as it stands there, with options behind it that make it small.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from epl_d2.data.shapes import render_scene

ROOT = Path(__file__).parents[1]
# Of the scenes' six classes the document has three names.
TO_THREE = np.array([1, 0, 2, 1, 2, 2, *[255] * 250], np.uint8)
CLASSES = ["road", "building", "tree"]
SMALL = {
    "MODEL.DEVICE": "cpu",
    "MODEL.SEM_SEG_HEAD.CONVS_DIM": 8,
    "MODEL.SEM_SEG_HEAD.ASPP_CHANNELS": 8,
    "INPUT.CROP.SIZE": "[48,48]",
    "INPUT.MIN_SIZE_TRAIN": "(48,64)",
    "INPUT.MIN_SIZE_TEST": 48,
    "SOLVER.EPOCHS": 2,
    "TEST.BOUNDARY.WIDTHS": "[1,2,3]",
    "TEST.BOUNDARY.REPORT_WIDTHS": "[1,3]",
}
ADDED = {
    "train_net.py": [str(part) for pair in SMALL.items() for part in pair],
    "evaluate_predictions.py": ["--jobs", "1", "--widths", "1-3", "--report-widths", "1,3"],
    "demo.py": ["--device", "cpu", "--ids", "--overlay"],
    "export_model.py": ["--sizes", "48", "64", "50", "40"],
    "check_dataset.py": [],
    "visualize_data.py": ["--crop", "32", "32"],
    "compare_predictions.py": [],
    "publish_model.py": [],
}
# Runs commands one after the other in one process, so that PyTorch is imported once.
RUNNER = """
import json, runpy, sys
for script, arguments in json.load(sys.stdin):
    print(">>>", script.rpartition("/")[2], *arguments, flush=True)
    sys.argv = [script, *arguments]
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as stop:
        if stop.code:
            raise
"""


def documented() -> tuple[str, list[tuple[str, list[str]]]]:
    """The YAML file and the commands, (script, arguments), of the document."""
    text = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
    section = text.split("### From a folder to a model")[1].split("\n### ")[0]
    description = re.search(r"```yaml\n(# streets\.yaml.*?)```", section, re.DOTALL).group(1)
    lines = "\n".join(re.findall(r"```bash\n(.*?)```", section, re.DOTALL)).replace("\\\n", " ").splitlines()
    commands = [shlex.split(line) for line in lines if line.strip()]
    assert all(command[0] == "python" for command in commands)
    return description, [(command[1], command[2:]) for command in commands]


def run(commands: list[tuple[str, list[str]]], folder: Path, cache: Path) -> str:
    ready = [
        (
            str(ROOT / script),
            [str(ROOT / part) if part.startswith("configs/") else part for part in arguments]
            + ADDED[Path(script).name],
        )
        for script, arguments in commands
    ]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", RUNNER],
        input=json.dumps(ready),
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TORCH_HOME": str(cache), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout


@pytest.fixture(scope="module")
def newcomer(tmp_path_factory):
    """The folder after all commands up to the publication, what they printed, and the commands that remain."""
    folder = tmp_path_factory.mktemp("newcomer")
    description, commands = documented()
    (folder / "streets.yaml").write_text(description, encoding="utf-8")
    for number in range(5):
        image, labels = render_scene(number, (48, 64))
        for name, picture in (
            (f"photos/day {number % 2}/1{number}.png", image[:, :, ::-1]),
            (f"masks/day {number % 2}/1{number}_mask.png", TO_THREE[labels]),
        ):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(folder / name), picture)
    # In the place of torchvision's file, which no test fetches: its weights as they are before any training.
    (folder / "weights").mkdir()
    import torchvision

    from epl_d2.checkpoint import convert_state_dict, write_checkpoint

    state = torchvision.models.mobilenet_v2(weights=None).state_dict()
    write_checkpoint(convert_state_dict(state, "torchvision"), folder / "weights" / "mobilenet_v2.pth")
    published = [Path(script).name for script, _ in commands].index("publish_model.py")
    printed = run(commands[: published + 1], folder, folder / "cache")
    return folder, printed, commands[published + 1 :]


def test_every_command_of_the_document_is_there():
    assert {Path(script).name for script, _ in documented()[1]} == set(ADDED)


def test_check_train_evaluate_compare_publish(newcomer):
    folder, printed, _ = newcomer
    assert "streets_train: 0 errors" in printed and "images: 4, usable: 4" in printed
    assert cv2.imread(str(folder / "output" / "sheets" / "streets_train.png")) is not None
    # Twice through 4 images in batches of 4.
    config = (folder / "output" / "streets_epl" / "config.yaml").read_text()
    assert "MAX_ITER: 2\n" in config and "EPOCHS: 0\n" in config and "NUM_CLASSES: 3\n" in config
    # Scored from the saved predictions as at the end of the training.
    for run_folder, name in (("streets", "cross entropy"), ("streets_epl", "EPL")):
        own = json.loads((folder / "output" / run_folder / "inference" / "boundary_curves.json").read_text())
        again = json.loads((folder / "output" / "scores" / name / "boundary_curves.json").read_text())
        assert own["confusion"] == again["confusion"] and own["BF"] == again["BF"] and own["images"] == 1
        assert again["name"] == name
    assert (folder / "output" / "compared" / "ranking.csv").read_text().splitlines()[0] == (
        "rank,image,cross entropy_f,epl_f,change,fixed_px,introduced_px,kept_px"
    )
    assert len(list((folder / "output" / "compared").glob("*.png"))) == 1
    card = (folder / "published" / "streets_epl" / "README.md").read_text()
    assert "| device | not recorded |" not in card and "| minutes | not recorded |" not in card
    assert "| classes | road, building, tree |" in card and "--dataset-file streets.yaml --eval-only" in card
    assert str(folder) not in (folder / "published" / "streets_epl" / "config.yaml").read_text()


def test_the_published_folder_is_all_that_another_machine_needs(newcomer, tmp_path):
    folder, _, commands = newcomer
    shutil.copytree(folder / "published", tmp_path / "published")
    shutil.copytree(folder / "photos", tmp_path / "photos")
    printed = run(commands, tmp_path, tmp_path / "cache")
    segmented = tmp_path / "output" / "segmented"
    shown = sorted(path.relative_to(segmented).as_posix() for path in segmented.rglob("*.png"))
    assert [name for name in shown if name.startswith("ids/")] == [
        f"ids/day {n % 2}/1{n}.png" for n in sorted(range(5), key=lambda n: (n % 2, n))
    ]
    # The demo computes there what the evaluation saved here.
    (saved,) = (folder / "output" / "streets_epl" / "inference" / "predictions").rglob("*.png")
    again = segmented / "ids" / saved.parent.name / saved.name
    assert np.array_equal(cv2.imread(str(saved), -1), cv2.imread(str(again), -1))
    assert "not in the file: the config resizes pictures to a short side of 48 pixels" in printed
    files = {"epl_d2.json": ""}
    torch.jit.load(str(tmp_path / "output" / "streets.ts"), _extra_files=files)
    assert json.loads(files["epl_d2.json"])["classes"] == CLASSES
