"""README and its companions: links lead somewhere, and the commands that they show name files that exist."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

from epl_d2.data.shapes import render_scene
from epl_d2.evaluation import BoundaryStatistics

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("datasets/*.md")])


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_and_commands_name_files_that_exist(document):
    text = document.read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)", text) if "://" not in link]
    assert all((document.parent / link).exists() for link in links), links
    named = re.findall(r"(?<![\w/.])((?:configs|tools|demo|datasets|examples)/[\w./+-]+\.(?:py|yaml))", text)
    missing = sorted({name for name in named if not (ROOT / name).exists()})
    assert not missing


@pytest.mark.parametrize("config", sorted(ROOT.glob("configs/*/*.yaml")), ids=lambda path: path.name)
def test_commands_in_config_headers_name_the_config_itself(config):
    name = config.relative_to(ROOT).as_posix()
    header = re.split(r"^_BASE_|^name:", config.read_text(encoding="utf-8"), flags=re.MULTILINE)[0]
    command = f"tools/run_grid.py {name}" if config.parent.name == "grids" else f"--config-file {name} "
    assert command in header


def test_the_command_for_own_label_pngs_works_as_the_readme_has_it(tmp_path):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    [line] = re.findall(r"^    python (tools/evaluate_predictions\.py .*)$", readme, re.MULTILINE)
    tool, *arguments = shlex.split(line)
    assert arguments[:4] == ["predictions", "labels", "--num-classes", "6"]
    statistics = BoundaryStatistics(num_classes=6)
    for seed in range(3):
        _, label = render_scene(seed, (64, 80))
        prediction = label.copy()
        prediction[label == 255] = 0
        prediction[:, 2:] = prediction[:, :-2].copy()
        for folder, labels in (("predictions", prediction), ("labels", label)):
            (tmp_path / folder).mkdir(exist_ok=True)
            assert cv2.imwrite(str(tmp_path / folder / f"{seed}.png"), labels)
        statistics.update(prediction, label)
    command = [sys.executable, "-W", "ignore", str(ROOT / tool), *arguments]
    finished = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    [file] = tmp_path.glob("scores/**/boundary_curves.json")
    found, expected = json.loads(file.read_text(encoding="utf-8")), statistics.compute()
    assert found["images"] == 3
    assert found["mIoU"] == pytest.approx(100 * expected["mIoU"])
    assert found["BF"] == pytest.approx(list(100 * expected["boundary_f"]))
    assert f"{found['BF'][2]:.2f}" in finished.stdout and f"{found['mIoU']:.2f}" in finished.stdout


def test_the_site_lists_pages_that_exist():
    pages = re.findall(r"^ +- [^:]+: (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE)
    assert "README.md" in pages and "losses.md" in pages
    missing = [page for page in pages if not ((ROOT / page).is_file() or (ROOT / "docs" / page).is_file())]
    assert not missing
