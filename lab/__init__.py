"""Real daemons, terminals, networks and attackers, for the tests and for ``bench``.

Nothing here needs more than ``meshproto`` itself, except that a `Terminal` is read
through ``pyte``.
"""

from __future__ import annotations
