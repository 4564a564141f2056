"""``mesh/1`` as a raw socket sees it, spoken to the real daemon."""

from __future__ import annotations

import re
import signal
import ssl

from lab.daemons import HAS_PROC_TCP, Daemon, Wire, free_ports, open_connections
from meshproto.run.service import MAX_LOG_LINE
from meshproto.wire.greeting import MAX_HANDSHAKE_LINE
from meshproto.wire.mesh1 import MAX_LINE
from tests.slow import SLOW, slow, some
from tests.wires import WireTestCase

MiB = 1024 * 1024


def tls_hello() -> bytes:
    """The first bytes of a TLS client."""
    sent = ssl.MemoryBIO()
    context = ssl.create_default_context()
    tls = context.wrap_bio(ssl.MemoryBIO(), sent, server_hostname="mesh.example")
    try:
        tls.do_handshake()
    except ssl.SSLWantReadError:
        pass
    return sent.read()


class HandshakeTests(WireTestCase):
    """Who may come in, and what they are told."""

    def test_welcome(self) -> None:
        """Byte for byte, over both families."""
        alice = self.alice()
        for host, id in (("127.0.0.1", "peer-9001"), ("::1", "peer-9002")):
            wire = self.fleet.connect(alice, host)
            wire.say(f"{id}:x\n")
            self.assertEqual(wire.line(), f"peer-{alice.port}:alice\n".encode())
            self.assertEqual(wire.ping(), [])
        self.fleet.until_logged(alice, "Peer x connected from 127.0.0.1:9001 (1/20")
        self.fleet.until_logged(alice, "Peer x@[::1]:9002 connected from [::1]:9002")

    def test_defaults(self) -> None:
        """A daemon with an ID and no name calls itself by its ID."""
        daemon = self.fleet.start("", "--id", "node-7")
        wire = self.fleet.connect(daemon)
        wire.say("bob\n")
        self.assertEqual(wire.line(), b"node-7:node-7\n")
        daemon = self.fleet.start("")
        wire = self.fleet.connect(daemon)
        wire.say("bob\n")
        self.assertEqual(
            wire.line(), f"peer-{daemon.port}:peer-{daemon.port}\n".encode()
        )

    @slow
    def test_no_name(self) -> None:
        """The ID is the name; a CR at the end is none of it."""
        alice = self.alice()
        for greeting, name in (
            ("bob\n", "bob"),
            ("carol:\n", "carol"),
            ("dave\r\n", "dave"),
            ("erin:\r\n", "erin"),
            ("x-1:frank:the:third\r\n", "frank:the:third"),
            ("x-2: gina with spaces \n", "gina with spaces"),
            ("x-3:Zoë 🦊\n", "Zoë 🦊"),
        ):
            wire = self.fleet.connect(alice)
            wire.say(greeting)
            self.assertEqual(wire.line(), f"peer-{alice.port}:alice\n".encode())
            wire.say("I am here\n")
            self.fleet.until_logged(alice, f"Peer {name} connected from 127.0.0.1 (")
            self.fleet.until_logged(alice, f"[{name}] I am here")

    @slow
    def test_in_pieces(self) -> None:
        """A greeting may come byte by byte, and with what follows it."""
        alice = self.alice()
        wire = self.fleet.connect(alice)
        for byte in b"bob:Bob":
            wire.say(bytes([byte]))
        wire.say("\nPING\nhello\nPI")
        wire.line()
        self.assertEqual(wire.lines_before(b"PONG\n"), [])
        wire.say("NG\n")
        self.assertEqual(wire.lines_before(b"PONG\n"), [])
        self.fleet.until_logged(alice, "[Bob] hello")

    def test_said_and_gone_at_once(self) -> None:
        """Greeting, chat and the end of the connection are read in one go."""
        alice = self.alice()
        for number in range(1, 31):
            wire = self.fleet.connect(alice)
            wire.say(f"c{number}:c{number}\nhello {number}\n")
            wire.finish()
            wire.rest()
            self.fleet.until_logged(alice, f"[c{number}] hello {number}")
        self.fleet.until(lambda: alice.peers == [], "end of all visits")

    def test_a_dialler_that_gave_up_is_no_news(self) -> None:
        """As after a suspension: it hung up before its greeting was read."""
        alice = self.alice()
        alice.send_signal(signal.SIGSTOP)
        for number in range(5):
            wire = self.fleet.connect(alice)
            wire.say(f"late{number}:late\n")
            wire.close()
        alice.send_signal(signal.SIGCONT)
        self.assertEqual(self.fleet.greet(alice, "bob:bob").ping(), [])
        self.fleet.until(lambda: alice.peers == ["bob"], "bob")
        self.assertEqual(alice.logged("late"), 0)

    def test_bad_handshakes(self) -> None:
        """No answer, one line with the reason."""
        grammar = "bad handshake: an ID is 1 to 64 printable ASCII characters"
        foreign = "not a mesh node, it said"
        word = "is a word of the protocol, not an ID"
        name = "bad handshake: a name is 1 to 64 printable characters"
        length = f"more than {MAX_HANDSHAKE_LINE} bytes"
        greetings = (
            (b"\n", f'{foreign} ""'),
            (b":nobody\n", grammar),
            (b":\n", grammar),
            (b" bob:bob\n", grammar),
            (b"b\xc3\xb6b:bob\n", grammar),
            (b"i" * 65 + b":bob\n", grammar),
            (
                b"GET / HTTP/1.1\r\nHost: mesh.example\r\n\r\n",
                f'{foreign} "GET / HTTP/1.1"',
            ),
            (
                b"SSH-2.0-OpenSSH_9.2p1 Debian\r\n",
                f'{foreign} "SSH-2.0-OpenSSH_9.2p1 Debian"',
            ),
            (b"PING\n", f"bad handshake: PING {word}"),
            (b"PONG:x\n", f"bad handshake: PONG {word}"),
            (b"REQUEST_PEERS\n", f"bad handshake: REQUEST_PEERS {word}"),
            (b"PEERS:127.0.0.1:8001\n", f"bad handshake: PEERS {word}"),
            (b"DUPLICATE\n", f"bad handshake: DUPLICATE {word}"),
            (b"MAX_PEERS:x\n", f"bad handshake: MAX_PEERS {word}"),
            (b"BYTES:5\n", f"bad handshake: BYTES {word}"),
            (b"bob:" + b"n" * 65 + b"\n", name),
            (b"bob:\x1b[31mred\n", name),
            (b"bob:\xe2\x80\xae\n", name),
            (b"bob:\xff\xfe\n", name),
            (b"\x16\x03\x01\x00\x0a\n\x80\x81\n", f'{foreign} "\\x16\\x03\\x01\\x00"'),
            (b"bob:" + b"x" * MAX_HANDSHAKE_LINE + b"\n", length),
            (b"x" * (MAX_HANDSHAKE_LINE + 2), length),
        )
        for greeting, reason in some(greetings, 5):
            # One line in ten seconds tells of each reason: here all are to be seen.
            alice = self.alice()
            wire = self.fleet.connect(alice)
            wire.say(greeting)
            self.check_kept_away(wire, alice, reason)
            self.assertEqual(alice.peers, [])
            self.assertEqual(self.fleet.greet(alice, "bob:bob").ping(), [])
            alice.process.kill()

    @slow
    def test_silence_and_tls(self) -> None:
        """Whoever does not get to the end of a line has so much time."""
        alice = self.alice("--connection-timeout", 1)
        silent, slow, tls = (self.fleet.connect(alice) for _ in range(3))
        slow.say("bob:b")
        tls.say(tls_hello())
        for wire in (silent, slow, tls):
            self.assertEqual(wire.rest(), b"")
        self.fleet.until_logged(alice, "127.0.0.1: handshake timeout")
        for wire in (silent, slow):
            self.assertTrue(wire.was_reset)
        self.assertEqual(alice.peers, [])

    def test_gone_before_it_spoke(self) -> None:
        """A port scan is no event."""
        alice = self.alice()
        self.fleet.connect(alice).close()
        self.fleet.connect(alice).reset()
        half = self.fleet.connect(alice)
        half.say("half a gree")
        half.close()
        self.assertEqual(self.fleet.greet(alice, "bob:bob").ping(), [])
        self.fleet.until(lambda: alice.peers, "peer")
        self.assertEqual(alice.logged("[ERROR]"), 0)

    @slow
    def test_backlog(self) -> None:
        """When 64 have not spoken yet the one that is silent longest has to go."""
        alice = self.alice()
        first, *others = [self.fleet.connect(alice) for _ in range(64)]
        late = self.fleet.greet(alice, "late:late")
        self.assertEqual(first.rest(), b"")
        self.assertEqual(late.ping(), [])
        for number, wire in enumerate(others[:3]):
            wire.say(f"other-{number}:x\n")
            self.assertEqual(wire.line(), f"peer-{alice.port}:alice\n".encode())

    @slow
    def test_max_peers(self) -> None:
        """One too many is told so; a seat that is freed can be taken."""
        alice = self.alice("--max-peers", 2, "--debug")
        bob = self.fleet.greet(alice, "bob:bob")
        carol = self.fleet.greet(alice, "carol:carol")
        dave = self.fleet.connect(alice)
        dave.say("dave:dave\n")
        self.assertEqual(dave.rest(), b"MAX_PEERS\n")
        self.fleet.until_logged(
            alice, "Refused dave from 127.0.0.1: no seat is left for another peer"
        )
        bob.close()
        self.fleet.until(lambda: alice.peers == ["carol"], "free seat")
        self.assertEqual(self.fleet.greet(alice, "dave:dave").ping(), [])
        self.assertEqual(carol.ping(), [])
        self.fleet.until_logged(alice, "Peer dave connected from 127.0.0.1 (2/2 peers)")


