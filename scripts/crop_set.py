"""Cut the images of a distilled set to their middle, to evaluate it at another size.

usage: python scripts/crop_set.py FOLDER OUT --size 28
       ld3m evaluate OUT --data fashion-mnist:full -D image_size=28 --protocol dsa-2021
"""

from __future__ import annotations

import argparse
from pathlib import Path

from torchvision.transforms.functional import center_crop

from ld3m_plugin import DistilledSet


def main() -> None:
    """Read a set, cut it, write another without latents: they would render the old size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of a distilled set or of a run")
    parser.add_argument("out", type=Path)
    parser.add_argument("--size", type=int, required=True, help="pixels a side that are kept")
    arguments = parser.parse_args()
    whole = DistilledSet.load(arguments.folder)
    images = center_crop(whole.images, [arguments.size, arguments.size]).contiguous()
    DistilledSet(images, whole.labels, {**whole.metadata, "image_size": arguments.size}, None).save(arguments.out)


if __name__ == "__main__":
    main()
