"""A node as a Twisted service, to set under any `Application`."""

from __future__ import annotations

from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure

from meshproto.events import (
    BootstrapFailed,
    ConnectionFailed,
    DebugEvent,
    Event,
    NodeError,
    Peer,
)
from meshproto.interfaces import IMesh
from meshproto.run.quiet import LOG, LeftOut
from meshproto.run.render import Narrator
from meshproto.run.teller import Teller

#: Bytes of the longest line of the log.
MAX_LOG_LINE = 1024


class MeshService(Service):
    """Starts and stops a node with its parent, and logs what happens to it.

    ::

        service = MeshService(MeshNode(NodeConfig(port=8001)))
        service.setServiceParent(application)

    An event is one line of the log, with the text that the prompt shows, cut at
    1 KiB.  Its fields are ``event`` (the name of the event's type) and, as far
    as the event has them, ``peer`` and ``peer_id`` (name and ID as the peer
    gave them), ``address`` and ``direction``.  Errors are logged as errors,
    what is tried again as warnings; wire chatter is logged, at debug level,
    only with ``debug``.

    What others cause is logged at a bounded rate.  The rest is counted: a line
    whose ``event`` is ``LeftOut`` has their number as ``count``.  A seed that
    stays dead is told of less and less often.

    ``node`` is not started yet; a node, and so a service, runs once.
    """

    _log = Logger()

    def __init__(self, node: IMesh, *, debug: bool = False) -> None:
        self.node = node
        narrator = Narrator(node.name, debug=debug, longest=MAX_LOG_LINE)
        self._teller = Teller(node, narrator, LOG, self._write, debug=debug)
        self._outcome: Failure | bool | None = None
        self._waiting: list[Deferred[None]] = []

    # Service

    def startService(self) -> None:
        """Start the node; `when_started` tells how that went."""
        super().startService()
        starting = maybeDeferred(self.node.start)
        starting.addCallbacks(self._started, self._not_started)

    def stopService(self) -> Deferred[None]:
        """Stop the node.

        The Deferred fires when it has left the mesh and every link is closed.
        """
        super().stopService()
        return maybeDeferred(self.node.stop).addBoth(self._stopped)

    def when_started(self) -> Deferred[None]:
        """Tell whether the node listens.

        Each call returns a new Deferred.  It fires as soon as the node
        listens, at once if it does already, and fails with what hindered it,
        normally `twisted.internet.error.CannotListenError`.  The failure is in
        the log as well, so it is not lost when nobody asks.
        """
        waiting: Deferred[None] = Deferred()
        self._waiting.append(waiting)
        self._tell_outcome()
        return waiting

    def _started(self, _: object) -> None:
        self._outcome = True
        self._tell_outcome()

    def _not_started(self, failure: Failure) -> None:
        self._outcome = failure
        self._log.error(
            "The node did not start: {reason}",
            reason=" ".join(failure.getErrorMessage().split()),
        )
        self._tell_outcome()

    def _tell_outcome(self) -> None:
        if self._outcome is None:
            return
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            if isinstance(self._outcome, Failure):
                each.errback(self._outcome)
            else:
                each.callback(None)

    def _stopped(self, result: Any) -> Any:
        self._teller.stop()
        return result

    def _write(self, event: Event, line: str) -> None:
        self._log.emit(_level(event), "{line}", line=line, **_fields(event))


def _level(event: Event) -> Any:
    match event:
        case DebugEvent():
            return LogLevel.debug
        case NodeError() | ConnectionFailed():
            return LogLevel.error
        case BootstrapFailed():
            return LogLevel.warn
        case _:
            return LogLevel.info


def _fields(event: Event) -> dict[str, Any]:
    fields: dict[str, Any] = {"event": type(event).__name__}
    if isinstance(event, LeftOut):
        fields["count"] = event.count
        if event.host:
            fields["address"] = event.host
    peer = getattr(event, "peer", None)
    target = getattr(event, "target", None)
    if isinstance(peer, Peer):
        fields["peer"] = peer.name
        fields["peer_id"] = peer.id
        fields["address"] = peer.where
        fields["direction"] = peer.direction.value
    elif target is not None:
        fields["address"] = str(target)
    return fields
