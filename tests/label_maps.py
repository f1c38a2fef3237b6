"""One checksum over the label maps of every method that is listed first, on pocket scenes.

    python -m tests.label_maps --scenes 32

Has a change of the code changed a mask? Run it before and after, with the same prototypes (`OVSEG_PROTOTYPES`) or none. It
is no test: the figure belongs to one set of weights and one version of torch.
"""

import argparse
import hashlib

import ovseg
from ovseg.pocket.world import scene


def checksum(method: type, scenes: int) -> str:
    """First digits of the SHA-256 over the label maps of `pocket-val` 0 ... scenes-1, each with its own classes."""
    models, total = ovseg.Models("pocket", "cpu"), hashlib.sha256()
    suited = ovseg.suited_to(models, method)
    for index in range(scenes):
        item = scene("val", index)
        classes = ovseg.parse_classes(", ".join(dict.fromkeys(item.things)))
        total.update(suited.segment(models, ovseg.from_image(models, item.image, seed=index), classes).label_map.tobytes())
    return total.hexdigest()[:16]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scenes", type=int, default=32)
    options = parser.parse_args()
    every = {method.name: checksum(method, options.scenes) for method in ovseg.METHODS if method.listed_first}
    for name, digest in every.items():
        print(f"{name:20} {digest}")
    print(f"{'all':20} {hashlib.sha256(''.join(every.values()).encode()).hexdigest()[:16]}")
