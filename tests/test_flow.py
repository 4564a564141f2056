"""What keeps a link back: every state with every event."""

from __future__ import annotations

from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

from meshproto.link.flow import Flow, State, Step

READING, WAITING, PAUSED, BLOCKED, LAST_WORDS, LAST_TURN, FORSAKEN, ENDED = State
NOTHING, STOP, WAIT, GO_ON, DROP, FINISH = Step

#: How a new link comes into each state, its reason to be paused being "one".
WAYS: dict[State, tuple[str, ...]] = {
    READING: (),
    WAITING: ("turn over",),
    PAUSED: ("pause",),
    BLOCKED: ("turn over", "pause"),
    LAST_WORDS: ("turn over", "cut off"),
    LAST_TURN: ("turn over", "cut off", "turn"),
    FORSAKEN: ("turn over", "cut off", "pause"),
    ENDED: ("end",),
}

EVENTS: dict[str, Callable[[Flow], Step | None]] = {
    "pause": lambda flow: flow.pause("one"),
    "resume": lambda flow: flow.resume("one"),
    "turn over": Flow.turn_over,
    "turn": Flow.turn,
    "closed": lambda flow: flow.lose(closed=True),
    "cut off": lambda flow: flow.lose(closed=False),
    "end": Flow.end,
}

#: What an event leads to; all others change nothing.
CHANGES: dict[tuple[State, str], tuple[State, Step | None]] = {
    (READING, "pause"): (PAUSED, STOP),
    (READING, "turn over"): (WAITING, WAIT),
    (READING, "closed"): (READING, FINISH),
    (READING, "cut off"): (READING, FINISH),
    (WAITING, "pause"): (BLOCKED, NOTHING),
    (WAITING, "turn"): (READING, GO_ON),
    (WAITING, "cut off"): (LAST_WORDS, NOTHING),
    (PAUSED, "resume"): (READING, GO_ON),
    (PAUSED, "cut off"): (PAUSED, FINISH),
    (BLOCKED, "resume"): (WAITING, NOTHING),
    (BLOCKED, "turn"): (PAUSED, NOTHING),
    (BLOCKED, "cut off"): (BLOCKED, FINISH),
    (LAST_WORDS, "pause"): (FORSAKEN, DROP),
    (LAST_WORDS, "turn"): (LAST_TURN, GO_ON),
    (LAST_TURN, "pause"): (FORSAKEN, DROP),
    (LAST_TURN, "turn over"): (LAST_WORDS, WAIT),
    (FORSAKEN, "turn"): (FORSAKEN, GO_ON),
    **{(state, "end"): (ENDED, None) for state in State},
}


def flow_in(state: State) -> Flow:
    flow = Flow()
    for event in WAYS[state]:
        EVENTS[event](flow)
    return flow


class TableTests(SynchronousTestCase):
    def test_the_way_into_every_state(self) -> None:
        for state in State:
            self.assertIs(flow_in(state).state, state)

    def test_every_event_in_every_state(self) -> None:
        for state in State:
            for name, event in EVENTS.items():
                flow = flow_in(state)
                step = event(flow)
                wanted = CHANGES.get((state, name), (state, NOTHING))
                self.assertEqual((flow.state, step), wanted, (state, name))

    def test_what_the_owner_of_a_link_sees(self) -> None:
        """Whether it is read, waits for its turn, and is gone."""
        seen = {
            state: (flow.reading, flow.waits, flow.gone)
            for state in State
            for flow in (flow_in(state),)
        }
        self.assertEqual(
            seen,
            {
                READING: (True, False, False),
                WAITING: (True, True, False),
                PAUSED: (False, False, False),
                BLOCKED: (False, True, False),
                LAST_WORDS: (True, True, True),
                LAST_TURN: (True, False, True),
                FORSAKEN: (False, False, True),
                ENDED: (False, False, False),
            },
        )


class ReasonTests(SynchronousTestCase):
    """Who keeps a link back, and for how long."""

    def test_it_goes_on_when_the_last_reason_is_gone(self) -> None:
        flow = Flow()
        self.assertEqual(flow.pause("one"), STOP)
        self.assertEqual(flow.pause("two"), NOTHING)
        self.assertEqual(flow.resume("one"), NOTHING)
        self.assertEqual(flow.resume("one"), NOTHING)
        self.assertEqual(flow.resume("two"), GO_ON)

    def test_a_reason_given_twice_is_one(self) -> None:
        flow = Flow()
        flow.pause("one")
        flow.pause("one")
        self.assertEqual(flow.resume("one"), GO_ON)

    def test_a_reason_that_nobody_gave(self) -> None:
        flow = Flow()
        flow.pause("one")
        self.assertEqual(flow.resume("two"), NOTHING)
        self.assertIs(flow.state, PAUSED)

    def test_an_end_forgets_every_reason(self) -> None:
        flow = Flow()
        flow.pause("one")
        flow.end()
        self.assertEqual(flow.resume("one"), NOTHING)


class LostTests(SynchronousTestCase):
    """A connection that is gone while words are left."""

    def test_closed_by_the_far_end_it_may_be_paused(self) -> None:
        for state in (WAITING, PAUSED, BLOCKED):
            flow = flow_in(state)
            flow.lose(closed=True)
            self.assertTrue(flow.gone)
            self.assertIs(flow.state, state)
        flow = flow_in(WAITING)
        flow.lose(closed=True)
        flow.turn()
        self.assertEqual(flow.pause("one"), STOP)
        self.assertEqual(flow.resume("one"), GO_ON)

    def test_with_nothing_to_wait_for_it_is_over(self) -> None:
        for closed in (True, False):
            flow = Flow()
            self.assertEqual(flow.lose(closed=closed), FINISH)
            self.assertFalse(flow.gone)
