"""A node as a Twisted service, for any `Application`."""

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

#: Longest line of the log, in bytes.
MAX_LOG_LINE = 1024


class MeshService(Service):
    """Starts and stops a node with its parent, and logs what happens to it.

    ::

        service = MeshService(MeshNode(NodeConfig(port=8001)))
        service.setServiceParent(application)

    Each event is one line of the log: the text that the prompt shows, cut at 1 KiB.
    Its fields are ``event`` (the name of the event's type) and, if the event has
    them, ``peer`` and ``peer_id`` (name and ID as the peer gave them), ``address``
    and ``direction``.  Errors are logged as errors, failures that will be retried as
    warnings.  Wire chatter is logged only with ``debug``, at debug level.

    Lines that peers cause are limited to a rate.  The rest are counted: a line whose
    ``event`` is ``LeftOut`` has their number as ``count``.  A seed that stays dead is
    reported less and less often.

    ``node`` must not be started yet.  A node, and so its service, runs once.
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
        """Start the node; `when_started` reports the result."""
        super().startService()
        starting = maybeDeferred(self.node.start)
        starting.addCallbacks(self._started, self._not_started)

    def stopService(self) -> Deferred[None]:
        """Stop the node; fires when every link is closed and the port is free."""
        super().stopService()
        return maybeDeferred(self.node.stop).addBoth(self._stopped)

    def when_started(self) -> Deferred[None]:
        """Wait until the node listens.

        Each call returns a new Deferred.  It fires once the node is listening, at
        once if it already is, and fails with the reason why it cannot, usually
        `twisted.internet.error.CannotListenError`.  The failure is also logged, so it
        is not lost if nobody calls this.
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