class DuplicateTests(WireTestCase):
    """Somebody comes with the ID of a peer that is there."""

    def knock(self, alice: Daemon, hello: str) -> None:
        wire = self.fleet.connect(alice)
        wire.say(f"{hello}\n")
        self.assertEqual(wire.rest(), b"DUPLICATE\n")

    @slow
    def test_probe(self) -> None:
        """The old link is asked, and goes unless it answers in 3 seconds.

        Living is asked first, so when Dead is dropped Living has been judged.
        """
        alice = self.alice("--debug")
        living = self.fleet.greet(alice, "living:living")
        dead = self.fleet.greet(alice, "dead:dead")
        self.knock(alice, "living:somebody else")
        self.assertEqual(living.line(), b"PING\n")
        living.say("PONG\n")
        self.fleet.until_logged(alice, "Received PONG from living")
        self.knock(alice, "dead:dead")
        self.knock(alice, "dead:dead")
        self.assertEqual(dead.rest(), b"PING\n")
        self.assertTrue(dead.was_reset)
        self.fleet.until_logged(alice, "Peer dead disconnected (no answer to probe)")

        self.assertEqual(living.ping(), [])
        self.assertEqual(self.fleet.greet(alice, "dead:dead").ping(), [])
        self.knock(alice, "living:somebody else")
        self.fleet.until_logged(
            alice,
            "Refused somebody else from 127.0.0.1: it has a link to this node already",
        )
        self.assertEqual(alice.logged("living disconnected"), 0)
        self.assertEqual(alice.logged("Peer dead connected"), 2)

    def test_one_machine(self) -> None:
        """All addresses of this machine are one host."""
        alice = self.alice()
        self.fleet.greet(alice, "bob:bob")
        for host in ("::1", "127.0.0.1", "127.0.0.2"):
            wire = self.fleet.connect(alice, host)
            wire.say("bob:bob\n")
            self.assertEqual(wire.rest(), b"DUPLICATE\n")


