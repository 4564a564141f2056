"""A node under an application: its life, and its log."""

from __future__ import annotations

import io
import json

from twisted.application.service import Application, IService, MultiService
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import (
    LogEvent,
    LogLevel,
    capturedLogs,
    eventAsText,
    formatEvent,
    jsonFileLogObserver,
)
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from meshproto import events
from meshproto.config import NodeConfig
from meshproto.events import (
    BootstrapFailed,
    ChatReceived,
    ChatsReceived,
    CloseReason,
    ConnectionFailed,
    DebugEvent,
    Event,
    NodeError,
    NodeStarted,
    PeerConnected,
    PeerDisconnected,
    PeerReaped,
    PingSent,
)
from meshproto.interfaces import IMesh
from meshproto.mesh.node import MeshNode
from meshproto.run.quiet import WINDOW
from meshproto.run.service import MAX_LOG_LINE, MeshService
from tests.fakes import FakeMesh, known, peer

BOB = peer()
IN_USE = CannotListenError("", 8001, OSError(98, "Address already in use"))


class FakeTests(SynchronousTestCase):
    """The fake mesh, for what is tested with it."""

    def test_interface(self) -> None:
        """It has the methods of a real node."""
        verifyObject(IMesh, FakeMesh())


class LifeTests(SynchronousTestCase):
    """Starting, stopping, failing."""

    def setUp(self) -> None:
        self.mesh = FakeMesh()
        self.service = MeshService(self.mesh)

    def test_interface(self) -> None:
        """It is a service as any other."""
        verifyObject(IService, self.service)

    def test_application(self) -> None:
        """It starts and stops with its parent."""
        application = Application("test")
        self.service.setServiceParent(application)
        IService(application).startService()
        self.assertEqual(self.mesh.calls, ["start"])
        self.assertTrue(self.service.running)
        IService(application).stopService()
        self.assertEqual(self.mesh.calls, ["start", "stop"])
        self.assertFalse(self.service.running)

    def test_parent_that_runs(self) -> None:
        """Under a parent that runs already it starts at once."""
        parent = MultiService()
        parent.startService()
        self.service.setServiceParent(parent)
        self.assertEqual(self.mesh.calls, ["start"])

    def test_stop_waits_for_the_node(self) -> None:
        """The application ends when the node has left, not before."""
        self.mesh.stopping = Deferred()
        self.service.startService()
        stopped = self.service.stopService()
        self.assertNoResult(stopped)
        self.mesh.stopping.callback(None)
        self.successResultOf(stopped)

    def test_when_started(self) -> None:
        """Everybody who asks is told, before and after."""
        self.mesh.starting = Deferred()
        before = self.service.when_started()
        self.service.startService()
        between = self.service.when_started()
        self.assertNoResult(before)
        self.mesh.starting.callback(None)
        for each in (before, between, self.service.when_started()):
            self.assertIsNone(self.successResultOf(each))

    def test_failure(self) -> None:
        """Everybody who asks gets the reason, and it is in the log once."""
        self.mesh.starting = fail(IN_USE)
        before = self.service.when_started()
        with capturedLogs() as events:
            self.service.startService()
        for each in (before, self.service.when_started()):
            self.failureResultOf(each, CannotListenError)
        (event,) = events
        self.assertIs(event["log_level"], LogLevel.error)
        text = formatEvent(event)
        self.assertIn("Address already in use", text)
        self.assertNotIn("\n", text)
        self.successResultOf(self.service.stopService())

    def test_failure_of_several_lines(self) -> None:
        """Whatever an endpoint has to say, it is one line of the log."""
        self.mesh.starting = fail(RuntimeError("no way\n2026-01-01 forged\r\n  x"))
        with capturedLogs() as events:
            self.service.startService()
        self.assertEqual(
            [formatEvent(event) for event in events],
            ["The node did not start: no way 2026-01-01 forged x"],
        )

    def test_failure_that_nobody_asks_for(self) -> None:
        """It is logged; nothing is left over to be complained of later."""
        self.mesh.starting = fail(IN_USE)
        with capturedLogs() as events:
            self.service.startService()
            del self.mesh, self.service
        self.assertEqual(len(events), 1)

    def test_real_node(self) -> None:
        """A real node starts and stops under it, on a reactor of memory."""
        reactor = MemoryReactorClock()
        node = MeshNode(NodeConfig(port=8001, name="alice"), reactor=reactor)
        service = MeshService(node)
        with capturedLogs() as events:
            service.startService()
            self.successResultOf(service.when_started())
        self.assertEqual(len(reactor.tcpServers), 1)
        self.assertIn(
            "[SYSTEM] Node alice listening", "\n".join(map(formatEvent, events))
        )
        stopped = service.stopService()
        reactor.advance(5.0)
        self.successResultOf(stopped)


