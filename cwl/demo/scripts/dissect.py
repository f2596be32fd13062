# SPDX-License-Identifier: Apache-2.0
"""Take a large source apart: the tree of structures within structures (a dendrogram).

Leaves are the knots of emission that stand at least ``--contrast`` sigma above the saddle to their
neighbours; branches are what holds knots together. Written as JSON: per structure its parent, the levels it
spans, its peak's position on the map and on the sky.
"""

import argparse
import json
import warnings
from pathlib import Path

import numpy as np
from astrodendro import Dendrogram
from astropy.io import fits
from astropy.wcs import WCS, FITSFixedWarning


def letter(rank: int) -> str:
    """Name knots A to Z, then A1, B1 and so on."""
    return chr(ord("A") + rank % 26) + (str(rank // 26) if rank >= 26 else "")


def main() -> None:
    """Read the command line, write the tree of one source."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("image", type=Path)
    parser.add_argument("catalogue", type=Path)
    parser.add_argument("mask", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--source", type=int, required=True, help="the source's number in the catalogue")
    parser.add_argument(
        "--contrast", type=float, required=True, help="how far a knot must stand out, in sigma"
    )
    args = parser.parse_args()
    warnings.simplefilter("ignore", FITSFixedWarning)

    catalogue = json.loads(args.catalogue.read_text())
    source = next((one for one in catalogue["sources"] if one["number"] == args.source), None)
    if source is None:
        raise SystemExit(f"dissect: {args.catalogue.name} has no source number {args.source}")
    beam_pixels = catalogue["tiles"][0]["beam_pixels"]
    wcs = WCS(fits.getheader(args.image)).celestial
    pixels = np.squeeze(fits.getdata(args.image)).astype(np.float64)
    inside = fits.getdata(args.mask) == args.source
    ys, xs = np.nonzero(inside)
    y0, x0 = int(ys.min()), int(xs.min())
    box = np.s_[y0 : int(ys.max()) + 1, x0 : int(xs.max()) + 1]

    tree = Dendrogram.compute(
        np.where(inside, pixels, np.nan)[box],
        min_value=float(pixels[inside].min()),
        min_delta=args.contrast * source["rms"],
        min_npix=round(beam_pixels),
    )
    structures = []
    for structure in sorted(tree, key=lambda one: one.idx):
        (y, x), peak = structure.get_peak()
        lon, lat = (float(value) for value in wcs.pixel_to_world_values(x + x0, y + y0))
        structures.append(
            {
                "structure": int(structure.idx),
                "parent": int(structure.parent.idx) if structure.parent else None,
                "leaf": structure.is_leaf,
                "base": round(float(structure.parent.height if structure.parent else structure.vmin), 6),
                "top": round(float(structure.height), 6),
                "x": int(x) + x0,
                "y": int(y) + y0,
                "lon": round(lon % 360, 5),
                "lat": round(lat, 5),
                "peak": round(float(peak), 6),
                "beams": round(int(structure.get_npix()) / beam_pixels, 1),
            }
        )
    knots = [structure for structure in structures if structure["leaf"]]
    for rank, knot in enumerate(sorted(knots, key=lambda one: -one["peak"])):
        knot["knot"] = letter(rank)
    args.output.write_text(json.dumps({"source": source, "structures": structures}, indent=1) + "\n")
    print(f"dissect: {source['name']}: {len(knots)} knots in {len(structures)} structures")


if __name__ == "__main__":
    main()
