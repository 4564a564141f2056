"""``mesh/2`` of a real daemon, spoken by hand over raw sockets."""

from __future__ import annotations

from lab.daemons import Daemon, Wire
from meshproto.wire.mesh2 import Mesh2
from meshproto.wire.messages import Hello, Incarnation
from tests.slow import slow, some
from tests.wires import WireTestCase


def hello_of(identity: str, *, id: str = "bob", link: int = 1, mesh: str = "") -> bytes:
    """The ``HELLO`` of a node whose identity is that digit, repeated."""
    return Mesh2().encode(
        Hello(
            identity=32 * identity,
            incarnation=Incarnation(1, 32 * "0"),
            link=link,
            id=id,
            name=id,
            mesh=mesh,
        )
    )


class MarkTests(WireTestCase):
    """A TAB behind the greeting says ``mesh/2``."""

    @slow
    def test_visitor_without_it_sees_none(self) -> None:
        """Every byte of a link in ``mesh/1``, whatever the daemon speaks besides."""
        for options in ((), ("--protocol", "mesh/1")):
            alice = self.alice(*options)
            wire = self.fleet.connect(alice)
            wire.say("bob:bob\nREQUEST_PEERS\nPING\n")
            wire.finish()
            self.assertEqual(
                wire.rest().decode(),
                f"peer-{alice.port}:alice\nPEERS:127.0.0.1:{alice.port}\nPONG\n",
            )
            self.assertFalse(wire.was_reset)

    @slow
    def test_visitor_with_it(self) -> None:
        """A daemon that speaks ``mesh/1`` alone reads it as if it were not there."""
        alice = self.alice("--protocol", "mesh/1")
        wire = self.fleet.connect(alice)
        wire.say("bob:bob\t\n")
        self.assertEqual(wire.line(), f"peer-{alice.port}:alice\n".encode())
        self.assertEqual(wire.ping(), [])
        self.fleet.until_logged(alice, "Peer bob connected from 127.0.0.1 (1/20 peers)")

    def test_visitor_without_it_is_not_answered(self) -> None:
        """Where ``mesh/2`` alone is spoken; the daemon says why."""
        alice = self.alice("--protocol", "mesh/2")
        wire = self.fleet.connect(alice)
        wire.say("bob:bob\n")
        self.check_kept_away(wire, alice, "speaks none of our protocols")

    @slow
    def test_dial(self) -> None:
        """The first bytes of a dial; nothing follows before an answer."""
        for options, mark in (
            ((), "\t"),
            (("--protocol", "mesh/2"), "\t"),
            (("--protocol", "mesh/1"), ""),
        ):
            bob = self.fleet.listener()
            alice = self.alice(*options, bootstrap=(bob.port,))
            wire = self.fleet.accept(bob)
            greeting = f"peer-{alice.port}:alice{mark}\n".encode()
            self.assertEqual(wire.line(), greeting)
            wire.finish()
            self.assertEqual(wire.rest(), b"")


