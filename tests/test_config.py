"""The settings: their defaults, their bounds, and what a bad one is told."""

from __future__ import annotations

import doctest
import math
import pickle
from copy import deepcopy
from dataclasses import FrozenInstanceError, fields, replace
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from meshproto import config
from meshproto.config import KiB, MiB, NodeConfig
from meshproto.errors import ConfigError
from meshproto.wire.address import EndpointTarget, PeerAddress
from meshproto.wire.greeting import MAX_GREETING

DEFAULTS: dict[str, object] = {
    "port": 8001,
    "name": None,
    "id": None,
    "interface": None,
    "listen": None,
    "bootstrap": (),
    "advertise": None,
    "protocols": ("mesh/2", "mesh/1"),
    "mesh": "",
    "headers": {},
    "max_peers": 20,
    "discovery_interval": 30.0,
    "maintenance_interval": 15.0,
    "connection_timeout": 10.0,
    "peer_timeout": 60.0,
    "probe_timeout": 3.0,
    "stop_timeout": 2.0,
    "max_line": 16_384,
    "max_handshake_line": 512,
    "max_payload": 1_048_576,
    "max_pending": 64,
    "max_pending_per_host": 8,
    "link_rate": 1.0,
    "link_burst": 64,
    "gossip_rate": 4.0,
    "gossip_burst": 256,
    "chat_rate": 0.0,
    "chat_burst": 100,
    "max_dials": 16,
    "max_addresses_per_list": 100,
    "max_addresses_per_peer": 64,
    "max_addresses": 1000,
    "max_dial_failures": 10,
    "send_queue_soft": 8_388_608,
    "send_queue_hard": 67_108_864,
    "stall_timeout": 10.0,
    "max_queued_events": 1000,
}
#: Numbers with a lower bound and no upper one.
LOWER_BOUNDS = {
    "max_peers": 1,
    "max_payload": 1,
    "max_pending": 1,
    "max_pending_per_host": 1,
    "link_burst": 1,
    "gossip_burst": 1,
    "chat_burst": 1,
    "max_dials": 1,
    "max_addresses_per_list": 1,
    "max_addresses_per_peer": 1,
    "max_addresses": 1,
    "max_dial_failures": 1,
    "send_queue_soft": 1,
    "max_queued_events": 1,
    "max_handshake_line": MAX_GREETING,
}
DURATIONS = (
    "discovery_interval",
    "maintenance_interval",
    "connection_timeout",
    "peer_timeout",
    "probe_timeout",
    "stop_timeout",
    "stall_timeout",
)

RATES = ("link_rate", "gossip_rate", "chat_rate")


def configured(**settings: Any) -> NodeConfig:
    """Settings as they come from outside: of any type."""
    return NodeConfig(**settings)


class ConfigTestCase(SynchronousTestCase):
    """Asks what is said about a bad setting."""

    def refuses(self, setting: str, problem: str, **settings: Any) -> None:
        """The error names the setting and says what is wrong, in one line."""
        error = self.assertRaises(ConfigError, configured, **settings)
        self.assertEqual(error.setting, setting)
        self.assertIn(problem, error.problem)
        self.assertEqual(str(error), f"{setting}: {error.problem}")
        self.assertNotIn("\n", str(error))


class DefaultTests(SynchronousTestCase):
    """What a node does that is told nothing."""

    def test_defaults(self) -> None:
        """Every setting is in the table, and has the default that it says."""
        standard = NodeConfig()
        self.assertEqual(
            {field.name: getattr(standard, field.name) for field in fields(standard)},
            DEFAULTS,
        )

    def test_examples(self) -> None:
        results = doctest.testmod(config)
        self.assertEqual(results.failed, 0)
        self.assertGreater(results.attempted, 0)

    def test_units(self) -> None:
        self.assertEqual((KiB, MiB), (1024, 1024 * 1024))

    def test_is_frozen_and_takes_names_only(self) -> None:
        with self.assertRaises(FrozenInstanceError):
            NodeConfig().port = 1  # type: ignore[misc]
        with self.assertRaises(TypeError):
            NodeConfig(8001)  # type: ignore[call-arg]


