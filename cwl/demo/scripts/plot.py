# SPDX-License-Identifier: Apache-2.0
"""Draw the survey on one page.

Left: the map with the tile grid, each tile's noise and the catalogue's sources. Right: the strongest source
and its knots, the tree of its structures, and the histogram of all pixels in units of the noise.
"""

import argparse
import json
import warnings
from pathlib import Path

import matplotlib as mpl
import numpy as np
from astropy.io import fits
from astropy.visualization.wcsaxes import WCSAxes
from astropy.wcs import WCS, FITSFixedWarning
from matplotlib.colors import AsinhNorm
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse
from matplotlib.patheffects import withStroke

STYLE = {
    "font.family": "STIXGeneral",
    "mathtext.fontset": "stix",
    "font.size": 11,
    "axes.linewidth": 0.8,
    "xtick.direction": "in",
    "ytick.direction": "in",
}
OUTLINE, GRID, KNOT, QUIET = "#5fe0d0", "#ffffff", "#ffffff", "#8a8fa3"
COLOURS = "inferno"
AXES = {
    "GLON": "Galactic longitude",
    "GLAT": "Galactic latitude",
    "RA--": "Right ascension",
    "DEC-": "Declination",
}
TICKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
HALO = [withStroke(linewidth=2, foreground="#1a0f2b")]


def draw_sky(axes: WCSAxes, sky: np.ndarray, norm: AsinhNorm) -> object:
    """Draw the map in mJy/beam with sky coordinates along its sides."""
    axes.set_facecolor("#3a3742")
    drawn = axes.imshow(sky * 1e3, origin="lower", cmap=COLOURS, norm=norm, interpolation="nearest")
    for coordinate, kind in zip(axes.coords, axes.wcs.wcs.ctype, strict=True):
        coordinate.set_axislabel(AXES.get(kind[:4], kind), minpad=0.6)
        coordinate.set_ticks(color="white", size=5, number=5)
        if kind.startswith("GL"):
            coordinate.set_major_formatter("d.dd")
    return drawn


def draw_tiles(axes: WCSAxes, tiles: list[dict]) -> None:
    """Draw the tile grid and write each tile's noise into its corner."""
    for tile in tiles:
        x, y = tile["x0"] - 0.5, tile["y0"] - 0.5
        right, top = x + tile["width"], y + tile["height"]
        axes.plot([x, right, right], [top, top, y], color=GRID, lw=0.6, ls=(0, (4, 3)), alpha=0.45)
        text = f"{tile['tile']}  $\\sigma$ = {tile['rms'] * 1e3:.2f} mJy/beam"
        axes.text(x + 3, top - 3, text, color=GRID, alpha=0.75, fontsize=8.5, va="top")


def draw_beam(axes: WCSAxes, header: fits.Header, x: float, y: float) -> None:
    """Draw the beam as an ellipse centred on a pixel."""
    scale = abs(header["CDELT1"])
    axes.add_patch(
        Ellipse(
            (x, y),
            header["BMIN"] / scale,
            header["BMAJ"] / scale,
            angle=header.get("BPA", 0.0),
            facecolor="white",
            edgecolor="black",
            lw=0.6,
        )
    )


def draw_ruler(axes: WCSAxes, header: fits.Header, x: float, y: float) -> None:
    """Draw a bar of a round angular length that ends at a pixel."""
    pixel = abs(header["CDELT1"]) * 60
    longest = header["NAXIS1"] * pixel / 4
    arcmin = max(
        [one for one in (1 / 60, 1 / 6, 0.5, 1, 2, 5, 10, 30, 60) if one <= longest], default=longest
    )
    length = arcmin / pixel
    axes.plot([x - length, x], [y, y], color="white", lw=1.6, solid_capstyle="butt")
    label = f"{arcmin:g}\u2032" if arcmin >= 1 else f"{arcmin * 60:g}\u2033"
    axes.text(x - length / 2, y + 1.5, label, color="white", ha="center", va="bottom", fontsize=11)


