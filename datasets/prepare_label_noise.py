#!/usr/bin/env python
"""Shapes with training labels that are wrong by some pixels: python datasets/prepare_label_noise.py [--root datasets]

Beside `shapes`, which must be there, it writes the folder `shapes_label_noise`: labels of the training scenes moved by
1 to 3 pixels in a direction of their own, and labels whose objects have grown by as much. DATASETS.SEM_SEG_FILES
'["datasets/shapes_label_noise.yaml"]' makes them shapes_label_noise_shift_1, ..., shapes_label_noise_dilate_3, where
DETECTRON2_DATASETS names the folder that holds both.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from epl_d2.commands import command
from epl_d2.data.datasets import dataset_root
from epl_d2.data.label_io import read_record_label
from epl_d2.data.label_noise import dilate_objects, shift_labels

DISTANCES = (1, 2, 3)
BACKGROUND = (0, 1)  # sky and ground


def write_label_noise(root: Path, seed: int) -> Path:
    """The folder below `root`; it appears under its name only when it is complete.

    Raises:
        FileNotFoundError: there are no shapes.
        FileExistsError: the folder is there already.
    """
    files = sorted((root / "shapes" / "train" / "labels").glob("*.png"))
    if not files:
        raise FileNotFoundError(f"{root / 'shapes'}: there are no shapes; run python datasets/prepare_shapes.py first")
    folder = root / "shapes_label_noise"
    if folder.exists():
        raise FileExistsError(f"{folder} is there already; remove it to write it anew")
    with tempfile.TemporaryDirectory(prefix=".label-noise-", dir=root) as partial:
        made = Path(partial) / "made"
        splits = [f"{kind}_{distance}" for kind in ("shift", "dilate") for distance in DISTANCES]
        for split in splits:
            (made / split).mkdir(parents=True)
        for number, file in enumerate(tqdm(files, desc="labels", leave=False, disable=None)):
            labels = read_record_label({"sem_seg_file_name": str(file)})
            for distance in DISTANCES:
                shifted = shift_labels(labels, distance, np.random.default_rng((seed, number)))
                Image.fromarray(shifted).save(made / f"shift_{distance}" / file.name)
                Image.fromarray(dilate_objects(labels, distance, background=BACKGROUND)).save(
                    made / f"dilate_{distance}" / file.name
                )
        made.rename(folder)
    return folder


@command
def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", default=dataset_root(), help="folder that holds all data sets (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the directions (default: %(default)s)")
    args = parser.parse_args()
    if args.seed < 0:
        parser.error(f"--seed is {args.seed}, expected at least 0")
    folder = write_label_noise(Path(args.root), args.seed)
    print(f"{folder}: written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
