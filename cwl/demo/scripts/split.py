# SPDX-License-Identifier: Apache-2.0
"""Cut a radio map into a grid of tiles.

Every tile is a FITS image of its own, with its sky coordinates and the beam kept, and beside it a small JSON
file of the same name that says which part of the map it is. Tiles do not overlap and together cover the map;
those without data (blanked corners of a mosaic) are left out.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from astropy.io import fits

SMALLEST_TILE = 16
KEPT = (
    *("OBJECT", "TELESCOP", "BUNIT", "BMAJ", "BMIN", "BPA", "EQUINOX", "RADESYS"),
    *("CTYPE1", "CRVAL1", "CDELT1", "CROTA1", "CUNIT1", "CTYPE2", "CRVAL2", "CDELT2", "CROTA2", "CUNIT2"),
)


def main() -> None:
    """Read the command line, write ``tile_rRcC.fits`` and ``tile_rRcC.json`` into the current directory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("image", type=Path)
    parser.add_argument("--columns", type=int, required=True)
    parser.add_argument("--rows", type=int, required=True)
    args = parser.parse_args()

    try:
        with fits.open(args.image) as hdus:
            header = hdus[0].header
            pixels = np.squeeze(hdus[0].data) if hdus[0].data is not None else np.empty(0)
    except OSError as error:
        raise SystemExit(f"split: {args.image.name} cannot be read as FITS: {error}") from error
    check(args.image.name, header, pixels, args.columns, args.rows)

    height, width = pixels.shape
    xs = np.linspace(0, width, args.columns + 1).astype(int).tolist()
    ys = np.linspace(0, height, args.rows + 1).astype(int).tolist()
    digits = len(str(max(args.rows, args.columns)))
    for row in range(args.rows):
        for column in range(args.columns):
            x0, x1, y0, y1 = xs[column], xs[column + 1], ys[row], ys[row + 1]
            name = f"r{row + 1:0{digits}d}c{column + 1:0{digits}d}"
            part = pixels[y0:y1, x0:x1]
            values = part[np.isfinite(part)]
            if values.size == 0 or values.min() == values.max():
                continue
            tile = fits.PrimaryHDU(part.astype(">f4"))
            tile.header.update({key: header[key] for key in KEPT if header.get(key, "") != ""})
            tile.header["CRPIX1"] = header["CRPIX1"] - x0
            tile.header["CRPIX2"] = header["CRPIX2"] - y0
            tile.writeto(f"tile_{name}.fits")
            place = {"tile": name, "x0": x0, "y0": y0, "width": x1 - x0, "height": y1 - y0}
            Path(f"tile_{name}.json").write_text(json.dumps(place) + "\n")
    print(f"split: {width} x {height} pixels into {args.columns} x {args.rows} tiles")


def check(name: str, header: fits.Header, pixels: np.ndarray, columns: int, rows: int) -> None:
    """Stop with a sentence the user can act on when the map cannot be surveyed."""
    if pixels.ndim != 2:
        raise SystemExit(f"split: {name}: a 2-D image is needed, this one has the shape {pixels.shape}")
    missing = [key for key in ("BMAJ", "BMIN", "CDELT1", "CDELT2", "CRPIX1", "CRPIX2") if key not in header]
    if missing:
        raise SystemExit(f"split: {name}: the FITS header lacks {', '.join(missing)}, beam and pixel size")
    unit = header.get("BUNIT", "").replace(" ", "").upper()
    if unit != "JY/BEAM":
        raise SystemExit(f"split: {name}: a map in Jy/beam is needed, BUNIT is {unit or 'missing'}")
    if columns < 1 or rows < 1:
        raise SystemExit("split: columns and rows must be 1 or more")
    if pixels.shape[1] // columns < SMALLEST_TILE or pixels.shape[0] // rows < SMALLEST_TILE:
        raise SystemExit(
            f"split: {columns} x {rows} tiles of a {pixels.shape[1]} x {pixels.shape[0]} map would be "
            f"narrower than {SMALLEST_TILE} pixels, too few to measure the noise in; ask for fewer"
        )


if __name__ == "__main__":
    main()
