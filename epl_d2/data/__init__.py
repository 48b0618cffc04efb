"""Data sets, exact label reading, augmentations and loaders.

`label_io`, `shapes` and `datasets.metadata` need neither torch nor detectron2, and importing this package
imports nothing heavier.
"""
