"""What `add_epl_config` does to a config of Detectron2."""

import re

from detectron2.config import get_cfg
from detectron2.projects.deeplab import add_deeplab_config

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
