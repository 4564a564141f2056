"""Texts for people: why one node refuses another."""

from __future__ import annotations

from typing import Final

from meshproto.wire.messages import Refusal, RefusalReason

#: For the user of the dialler: why the listener refused it.
REFUSED_BY_IT: Final[dict[Refusal | RefusalReason, str]] = {
    RefusalReason.DUPLICATE: "refused, it still has a link to this node",
    RefusalReason.CROSSING: "refused, it dials this node itself",
    RefusalReason.FULL: "refused, it has no seat left",
    RefusalReason.ANOTHER_MESH: "refused, it belongs to another mesh",
    RefusalReason.OURSELVES: "that is this node itself",
    RefusalReason.OUTDATED: "refused, it has met a later life of this node",
    RefusalReason.CLONED: "refused, several nodes use the identity of this one",
    RefusalReason.OTHER: "refused, for a reason that this version does not know",
}
#: For the user of the node that refuses: why it refused the other.
REFUSED_BY_US: Final[dict[Refusal | RefusalReason, str]] = {
    RefusalReason.DUPLICATE: "it has a link to this node already",
    RefusalReason.CROSSING: "this node dials it as well",
    RefusalReason.FULL: "no seat is left for another peer",
    RefusalReason.ANOTHER_MESH: "it belongs to another mesh",
    RefusalReason.OURSELVES: "that is this node itself",
    RefusalReason.OUTDATED: "this node has met a later life of it",
    RefusalReason.CLONED: "several nodes use its identity",
    RefusalReason.OTHER: "it is not wanted",
}

for _texts in (REFUSED_BY_IT, REFUSED_BY_US):
    _texts[Refusal.DUPLICATE] = _texts[RefusalReason.DUPLICATE]
    _texts[Refusal.MAX_PEERS] = _texts[RefusalReason.FULL]