class NumberTests(ConfigTestCase):
    """At the bound, and one past it."""

    def test_every_number_has_its_bounds_tested(self) -> None:
        numbers = {
            name
            for name, default in DEFAULTS.items()
            if isinstance(default, int | float)
        }
        apart = {"port", "max_line", "send_queue_hard"}
        self.assertEqual(numbers, {*LOWER_BOUNDS, *DURATIONS, *RATES, *apart})

    def test_port(self) -> None:
        for port in (0, 1, 65535):
            self.assertEqual(NodeConfig(port=port).port, port)
        self.refuses("port", "-1 is less than 0", port=-1)
        self.refuses("port", "65536 is more than 65535", port=65536)

    def test_lower_bounds(self) -> None:
        for setting, least in LOWER_BOUNDS.items():
            settings: dict[str, Any] = {setting: least}
            self.assertEqual(getattr(configured(**settings), setting), least)
            settings = {setting: least - 1}
            self.refuses(setting, f"{least - 1} is less than {least}", **settings)

    def test_a_whole_number_is_wanted(self) -> None:
        for setting in (*LOWER_BOUNDS, "port", "max_line", "send_queue_hard"):
            for value in ("512", 1e9, True, None, math.nan):
                settings: dict[str, Any] = {setting: value}
                self.refuses(setting, "is not a whole number", **settings)

    def test_a_line_holds_a_handshake_line(self) -> None:
        NodeConfig(max_line=512)
        NodeConfig(max_line=400, max_handshake_line=400)
        self.refuses("max_handshake_line", "512 is more than 511", max_line=511)

    def test_a_handshake_line_holds_the_longest_hello(self) -> None:
        NodeConfig(max_line=MAX_GREETING, max_handshake_line=MAX_GREETING)
        self.refuses(
            "max_line",
            f"{MAX_GREETING - 1} is less than {MAX_GREETING}",
            max_line=MAX_GREETING - 1,
            max_handshake_line=MAX_GREETING - 1,
        )

    def test_the_hard_mark_is_not_below_the_soft_one(self) -> None:
        NodeConfig(send_queue_soft=1000, send_queue_hard=1000)
        self.refuses(
            "send_queue_hard",
            "999 is less than 1000",
            send_queue_soft=1000,
            send_queue_hard=999,
        )


class DurationTests(ConfigTestCase):
    """Seconds: positive, finite, whole or not."""

    def test_durations(self) -> None:
        for setting in DURATIONS:
            for value in (0.001, 1, 59.5):
                settings: dict[str, Any] = {
                    "maintenance_interval": 0.0005,
                    setting: value,
                }
                self.assertEqual(getattr(configured(**settings), setting), value)

    def test_no_durations(self) -> None:
        for setting in DURATIONS:
            for value in (0, 0.0, -1, -0.001, math.inf, -math.inf, math.nan):
                settings: dict[str, Any] = {setting: value}
                self.refuses(setting, "is not a positive time", **settings)
            for strange in ("10", None, True):
                settings = {setting: strange}
                self.refuses(setting, "is not a number of seconds", **settings)

    def test_rates(self) -> None:
        for setting in RATES:
            for value in (0.001, 1, 59.5):
                settings: dict[str, Any] = {setting: value}
                self.assertEqual(getattr(configured(**settings), setting), value)
            for value in (-1, -0.001, math.inf, -math.inf, math.nan):
                settings = {setting: value}
                self.refuses(setting, "is not a positive rate", **settings)
            for strange in ("10", None, True):
                settings = {setting: strange}
                problem = f"{strange!r} is not a number of times per second"
                self.refuses(setting, problem, **settings)

    def test_only_chat_may_have_no_rate(self) -> None:
        self.assertEqual(NodeConfig(chat_rate=0).chat_rate, 0)
        for setting in ("link_rate", "gossip_rate"):
            settings: dict[str, Any] = {setting: 0}
            self.refuses(setting, "0 is not a positive rate", **settings)

    def test_a_peer_is_asked_before_it_is_dropped(self) -> None:
        NodeConfig(maintenance_interval=15, peer_timeout=15.1)
        for timeout in (15, 14.9):
            self.refuses(
                "peer_timeout",
                f"{timeout:g} must be more than maintenance_interval (15)",
                maintenance_interval=15,
                peer_timeout=timeout,
            )


