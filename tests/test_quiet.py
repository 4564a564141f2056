"""How many lines others can cause, and what is told of the rest."""

from __future__ import annotations

from collections.abc import Iterable

from twisted.trial.unittest import SynchronousTestCase

from meshproto.events import (
    BootstrapFailed,
    BootstrapSucceeded,
    ChatReceived,
    ChatsReceived,
    CloseReason,
    DebugEvent,
    Event,
    NodeError,
    NodeStarted,
    Peer,
    PeerConnected,
    PeerDisconnected,
    PeerReaped,
    PeerRefused,
    PeersDiscovered,
    PingReceived,
    PingSent,
    PongReceived,
)
from meshproto.run.quiet import (
    LOG,
    MAX_KEPT,
    MAX_NAMED,
    MAX_SEED_PAUSE,
    PIPE,
    SCREEN,
    SEED_PAUSE,
    WINDOW,
    LeftOut,
    Quiet,
    Rate,
    Rates,
)
from meshproto.run.render import Narrator
from meshproto.wire.address import PeerAddress
from tests.fakes import peer

BOB = peer("bob", "192.0.2.9", 8002, id="bob")
#: Something that happens and has no line.
NOTHING = PingSent(peer=BOB)


def said(text: str = "hi", by: Peer = BOB) -> ChatReceived:
    return ChatReceived(peer=by, text=text)


def came(who: Peer, count: int = 1) -> PeerConnected:
    return PeerConnected(peer=who, peer_count=count, max_peers=20)


def went(who: Peer) -> PeerDisconnected:
    return PeerDisconnected(peer=who, reason=CloseReason.CLOSED_BY_PEER)


def refused(host: str = "192.0.2.9", reason: str = "MAX_PEERS") -> Event:
    return PeerRefused(id="", name="x", host=host, reason=reason)


class Case(SynchronousTestCase):
    RATES = LOG
    DEBUG = False

    def setUp(self) -> None:
        self.now = 50.0
        self.narrator = Narrator("alice", debug=self.DEBUG)
        self.quiet = Quiet(
            self.narrator, lambda: self.now, self.RATES, debug=self.DEBUG
        )

    def shown(self, *events: Event) -> list[str]:
        return [text for event in events for _, text in self.quiet.lines(event)]

    def later(self, seconds: float = WINDOW) -> list[str]:
        self.now += seconds
        return [text for _, text in self.quiet.due()]

    def kept(self) -> int:
        """Everything that the two hold, whatever they call it."""
        return _held(self.quiet) + _held(self.narrator)


def _held(owner: object) -> int:
    return sum(
        len(value)
        for value in vars(owner).values()
        if hasattr(value, "__len__") and not isinstance(value, str | frozenset)
    )


