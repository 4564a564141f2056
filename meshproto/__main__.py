"""``python -m meshproto`` is ``meshproto``."""

from __future__ import annotations

import sys

from meshproto.run.cli import main

if __name__ == "__main__":
    sys.exit(main())