class AddressTests(WireTestCase):
    """What is told of addresses, and what is believed."""

    if SLOW:
        skip = SLOW

    def test_answer(self) -> None:
        """Own address first, then those of peers, each with a port that listens."""
        alice = self.alice()
        own = f"127.0.0.1:{alice.port}"
        visitor = self.fleet.greet(alice, "visitor:x")
        visitor.say("REQUEST_PEERS\n")
        self.assertEqual(visitor.line(), f"PEERS:{own}\n".encode())

        (port,) = free_ports(1)
        self.fleet.greet(alice, f"peer-{port}:bob")
        self.fleet.until_logged(alice, f"Peer bob connected from 127.0.0.1:{port} (")
        visitor.say("REQUEST_PEERS\n")
        told = f"PEERS:{own},127.0.0.1:{port}\n"
        self.assertEqual(visitor.line(), told.encode())

        six = self.fleet.connect(alice, "::1")
        six.say("six:x\nREQUEST_PEERS\n")
        six.line()
        told = f"PEERS:[::1]:{alice.port},127.0.0.1:{port}\n"
        self.assertEqual(six.line(), told.encode())

    def test_told_address_is_dialled(self) -> None:
        """At once: it introduces itself, asks and shares."""
        alice = self.alice()
        bob = self.fleet.listener()
        visitor = self.fleet.greet(alice, "visitor:x")
        visitor.say(f"PEERS:127.0.0.1:{bob.port}\n")
        wire = self.fleet.accept(bob)
        self.assertEqual(wire.line(), f"peer-{alice.port}:alice\t\n".encode())
        wire.say("bob:Bob\r\n")
        self.assertEqual(wire.line(), b"REQUEST_PEERS\n")
        self.assertEqual(wire.line(), f"PEERS:127.0.0.1:{alice.port}\n".encode())
        self.fleet.until_logged(
            alice, f"Connected to peer Bob at 127.0.0.1:{bob.port} (2/20 peers)"
        )
        self.fleet.until_logged(alice, "[DISCOVERY] Found 1 peer via x (total known: 1")
        self.assertEqual(wire.ping(), [])
        visitor.say("REQUEST_PEERS\n")
        self.assertEqual(
            visitor.line(),
            f"PEERS:127.0.0.1:{alice.port},127.0.0.1:{bob.port}\n".encode(),
        )

    def test_claim(self) -> None:
        """Who has no port in its ID may say first where it listens."""
        alice = self.alice()
        own = f"127.0.0.1:{alice.port}"
        bob = self.fleet.listener()
        carol = self.fleet.greet(alice, "carol:carol")
        # A claim of another host's address is none.
        carol.say("REQUEST_PEERS\nPEERS:192.0.2.1:8001\n")
        self.assertEqual(carol.line(), f"PEERS:{own}\n".encode())
        claimer = self.fleet.greet(alice, "claimer:claimer")
        claimer.say(f"REQUEST_PEERS\nPEERS:127.0.0.1:{bob.port}\n")
        self.assertEqual(claimer.line(), f"PEERS:{own}\n".encode())
        # It is told, also to who has asked already,
        told = f"PEERS:{own},127.0.0.1:{bob.port}\n".encode()
        self.assertEqual(carol.line(), told)
        carol.say("REQUEST_PEERS\n")
        self.assertEqual(carol.line(), told)
        # and tried; here it leads to the very peer.
        wire = self.fleet.accept(bob)
        wire.line()
        wire.say("DUPLICATE\n")
        self.assertEqual(wire.rest(), b"")
        self.assertEqual(claimer.ping(), [])
        self.assertEqual(alice.logged("disconnected"), 0)

    def test_duplicate_marks_the_address(self) -> None:
        """An address that says ``DUPLICATE`` is not dialled while that peer is here."""
        alice = self.alice()
        bob, other = self.fleet.listener(), self.fleet.listener()
        visitor = self.fleet.greet(alice, "visitor:x")
        visitor.say(f"PEERS:127.0.0.1:{bob.port}\n")
        wire = self.fleet.accept(bob)
        wire.line()
        wire.say("DUPLICATE\n")
        self.assertEqual(wire.rest(), b"")
        visitor.say(f"PEERS:127.0.0.1:{bob.port},127.0.0.1:{other.port}\n")
        self.fleet.accept(other).line()
        visitor.say(f"PEERS:localhost:{bob.port}\n")
        self.assertEqual(visitor.ping(), [])
        self.assertFalse(bob.is_called)

    def test_gossip_not_believed(self) -> None:
        """Bad entries are skipped and counted; the rest of the line is used.

        The first of them would lead to a port that listens, and an address is
        dialled in its turn: so once the last is dialled the others were not.
        """
        alice = self.alice("--debug")
        believed, trap = self.fleet.listener(), self.fleet.listener()
        visitor = self.fleet.greet(alice, "visitor:x")
        bad = [
            f"0.0.0.0:{trap.port}",
            f"[::]:{trap.port}",
            f"224.0.0.1:{trap.port}",
            f"[ff02::1]:{trap.port}",
            f"255.255.255.255:{trap.port}",
            "127.0.0.1:22",
            "127.0.0.1:1023",
            "127.0.0.1:0",
            "127.0.0.1:65536",
            "127.0.0.1:99999",
            "127.0.0.1:-1",
            "127.0.0.1:http",
            "127.0.0.1",
            "nothing",
            "::1:8001",
            ":8001",
            "",
            "two words:8001",
            "[127.0.0.1]:8001",
        ]
        visitor.say(f"PEERS:{','.join(bad)},127.0.0.1:{believed.port}\n")
        wire = self.fleet.accept(believed)
        self.assertEqual(wire.line(), f"peer-{alice.port}:alice\t\n".encode())
        self.assertFalse(trap.is_called)
        self.fleet.until_logged(alice, f"from x ({len(bad)} skipped)")
        self.fleet.until_logged(alice, "Found 1 peer via x (total known: 1)")
        self.assertEqual(visitor.ping(), [])
        self.assertEqual(alice.logged("Failed to connect"), 0)

    @slow
    def test_many(self) -> None:
        """A line has at most 100 addresses, and a peer's word is good for 64."""
        alice = self.alice("--debug", "--max-peers", 1)
        visitor = self.fleet.greet(alice, "visitor:x")
        entries = [f"192.0.2.1:{port}" for port in range(2000, 2150)]
        visitor.say(f"PEERS:{','.join(entries)}\n")
        visitor.say("PEERS:192.0.2.2:2000,192.0.2.3:2000\n")
        self.assertEqual(visitor.ping(), [])
        self.fleet.until_logged(alice, f"from x ({150 - 64} skipped)")
        self.fleet.until_logged(alice, "Found 64 peers via x (total known: 64)")
        self.fleet.until_logged(alice, "from x (2 skipped)")

    def test_seat_for_every_dial(self) -> None:
        """It does not call whom it could not take."""
        alice = self.alice("--max-peers", 2)
        bob, carol = self.fleet.listener(), self.fleet.listener()
        visitor = self.fleet.greet(alice, "visitor:x")
        visitor.say(f"PEERS:127.0.0.1:{bob.port},127.0.0.1:{carol.port}\n")
        wire = self.fleet.accept(bob)
        wire.line()
        wire.say("bob:bob\n")
        wire.line()
        self.assertEqual(visitor.ping(), [])
        self.assertFalse(carol.is_called)
        # Visitor's seat, once free, is for the address that waits.
        visitor.close()
        self.fleet.accept(carol).line()


