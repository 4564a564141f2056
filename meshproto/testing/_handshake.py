"""The steps of mesh/2's handshake, and what goes wrong at one of them.

::

    dialler                      listener
    greeting            ->
                        <-       answer, first HELLO
    second HELLO        ->
                        <-       verdict (WELCOME or REFUSED)
    READY               ->

Steps are found in what a program writes.  It writes each in one piece.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

#: Every step, in the order of time.
STEPS = ("greeting", "answer", "first HELLO", "second HELLO", "verdict", "READY")

_BY_DIALLER = ("greeting", "second HELLO", "READY")
_BY_LISTENER = ("answer", "first HELLO", "verdict")

_LINE = re.compile(rb"[^\n]*\t\n")
_HELLO = re.compile(rb"HELLO \+(\d+)\n")
_FORMS = {
    "greeting": _LINE,
    "answer": _LINE,
    "first HELLO": _HELLO,
    "second HELLO": _HELLO,
    "verdict": re.compile(rb"(?:WELCOME|REFUSED [^\n]*)\n"),
    "READY": re.compile(rb"READY\n"),
}

#: What can go wrong at a step: it gets lost, and the link is silent or ends; it
#: comes late; it comes twice; the link ends in the midst of it; it is nonsense.
TROUBLES = ("mute", "hang up", "dawdle", "echo", "halve", "garble")

#: None of it is a step or a greeting; some of it might be another word.
NONSENSE = (
    b"NOTHING TO SAY\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n",
    b"HELLO +99999\n",
    b"HELLO +4\nid: ",
    b"HELLO +4\nnone",
    b"WELCOME home +\n",
    b"PING\n",
    b"DUPLICATE\n",
    b"x" * 2000,
)


@dataclass(frozen=True, slots=True, eq=False)
class Trouble:
    """What goes wrong at a step.  One that comes late does by so many seconds."""

    kind: str
    step: str
    seconds: float = 0.0


class Outlet(Protocol):
    """Where what is written goes."""

    def write(self, segment: bytes | Callable[[], None], /) -> None:
        """Send something on its way."""

    def hold(self, seconds: float) -> None:
        """Let nothing arrive before so many seconds have passed."""


class Handshake:
    """What one end of a connection says until its handshake is over.

    ``ready`` is called when it says READY, ``heard`` when the far end has heard
    that; ``sever`` ends the connection.
    """

    def __init__(
        self,
        outlet: Outlet,
        troubles: Iterable[Trouble],
        rng: random.Random,
        *,
        dials: bool,
        ready: Callable[[], None],
        heard: Callable[[], None],
        sever: Callable[[], None],
    ) -> None:
        self._outlet = outlet
        self._troubles = troubles
        self._rng = rng
        self._left = list(_BY_DIALLER if dials else _BY_LISTENER)
        self._ready = ready
        self._heard = heard
        self._sever = sever
        self._silent = False

    @property
    def is_over(self) -> bool:
        """Whether whatever follows passes as it is."""
        return not (self._left or self._silent)

    def write(self, data: bytes) -> None:
        """Send what the program says, if nothing goes wrong."""
        for step, part in self._parts(data):
            if self._silent:
                return
            found = (each for each in self._troubles if each.step == step)
            self._pass(step, part, next(found, None))
            if step == "READY":
                self._ready()

    def _parts(self, data: bytes) -> Iterator[tuple[str | None, bytes]]:
        """Each step that the data begins with, and the rest."""
        while self._left and (size := _size(self._left[0], data)):
            yield self._left.pop(0), data[:size]
            data = data[size:]
        if data:
            # Who says anything else goes on with no handshake.
            self._left.clear()
            yield None, data

    def _pass(self, step: str | None, part: bytes, trouble: Trouble | None) -> None:
        write = self._outlet.write
        match trouble and trouble.kind:
            case "mute":
                self._silent = True
            case "hang up" | "halve" as kind:
                self._silent = True
                if kind == "halve":
                    write(part[: len(part) // 2])
                self._sever()
            case "garble":
                write(self._rng.choice(NONSENSE))
            case kind:
                if trouble is not None and kind == "dawdle":
                    self._outlet.hold(trouble.seconds)
                write(part)
                if step == "READY":
                    write(self._heard)
                if kind == "echo":
                    write(part)


def _size(step: str, data: bytes) -> int:
    """How many bytes of the data are that step; 0 when it is another thing."""
    found = _FORMS[step].match(data)
    if found is None:
        return 0
    return found.end() + (int(found[1]) if found.re is _HELLO else 0)
