"""The first line of a link, on both wires."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from meshproto.errors import RemoteProtocolError
from meshproto.wire.greeting import (
    MAX_GREETING,
    decode_answer,
    decode_greeting,
    encode_greeting,
    not_a_node,
    quoted,
)
from meshproto.wire.messages import Greeting, Refusal
from tests.test_wire import HELLOS

ALICE = Greeting("peer-8001", "alice")


class GreetingTests(SynchronousTestCase):
    """``ID:NAME``, and the tab of those who speak ``mesh/2`` as well."""

    def test_forms(self) -> None:
        for who, line in (
            (ALICE, b"peer-8001:alice"),
            (Greeting("peer-8001", "alice", mesh2=True), b"peer-8001:alice\t"),
        ):
            self.assertEqual(encode_greeting(who), line + b"\n")
            self.assertEqual(decode_greeting(line), who)

    def test_the_name_may_be_missing(self) -> None:
        for line, mesh2 in ((b"bob", False), (b"bob\t", True), (b"bob:\t", True)):
            self.assertEqual(decode_greeting(line), Greeting("bob", "bob", mesh2))
        self.assertEqual(decode_greeting(b"bob: Bob \t"), Greeting("bob", "Bob", True))

    def test_one_tab_and_no_more(self) -> None:
        for line in (b"bob:Bob\t\t", b"bob\t\t", b"\tbob:Bob", b"bob:\tBob", b"b\tb:c"):
            self.assertRaises(RemoteProtocolError, decode_greeting, line)
            self.assertRaises(RemoteProtocolError, decode_answer, line)
        for line in (b"\t", b":\t", b"bob:Bob\t\r", b"bob:Bob \t "):
            self.assertRaises(RemoteProtocolError, decode_greeting, line)

    def test_answers(self) -> None:
        self.assertEqual(
            decode_answer(b"peer-8001:alice\t"), replace(ALICE, mesh2=True)
        )
        self.assertEqual(decode_answer(b"DUPLICATE"), Refusal.DUPLICATE)
        # A refusal is no greeting.
        self.assertRaises(RemoteProtocolError, decode_answer, b"DUPLICATE\t")

    def test_the_longest(self) -> None:
        longest = Greeting("i" * 64, "\N{GRINNING FACE}" * 64, mesh2=True)
        self.assertEqual(len(encode_greeting(longest)), MAX_GREETING + 1)

    @given(HELLOS, st.booleans())
    def test_round_trip(self, greeting: Greeting, mesh2: bool) -> None:
        greeting = replace(greeting, mesh2=mesh2)
        line = encode_greeting(greeting)
        self.assertEqual(line[-1:], b"\n")
        self.assertEqual(decode_greeting(line[:-1]), greeting)

    @given(st.binary())
    def test_anything_else_is_refused_with_a_reason(self, line: bytes) -> None:
        try:
            greeting = decode_greeting(line)
        except RemoteProtocolError as error:
            self.assertTrue(str(error).isascii() and str(error).isprintable())
        else:
            again = encode_greeting(greeting)
            self.assertEqual(decode_greeting(again[:-1]), greeting)

    def test_what_is_quoted(self) -> None:
        self.assertEqual(quoted(b"x" * 40), f'"{"x" * 40}"')
        self.assertEqual(quoted(b"x" * 41), f'"{"x" * 40}..."')
        self.assertEqual(quoted(b'\x00"\xff'), r'"\x00\"\xff"')
        self.assertEqual(
            not_a_node(b"GET /\r\nHost"), 'not a mesh node, it said "GET /"'
        )