class SelfTests(WireTestCase):
    """A daemon that is told to call itself."""

    @slow
    def test_own_address(self) -> None:
        """In any spelling: it says so, and opens no connection."""
        (port,) = free_ports(1)
        different = [
            f"localhost:{port}",
            f"127.0.0.1:{port}",
            f"127.1.2.3:{port}",
            f"[::1]:{port}",
            f"ip6-localhost:{port}",
            f"mesh.localhost:{port}",
        ]
        same = [f"LOCALHOST.:{port}", f"[::ffff:127.0.0.1]:{port}"]
        spellings = different + same
        options = [word for each in spellings for word in ("--bootstrap", each)]
        alice = self.fleet.start("alice", *options, port=port)
        for each in different:
            self.fleet.until_logged(
                alice, f"[ERROR] Bootstrap address {each}: that is this node itself"
            )
        visitor = self.fleet.greet(alice, "visitor:x")
        visitor.say(f"PEERS:{','.join(spellings)}\n")
        self.assertEqual(visitor.ping(), [])
        self.fleet.until(lambda: alice.peers == ["x"], "one peer")
        self.assertEqual(alice.logged("Found"), 0)
        self.assertEqual(alice.logged("Failed to connect"), 0)
        if HAS_PROC_TCP:
            self.assertEqual(open_connections([port]), 1)

    @slow
    def test_through_a_port_forward(self) -> None:
        """It knows itself by its answer; later another node may answer there."""
        (port,) = free_ports(1)
        forwarder = self.fleet.forwarder(port)
        alice = self.fleet.start("alice", port=port, bootstrap=[forwarder.port])
        self.fleet.until_logged(
            alice,
            f"[BOOTSTRAP] Failed to connect to seed node localhost:{forwarder.port}: "
            "that is this node itself",
        )
        self.assertEqual(alice.peers, [])
        bob = self.fleet.launch("bob", "--id", "bob")
        self.fleet.until_listening(bob)
        forwarder.target = bob.port
        self.fleet.until(lambda: alice.peers == ["bob"], "who took the port")


