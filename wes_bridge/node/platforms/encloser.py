"""Starts the program that makes sandboxes: ``python -I -S encloser.py yes`` (or ``no``: without a network).

The keeper starts it as a file, as it is one itself; the program is the package ``enclosing``, and imports
nothing else of wes-bridge.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module

if __name__ == "__main__":
    sys.path.append(os.path.dirname(os.path.abspath(__file__)))
    import_module("enclosing.program").main()
