"""Whether the reactor of a node will ever run."""

from __future__ import annotations

from asyncio import get_running_loop

from twisted.internet.base import ReactorBase

from meshproto.errors import WrongLoop


def require_loop_of(reactor: object) -> None:
    """Raise `WrongLoop` where a foreign asyncio loop runs and the reactor does not.

    A reactor may be run later, but not from within the loop that blocks it.  Of a
    clock that is no reactor of Twisted's nothing is known: it may be a test's.
    """
    try:
        loop = get_running_loop()
    except RuntimeError:
        return
    if not isinstance(reactor, ReactorBase) or reactor.running:
        return
    # An asyncio reactor needs no run(), where somebody else runs its loop.
    if getattr(reactor, "_asyncioEventloop", None) is not loop:
        raise WrongLoop(
            "the asyncio loop that runs here is not the reactor's, so the node would "
            "do nothing; start the program with twisted.internet.task.react, or "
            "install twisted.internet.asyncioreactor on the loop first, as "
            'examples/asyncio_app.py does (docs/embedding.md, "In an asyncio '
            'program")'
        )
