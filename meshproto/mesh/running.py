"""Checks that the reactor of a node can run."""

from __future__ import annotations

from asyncio import get_running_loop

from twisted.internet.base import ReactorBase

from meshproto.errors import WrongLoop


def require_loop_of(reactor: object) -> None:
    """Raise `WrongLoop` if another asyncio loop runs and the reactor does not.

    The reactor may start later, but not while another loop runs in its thread.  A
    clock that is not a Twisted reactor passes: it may belong to a test.
    """
    try:
        loop = get_running_loop()
    except RuntimeError:
        return
    if not isinstance(reactor, ReactorBase) or reactor.running:
        return
    # An asyncio reactor works without run() if something else runs its loop.
    if getattr(reactor, "_asyncioEventloop", None) is not loop:
        raise WrongLoop(
            "the asyncio loop that runs here is not the reactor's, so the node would "
            "do nothing; start the program with twisted.internet.task.react, or "
            "install twisted.internet.asyncioreactor on the loop first, as "
            'examples/asyncio_app.py does (docs/embedding.md, "In an asyncio '
            'program")'
        )
