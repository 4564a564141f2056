"""A network in memory, to test programs that use a mesh.

`SimNetwork` runs any number of real `MeshNode`s in one thread on one virtual
clock.  Nothing sleeps and no socket is opened: an hour of mesh time takes
moments, and the same seed gives the same run.

::

    net = SimNetwork(seed=1)
    alice = net.node("10.0.0.1", name="alice")
    bob = net.node("10.0.0.2", name="bob", bootstrap=("10.0.0.1:8001",))
    net.start(alice, bob)
    net.run_until(lambda: alice.peers() and bob.peers())
    alice.broadcast("hello")
    net.run(1.0)
    assert net.chats(bob) == ["hello"]

What is simulated is TCP as programs see it: segments arrive in order after a
latency, a reader that stops makes the writer's buffer fill, each half closes by
itself, an abort loses what was not read, a port where nobody listens refuses,
and what is cut off waits (TCP sends it again) until the cut heals.  On top of
that come the faults: cuts in one direction or both, clogged and broken links,
dials that are refused or get no answer, crashes with and without a word, frozen
machines, clocks that go wrong, slow readers, and segments that arrive in pieces.
"""

from __future__ import annotations

from meshproto.testing._clock import SimClock
from meshproto.testing._network import SimNetwork, SimTimeout
from meshproto.testing._tcp import WINDOW

__all__ = ["WINDOW", "SimClock", "SimNetwork", "SimTimeout"]