def draw_sources(axes: WCSAxes, sources: list[dict], mask: np.ndarray) -> None:
    """Outline the sources and number them."""
    if not sources:
        return
    axes.contour(mask > 0, levels=[0.5], colors=OUTLINE, linewidths=0.9)
    for source in sources:
        ys, xs = np.nonzero(mask == source["number"])
        at_right = xs.max() + 12 > mask.shape[1]
        side = xs.min() if at_right else xs.max()
        axes.text(
            side - 3 if at_right else side + 3,
            ys[xs == side].mean(),
            str(source["number"]),
            color=OUTLINE,
            fontsize=11,
            fontweight="bold",
            path_effects=HALO,
            ha="right" if at_right else "left",
            va="center",
        )


def draw_knots(axes: WCSAxes, structures: list[dict]) -> None:
    """Mark the knots with their letters."""
    for knot in (one for one in structures if one["leaf"]):
        axes.plot(knot["x"], knot["y"], marker="+", color=KNOT, ms=9, mew=1.1)
        axes.annotate(
            knot["knot"],
            (knot["x"], knot["y"]),
            (5, 5),
            textcoords="offset points",
            color=KNOT,
            fontsize=11,
            fontweight="bold",
            path_effects=HALO,
        )


def draw_tree(axes: mpl.axes.Axes, structures: list[dict]) -> None:
    """Draw the tree: each structure a line from the level where it begins to where it ends or parts."""
    children: dict = {}
    for one in structures:
        children.setdefault(one["parent"], []).append(one)
    places: dict[int, float] = {}
    leaves = 0

    def place(one: dict) -> float:
        nonlocal leaves
        if one["leaf"]:
            places[one["structure"]] = leaves
            leaves += 1
        else:
            below = [place(child) for child in sorted(children[one["structure"]], key=lambda c: -c["peak"])]
            places[one["structure"]] = sum(below) / len(below)
        return places[one["structure"]]

    for root in children.get(None, []):
        place(root)
    for one in structures:
        x = places[one["structure"]]
        axes.plot([x, x], [one["base"] * 1e3, one["top"] * 1e3], color="#333845", lw=1.2)
        if one["leaf"]:
            tip = (x, one["top"] * 1e3)
            axes.annotate(
                one["knot"], tip, (0, 3), textcoords="offset points", ha="center", fontweight="bold"
            )
        else:
            ends = [places[child["structure"]] for child in children[one["structure"]]]
            axes.plot([min(ends), max(ends)], [one["top"] * 1e3] * 2, color="#333845", lw=1.2)
    axes.set(yscale="log", ylabel="Brightness [mJy beam$^{-1}$]", xticks=[], xlim=(-0.6, leaves - 0.4))
    axes.set_ylim(top=axes.get_ylim()[1] * 1.5)
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_title("Structure tree", fontsize=11)


def draw_histogram(axes: mpl.axes.Axes, sky: np.ndarray, tiles: list[dict], seed: float) -> None:
    """Draw how many pixels have which brightness in sigma, beside what noise alone would give."""
    in_sigma = np.concatenate(
        [
            (sky[tile["y0"] : tile["y0"] + tile["height"], tile["x0"] : tile["x0"] + tile["width"]].ravel()
             - tile["background"]) / tile["rms"]
            for tile in tiles
        ]
    )  # fmt: skip
    in_sigma = in_sigma[np.isfinite(in_sigma)]
    axes.hist(in_sigma, bins=np.arange(-6, 25.01, 0.5), color=QUIET, label="pixels")
    centres = np.linspace(-5, 5, 201)
    noise = len(in_sigma) * 0.5 / np.sqrt(2 * np.pi) * np.exp(-(centres**2) / 2)
    axes.plot(centres, noise, color="#c4342d", lw=1.3, label="noise alone")
    axes.axvline(seed, color="#1c8c80", lw=1.2, ls="--", label=f"{seed:g}$\\sigma$")
    axes.set(yscale="log", ylim=(0.7, len(in_sigma) / 3), xlim=(-6, 25), xlabel="Brightness [$\\sigma$]")
    axes.set_title("Pixels", fontsize=11)
    axes.legend(frameon=False, fontsize=9, handlelength=1.4)


