"""Makes Detectron2 know the project's data sets, backbones, heads and meta-architecture."""

from __future__ import annotations

__all__ = ["register"]


def register() -> None:
    """Register everything with Detectron2; further calls do nothing.

    `epl_d2.add_epl_config` and `epl_d2.get_cfg` call it, so that every model and loader that is built from a config
    finds what the config names. Only who asks Detectron2's catalogs without a config needs to call it.
    """
    from detectron2.data import DatasetCatalog

    from . import modeling  # noqa: F401  its classes enter the registries as they are defined
    from .data.datasets import register_all_datasets

    if "camvid_sem_seg_train" not in DatasetCatalog.list():  # else they may have been registered below another root
        register_all_datasets()
