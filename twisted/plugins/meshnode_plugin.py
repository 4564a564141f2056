"""Tells ``twistd`` and ``twist`` of the ``meshnode`` command."""

from __future__ import annotations

from twisted.application.service import ServiceMaker

meshnode = ServiceMaker(
    "meshnode",
    "meshproto.run.tap",
    "A node of a peer-to-peer mesh",
    "meshnode",
)