class ChatTests(WireTestCase):
    """What is said after the handshake."""

    def test_heard(self) -> None:
        """Text arrives as it was said; nothing but a command is one."""
        alice = self.alice()
        bob = self.fleet.greet(alice, "bob:bob")
        said = [
            (b"hello\n", "hello"),
            (b"with CR\r\n", "with CR"),
            (b"  spaces  \n", "  spaces  "),
            (b" PING \n", " PING "),
            (b"ping\n", "ping"),
            (b"PING PONG\n", "PING PONG"),
            (b"peers:1.2.3.4:5678\n", "peers:1.2.3.4:5678"),
            (b"DUPLICATE\n", "DUPLICATE"),
            (b"MAX_PEERS\n", "MAX_PEERS"),
            (b"BYTES:-1\n", "BYTES:-1"),
            (b"/quit\n", "/quit"),
            ("\u2060PING\n".encode(), "PING"),
            ("\u2060PEERS:x\n".encode(), "PEERS:x"),
            ("\u2060\u2060x\n".encode(), "\\u2060x"),
            ("Grüße, 世界 🦊\n".encode(), "Grüße, 世界 🦊"),
            (b"\xff and \xc3\n", "\ufffd and \ufffd"),
            (b"\x1b[2J\r[12:00:00] x\n", "\\x1b[2J\\x0d[12:00:00] x"),
            (b"\x00\n", "\\x00"),
        ]
        for line, _ in said:
            bob.say(b"\n\r\n" + line)
        self.assertEqual(bob.ping(), [])
        self.fleet.until(lambda: alice.logged("[bob] ") >= len(said), "messages")
        heard = [line for line in alice.lines if line.startswith("[bob] ")]
        self.assertEqual(heard, [f"[bob] {text}" for _, text in said])

    @slow
    def test_said(self) -> None:
        """What a user says at the prompt, as the far end gets it."""
        prompt = self.fleet.prompt("alice")
        bob = self.fleet.greet(prompt, "bob:bob")
        self.fleet.until_logged(prompt, "Peer bob connected")
        for text, line in (
            ("hello", "hello"),
            ("  spaces  ", "  spaces  "),
            ("PING", "\u2060PING"),
            (" PONG ", "\u2060 PONG "),
            ("REQUEST_PEERS", "\u2060REQUEST_PEERS"),
            ("PEERS:1.2.3.4:5678", "\u2060PEERS:1.2.3.4:5678"),
            ("BYTES:5", "\u2060BYTES:5"),
            ("\u2060x", "\u2060\u2060x"),
            ("DUPLICATE", "DUPLICATE"),
            ("Grüße, 世界 🦊", "Grüße, 世界 🦊"),
        ):
            prompt.type(text)
            self.assertEqual(bob.line(), f"{line}\n".encode())
        bob.say("PING\nand back\n")
        self.assertEqual(bob.line(), b"PONG\n")
        self.fleet.until_logged(prompt, "[bob] and back")

    def test_flood(self) -> None:
        """Some of it is logged; at the end the log accounts for all the rest."""
        alice = self.alice()
        bob = self.fleet.greet(alice, "bob:bob")
        bob.say(b"x\n" * 5000)
        self.assertEqual(bob.ping(), [])
        alice.send_signal(signal.SIGTERM)
        self.fleet.until_logged(alice, " from bob in ")
        shown = alice.logged("[bob] x")
        self.assertLess(shown, 2500)
        counts = re.findall(r"\[NETWORK\] (\d+) more messages from bob in ", alice.raw)
        self.assertEqual(shown + sum(map(int, counts)), 5000)

    @slow
    def test_longest_line(self) -> None:
        """16 384 bytes are a message, with LF and with CRLF; one more is the end."""
        alice = self.alice()
        for end in (b"\n", b"\r\n"):
            bob = self.fleet.greet(alice, "bob:bob")
            bob.say(b"b" * MAX_LINE + end)
            self.assertEqual(bob.ping(), [])
            bob.say(b"c" * (MAX_LINE + 1) + end + b"not heard\n")
            self.assertEqual(bob.rest(), b"")
            self.assertTrue(bob.was_reset)
            self.fleet.until(lambda: not alice.peers, "end of the link")
        self.fleet.until_logged(alice, "bob disconnected (line too long)", times=2)
        shown = "b" * (MAX_LOG_LINE - len("[bob] "))
        cut = f"[bob] {shown} ... ({MAX_LINE - len(shown)} more bytes)"
        self.assertEqual(alice.lines.count(cut), 2)
        self.assertEqual(alice.logged("[bob] "), 2)

    def test_line_without_end(self) -> None:
        """It is cut, before and after the handshake, and costs no memory."""
        alice = self.alice()
        before = alice.memory if HAS_PROC_TCP else 0
        for greeting in (b"", b"bob:bob\n"):
            wire = self.fleet.connect(alice)
            wire.say(greeting)
            with self.assertRaises(ConnectionError):
                for _ in range(256):
                    wire.say(b"x" * MiB)
        self.fleet.until_logged(alice, "bob disconnected (line too long)")
        self.fleet.until_logged(alice, f"more than {MAX_HANDSHAKE_LINE} bytes")
        if HAS_PROC_TCP:
            self.assertLess(alice.memory - before, 16 * MiB)

    @slow
    def test_ends(self) -> None:
        """A peer that hangs up, and one whose connection breaks."""
        alice = self.alice()
        polite = self.fleet.greet(alice, "polite:polite")
        polite.say("bye\n")
        polite.finish()
        self.assertEqual(polite.rest(), b"")
        self.assertFalse(polite.was_reset)
        rude = self.fleet.greet(alice, "rude:rude")
        self.assertEqual(rude.ping(), [])
        rude.reset()
        self.fleet.until_logged(alice, "[NETWORK] Peer rude disconnected (connection l")
        self.assertIn("[polite] bye", alice.lines)
        self.assertIn("[NETWORK] Peer polite disconnected", alice.lines)


