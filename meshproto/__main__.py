"""Runs the ``meshproto`` command as ``python -m meshproto``."""

from __future__ import annotations

import sys

from meshproto.run.cli import main

if __name__ == "__main__":
    sys.exit(main())