class FrameTests(WireTestCase):
    """``mesh/2`` by hand; the test is the other node."""

    def dial(self, daemon: Daemon, hello: bytes) -> tuple[Wire, str]:
        """A link on which both have introduced themselves, and what it said."""
        wire = self.fleet.connect(daemon)
        wire.say("bob:bob\t\n")
        self.assertEqual(wire.line(), f"peer-{daemon.port}:{daemon.name}\t\n".encode())
        header, payload = wire.frame()
        self.assertEqual(header, b"HELLO +%d\n" % len(payload))
        wire.say(hello)
        return wire, payload.decode()

    def enter(self, daemon: Daemon, hello: bytes) -> Wire:
        """A link that is established."""
        wire, _ = self.dial(daemon, hello)
        self.assertEqual(wire.frame(), (b"WELCOME\n", b""))
        wire.say("READY\n")
        return wire

    def check_refused(self, wire: Wire, reason: str) -> None:
        self.assertEqual(wire.rest(), f"REFUSED {reason}\n".encode())
        self.assertFalse(wire.was_reset)

    def test_dialler(self) -> None:
        """It comes in, is heard, and hears who is there."""
        alice = self.alice("--mesh", "kitchen")
        wire, fields = self.dial(alice, hello_of("b", mesh="kitchen"))
        self.assertRegex(
            fields,
            r"\Aidentity: [0-9a-f]{32}\nincarnation: [0-9]+ [0-9a-f]{32}\n"
            rf"link: [0-9]+\nid: peer-{alice.port}\nname: alice\nmesh: kitchen\n"
            rf"addresses: 127\.0\.0\.1:{alice.port}\nmax_payload: 1048576\n\Z",
        )
        self.assertEqual(wire.frame(), (b"WELCOME\n", b""))
        self.assertEqual(alice.peers, [])
        wire.say(b"READY\nCHAT +11\nhello\nPING\n")
        wire.say(b"PING 17.25\nREQUEST_PEERS\n")
        self.assertEqual(wire.frame(), (b"PONG 17.25\n", b""))
        own = f"127.0.0.1:{alice.port}\n".encode()
        self.assertEqual(wire.frame(), (b"PEERS +%d\n" % len(own), own))
        self.fleet.until_logged(alice, "Peer bob connected from 127.0.0.1 (1/20 peers)")
        self.fleet.until(lambda: alice.logged("[bob] ") == 2, "messages")
        self.assertEqual(
            [line for line in alice.lines if line.startswith("[bob] ")],
            ["[bob] hello", "[bob] PING"],
        )
        wire.close()
        self.fleet.until_logged(alice, "[NETWORK] Peer bob disconnected")

    def test_in_pieces(self) -> None:
        """Frames may come byte by byte; a verb that nobody knows is skipped."""
        alice = self.alice()
        wire, _ = self.dial(alice, b"")
        said = (
            hello_of("b") + b"READY\nLATER 1 2 +9\nCHAT +3\nxCHAT +6\nhello\nPING 1\n"
        )
        for byte in said:
            wire.say(bytes([byte]))
        self.assertEqual(wire.frame(), (b"WELCOME\n", b""))
        self.assertEqual(wire.frame(), (b"PONG 1\n", b""))
        self.fleet.until_logged(alice, "[bob] hello")
        self.assertEqual(alice.logged("[bob] "), 1)

    @slow
    def test_chat_of_a_mesh(self) -> None:
        """Somebody with links to two nodes hears both users, and both hear it."""
        alice = self.fleet.prompt("alice")
        carol = self.fleet.prompt("carol", "--bootstrap", f"localhost:{alice.port}")
        self.fleet.until(lambda: alice.peers == ["carol"], "link")
        to_alice, to_carol = (
            self.enter(each, hello_of("b", link=number))
            for number, each in enumerate((alice, carol))
        )
        for prompt in (alice, carol):
            self.fleet.until_logged(prompt, "Peer bob connected")
        for wire in (to_alice, to_carol):
            wire.say(b"CHAT +6\nhello\n")
        for prompt in (alice, carol):
            self.fleet.until_logged(prompt, "[bob] hello")
        for text in ("hi bob", "PING", "\u2060x"):
            carol.type(text)
            line = f"{text}\n".encode()
            self.assertEqual(to_carol.frame(), (b"CHAT +%d\n" % len(line), line))
        alice.type("from alice")
        self.assertEqual(to_alice.frame(), (b"CHAT +11\n", b"from alice\n"))
        self.fleet.until_logged(alice, "[carol] hi bob")

    def test_listener(self) -> None:
        """It is dialled, speaks first, and has the daemon as a peer."""
        bob = self.fleet.listener()
        alice = self.alice(bootstrap=(bob.port,))
        wire = self.fleet.accept(bob)
        self.assertEqual(wire.line(), f"peer-{alice.port}:alice\t\n".encode())
        wire.say(b"bob:bob\t\n" + hello_of("b"))
        header, payload = wire.frame()
        self.assertEqual(header, b"HELLO +%d\n" % len(payload))
        self.assertIn(b"\nname: alice\n", payload)
        self.assertEqual(alice.peers, [])
        wire.say("WELCOME\nCHAT +6\nhello\n")
        self.assertEqual(wire.frame(), (b"READY\n", b""))
        self.assertEqual(wire.frame(), (b"REQUEST_PEERS\n", b""))
        own = f"127.0.0.1:{alice.port}\n".encode()
        self.assertEqual(wire.frame(), (b"PEERS +%d\n" % len(own), own))
        self.fleet.until_logged(
            alice, f"Connected to peer bob at localhost:{bob.port} (1/20 peers)"
        )
        self.fleet.until_logged(alice, "[bob] hello")

    def test_refusals(self) -> None:
        """Each has a word on the wire, and words for people in the log."""
        alice = self.alice("--debug", "--mesh", "kitchen", "--max-peers", 1)
        stranger, _ = self.dial(alice, hello_of("c", mesh="garden"))
        self.check_refused(stranger, "another-mesh")
        self.fleet.until_logged(
            alice, "Refused bob from 127.0.0.1: it belongs to another mesh"
        )
        bob = self.enter(alice, hello_of("b", mesh="kitchen"))
        self.fleet.until(lambda: alice.peers == ["bob"], "peer")
        carol, _ = self.dial(alice, hello_of("c", id="carol", mesh="kitchen"))
        self.check_refused(carol, "full")
        again, _ = self.dial(alice, hello_of("b", link=2, mesh="kitchen"))
        self.check_refused(again, "duplicate")
        # The old link is asked, and answers.
        self.assertEqual(bob.frame(), (b"PING\n", b""))
        bob.say("PONG\nPING x\n")
        self.assertEqual(bob.frame(), (b"PONG x\n", b""))
        self.assertEqual(alice.peers, ["bob"])

    def test_ourselves(self) -> None:
        """Whoever says what the daemon said of itself is the daemon."""
        alice = self.alice()
        wire = self.fleet.connect(alice)
        wire.say("bob:bob\t\n")
        wire.line()
        header, payload = wire.frame()
        wire.say(header + payload)
        self.check_refused(wire, "ourselves")

    @slow
    def test_what_ends_the_link(self) -> None:
        """Before it is established; the daemon says why."""
        for said, reason in some(
            (
                (b"hello\n", "bad frame: a header begins with a verb"),
                (b"READY\n", "protocol error"),
                (b"CHAT +6\nhello\n", "protocol error"),
                (b"HELLO +2\nx\n", "HELLO: no field"),
                (b"HELLO +64513\n", "bad frame: a payload has at most 64512 bytes"),
                (b"x" * 1024, "bad frame: a header has at most 1024 bytes"),
            ),
            2,
        ):
            alice = self.alice()
            wire, _ = self.dial(alice, said)
            self.check_kept_away(wire, alice, reason)

    @slow
    def test_what_ends_a_peer(self) -> None:
        """What came before a bad frame is heard, and nothing after it."""
        alice = self.alice()
        wire = self.enter(alice, hello_of("b"))
        wire.say(b"CHAT +6\nhello\nbad\nCHAT +6\nlater\n")
        self.assertEqual(wire.rest(), b"")
        self.fleet.until_logged(alice, "[NETWORK] Peer bob disconnected (")
        self.assertEqual((alice.logged("[bob] hello"), alice.logged("later")), (1, 0))