class ChatTests(Case):
    """What a peer says."""

    def flood(self, count: int, by: Peer = BOB) -> list[str]:
        return self.shown(*[said(str(number), by) for number in range(count)])

    def test_at_once(self) -> None:
        """A hundred lines are shown, and one more is not."""
        assert LOG.chat is not None
        most = LOG.chat.at_once
        self.assertEqual(self.flood(most), [f"[bob] {n}" for n in range(most)])
        self.assertEqual(self.shown(said()), [])

    def test_rate(self) -> None:
        """Then so many a second."""
        assert LOG.chat is not None
        self.flood(LOG.chat.at_once)
        self.now += 1
        self.assertEqual(len(self.flood(50)), LOG.chat.per_second)

    def test_those_that_come_together(self) -> None:
        """Of a run the first are shown, in their order, each as its own event."""
        assert LOG.chat is not None
        most = LOG.chat.at_once
        run = ChatsReceived(peer=BOB, texts=tuple(map(str, range(most + 5))))
        told = self.quiet.lines(run)
        self.assertEqual(told, [(said(str(n)), f"[bob] {n}") for n in range(most)])
        self.assertEqual(self.quiet.lines(run), [])

    def test_the_rest_is_told(self) -> None:
        """One line in ten seconds, and it is not in the peer's own voice."""
        assert LOG.chat is not None
        self.flood(LOG.chat.at_once)
        run = ChatsReceived(peer=BOB, texts=("x",) * 500)
        self.assertEqual(self.shown(run), [])
        self.now += 4
        self.flood(540)
        self.assertEqual(self.later(WINDOW - 4.001), [])
        self.now += 0.001
        told = self.quiet.lines(NOTHING)
        self.assertEqual(
            told,
            [
                (
                    LeftOut(count=1000, peer=BOB, host=BOB.host),
                    "[NETWORK] 1000 more messages from bob in 4 s",
                )
            ],
        )
        self.assertEqual(self.later(), [])

    def test_a_single_one(self) -> None:
        assert LOG.chat is not None
        self.flood(LOG.chat.at_once + 1)
        self.assertEqual(self.later(), ["[NETWORK] 1 more message from bob in 1 s"])

    def test_again_and_again(self) -> None:
        """A flood that goes on is told of every ten seconds."""
        assert LOG.chat is not None
        self.flood(LOG.chat.at_once)
        told: list[str] = []
        for _ in range(100):
            told += [line for line in self.flood(100) if "[NETWORK]" in line]
            self.now += 0.5
        self.assertEqual(len(told), 50 / WINDOW - 1)

    def test_another_peer(self) -> None:
        """Each has its own, also at one host; the same ID elsewhere too."""
        self.flood(200)
        for other in (
            peer("bob", BOB.host, 8002, id="other"),
            peer("bob", "192.0.2.10", 8002, id="bob"),
        ):
            self.assertEqual(len(self.flood(5, other)), 5)

    def test_new_ids(self) -> None:
        """Who has a new ID for each connection gets no more than its host."""
        shown = 0
        for number in range(20):
            shown += len(self.flood(100, peer("x", BOB.host, None, id=f"x{number}")))
        self.assertEqual(shown, LOG.host.at_once)
        self.assertEqual(len(self.flood(5, peer("carol", "192.0.2.10", 8003))), 5)

    def test_many_hosts(self) -> None:
        """All together have a bound as well."""
        shown = 0
        for number in range(20):
            shown += len(self.flood(100, peer("x", f"10.0.0.{number}", None)))
        self.assertEqual(shown, LOG.everything.at_once)

    def test_pipe(self) -> None:
        """A program gets all of it, and for that the rest is not less."""
        self.quiet = Quiet(self.narrator, lambda: self.now, PIPE)
        self.assertEqual(len(self.flood(5000)), 5000)
        run = ChatsReceived(peer=BOB, texts=("x",) * 5000)
        self.assertEqual(len(self.shown(run)), 5000)
        self.assertEqual(len(self.shown(came(BOB))), 1)
        self.assertEqual(self.later(), [])

    def test_screen(self) -> None:
        assert SCREEN.chat is not None
        self.quiet = Quiet(self.narrator, lambda: self.now, SCREEN)
        self.assertEqual(len(self.flood(1000)), SCREEN.chat.at_once)

    def test_what_is_not_shown_is_not_rendered(self) -> None:
        """It is not even looked at."""
        assert LOG.chat is not None
        self.flood(LOG.chat.at_once)

        class Unread(str):
            __slots__ = ()

            def isascii(self) -> bool:
                raise AssertionError("rendered")

        for event in (
            said(Unread("x")),
            ChatsReceived(peer=BOB, texts=(Unread("x"), Unread("y"))),
        ):
            self.assertEqual(self.shown(event), [])
        self.assertEqual(len(self.later()), 1)


