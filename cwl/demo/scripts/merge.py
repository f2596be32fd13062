# SPDX-License-Identifier: Apache-2.0
"""Merge the tiles' islands into one catalogue of sources.

Islands that touch across tile borders are pieces of one source: their sums are added. A source must reach the
seed threshold somewhere and cover at least one beam. Writes the catalogue as CSV (for people) and JSON (for
the next step) and a FITS mask of the whole map in which each pixel holds its source's number.
"""

import argparse
import csv
import json
import math
import warnings
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS, FITSFixedWarning

COLUMNS = {
    "number": "",
    "name": "",
    "lon": "deg",
    "lat": "deg",
    "x": "pixel",
    "y": "pixel",
    "peak": "Jy/beam",
    "snr": "",
    "flux": "Jy",
    "flux_error": "Jy",
    "beams": "",
    "rms": "Jy/beam",
    "tiles": "",
}


def paste(files: list[Path], shape: tuple[int, int]) -> tuple[np.ndarray, list[dict]]:
    """Lay the tiles' masks side by side; return the map of piece numbers, and the pieces from number 1 on."""
    mosaic = np.zeros(shape, np.int32)
    pieces: list[dict] = []
    for file in sorted(files):
        tile = json.loads(file.read_text())
        mask = fits.getdata(file.with_suffix(".fits")).astype(np.int32)
        box = np.s_[tile["y0"] : tile["y0"] + tile["height"], tile["x0"] : tile["x0"] + tile["width"]]
        mosaic[box] = np.where(mask > 0, mask + len(pieces), 0)
        pieces += [island | {"tile": tile["tile"]} for island in tile["islands"]]
    return mosaic, pieces


def touching(mosaic: np.ndarray) -> set[tuple[int, int]]:
    """Return the pairs of different pieces that lie side by side or corner to corner."""
    pairs = set()
    for one, other in (
        (mosaic[:, :-1], mosaic[:, 1:]),
        (mosaic[:-1], mosaic[1:]),
        (mosaic[:-1, :-1], mosaic[1:, 1:]),
        (mosaic[:-1, 1:], mosaic[1:, :-1]),
    ):
        meet = (one > 0) & (other > 0) & (one != other)
        pairs |= {(int(a), int(b)) for a, b in zip(one[meet], other[meet], strict=True)}
    return pairs


def join(count: int, pairs: set[tuple[int, int]]) -> list[list[int]]:
    """Group the piece numbers 1..count so that linked ones are together."""
    parent = list(range(count + 1))

    def root(piece: int) -> int:
        while parent[piece] != piece:
            piece = parent[piece]
        return piece

    for one, other in sorted(pairs):
        low, high = sorted((root(one), root(other)))
        parent[high] = low
    groups: dict[int, list[int]] = {}
    for piece in range(1, count + 1):
        groups.setdefault(root(piece), []).append(piece)
    return list(groups.values())


def source(pieces: list[dict], beam_pixels: float, wcs: WCS) -> dict:
    """Sum one source up over its pieces."""
    top = max(pieces, key=lambda piece: piece["snr"])
    pixels = sum(piece["pixels"] for piece in pieces)
    total = sum(piece["sum"] for piece in pieces)
    rms = sum(piece["sum_noise"] for piece in pieces) / pixels
    lon, lat = (float(value) for value in wcs.pixel_to_world_values(top["peak_x"], top["peak_y"]))
    beams = pixels / beam_pixels
    return {
        "name": source_name(lon % 360, lat, wcs.wcs.ctype[0]),
        "lon": round(lon % 360, 5),
        "lat": round(lat, 5),
        "x": round(sum(piece["sum_x"] for piece in pieces) / total, 2),
        "y": round(sum(piece["sum_y"] for piece in pieces) / total, 2),
        "peak": round(top["peak"], 6),
        "snr": round(top["snr"], 1),
        "flux": round(total / beam_pixels, 5),
        "flux_error": round(rms * math.sqrt(beams), 5),
        "beams": round(beams, 1),
        "rms": round(rms, 6),
        "tiles": " ".join(sorted({piece["tile"] for piece in pieces})),
    }


def source_name(lon: float, lat: float, axis: str) -> str:
    """Name a source after its peak: G010.472+00.027 for Galactic axes, J180826-195152 for equatorial ones."""
    if axis.startswith("GLON"):
        return f"G{lon:07.3f}{lat:+07.3f}"
    ra, dec = int(lon * 240), int(abs(lat) * 3600)
    return (
        f"J{ra // 3600:02d}{ra // 60 % 60:02d}{ra % 60:02d}"
        f"{'-' if lat < 0 else '+'}{dec // 3600:02d}{dec // 60 % 60:02d}{dec % 60:02d}"
    )


def main() -> None:
    """Read the command line, write ``catalogue.csv``, ``catalogue.json`` and ``sources.fits``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("image", type=Path)
    parser.add_argument("--seed", type=float, required=True, help="a source must reach this, in sigma")
    parser.add_argument(
        "--levels", type=Path, required=True, help="JSON list of the tiles' background and noise"
    )
    parser.add_argument("--islands", type=Path, nargs="*", default=[])
    args = parser.parse_args()
    warnings.simplefilter("ignore", FITSFixedWarning)

    header = fits.getheader(args.image)
    wcs = WCS(header).celestial
    mosaic, pieces = paste(args.islands, (header["NAXIS2"], header["NAXIS1"]))
    tiles = json.loads(args.levels.read_text())
    beam_pixels = tiles[0]["beam_pixels"]

    found = []
    for group in join(len(pieces), touching(mosaic)):
        members = [pieces[number - 1] for number in group]
        one = source(members, beam_pixels, wcs)
        if one["snr"] >= args.seed and one["beams"] >= 1:
            found.append((one, group))
    found.sort(key=lambda item: (-item[0]["flux"], item[0]["name"]))

    numbers = np.zeros(len(pieces) + 1, np.int16)
    for number, (_, group) in enumerate(found, start=1):
        numbers[group] = number
    sources = [{"number": number} | one for number, (one, _) in enumerate(found, start=1)]

    fits.PrimaryHDU(numbers[mosaic], header=wcs.to_header()).writeto("sources.fits")
    catalogue = {"image": args.image.name, "units": COLUMNS, "tiles": tiles, "sources": sources}
    Path("catalogue.json").write_text(json.dumps(catalogue, indent=1) + "\n")
    with Path("catalogue.csv").open("w", newline="") as out:
        table = csv.writer(out, lineterminator="\n")
        table.writerow([f"{name} [{unit}]" if unit else name for name, unit in COLUMNS.items()])
        table.writerows([one[name] for name in COLUMNS] for one in sources)
    print(f"merge: {len(pieces)} islands of {len(args.islands)} tiles make {len(sources)} sources")


if __name__ == "__main__":
    main()