class CrossingTests(WireTestCase):
    """Both dial at once; the test is the other node."""

    if SLOW:
        skip = SLOW

    def prepare(self, alice: Daemon, id: str) -> tuple[Wire, Wire]:
        """A link that alice dialled, not answered, and one that dialled alice."""
        other = self.fleet.listener()
        helper = self.fleet.greet(alice, "helper:helper")
        helper.say(f"PEERS:127.0.0.1:{other.port}\n")
        called = self.fleet.accept(other)
        self.assertEqual(called.line(), f"peer-{alice.port}:alice\t\n".encode())
        return called, self.fleet.greet(alice, f"{id}:other")

    def cross(self, alice: Daemon, id: str) -> tuple[Wire, Wire]:
        """The same two links, both welcomed."""
        called, calling = self.prepare(alice, id)
        called.say(f"{id}:other\n")
        return called, calling

    def check_one_peer(self, alice: Daemon) -> None:
        self.assertEqual(alice.peers, ["helper", "other"])
        came = alice.logged("Peer other connected") + alice.logged("to peer other at")
        self.assertEqual(came, 1)
        self.assertEqual(alice.logged("other disconnected"), 0)

    def check_both_are_kept(self, alice: Daemon, called: Wire, calling: Wire) -> None:
        self.assertEqual(called.line(), b"REQUEST_PEERS\n")
        self.assertTrue(called.line().startswith(b"PEERS:"))
        # The older one is asked whether it lives.
        self.assertEqual(calling.line(), b"PING\n")
        calling.say("PONG\nby the one\n")
        self.assertEqual(calling.ping(), [])
        called.say("by the other\n")
        self.assertEqual(called.ping(), [])
        self.fleet.until_logged(alice, "[other] by the one")
        self.fleet.until_logged(alice, "[other] by the other")
        self.check_one_peer(alice)
        # It forgets us with either of them.
        calling.close()
        self.assertEqual(called.rest(), b"")
        self.fleet.until(lambda: alice.peers == ["helper"], "end of the peer")
        self.assertEqual(alice.logged("other disconnected"), 1)

    def test_both_links_live(self) -> None:
        """Whoever has the greater ID, and whether the other is an original."""
        for id in ("zoe", "adam", "39bc6c5f-2c84-11f7"):
            alice = self.alice()
            called, calling = self.cross(alice, id)
            self.check_both_are_kept(alice, called, calling)

    def test_original_that_asks_first(self) -> None:
        """It asks on its own dial before the other one is complete."""
        alice = self.alice()
        id = "39bc6c5f-2c84-11f7"
        called, calling = self.prepare(alice, id)
        calling.say("REQUEST_PEERS\n")
        self.assertTrue(calling.line().startswith(b"PEERS:"))
        called.say(f"{id}:other\n")
        self.check_both_are_kept(alice, called, calling)
