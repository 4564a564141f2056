"""The tree of errors: who is caught by which name, and what it says."""

from __future__ import annotations

import inspect
import re

from twisted.trial.unittest import SynchronousTestCase

from meshproto import errors
from meshproto.errors import (
    AddressError,
    AmbiguousPeer,
    ConfigError,
    ConnectError,
    LocalProtocolError,
    MeshError,
    RemoteProtocolError,
    UnknownPeer,
)
from meshproto.wire.address import EndpointTarget, PeerAddress

BRANCH = re.compile(r"^ {4}(?P<trunk>[│ ]*)[├└]── (?P<name>\w+)", re.MULTILINE)
INDENT = 4


def drawn() -> dict[str, str]:
    """Each error's parent, as the module's docstring draws the tree."""
    parents = {}
    path = ["MeshError"]
    for branch in BRANCH.finditer(inspect.cleandoc(errors.__doc__ or "")):
        depth = 1 + len(branch["trunk"]) // INDENT
        path[depth:] = [branch["name"]]
        parents[branch["name"]] = path[depth - 1]
    return parents


class TreeTests(SynchronousTestCase):
    """One root, and the two kinds of fault apart."""

    def test_the_drawing_is_the_tree(self) -> None:
        """Every error stands in the drawing, below the one that it extends."""
        real = {
            name: cls.__mro__[1].__name__
            for name, cls in vars(errors).items()
            if inspect.isclass(cls)
            and issubclass(cls, MeshError)
            and cls is not MeshError
        }
        self.assertEqual(drawn(), real)

    def test_the_callers_mistakes_are_value_errors(self) -> None:
        for error in (LocalProtocolError, AddressError, ConfigError):
            self.assertTrue(issubclass(error, ValueError), error)

    def test_a_peers_mistake_is_no_mistake_of_the_caller(self) -> None:
        """Whoever catches the one does not swallow the other."""
        self.assertFalse(issubclass(RemoteProtocolError, ValueError))
        self.assertFalse(issubclass(RemoteProtocolError, LocalProtocolError))
        self.assertFalse(issubclass(LocalProtocolError, RemoteProtocolError))

    def test_an_unknown_peer_is_a_failed_lookup(self) -> None:
        self.assertTrue(issubclass(UnknownPeer, LookupError))
        self.assertTrue(issubclass(AmbiguousPeer, UnknownPeer))


class TextTests(SynchronousTestCase):
    """What people read."""

    def test_config_error_names_the_setting(self) -> None:
        error = ConfigError("max_peers", "0 is less than 1")
        self.assertEqual(str(error), "max_peers: 0 is less than 1")
        self.assertEqual(
            (error.setting, error.problem), ("max_peers", "0 is less than 1")
        )

    def test_connect_error_names_the_target(self) -> None:
        for target, text in (
            (PeerAddress("2001:db8::1", 8001), "[2001:db8::1]:8001"),
            (EndpointTarget("unix:/run/mesh"), "unix:/run/mesh"),
        ):
            error = ConnectError(target, "connection refused")
            self.assertEqual(str(error), f"{text}: connection refused")
            self.assertEqual(
                (error.target, error.reason), (target, "connection refused")
            )
