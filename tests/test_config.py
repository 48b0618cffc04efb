"""What `add_epl_config` does to a config of Detectron2."""

import re

import pytest
from detectron2.config import get_cfg
from detectron2.projects.deeplab import add_deeplab_config

import epl_d2
from epl_d2 import add_epl_config


def flat(node, path=""):
    for key, value in node.items():
        if hasattr(value, "items"):
            yield from flat(value, f"{path}{key}.")
        else:
            yield path + key, value


def test_exactly_the_defaults_that_the_docstring_names_change():
    before, after = get_cfg(), get_cfg()
    add_deeplab_config(before)
    add_epl_config(after)
    before, after = dict(flat(before)), dict(flat(after))
    changed = {key for key, value in before.items() if after[key] != value}
    assert changed == set(re.findall(r"``([A-Z_.]+)``", add_epl_config.__doc__))


def test_the_loss_of_a_user_who_added_deeplab_before_stays():
    cfg = get_cfg()
    add_deeplab_config(cfg)
    add_epl_config(cfg)
    assert cfg.MODEL.SEM_SEG_HEAD.LOSS_TYPE == "hard_pixel_mining"


def test_a_config_runs_no_code(tmp_path):
    """Detectron2 does, where safe loading fails; the files of its model zoo, which need that, still load."""
    victim = tmp_path / "victim"
    for name, text in {
        "evil.yaml": f"VERSION: 2\nOUTPUT_DIR: !!python/object/apply:os.mkdir ['{victim}']\n",
        "based.yaml": "_BASE_: evil.yaml\nVERSION: 2\n",
    }.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(ValueError, match=r"evil\.yaml: a YAML tag that could run code is not read"):
            epl_d2.get_cfg().merge_from_file(str(tmp_path / name))
    assert not victim.exists()
    (tmp_path / "out.yaml").write_text('_BASE_: "model_zoo://../../evil.yaml"\n')
    with pytest.raises(FileNotFoundError, match="there is no such config"):
        epl_d2.get_cfg().merge_from_file(str(tmp_path / "out.yaml"))
    (tmp_path / "zoo.yaml").write_text('_BASE_: "model_zoo://COCO-Detection/retinanet_R_50_FPN_1x.yaml"\n')
    cfg = epl_d2.get_cfg()
    cfg.merge_from_file(str(tmp_path / "zoo.yaml"))
    assert len(cfg.MODEL.ANCHOR_GENERATOR.SIZES) == 5  # by such a tag
