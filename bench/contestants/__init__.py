"""Who takes part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Contestant:
    """One way to tell many peers something.

    ``module`` plays it, with ``options``.  ``needs`` is what `pip` installs for it,
    nothing where the environment of this project does.  ``batched``: it has an
    event loop, so the number of broadcasts in one turn means something.
    ``probed``: it cannot tell when it is linked.
    """

    name: str
    label: str
    module: str
    options: Mapping[str, object] = field(default_factory=dict, hash=False)
    needs: str | None = None
    batched: bool = True
    probed: bool = False


MESHPROTO = Contestant("meshproto", "meshproto", "mesh")
#: The application takes chat in the runs in which it arrives.
IN_RUNS = Contestant("runs", "meshproto, in runs", "mesh", {"runs": True})
#: `write` hands the bytes to Twisted, which sends them in its next turn.
BARE = Contestant("bare", "bare Twisted, write", "bare")
#: Sends at once what the socket takes, past the transport's buffer.
DIRECT = Contestant("direct", "bare Twisted, direct", "bare", {"direct": True})
NAIVE = Contestant("naive", "naive Twisted node", "naive")
UVLOOP = Contestant("uvloop", "uvloop protocol", "on_uvloop", needs="uvloop")
ZMQ = Contestant("pyzmq", "pyzmq PUB/SUB", "pubsub", needs="pyzmq", batched=False)
P2P = Contestant(
    "p2pnetwork", "p2pnetwork 1.2", "p2p", needs="p2pnetwork==1.2", batched=False
)
PYRE = Contestant(
    "pyre",
    "zeromq-pyre 0.3.4",
    "zyre",
    needs="zeromq-pyre==0.3.4",
    batched=False,
)

ALL = (MESHPROTO, IN_RUNS, DIRECT, BARE, NAIVE, UVLOOP, ZMQ, P2P, PYRE)


def external(command: str) -> Contestant:
    """A program that speaks ``mesh/1``, by its command line."""
    label = f"`{command}`"
    return Contestant(
        command, label, "program", {"command": command}, batched=False, probed=True
    )