class TextTests(ConfigTestCase):
    """Names, IDs and addresses."""

    def test_id(self) -> None:
        self.assertEqual(NodeConfig(id="x" * 64).id, "x" * 64)
        for id in ("", "x" * 65, "a b", "a:b", "PING", "DUPLICATE"):
            self.refuses("id", repr(id), id=id)

    def test_name(self) -> None:
        self.assertEqual(NodeConfig(name="x" * 64).name, "x" * 64)
        self.assertEqual(NodeConfig(name="Ann: PING").name, "Ann: PING")
        for name in ("", "x" * 65, " ann", "ann ", "a\nb", "\x1b[31m"):
            self.refuses("name", repr(name), name=name)

    def test_mesh(self) -> None:
        for mesh in ("", "x" * 64, "lab 3: hot", "\u8679"):
            self.assertEqual(NodeConfig(mesh=mesh).mesh, mesh)
        for mesh in ("x" * 65, " ", " lab", "lab ", "a\nb", "\x1b[31m", "\udcff"):
            self.refuses("mesh", repr(mesh), mesh=mesh)
        for other in (None, b"lab", 7):
            self.refuses("mesh", f"{other!r} is not a text", mesh=other)

    def test_bootstrap(self) -> None:
        """Read in the order given, each address once in whatever spelling."""
        settings = NodeConfig(
            bootstrap=(
                "b.example:8001",
                "a.example:8001",
                "B.example.:08001",
                "tls:mesh.example.org:8001",
                "[0::1]:8001",
                "[::1]:8001",
            )
        )
        self.assertEqual(
            settings.bootstrap_targets(),
            (
                PeerAddress("b.example", 8001),
                PeerAddress("a.example", 8001),
                EndpointTarget("tls:mesh.example.org:8001"),
                PeerAddress("::1", 8001),
            ),
        )

    def test_bad_bootstrap(self) -> None:
        self.refuses("bootstrap", "'b' has no port", bootstrap=("a:1", "b"))
        self.refuses("bootstrap", "not one text", bootstrap="a:1")

    def test_interface(self) -> None:
        for interface in ("127.0.0.1", "::", "0.0.0.0", "fe80::1%eth0"):
            self.assertEqual(NodeConfig(interface=interface).interface, interface)
        self.refuses("interface", "'a b'", interface="a b")
        self.refuses("interface", "''", interface="")

    def test_listen_or_interface(self) -> None:
        self.assertEqual(NodeConfig(listen="tcp:8001").listen, "tcp:8001")
        self.refuses("listen", "interface", listen="tcp:8001", interface="::1")


class ProtocolTests(ConfigTestCase):
    """What a node speaks."""

    def test_any_of_them_in_any_order(self) -> None:
        for protocols in (
            ("mesh/1",),
            ("mesh/2",),
            ("mesh/1", "mesh/2"),
            ("mesh/2", "mesh/1"),
        ):
            self.assertEqual(NodeConfig(protocols=protocols).protocols, protocols)

    def test_bad_ones(self) -> None:
        for protocols in ((), "mesh/1", ["mesh/1"], None, {"mesh/1"}):
            self.refuses("protocols", "is not a tuple of", protocols=protocols)
        for unknown in ("mesh/3", "MESH/1", "", None, 1):
            problem = f"{unknown!r} is not mesh/2 or mesh/1"
            self.refuses("protocols", problem, protocols=("mesh/1", unknown))
        twice = ("mesh/1", "mesh/2", "mesh/1")
        self.refuses("protocols", "mesh/1 comes twice", protocols=twice)


class MeshNameTests(ConfigTestCase):
    def test_only_mesh2_has_one(self) -> None:
        self.refuses(
            "mesh",
            "a mesh has a name on mesh/2 only",
            mesh="kitchen",
            protocols=("mesh/1",),
        )
        for protocols in (("mesh/2",), ("mesh/1", "mesh/2")):
            NodeConfig(mesh="kitchen", protocols=protocols)


