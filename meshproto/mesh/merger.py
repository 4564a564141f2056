"""Makes one link of two, where both nodes of a pair dialled at once.

Which of the two survives, and why nothing is lost, is said in `registry`.  What
is left to decide here is *when*, since an original program may be at the far
end.  It keeps both links, but forgets the peer as soon as either of them ends,
and is mute from then on; so nothing may be closed before it is clear that the
far end merges too.

A node that merges says nothing on the link that it dialled until the merge is
done, an original asks for peers there at once.  So there is a short grace in
which both links work, each side going on to send on the one that it had first:

* a half-close of the loser by the far end begins the merge;
* a ``REQUEST_PEERS`` on the link that the far end dialled ends the matter: both
  links are kept as one, until either of them ends;
* else the merge begins when the grace is over.  Who loses its own dial goes
  first, because the far end has nothing to tell on that link.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from meshproto.events import CloseReason
from meshproto.rules.interfaces import IPeerLink
from meshproto.rules.registry import PeerEntry, Registry

#: Seconds for which the node whose dial loses, and the other one, wait.
GRACE_OF_LOSER = 0.25
GRACE_OF_SURVIVOR = 0.75


class Merger:
    """The merges under way.

    ``pending`` gives the hosts of our dials that have not ended, None for a host
    that is not known yet.  ``introduce`` is called for an outgoing link that is
    to be used from now on, ``probe`` for one that may be dead.
    """

    def __init__(
        self,
        registry: Registry,
        clock: IReactorTime,
        *,
        pending: Callable[[], Iterable[str | None]],
        introduce: Callable[[IPeerLink], None],
        probe: Callable[[IPeerLink], None],
    ) -> None:
        self._registry = registry
        self._clock = clock
        self._pending = pending
        self._introduce = introduce
        self._probe = probe
        self._waiting: dict[PeerEntry, IDelayedCall] = {}
        self._lingering: dict[PeerEntry, IPeerLink] = {}

    def crossed(self, entry: PeerEntry) -> None:
        """The second link of a peer is complete."""
        if entry.key.id == self._registry.own_id:
            # Originals draw their IDs: one that has ours is a node like us.
            self._merge(entry)
        elif entry.asked:
            self._keep(entry)
        else:
            survivor, _ = self._registry.ranked(entry)
            loses = survivor is entry.link
            grace = GRACE_OF_LOSER if loses else GRACE_OF_SURVIVOR
            self._waiting[entry] = self._clock.callLater(grace, self._due, entry)
            if self._lingering.get(entry) is entry.link:
                self._begin_if_loser(entry, entry.link)

    def asked(self, entry: PeerEntry) -> None:
        """The far end asked for peers on the link that it dialled."""
        if self.forget(entry):
            self._keep(entry)

    def far_end_finished(self, entry: PeerEntry, link: IPeerLink) -> bool:
        """The far end half-closed a link.

        Returns whether that is a merge, or may soon be one: then the link lingers
        until `review` finds that it cannot.
        """
        if entry.second is not None:
            return self._begin_if_loser(entry, link)
        if not self._registry.may_be_merged(entry, self._pending()):
            return False
        self._lingering[entry] = link
        return True

    def review(self) -> None:
        """A dial has ended: close what lingers and will not be merged."""
        for entry, link in tuple(self._lingering.items()):
            if self._registry.of_link(link) is not entry:
                del self._lingering[entry]
            elif not self._registry.may_be_merged(entry, self._pending()):
                link.close(CloseReason.CLOSED_BY_PEER)

    def _begin_if_loser(self, entry: PeerEntry, link: IPeerLink) -> bool:
        if entry in self._waiting and self._registry.ranked(entry)[1] is link:
            self.forget(entry)
            self._merge(entry)
            return True
        return False

    def forget(self, entry: PeerEntry) -> bool:
        """Wait no more for a merge; returns whether one was waited for."""
        waiting = self._waiting.pop(entry, None)
        if waiting is not None and waiting.active():
            waiting.cancel()
        return waiting is not None

    def _due(self, entry: PeerEntry) -> None:
        del self._waiting[entry]
        self._merge(entry)

    def _merge(self, entry: PeerEntry) -> None:
        self._lingering.pop(entry, None)
        survivor, loser = self._registry.merge(entry)
        survivor.hold(loser)
        loser.drain()
        if survivor.target is not None:
            self._introduce(survivor)

    def _keep(self, entry: PeerEntry) -> None:
        # It may as well be a node that came back, and its old link be dead.
        newer, older = self._registry.keep(entry)
        self._introduce(newer)
        self._probe(older)
