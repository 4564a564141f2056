"""A node as a Twisted service, to set under any `Application`."""

from __future__ import annotations

from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure

from meshproto._quiet import Quiet
from meshproto.events import (
    BootstrapFailed,
    ConnectionFailed,
    DebugEvent,
    Event,
    NodeError,
    Peer,
)
from meshproto.interfaces import IMesh
from meshproto.render import Narrator


class MeshService(Service):
    """Starts and stops a node with its parent, and logs what happens to it.

    ::

        service = MeshService(MeshNode(NodeConfig(port=8001)))
        service.setServiceParent(application)

    Every event is one line of the log, with the text that the prompt shows.
    Its fields are ``event`` (the name of the event's type) and, as far as the
    event has them, ``peer`` and ``peer_id`` (name and ID as the peer gave
    them), ``address`` and ``direction``.  Errors are logged as errors, what is
    tried again as warnings; wire chatter is logged, at debug level, only with
    ``debug``.

    Of lines that a peer can cause at will one is logged in 10 seconds for each
    peer and kind, and how many more there were.

    ``node`` is not started yet; a node, and so a service, runs once.
    """

    _log = Logger()

    def __init__(self, node: IMesh, *, debug: bool = False) -> None:
        self.node = node
        self._narrator = Narrator(node.name, debug=debug)
        self._quiet = Quiet(node.clock.seconds)
        self._outcome: Failure | bool | None = None
        self._waiting: list[Deferred[None]] = []
        node.subscribe(self._event_emitted)

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
        return maybeDeferred(self.node.stop)

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

    def _event_emitted(self, event: Event) -> None:
        line = self._narrator.line(event)
        for about, text in self._quiet.lines(event, line):
            self._log.emit(_level(about), "{line}", line=text, **_fields(about))


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


def _fields(event: Event) -> dict[str, str]:
    fields = {"event": type(event).__name__}
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