def draw_page(
    header: fits.Header,
    sky: np.ndarray,
    mask: np.ndarray,
    catalogue: dict,
    structures: list[dict],
    *,
    seed: float,
    title: str,
) -> Figure:
    """Lay out the page."""
    tiles, sources = catalogue["tiles"], catalogue["sources"]
    rms = float(np.median([tile["rms"] for tile in tiles])) * 1e3
    base = float(np.median([tile["background"] for tile in tiles])) * 1e3
    norm = AsinhNorm(linear_width=4 * rms, vmin=base - 3 * rms, vmax=float(np.nanmax(sky)) * 1e3)
    wcs = WCS(header).celestial
    height, width = sky.shape

    figure = Figure(figsize=(14, 7.7))
    whole = figure.add_axes((0.06, 0.08, 0.5, 0.86), projection=wcs, anchor="W")
    drawn = draw_sky(whole, sky, norm)
    draw_tiles(whole, tiles)
    draw_sources(whole, sources, mask)
    draw_beam(whole, header, 0.045 * width, 0.045 * height)
    draw_ruler(whole, header, 0.96 * width, 0.035 * height)
    found = f"{len(sources)} source{'' if len(sources) == 1 else 's'} above {seed:g}$\\sigma$"
    whole.set_title(f"{title}: {found}", fontsize=13)
    bar = figure.colorbar(drawn, cax=whole.inset_axes((1.015, 0, 0.03, 1)))
    bar.set_label("Brightness [mJy beam$^{-1}$]")
    ticks = [value for value in TICKS if max(norm.vmin, rms) <= value <= norm.vmax]
    bar.set_ticks(ticks, labels=[f"{value:g}" for value in ticks])
    bar.ax.minorticks_off()

    if sources:
        ys, xs = np.nonzero(mask == 1)
        zoom = figure.add_axes((0.655, 0.5, 0.335, 0.44), projection=wcs)
        draw_sky(zoom, sky, norm)
        zoom.contour(mask == 1, levels=[0.5], colors=OUTLINE, linewidths=1.0)
        zoom.set_xlim(xs.min() - 8, xs.max() + 8)
        zoom.set_ylim(ys.min() - 5, ys.max() + 5)
        draw_knots(zoom, structures)
        draw_beam(zoom, header, xs.min(), ys.min() + 2)
        zoom.set_title(f"Source 1: {sources[0]['name']}, {flux_text(sources[0]['flux'])}", fontsize=12)
    if structures:
        draw_tree(figure.add_axes((0.665, 0.08, 0.135, 0.32)), structures)
    left = 0.845 if structures else 0.665
    draw_histogram(figure.add_axes((left, 0.08, 0.99 - left, 0.32)), sky, tiles, seed)
    return figure


def flux_text(flux: float) -> str:
    """Write a flux given in Jy in the unit that suits it."""
    return f"{flux:.2f} Jy" if flux >= 1 else f"{flux * 1e3:.1f} mJy"


def main() -> None:
    """Read the command line, write the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("image", type=Path)
    parser.add_argument("catalogue", type=Path)
    parser.add_argument("mask", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--seed", type=float, required=True, help="the detection threshold, in sigma")
    parser.add_argument("--structures", type=Path, help="the tree of the strongest source, if there is one")
    parser.add_argument("--title", default="")
    args = parser.parse_args()
    warnings.simplefilter("ignore", FITSFixedWarning)
    mpl.rcParams.update(STYLE)

    catalogue = json.loads(args.catalogue.read_text())
    figure = draw_page(
        fits.getheader(args.image),
        np.squeeze(fits.getdata(args.image)).astype(np.float64),
        fits.getdata(args.mask),
        catalogue,
        json.loads(args.structures.read_text())["structures"] if args.structures else [],
        seed=args.seed,
        title=args.title or args.image.name,
    )
    figure.savefig(args.output, dpi=150, metadata={"Software": None})
    print(f"plot: {args.output.name}: {len(catalogue['tiles'])} tiles, {len(catalogue['sources'])} sources")


if __name__ == "__main__":
    main()
