#!/usr/bin/env python
"""Convert another project's checkpoint to one that MODEL.WEIGHTS takes.

python tools/convert_checkpoint.py --from torchvision mobilenet_v2.pth weights/mobilenet_v2.pth
"""

import argparse
import sys

from epl_d2.checkpoint import SOURCES, convert_state_dict, read_state_dict, write_checkpoint


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
    try:
        converted = convert_state_dict(read_state_dict(args.input), args.source, fpn=args.fpn)
        write_checkpoint(converted, args.output)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{args.output}: {len(converted)} tensors, {sum(t.numel() for t in converted.values()):,} values")
    return 0


if __name__ == "__main__":
    sys.exit(main())