class HeaderTests(ConfigTestCase):
    """What a node tells of itself for the application."""

    def test_keys(self) -> None:
        for key in ("a", "x" * 64, "Content-Type", "a.b_c-1"):
            self.assertEqual(NodeConfig(headers={key: "v"}).headers, {key: "v"})
        for other in ("", "x" * 65, "a b", "a:b", "a\n", "\n", "caf\xe9", "a/b"):
            problem = (
                "the key of a header is 1 to 64 ASCII letters, digits, dots, "
                f"underscores and hyphens, not {other[:40]!a}"
            )
            self.refuses("headers", problem, headers={other: "v"})

    def test_values(self) -> None:
        for value in ("", " ", "a: b", "x" * 1000, "two\nlines", "\u8679 \U0001f600"):
            self.assertEqual(NodeConfig(headers={"k": value}).headers, {"k": value})
        problem = "the header k has a lone surrogate"
        self.refuses("headers", problem, headers={"k": "\udcff"})

    def test_keys_and_values_are_texts(self) -> None:
        for key, value in (("k", b"v"), ("k", None), ("k", 7), (7, "v"), (b"k", "v")):
            problem = f"the header {key!r}: {value!r} is not text"
            self.refuses("headers", problem, headers={key: value})

    def test_how_many(self) -> None:
        headers = {f"key-{number}": "" for number in range(64)}
        self.assertEqual(NodeConfig(headers=headers).headers, headers)
        headers["more"] = ""
        self.refuses("headers", "65 headers are more than 64", headers=headers)

    def test_how_many_bytes(self) -> None:
        """Of keys and values, in UTF-8."""
        most = {"a": "\xe9" * 2047, "b": ""}
        self.assertEqual(NodeConfig(headers=most).headers, most)
        for more in ({"a": "\xe9" * 2047, "bb": ""}, {"a": "\xe9" * 2047, "b": "b"}):
            size = sum(len((key + value).encode()) for key, value in more.items())
            problem = f"headers of {size} bytes are more than 4096"
            self.refuses("headers", problem, headers=more)

    def test_no_mapping(self) -> None:
        for headers in (None, "a", [("a", "b")], ()):
            self.refuses("headers", "is not a mapping of texts", headers=headers)

    def test_the_settings_have_a_copy_that_nobody_changes(self) -> None:
        given = {"role": "cook"}
        settings = NodeConfig(headers=given)
        given["role"] = "guest"
        given["more"] = "x"
        self.assertEqual(dict(settings.headers), {"role": "cook"})
        self.assertEqual(repr(settings.headers), "{'role': 'cook'}")
        with self.assertRaises(TypeError):
            settings.headers["role"] = "guest"  # type: ignore[index]
        self.assertRaises(KeyError, settings.headers.__getitem__, "more")

    def test_settings_are_compared_hashed_and_copied(self) -> None:
        one = NodeConfig(headers={"a": "1", "b": "2"})
        other = NodeConfig(headers={"b": "2", "a": "1"})
        self.assertEqual((one, hash(one)), (other, hash(other)))
        self.assertNotEqual(one, NodeConfig(headers={"a": "1"}))
        for again in (deepcopy(one), pickle.loads(pickle.dumps(one)), replace(one)):
            self.assertEqual(again, one)
        self.assertEqual(replace(one, port=1).headers, {"a": "1", "b": "2"})


class AdvertiseTests(ConfigTestCase):
    """The address that peers are told, where a node cannot see it itself."""

    def test_nothing(self) -> None:
        self.assertIsNone(NodeConfig().advertised())

    def test_a_host(self) -> None:
        for text, host in (
            ("Mesh.example.org", "mesh.example.org"),
            ("192.0.2.7", "192.0.2.7"),
            ("2001:DB8::1", "2001:db8::1"),
        ):
            self.assertEqual(NodeConfig(advertise=text).advertised(), (host, None))

    def test_a_host_and_a_port(self) -> None:
        for text, host in (
            ("Mesh.example.org:9000", "mesh.example.org"),
            ("192.0.2.7:9000", "192.0.2.7"),
            ("[2001:DB8::1]:9000", "2001:db8::1"),
        ):
            self.assertEqual(NodeConfig(advertise=text).advertised(), (host, 9000))

    def test_neither(self) -> None:
        for text in ("", "a b", "mesh:0", "mesh:65536", ":9000", "mesh:"):
            self.refuses("advertise", repr(text), advertise=text)
