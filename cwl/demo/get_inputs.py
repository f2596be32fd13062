# SPDX-License-Identifier: Apache-2.0
"""Fetch the demo workflow's inputs: a real radio map and a job order.

The map is a cut-out of the VLA survey of the Galactic plane at 20 cm (MAGPIS) that the Python package
``astroquery`` carries among its test data. It is copied from the installed package; nothing is downloaded.
"""

import argparse
import hashlib
import importlib.util
import json
import shutil
import sys
from pathlib import Path

PACKAGE = "astroquery"
PACKAGED = "magpis/tests/data/image.fits"
SHA256 = "0db725192586c67eb03cbaf2dfb48fd3e9caed3fe9c9cb32a007f54aaa8087ed"  # pragma: allowlist secret
NAME = "magpis_G10.5+0.0_20cm.fits"
TITLE = "MAGPIS 20 cm, G10.5+0.0"


def packaged_map() -> Path:
    """Find the map inside the installed package, without importing it."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit(
            f"get_inputs: the package {PACKAGE} is not installed for {sys.executable}.\n"
            "Install the demo's packages (pip install 'wes-bridge[demo]') or give your own map with --image."
        )
    path = Path(spec.submodule_search_locations[0]) / PACKAGED
    if not path.is_file():
        raise SystemExit(
            f"get_inputs: the installed {PACKAGE} has no {PACKAGED}: its test data was left out.\n"
            f"Reinstall it (pip install --force-reinstall {PACKAGE}) or give your own map with --image."
        )
    if hashlib.sha256(path.read_bytes()).hexdigest() != SHA256:
        print(f"get_inputs: note: {path} has changed since this demo was written", file=sys.stderr)
    return path


def main() -> None:
    """Read the command line, fill the directory, print the job order's path."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("directory", type=Path, help="where to put the map and job.json; made if need be")
    parser.add_argument(
        "--image", type=Path, help="a FITS map of your own (2-D, Jy/beam, beam in the header)"
    )
    parser.add_argument("--columns", type=int, default=4, help="tiles side by side (default: %(default)s)")
    parser.add_argument(
        "--rows", type=int, default=3, help="tiles one above the other (default: %(default)s)"
    )
    args = parser.parse_args()

    image = args.image or packaged_map()
    if not image.is_file():
        raise SystemExit(f"get_inputs: there is no file {image}")
    name = image.name if args.image else NAME
    try:
        args.directory.mkdir(parents=True, exist_ok=True)
        if not (args.directory / name).exists() or not (args.directory / name).samefile(image):
            shutil.copyfile(image, args.directory / name)
        order = args.directory / "job.json"
        job = {
            "image": {"class": "File", "location": name},
            "columns": args.columns,
            "rows": args.rows,
            "title": image.stem if args.image else TITLE,
        }
        order.write_text(json.dumps(job, indent=2) + "\n")
    except OSError as error:
        raise SystemExit(f"get_inputs: cannot write to {args.directory}: {error.strerror}") from error
    print(order)


if __name__ == "__main__":
    main()
