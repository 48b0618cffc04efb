"""The tools that look at losses, as from the command line: heads without them, a drawn seed, options of many values."""

import re
import runpy
import sys
from pathlib import Path

import pytest

from epl_d2.data.datasets import register_all_datasets
from epl_d2.data.shapes import write_shapes

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "configs"
FPN = CONFIGS / "CamVid" / "semantic_fpn_mobilenet_v2_c64_240_2400_bs4.yaml"
LOVASZ = "MODEL.EXTRA_LOSSES.LOVASZ.WEIGHT"
SIZES = ("--sizes", f"{LOVASZ}=0.5", "--opts")


@pytest.fixture
def run(monkeypatch, capsys):
    """run(tool, config, *arguments): (exit code, printed text)."""

    def call(tool: str, config: Path, *arguments: object):
        monkeypatch.setattr(sys, "argv", [tool, "--config-file", *map(str, (config, *arguments))])
        with pytest.raises(SystemExit) as end:
            runpy.run_path(str(ROOT / "tools" / f"{tool}.py"), run_name="__main__")
        printed = capsys.readouterr()
        return end.value.code, printed.out + printed.err

    return call


@pytest.fixture
def shapes(tmp_path):
    """A small model's options, and scenes for it to train on."""
    write_shapes(str(tmp_path / "shapes"), train=4, val=1, size=(48, 48), seed=0)
    register_all_datasets(str(tmp_path))
    yield [
        *("MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", "", "SOLVER.IMS_PER_BATCH", 2, "DATALOADER.NUM_WORKERS", 0),
        *("MODEL.SEM_SEG_HEAD.CONVS_DIM", 8, "MODEL.SEM_SEG_HEAD.ASPP_CHANNELS", 8, "INPUT.CROP.SIZE", "[48,48]"),
    ]
    register_all_datasets()


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("analyze_model", ()),
        ("analyze_model", ("--tasks", "step", "--images", 1)),
        ("analyze_gradients", ()),
        ("find_loss_weights", SIZES),
    ],
)
def test_a_head_that_does_not_compute_the_losses_is_refused(run, tool, arguments):
    opts = ("MODEL.DEVICE", "cpu", "MODEL.SEM_SEG_HEAD.NAME", "SemSegFPNHead")
    code, text = run(tool, FPN, *arguments, *opts)
    assert code == 1
    assert re.search(r"^error: MODEL\.SEM_SEG_HEAD\.NAME is 'SemSegFPNHead'; .* one of .*EPLSemSegFPNHead", text, re.M)


def test_operations_are_those_of_our_meta_architecture(run):
    small = ("--size", 64, 64, "--", "MODEL.DEVICE", "cpu", "MODEL.META_ARCHITECTURE", "SemanticSegmentor")
    code, text = run("analyze_model", FPN, *small)
    assert code == 1
    assert "error: MODEL.META_ARCHITECTURE is 'SemanticSegmentor'; --tasks flops needs an EPLSemanticSegmentor" in text
    code, text = run("analyze_model", FPN, "--tasks", "parameters", *small)
    assert code == 0 and "trainable parameters" in text


def test_a_seed_may_be_drawn_and_overrides_follow_an_option_of_several_values(run, shapes):
    config = CONFIGS / "shapes" / "deeplab_v3_plus_mobilenet_v2_epl.yaml"
    code, text = run("analyze_gradients", config, "--batches", 1, "--widths", 3, 1, "--", "SEED", -1, *shapes)
    assert code == 0 and "size in 3 px | size in 1 px" in text
    found = set()
    for seed in (-1, -1, 5, 5):
        code, text = run("find_loss_weights", config, "--batches", 1, *SIZES, "SEED", seed, *shapes)
        assert code == 0
        found.add(re.search(rf"^{LOVASZ} (\S+)$", text, re.M)[1])
    assert len(found) == 3
