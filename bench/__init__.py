"""How fast a mesh is, measured beside what else there is.

Run from a checkout: ``python -m bench --help``.
"""

from __future__ import annotations
