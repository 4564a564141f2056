"""The settings: their defaults, their bounds, and what a bad one is told."""

from __future__ import annotations

import doctest
import math
from dataclasses import FrozenInstanceError, fields
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
    "max_peers": 20,
    "discovery_interval": 30.0,
    "maintenance_interval": 15.0,
    "connection_timeout": 10.0,
    "peer_timeout": 60.0,
    "probe_timeout": 3.0,
    "stop_timeout": 2.0,
    "max_line": 16_384,
    "max_handshake_line": 512,
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