class LogTests(SynchronousTestCase):
    """Each event is one line."""

    def logged(self, *happened: Event, debug: bool = False) -> list[LogEvent]:
        mesh = FakeMesh()
        MeshService(mesh, debug=debug)
        with capturedLogs() as events:
            mesh.emit(*happened)
        return list(events)

    def test_text(self) -> None:
        """The text is that of the prompt, without the time."""
        events = self.logged(
            NodeStarted(id="peer-8001", name="alice", port=8001),
            PeerConnected(peer=BOB, peer_count=1, max_peers=20),
            ChatsReceived(peer=BOB, texts=("100 % {sure}\x1b[2J", "and more")),
            PeerReaped(peer=BOB, silent_for=61.0),
            PeerDisconnected(peer=BOB, reason=CloseReason.TIMEOUT),
        )
        self.assertEqual(
            [formatEvent(event) for event in events],
            [
                "[SYSTEM] Node alice listening on port 8001",
                "[NETWORK] Peer bob connected from 192.168.1.100:8002 (1/20 peers)",
                "[bob] 100 % {sure}\\x1b[2J",
                "[bob] and more",
                "[MAINTENANCE] Removed stale peer bob (timeout)",
            ],
        )

    def test_levels(self) -> None:
        """Errors as errors, what is tried again as warnings."""
        target = known("localhost:8000").target
        events = self.logged(
            PeerConnected(peer=BOB, peer_count=1, max_peers=20),
            BootstrapFailed(target=target, reason="refused", attempt=1, retry_in=1.0),
            ConnectionFailed(target=target, reason="refused"),
            NodeError(context="accepting", error="no descriptors"),
        )
        self.assertEqual(
            [event["log_level"] for event in events],
            [LogLevel.info, LogLevel.warn, LogLevel.error, LogLevel.error],
        )

    def test_chatter(self) -> None:
        """Only who debugs gets it, at debug level."""
        self.assertEqual(self.logged(PingSent(peer=BOB)), [])
        (event,) = self.logged(PingSent(peer=BOB), debug=True)
        self.assertIs(event["log_level"], LogLevel.debug)
        self.assertEqual(formatEvent(event), "[DEBUG] Sent PING to bob")

    def test_fields(self) -> None:
        """Programs read the log too: names, not prose."""
        (event,) = self.logged(PeerConnected(peer=BOB, peer_count=1, max_peers=20))
        self.assertEqual(
            {
                name: event[name]
                for name in ("event", "peer", "peer_id", "address", "direction")
            },
            {
                "event": "PeerConnected",
                "peer": "bob",
                "peer_id": "peer-8002",
                "address": "192.168.1.100:8002",
                "direction": "incoming",
            },
        )
        self.assertEqual(event["log_namespace"], "meshproto.run.service.MeshService")

    def test_target(self) -> None:
        """An address without a peer is an address."""
        target = known("localhost:8000").target
        (event,) = self.logged(ConnectionFailed(target=target, reason="refused"))
        self.assertEqual(event["address"], "localhost:8000")
        self.assertNotIn("peer", event)

    def test_fields_survive_json(self) -> None:
        """A JSON log holds them as they are, hostile ones too."""
        output = io.StringIO()
        observer = jsonFileLogObserver(output, recordSeparator="")
        hostile = peer("\x1b]0;x\x07", id="x")
        (event,) = self.logged(ChatsReceived(peer=hostile, texts=("hi",)))
        observer(event)
        read = json.loads(output.getvalue())
        self.assertEqual(read["peer"], "\x1b]0;x\x07")
        self.assertEqual(read["event"], "ChatReceived")

    def test_text_log_is_one_line(self) -> None:
        """Nothing that a peer says begins a second line of the log."""
        (event,) = self.logged(
            ChatsReceived(peer=BOB, texts=("a\r\n2026-01-01 forged",))
        )
        self.assertEqual(len(eventAsText(event).splitlines()), 1)


