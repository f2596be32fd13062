# SPDX-License-Identifier: Apache-2.0
"""Measure one tile: background, noise, peak and the flux above the background.

Background and noise are the median and the scaled median absolute deviation of the pixels left after clipping
at three sigma, so that sources do not count as noise.
"""

import argparse
import json
import math
from pathlib import Path

import numpy as np
from astropy.io import fits


def quiet_sky(values: np.ndarray) -> tuple[float, float]:
    """Return (background, noise) of the pixels, sources clipped away."""
    while True:
        background = float(np.median(values))
        noise = 1.4826 * float(np.median(np.abs(values - background)))
        kept = values[np.abs(values - background) <= 3 * noise]
        if len(kept) == len(values):
            return background, noise
        values = kept


def main() -> None:
    """Read the command line, write the measurements as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tile", type=Path)
    parser.add_argument("output", type=Path)
    args = parser.parse_args()

    with fits.open(args.tile) as hdus:
        header = hdus[0].header
        pixels = hdus[0].data.astype(np.float64)
    place = json.loads(args.tile.with_suffix(".json").read_text())

    background, noise = quiet_sky(pixels[np.isfinite(pixels)])
    if noise == 0:
        raise SystemExit(f"measure: {args.tile.name}: more than half the pixels are equal, there is no noise")
    y, x = np.unravel_index(np.nanargmax(pixels), pixels.shape)
    pixel_area = abs(header["CDELT1"] * header["CDELT2"])
    beam = math.pi * header["BMAJ"] * header["BMIN"] / (4 * math.log(2) * pixel_area)
    peak = float(pixels[y, x])
    measured = place | {
        "background": round(background, 8),
        "rms": round(noise, 8),
        "peak": round(peak, 8),
        "peak_x": place["x0"] + int(x),
        "peak_y": place["y0"] + int(y),
        "snr": round((peak - background) / noise, 3),
        "flux": round(float(np.nansum(pixels - background)) / beam, 6),
        "beam_pixels": round(beam, 4),
    }
    args.output.write_text(json.dumps(measured, indent=1) + "\n")
    print(f"measure: {place['tile']}: rms {noise * 1e3:.3f} mJy/beam, peak at {measured['snr']:.1f} sigma")


if __name__ == "__main__":
    main()
