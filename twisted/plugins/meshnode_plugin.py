"""Registers the ``meshnode`` command with ``twistd`` and ``twist``."""

from __future__ import annotations

from twisted.application.service import ServiceMaker

meshnode = ServiceMaker(
    "meshnode",
    "meshproto.run.tap",
    "A node of a peer-to-peer mesh",
    "meshnode",
)