class BoundTests(SynchronousTestCase):
    """What others can cause is bounded, and the rest is accounted for."""

    def setUp(self) -> None:
        self.mesh = FakeMesh()
        self.service = MeshService(self.mesh)

    def logged(self, *happened: Event, seconds: float = 0.0) -> list[LogEvent]:
        with capturedLogs() as events:
            self.mesh.emit(*happened)
            self.mesh.clock.advance(seconds)
        return list(events)

    def flood(self, count: int) -> ChatsReceived:
        return ChatsReceived(peer=BOB, texts=("x",) * count)

    def test_flood(self) -> None:
        """A hundred lines; ten seconds later one for the rest, with its number."""
        self.assertEqual(len(self.logged(*[self.flood(512)] * 1000)), 100)
        self.assertEqual(self.logged(seconds=WINDOW - 0.001), [])
        (event,) = self.logged(seconds=0.001)
        self.assertEqual(
            formatEvent(event), "[NETWORK] 511900 more messages from bob in 1 s"
        )
        self.assertEqual(
            {name: event[name] for name in ("event", "count", "peer", "address")},
            {
                "event": "LeftOut",
                "count": 511_900,
                "peer": "bob",
                "address": "192.168.1.100:8002",
            },
        )
        self.assertIs(event["log_level"], LogLevel.info)
        self.assertEqual(self.mesh.clock.getDelayedCalls(), [])

    def test_moves(self) -> None:
        """What joins and leaves were left out is no join and no leave to a program."""
        came = PeerConnected(peer=BOB, peer_count=1, max_peers=20)
        went = PeerDisconnected(peer=BOB, reason=CloseReason.CLOSED_BY_PEER)
        self.assertEqual(len(self.logged(*[came, went] * 1000)), 200)
        (event,) = self.logged(seconds=WINDOW)
        self.assertEqual(event["event"], "LeftOut")
        self.assertEqual(event["count"], 1800)
        self.assertEqual(event["address"], "192.168.1.100")
        self.assertNotIn("peer", event)

    def test_one_timer(self) -> None:
        """There is one at most, and none without need."""
        self.logged(self.flood(100))
        self.assertEqual(self.mesh.clock.getDelayedCalls(), [])
        self.logged(*[self.flood(100)] * 10, seconds=3.0)
        self.logged(ChatsReceived(peer=peer("x", id="x"), texts=("x",) * 500))
        self.assertEqual(len(self.mesh.clock.getDelayedCalls()), 1)
        self.assertEqual(len(self.logged(seconds=7.0)), 1)
        self.assertEqual(len(self.mesh.clock.getDelayedCalls()), 1)
        self.assertEqual(len(self.logged(seconds=3.0)), 1)
        self.assertEqual(self.mesh.clock.getDelayedCalls(), [])

    def test_stop(self) -> None:
        """At the end the rest is told, and no timer is left."""
        self.service.startService()
        self.mesh.stopping = Deferred()
        self.logged(self.flood(500))
        with capturedLogs() as events:
            stopped = self.service.stopService()
            self.mesh.emit(self.flood(5))
            self.assertEqual(events, [])
            self.mesh.stopping.callback(None)
        self.assertIsNone(self.successResultOf(stopped))
        self.assertEqual(
            [formatEvent(event) for event in events],
            ["[NETWORK] 405 more messages from bob in 1 s"],
        )
        self.assertEqual(self.mesh.clock.getDelayedCalls(), [])
        self.assertEqual(self.mesh.subscribers, [])

    def test_stop_that_fails(self) -> None:
        """The rest is told all the same, and the caller gets the failure."""
        self.mesh.stopping = fail(IN_USE)
        self.logged(self.flood(500))
        with capturedLogs() as events:
            self.failureResultOf(self.service.stopService(), CannotListenError)
        self.assertEqual(len(events), 1)
        self.assertEqual(self.mesh.clock.getDelayedCalls(), [])

    def test_longest_line(self) -> None:
        """A message that is longer than a line of the log is cut."""
        fits = "x" * (MAX_LOG_LINE - len("[bob] "))
        for text, shown in (
            (fits, f"[bob] {fits}"),
            (f"{fits}y", f"[bob] {fits} ... (1 more byte)"),
            ("x" * 16384, f"[bob] {fits} ... ({16384 - len(fits)} more bytes)"),
        ):
            (event,) = self.logged(ChatsReceived(peer=BOB, texts=(text,)))
            self.assertEqual(formatEvent(event), shown)
        (event,) = self.logged(ChatsReceived(peer=BOB, texts=("\u202e" * 5000,)))
        self.assertLess(len(formatEvent(event).encode()), MAX_LOG_LINE + 30)
        (event,) = self.logged(NodeError(context="x", error="\u202e" * 5000))
        self.assertLess(len(formatEvent(event).encode()), MAX_LOG_LINE + 30)


class SubscriptionTests(SynchronousTestCase):
    """The service and the application see the same node."""

    def test_every_kind_is_heard(self) -> None:
        """Chat in runs and everything else; chatter for those who debug."""
        for debug in (False, True):
            mesh = FakeMesh()
            MeshService(mesh, debug=debug)
            (subscriber,) = mesh.kinds
            heard = set(mesh.kinds[subscriber])
            every = {
                kind
                for name, kind in vars(events).items()
                if isinstance(kind, type)
                and issubclass(kind, Event)
                and kind.__name__ == name
                and kind is not Event
                and (kind is DebugEvent or not issubclass(kind, DebugEvent))
            }
            unheard = {ChatReceived} if debug else {ChatReceived, DebugEvent}
            self.assertEqual(every - heard, unheard)

    def test_others_may_subscribe(self) -> None:
        """The service is one subscriber among others."""
        mesh = FakeMesh(starting=succeed(None))
        seen: list[object] = []
        service = MeshService(mesh)
        service.node.subscribe(seen.append)
        mesh.emit(PingSent(peer=BOB))
        self.assertEqual(seen, [PingSent(peer=BOB)])