class MoveTests(Case):
    """Who comes and goes."""

    def test_a_mesh_that_forms_behind_one_host(self) -> None:
        """Fifty nodes, each twice, and what they tell: every line is there."""
        for number in range(50):
            other = peer(f"n{number}", "192.0.2.9", 8000 + number, id=f"n{number}")
            found = PeersDiscovered(peer=other, count=1, total_known=number + 1)
            self.assertEqual(
                len(self.shown(came(other), went(other), came(other), found)), 4
            )

    def test_a_loop(self) -> None:
        """Joins and leaves with ever new names: the bound of the host."""
        shown = 0
        for number in range(2000):
            other = peer(f"x{number}", "192.0.2.9", None, id=f"x{number}")
            shown += len(self.shown(came(other), went(other)))
        self.assertEqual(shown, LOG.moves.at_once)

    def test_the_summary_tells_who_is_there(self) -> None:
        """Nobody has to guess what the lines that are missing said."""
        carol = peer("carol", "192.0.2.10", 8003, id="carol")
        self.shown(came(carol))
        self.shown(*[came(BOB), went(BOB)] * (LOG.moves.at_once // 2))
        dave = peer("dave", "192.0.2.9", 8004, id="dave")
        self.assertEqual(self.shown(came(BOB), went(BOB), came(BOB), came(dave)), [])
        (told,) = self.later()
        self.assertEqual(
            told,
            "[NETWORK] 4 more connects and disconnects from 192.0.2.9 in 1 s; "
            "connected from there: bob, dave (3/20 peers)",
        )

    def test_nobody_is_left(self) -> None:
        self.shown(*[came(BOB), went(BOB)] * (LOG.moves.at_once // 2))
        self.assertEqual(self.shown(came(BOB), went(BOB)), [])
        self.now += WINDOW
        self.assertEqual(
            list(self.quiet.lines(NOTHING)),
            [
                (
                    LeftOut(count=2, host="192.0.2.9"),
                    "[NETWORK] 2 more connects and disconnects from 192.0.2.9 in 1 s; "
                    "connected from there: nobody (0/20 peers)",
                )
            ],
        )

    def test_many_names(self) -> None:
        """The summary lists some names and counts the others."""
        for number in range(LOG.moves.at_once + 1):
            self.shown(came(peer(f"n{number}", "192.0.2.9", None, id=f"n{number}")))
        (told,) = self.later()
        self.assertEqual(told.count(","), MAX_NAMED - 1)
        self.assertIn(f"n9 and {LOG.moves.at_once + 1 - MAX_NAMED} more (", told)

    def test_one_network(self) -> None:
        """An IPv6 network of /64 is one host."""
        for number in range(LOG.moves.at_once):
            self.shown(came(peer("x", f"2001:db8::{number + 1:x}", None)))
        self.assertEqual(self.shown(came(peer("x", "2001:db8::ffff", None))), [])
        self.assertEqual(len(self.shown(came(peer("x", "2001:db8:0:1::1", None)))), 1)
        (told,) = self.later()
        self.assertIn("from 2001:db8::/64 in 1 s", told)

    def test_labels_hold_without_a_line(self) -> None:
        """Who came unseen is told apart all the same."""
        self.shown(*[came(BOB), went(BOB)] * (LOG.moves.at_once // 2))
        self.shown(came(BOB))
        other = peer("bob", "192.0.2.10", 8002, id="other")
        self.assertEqual(self.shown(said(by=other)), ["[bob@192.0.2.10:8002] hi"])
        self.shown(went(BOB))
        self.assertEqual(self.shown(said(by=other)), ["[bob] hi"])


class KindTests(Case):
    """Chatter and errors: one line and how many more."""

    DEBUG = True

    def test_the_first_is_shown_and_the_others_are_not(self) -> None:
        self.assertEqual(len(self.shown(refused())), 1)
        self.now += WINDOW - 0.001
        self.assertEqual(self.shown(refused()), [])

    def test_their_number_is_told_when_the_time_is_over(self) -> None:
        self.shown(*[refused(reason=reason) for reason in ("1", "2", "3", "4")])
        self.now += WINDOW
        (told, _) = self.quiet.lines(NOTHING)
        self.assertEqual(
            told,
            (
                refused(reason="4"),
                "[DEBUG] Refused x from 192.0.2.9: 4 (and 2 more like it)",
            ),
        )

    def test_a_single_one_is_only_late(self) -> None:
        self.shown(refused(reason="1"), refused(reason="2"))
        self.assertEqual(self.later(), ["[DEBUG] Refused x from 192.0.2.9: 2"])

    def test_a_clock_that_is_set_back_silences_nobody(self) -> None:
        self.shown(refused(), refused())
        self.now -= 7200
        self.assertEqual(self.shown(refused()), [])
        self.now += WINDOW
        self.assertEqual(len(self.shown(refused())), 2)

    def test_nothing_was_left_out(self) -> None:
        self.shown(refused())
        self.assertIsNone(self.quiet.wait())
        self.assertEqual(self.later(), [])

    def test_peers_and_kinds_do_not_silence_each_other(self) -> None:
        for event in (
            refused("192.0.2.9"),
            refused("192.0.2.10"),
            PingReceived(peer=BOB),
            PongReceived(peer=BOB),
            PingReceived(peer=peer(host="192.0.2.3")),
        ):
            self.assertEqual(len(self.shown(event)), 1, event)
            self.assertEqual(self.shown(event), [], event)

    def test_errors(self) -> None:
        """Those of one host have one bucket, whatever the host said."""
        errors = [
            NodeError(context="Handshake with 192.0.2.9", error=f"bad {number}")
            for number in range(51)
        ]
        self.assertEqual(len(self.shown(*errors)), 50)
        other = NodeError(context="Handshake with 192.0.2.10", error="bad")
        self.assertEqual(len(self.shown(other)), 1)
        self.assertEqual(self.later(), ["[ERROR] Handshake with 192.0.2.9: bad 50"])

    def test_the_node_itself(self) -> None:
        """Its own lines have no bound."""
        for event in (
            NodeStarted(id="x", name="alice", port=1),
            NOTHING,
            PeerReaped(peer=BOB, silent_for=61.0),
        ):
            self.assertEqual(len(self.shown(*[event] * 2000)), 2000, event)

    def test_chatter_without_debug(self) -> None:
        """What has no line is not counted, and takes nobody's place."""
        self.quiet = Quiet(Narrator("alice"), lambda: self.now, LOG)
        self.assertEqual(self.shown(*[refused()] * 50, *[NOTHING] * 50), [])
        self.assertEqual(self.kept(), 0)

    def test_an_event_of_a_later_version(self) -> None:
        class Unheard(DebugEvent):
            pass

        self.assertEqual(self.shown(Unheard(), Unheard()), ["[DEBUG] Unheard"] * 2)


class SeedTests(Case):
    """Seeds that are dead for long."""

    SEED = PeerAddress.parse("192.0.2.1:8001")

    def failed(self, reason: str = "refused", seed: PeerAddress = SEED) -> Event:
        return BootstrapFailed(target=seed, reason=reason, attempt=1, retry_in=1.0)

    def hours(self, hours: float, every: float = 10.0) -> list[float]:
        """At which seconds a dead seed is told of."""
        began, told = self.now, []
        while self.now < began + 3600 * hours:
            if self.shown(self.failed()):
                told.append(self.now - began)
            self.now += every
        return told

    def test_growing_distance(self) -> None:
        """After half a minute, then ever later, and at most every hour."""
        told = self.hours(6)
        self.assertEqual(told[:5], [0, 30, 90, 210, 450])
        gaps = [after - before for before, after in zip(told, told[1:], strict=False)]
        self.assertEqual(gaps[0], SEED_PAUSE)
        self.assertEqual(max(gaps), MAX_SEED_PAUSE)
        self.assertEqual(gaps[-3:], [MAX_SEED_PAUSE] * 3)

    def test_another_reason(self) -> None:
        self.assertEqual(len(self.shown(self.failed(), self.failed("timed out"))), 2)
        self.assertEqual(self.shown(self.failed("timed out")), [])
        self.now += SEED_PAUSE
        self.assertEqual(len(self.shown(self.failed("timed out"))), 1)

    def test_connected_again(self) -> None:
        """That is told, and so is the first failure after it."""
        back = BootstrapSucceeded(target=self.SEED)
        self.assertEqual(
            len(self.shown(self.failed(), self.failed(), back, self.failed())), 3
        )

    def test_each_seed(self) -> None:
        other = PeerAddress.parse("192.0.2.2:8001")
        self.assertEqual(len(self.shown(self.failed(), self.failed(seed=other))), 2)

    def test_a_seed_that_cannot_make_up_its_mind(self) -> None:
        """A new reason each time is no way around the bound."""
        events = [self.failed(str(number)) for number in range(1000)]
        self.assertEqual(len(self.shown(*events)), 50)
        back = BootstrapSucceeded(target=self.SEED)
        self.assertEqual(len(self.shown(*[back] * 1000)), 50)

    def test_debug(self) -> None:
        """Who debugs sees every attempt."""
        self.quiet = Quiet(self.narrator, lambda: self.now, LOG, debug=True)
        self.assertEqual(len(self.shown(*[self.failed()] * 1000)), 1000)

    def test_many_seeds(self) -> None:
        """More than so many are not remembered."""
        for number in range(MAX_KEPT + 50):
            self.shown(self.failed(seed=PeerAddress("seed.example", number + 1)))
        self.assertEqual(len(self.quiet._seeds), MAX_KEPT)


class TimeTests(Case):
    """When the rest is told though nothing happens any more."""

    def test_wait(self) -> None:
        """It says how long to wait, and then there is something to tell."""
        self.assertIsNone(self.quiet.wait())
        self.shown(*[said()] * 500)
        self.assertEqual(self.quiet.wait(), WINDOW)
        self.now += 4
        other = peer("carol", "192.0.2.10", 8003, id="carol")
        self.shown(*[said(by=other)] * 500)
        self.assertEqual(self.quiet.wait(), WINDOW - 4)
        self.assertEqual(len(self.later(WINDOW - 4)), 1)
        self.assertEqual(self.quiet.wait(), 4)
        self.assertEqual(len(self.later(4)), 1)
        self.assertIsNone(self.quiet.wait())

    def test_rest(self) -> None:
        """At the end everything is told at once."""
        self.shown(*[said()] * 500)
        self.assertEqual(
            [text for _, text in self.quiet.rest()],
            ["[NETWORK] 400 more messages from bob in 1 s"],
        )
        self.assertIsNone(self.quiet.wait())
        self.assertEqual(list(self.quiet.rest()), [])


class BoundTests(Case):
    """However many sources there are."""

    RATES = Rates(
        chat=Rate(1, 1), moves=Rate(1, 1), host=Rate(1, 2), everything=Rate(1, 10)
    )

    def test_summaries_have_the_bound_too(self) -> None:
        """Sources that got no line are told of together, in one."""
        for number in range(100):
            by = peer("x", f"10.0.1.{number}", None)
            self.shown(said(by=by), said(by=by))
        told = self.later()
        self.assertEqual(len(told), 10)
        # Ten are shown, ten sources have a line; and what is said here is one.
        self.assertEqual(self.quiet.wait(), WINDOW)
        (told_together,) = (line for line in self.later() if "about" in line)
        self.assertEqual(
            told_together,
            "[NETWORK] 180 more lines about 90 peers and addresses (0/0 peers)",
        )
        self.assertIsNone(self.quiet.wait())

    def test_forgotten_but_not_untold(self) -> None:
        """A source that had to make room is counted with the others."""
        for number in range(MAX_KEPT + 100):
            by = peer("x", f"host-{number}", None)
            self.shown(said(by=by), said(by=by))
        self.assertLessEqual(len(self.quiet._sources), MAX_KEPT)
        counted = 0
        for _ in range(3):
            counted += sum(
                about.count
                for about, _ in self.quiet.rest()
                if isinstance(about, LeftOut)
            )
        self.assertEqual(counted, 2 * (MAX_KEPT + 100) - 10)

    def test_nothing_is_kept_of_who_has_gone(self) -> None:
        """A thousand come and go; then everything that is held is counted."""
        for number in range(1000):
            host = f"10.{number // 250}.{number % 250}.1"
            one = peer(f"Näme-{number}", host, None, id=f"one-{number}")
            two = peer(f"nàme-{number}", host, 8000, id=f"one-{number}")
            self.shown(came(one), said(by=one))
            # Replaced, reaped, or gone by itself.
            self.shown(*[came(two)] * (number % 2))
            if number % 3 == 0:
                self.shown(PeerReaped(peer=two, silent_for=61.0))
                end = CloseReason.TIMEOUT
            else:
                end = CloseReason.CLOSED_BY_PEER
            self.shown(PeerDisconnected(peer=two, reason=end))
            self.now += 0.5
        self.assertEqual(_held(self.narrator), 0)
        self.assertLessEqual(_held(self.quiet), 4 * MAX_KEPT)
        # And who has been quiet is forgotten as others come.
        self.now += 3600
        for number in range(2 * MAX_KEPT):
            self.shown(said(by=peer("x", f"host-{number}", None)))
            self.shown(came(BOB), went(BOB))
            self.now += 10
        self.assertLess(_held(self.quiet), 20)

    def test_a_late_sign_of_one_that_has_gone(self) -> None:
        """Nothing is kept of it either."""
        self.shown(went(BOB), said(), PeerReaped(peer=BOB, silent_for=61.0))
        self.assertEqual(_held(self.narrator), 0)


class OrderTests(SynchronousTestCase):
    """The figures fit together."""

    def test_figures(self) -> None:
        every: Iterable[Rates] = (LOG, SCREEN, PIPE)
        for rates in every:
            self.assertLessEqual(rates.moves.at_once, rates.host.at_once)
            self.assertLess(rates.host.at_once, rates.everything.at_once)
            self.assertLess(rates.host.per_second, rates.everything.per_second)
