"""How much a run plays: what a person waits for, or all there is.

``MESHPROTO_SLOW_TESTS=1`` asks for everything; ``tox -e slow`` sets it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

_ALL = bool(os.environ.get("MESHPROTO_SLOW_TESTS"))

#: Why a test that takes long is left out; empty when it is not.
SLOW = "" if _ALL else "it takes long: set MESHPROTO_SLOW_TESTS=1"

Test = TypeVar("Test", bound=Callable[..., object])
Items = TypeVar("Items", bound=Sequence[Any])


def slow(test: Test) -> Test:
    """Leave one test out, unless everything is asked for."""
    if SLOW:
        test.skip = SLOW  # type: ignore[attr-defined]
    return test


def some(everything: Items, count: int) -> Items:
    """At most so many of them, evenly spread; all when everything is asked for."""
    step = 1 if _ALL else -(-len(everything) // count)
    return cast(Items, everything[::step])


def examples(count: int) -> int:
    """Examples of a law: all when everything is asked for, and in CI; else a fifth."""
    return count if _ALL or os.environ.get("CI") else -(-count // 5)
