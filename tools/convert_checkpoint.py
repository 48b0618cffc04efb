#!/usr/bin/env python
"""Convert another project's checkpoint to one that MODEL.WEIGHTS takes, and name the shipped configs that it fits.

python tools/convert_checkpoint.py --from torchvision mobilenet_v2.pth weights/mobilenet_v2.pth
"""

import argparse
import sys
from pathlib import Path

import epl_d2.quiet_detectron2  # noqa: F401

# isort: split
import torch
from detectron2.modeling import build_backbone, build_model

from epl_d2 import get_cfg
from epl_d2.checkpoint import SOURCES, convert_state_dict, read_state_dict, write_checkpoint
from epl_d2.commands import command

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
COUNTER = "num_batches_tracked"
# By these endings readers take a file for one of Detectron2's model zoo or of pycls, and refuse one of `torch.save`.
OTHER_FORMATS = (".pkl", ".pyth")


@command
def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--from", dest="source", required=True, choices=sorted(SOURCES), help="project of the checkpoint"
    )
    parser.add_argument(
        "--fpn", action="store_true", help="for a backbone within a feature pyramid, which calls it `bottom_up`"
    )
    parser.add_argument("input", metavar="IN", help="its checkpoint; only tensors are read from it")
    parser.add_argument("output", metavar="OUT", help="checkpoint to write (.pth)")
    args = parser.parse_args()
    if args.output.endswith(OTHER_FORMATS):
        parser.error(f"OUT is {args.output}; readers expect another format behind that ending: it may be .pth")
    if Path(args.output).resolve() == Path(args.input).resolve():
        parser.error(f"OUT is {args.output}, which is IN: the original would be lost; choose another file")
    converted = convert_state_dict(read_state_dict(args.input), args.source, fpn=args.fpn)
    write_checkpoint(converted, args.output)
    print(f"{args.output}: {len(converted)} tensors, {sum(t.numel() for t in converted.values()):,} values")
    whole = any(name.startswith("sem_seg_head.") for name in converted)
    fitting = fitting_configs(converted, args.source, whole=whole)
    print(f"fits {'whole' if whole else 'the backbone of'}:", *fitting or ["no shipped config"], sep="\n  ")
    return 0


def fitting_configs(state_dict: dict[str, torch.Tensor], source: str, *, whole: bool) -> list[str]:
    """The shipped configs, without their _epl twins, whose model or, if not `whole`, backbone has these entries."""
    fitting = []
    for file in sorted(CONFIGS.glob("*/*.yaml")):
        if file.parent.name == "grids" or file.stem.endswith("_epl"):
            continue
        cfg = get_cfg()
        cfg.merge_from_file(str(file))
        cfg.MODEL.DEVICE = "meta"
        # Shapes don't show how MobileNetV2 pads, in which its two sources differ.
        if (source == "torchvision") == cfg.MODEL.MOBILENETV2.PAD_BEFORE_EXPANSION and "mobilenet" in file.stem:
            continue
        with torch.device("meta"):
            model = build_model(cfg) if whole else torch.nn.ModuleDict({"backbone": build_backbone(cfg)})
        wanted = {n: s for n, s in shapes(model.state_dict()).items() if whole or "fpn_" not in n}
        if wanted == shapes(state_dict):
            fitting.append(str(file.relative_to(CONFIGS.parent)))
    return fitting


def shapes(state_dict: dict[str, torch.Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in state_dict.items() if not name.endswith(COUNTER)}


if __name__ == "__main__":
    sys.exit(main())
