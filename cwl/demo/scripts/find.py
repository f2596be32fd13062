# SPDX-License-Identifier: Apache-2.0
"""Find islands of emission in one tile.

An island is a patch of connected pixels above the growth threshold that reaches the seed threshold somewhere,
or that touches the tile's edge and may go on next door: the merge step joins those. The sums kept for an
island add up over the tiles it covers. A FITS mask beside the list holds each pixel's island.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from astropy.io import fits

NEIGHBOURS = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if dy or dx]


def islands(above: np.ndarray) -> list[list[tuple[int, int]]]:
    """Return the patches of connected (also diagonally) true pixels, in reading order."""
    left = {(int(y), int(x)) for y, x in np.argwhere(above)}
    patches = []
    for start in sorted(left):
        if start not in left:
            continue
        left.remove(start)
        patch = [start]
        for y, x in patch:
            for dy, dx in NEIGHBOURS:
                pixel = (y + dy, x + dx)
                if pixel in left:
                    left.remove(pixel)
                    patch.append(pixel)
        patches.append(sorted(patch))
    return patches


def describe(number: int, patch: list[tuple[int, int]], excess: np.ndarray, place: dict, rms: float) -> dict:
    """Sum up one island; positions are pixels of the whole map."""
    ys, xs = np.array(patch).T
    values = excess[ys, xs]
    top = int(np.argmax(values))
    return {
        "island": number,
        "pixels": len(patch),
        "sum": round(float(values.sum()), 8),
        "sum_x": round(float((values * (xs + place["x0"])).sum()), 6),
        "sum_y": round(float((values * (ys + place["y0"])).sum()), 6),
        "sum_noise": round(rms * len(patch), 8),
        "peak": round(float(values[top]), 8),
        "peak_x": int(xs[top]) + place["x0"],
        "peak_y": int(ys[top]) + place["y0"],
        "snr": round(float(values[top]) / rms, 3),
    }


def main() -> None:
    """Read the command line, write the list of islands and its mask."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tile", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument(
        "--background", type=float, required=True, help="the level of the quiet sky, in Jy/beam"
    )
    parser.add_argument("--rms", type=float, required=True, help="the noise, one sigma, in Jy/beam")
    parser.add_argument("--seed", type=float, required=True, help="an island must reach this, in sigma")
    parser.add_argument("--grow", type=float, required=True, help="an island ends below this, in sigma")
    args = parser.parse_args()
    if not 0 < args.grow <= args.seed:
        raise SystemExit(f"find: 0 < grow <= seed must hold, got grow {args.grow:g} and seed {args.seed:g}")

    place = json.loads(args.tile.with_suffix(".json").read_text())
    excess = fits.getdata(args.tile).astype(np.float64) - args.background
    rms = args.rms
    mask = np.zeros(excess.shape, np.int16)
    found = []
    for patch in islands(excess > args.grow * rms):
        ys, xs = np.array(patch).T
        at_edge = bool((ys * xs == 0).any() or ys.max() == mask.shape[0] - 1 or xs.max() == mask.shape[1] - 1)
        if at_edge or excess[ys, xs].max() >= args.seed * rms:
            found.append(describe(len(found) + 1, patch, excess, place, rms))
            mask[ys, xs] = len(found)
    args.output.write_text(json.dumps(place | {"islands": found}, indent=1) + "\n")
    fits.PrimaryHDU(mask).writeto(args.output.with_suffix(".fits"))
    strong = sum(island["snr"] >= args.seed for island in found)
    weak = len(found) - strong
    print(f"find: {place['tile']}: {strong} islands above {args.seed:g} sigma, {weak} weak ones at the edge")


if __name__ == "__main__":
    main()
