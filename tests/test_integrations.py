"""The scripts in `examples/` run as they stand, and docs/integrations.md shows what they hold."""

import ast
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
# Script -> what it needs of requirements/integrations.txt.
SCRIPTS = {
    "segmentation_models.py": ("segmentation_models_pytorch",),
    "transformers_segformer.py": ("transformers", "accelerate"),
    "torchvision_deeplab.py": (),
    "lightning_module.py": ("lightning",),
    "mmsegmentation_registry.py": ("mmseg", "mmcv", "mmengine", "ftfy"),
}


def test_every_script_is_run():
    assert {path.name for path in ROOT.glob("examples/*.py")} == {*SCRIPTS, "scenes.py"}
    listed = re.search(r"for script in (.*); do", (ROOT / "Makefile").read_text(encoding="utf-8"))
    assert listed[1].split() == [Path(script).stem for script in SCRIPTS]


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_trains_with_epl_and_scores(script, tmp_path):
    missing = [package for package in SCRIPTS[script] if importlib.util.find_spec(package) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed (make integrations)")
    # The package alone on the path: the repository's folder `datasets` would stand for Hugging Face's package.
    (tmp_path / "epl_d2").symlink_to(ROOT / "epl_d2")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-W", "ignore", str(ROOT / "examples" / script)]
    finished = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)
    assert finished.returncode == 0, finished.stderr
    steps = re.findall(r"^step (\d+): cross entropy ([\d.]+), EPL ([\d.]+)$", finished.stdout, re.MULTILINE)
    assert [int(step) for step, _, _ in steps] == list(range(12))
    cross_entropy = [float(value) for _, value, _ in steps]
    contours = [float(value) for _, _, value in steps if float(value) > 0]  # none at the begin of a schedule
    assert sum(cross_entropy[-3:]) / 3 < 0.8 * cross_entropy[0]
    assert len(contours) > 6 and min(contours) > 0.5
    scores = ast.literal_eval(finished.stdout.splitlines()[-1])
    assert len(scores) > 1 and all(0.01 < value < 1 for value in scores.values())


def lines_of(text: str) -> list[str]:
    """Lines without indentation, comments and blank lines."""
    lines = (re.sub(r"\s+# .*$", "", line).strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def test_the_page_shows_what_the_scripts_hold():
    document = ROOT / "docs" / "integrations.md"
    text = document.read_text(encoding="utf-8")
    sections = re.split(r"^## ", text, flags=re.MULTILINE)
    shown = set()
    for section in sections:
        names = [name for name in SCRIPTS if f"(../examples/{name})" in section]
        if len(names) != 1:
            continue
        held = lines_of((ROOT / "examples" / names[0]).read_text(encoding="utf-8"))
        for block in re.findall(r"^```python\n(.*?)^```", section, re.MULTILINE | re.DOTALL):
            missing = [line for line in lines_of(block) if line not in held]
            assert not missing, names[0]
            shown.add(names[0])
    assert shown == set(SCRIPTS)


def requirements_of(name: str) -> dict[str, Requirement]:
    lines = (ROOT / "requirements" / name).read_text(encoding="utf-8").splitlines()
    requirements = [Requirement(line) for line in lines if "==" in line]
    return {requirement.name.replace("_", "-").lower(): requirement for requirement in requirements}


def test_the_pins_leave_those_of_the_base_alone():
    pinned = requirements_of("integrations.txt")
    assert {"segmentation-models-pytorch", "transformers", "lightning", "mmsegmentation"} <= set(pinned)
    assert not set(pinned) & set(requirements_of("base.txt"))
    recipe = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert "--constraint requirements/base.txt --requirement requirements/integrations.txt" in recipe
