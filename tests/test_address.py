"""Addresses: what is one, in which spelling, and whose it is."""

from __future__ import annotations

import doctest
from ipaddress import IPv4Address, IPv6Address

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from meshproto.errors import AddressError
from meshproto.wire import address
from meshproto.wire.address import (
    MAX_PORT,
    EndpointTarget,
    PeerAddress,
    Target,
    ip_of,
    is_loopback,
    normal_host,
    parse_target,
)

LABELS = st.from_regex(r"[a-z_][a-z0-9_-]{0,62}", fullmatch=True)
NAMES = st.lists(LABELS, min_size=1, max_size=3).map(".".join)
HOSTS = st.one_of(
    st.ip_addresses().map(str).map(normal_host),
    st.just("fe80::1%eth0"),
    NAMES,
)
PORTS = st.integers(1, MAX_PORT)
ADDRESSES = st.builds(PeerAddress, HOSTS, PORTS)
#: Texts made of what addresses are made of, which come close to being one.
CLOSE = st.lists(
    st.one_of(
        st.sampled_from([":", "::", "[", "]", "%", ".", "-", "localhost", "0x7f"]),
        st.sampled_from(["8001", "0", "65536", "127.0.0.1", "::ffff:", "fe80::1"]),
        st.text(max_size=3),
    )
).map("".join)


class DocumentationTests(SynchronousTestCase):
    """The examples in the docstrings."""

    def test_examples(self) -> None:
        results = doctest.testmod(address)
        self.assertEqual(results.failed, 0)
        self.assertGreater(results.attempted, 0)


class HostTests(SynchronousTestCase):
    """Every host has one spelling."""

    def test_normal_spelling(self) -> None:
        for text, expected in (
            ("localhost", "localhost"),
            ("LocalHost", "localhost"),
            ("node.Example.ORG.", "node.example.org"),
            ("my_box", "my_box"),
            ("a-b", "a-b"),
            ("0xcafe.example", "0xcafe.example"),
            ("10.0.0.1", "10.0.0.1"),
            ("2001:DB8:0:0::1", "2001:db8::1"),
            ("0:0:0:0:0:0:0:1", "::1"),
            ("::ffff:10.0.0.1", "10.0.0.1"),
            ("::FFFF:0a00:0001", "10.0.0.1"),
            ("fe80::1%eth0.100", "fe80::1%eth0.100"),
        ):
            self.assertEqual(normal_host(text), expected)

    def test_not_a_host(self) -> None:
        for text in (
            "",
            ".",
            "..",
            "a..b",
            "a..",
            ".a",
            "-a",
            "a.-b",
            "a b",
            " a",
            "a\n",
            "a:b",
            "a/b",
            "bücher.example",
            "[::1]",
            "fe80::1%",
            "fe80::1%eth0,10.0.0.1",
            "fe80::1%\x1b[2J",
            "fe80::1%a]",
        ):
            self.assertRaises(AddressError, normal_host, text)

    def test_a_name_that_ends_in_a_number_is_none(self) -> None:
        """Resolvers would read it as IPv4, in a spelling that we cannot judge."""
        for text in (
            "1",
            "2130706433",
            "127.1",
            "010.0.0.1",
            "256.0.0.1",
            "1.2.3.4.",
            "node.7",
            "0x7f000001",
            "0X7F.0.0.0x1",
            "127.0x1",
            "node.0x",
        ):
            self.assertRaises(AddressError, normal_host, text)

    def test_length_of_a_label(self) -> None:
        label = "a" * 63
        self.assertEqual(normal_host(label), label)
        self.assertEqual(normal_host(f"{label}.{label}"), f"{label}.{label}")
        self.assertRaises(AddressError, normal_host, label + "a")
        self.assertRaises(AddressError, normal_host, f"b.{label}a")

    def test_length_of_a_name(self) -> None:
        longest = ".".join(["a" * 63] * 3 + ["b" * 61])
        self.assertEqual(len(longest), 253)
        self.assertEqual(normal_host(longest), longest)
        self.assertRaises(AddressError, normal_host, longest + "b")

    def test_ip_of_a_literal(self) -> None:
        self.assertEqual(ip_of("10.0.0.1"), IPv4Address("10.0.0.1"))
        self.assertEqual(ip_of("2001:db8::1"), IPv6Address("2001:db8::1"))
        self.assertEqual(ip_of("::ffff:10.0.0.1"), IPv4Address("10.0.0.1"))

    def test_a_name_has_no_ip(self) -> None:
        for name in ("localhost", "example.org", "", "10.0.0", "[::1]"):
            self.assertIsNone(ip_of(name))

    @given(HOSTS)
    def test_the_normal_spelling_is_its_own(self, host: str) -> None:
        self.assertEqual(normal_host(normal_host(host)), normal_host(host))

    @given(NAMES)
    def test_case_does_not_matter(self, name: str) -> None:
        self.assertEqual(normal_host(name.upper()), normal_host(name))

    @given(st.ip_addresses(v=4))
    def test_ipv4_inside_ipv6_is_ipv4(self, ip: IPv4Address) -> None:
        self.assertEqual(normal_host(f"::ffff:{ip}"), str(ip))


class LoopbackTests(SynchronousTestCase):
    """Which hosts mean "this machine" to whoever hears them."""

    def test_loopback_in_every_spelling(self) -> None:
        for host in (
            "localhost",
            "node.localhost",
            "localhost.localdomain",
            "localhost4",
            "localhost4.localdomain4",
            "localhost6",
            "localhost6.localdomain6",
            "ip6-localhost",
            "ip6-loopback",
            "127.0.0.0",
            "127.0.0.1",
            "127.255.255.255",
            "::1",
            "0:0:0:0:0:0:0:1",
            "::ffff:127.0.0.1",
        ):
            self.assertTrue(is_loopback(host), host)

    def test_other_hosts(self) -> None:
        for host in (
            "126.255.255.255",
            "128.0.0.0",
            "0.0.0.0",
            "10.0.0.1",
            "::",
            "::2",
            "::ffff:10.0.0.1",
            "fe80::1",
            "localhost.example.org",
            "mylocalhost",
            "nas.localdomain",
            "example.org",
        ):
            self.assertFalse(is_loopback(host), host)


class PeerAddressTests(SynchronousTestCase):
    """``host:port``, whole or not at all."""

    def test_parse(self) -> None:
        for text, host, port in (
            ("localhost:8001", "localhost", 8001),
            ("LOCALHOST:8001", "localhost", 8001),
            ("example.org.:8001", "example.org", 8001),
            ("10.0.0.1:1", "10.0.0.1", 1),
            ("10.0.0.1:65535", "10.0.0.1", 65535),
            ("10.0.0.1:00080", "10.0.0.1", 80),
            ("[::1]:8001", "::1", 8001),
            ("[2001:DB8::0:1]:8001", "2001:db8::1", 8001),
            ("[::ffff:10.0.0.1]:8001", "10.0.0.1", 8001),
            ("[fe80::1%eth0]:8001", "fe80::1%eth0", 8001),
        ):
            self.assertEqual(PeerAddress.parse(text), PeerAddress(host, port), text)

    def test_not_an_address_and_why(self) -> None:
        """The error names the text and the fault, in one line."""
        for text, fault in (
            ("", "has no port"),
            ("localhost", "has no port"),
            (":", "has no host"),
            (":8001", "has no host"),
            ("localhost:", "no valid port number"),
            ("localhost:http", "no valid port number"),
            ("localhost:+80", "no valid port number"),
            ("localhost:-1", "no valid port number"),
            ("localhost: 80", "no valid port number"),
            ("localhost:80 ", "no valid port number"),
            ("localhost:8_0", "no valid port number"),
            ("localhost:٨٠", "no valid port number"),
            ("localhost:000080", "no valid port number"),
            ("localhost:100000", "no valid port number"),
            ("localhost:0", "not between 1 and 65535"),
            ("localhost:65536", "not between 1 and 65535"),
            ("::1:8001", "needs brackets"),
            ("a:b:8001", "needs brackets"),
            ("[::1]", "has no port"),
            ("[]:8001", "no IPv6 address in its brackets"),
            ("[localhost]:8001", "no IPv6 address in its brackets"),
            ("[10.0.0.1]:8001", "no IPv6 address in its brackets"),
            ("[::1:8001", "needs brackets"),
            ("::1]:8001", "needs brackets"),
            ("my host:8001", "not a host name"),
            ("0x7f000001:8001", "not a host name"),
            ("http//x:8001", "not a host name"),
        ):
            error = self.assertRaises(AddressError, PeerAddress.parse, text)
            self.assertIn(fault, str(error))
            self.assertIn(repr(text), str(error))
            self.assertNotIn("\n", str(error))

    def test_brackets_round_ipv6_only(self) -> None:
        self.assertEqual(str(PeerAddress("::1", 80)), "[::1]:80")
        self.assertEqual(str(PeerAddress("10.0.0.1", 80)), "10.0.0.1:80")
        self.assertEqual(str(PeerAddress("example.org", 80)), "example.org:80")

    def test_only_the_normal_spelling_can_be_made(self) -> None:
        for host in ("LocalHost", "example.org.", "0::1", "::ffff:10.0.0.1", "", "a b"):
            self.assertRaises(AddressError, PeerAddress, host, 8001)

    def test_of_takes_any_spelling(self) -> None:
        self.assertEqual(PeerAddress.of("EXAMPLE.org.", 80).host, "example.org")
        self.assertEqual(PeerAddress.of("0:0::1", 80).host, "::1")
        self.assertRaises(AddressError, PeerAddress.of, "a b", 80)

    def test_bounds_of_the_port(self) -> None:
        for port in (1, MAX_PORT):
            self.assertEqual(PeerAddress("localhost", port).port, port)
            self.assertEqual(PeerAddress.of("localhost", port).port, port)
        for port in (-1, 0, MAX_PORT + 1):
            self.assertRaises(AddressError, PeerAddress, "localhost", port)
            self.assertRaises(AddressError, PeerAddress.of, "localhost", port)

    def test_one_address_in_two_spellings_is_equal(self) -> None:
        one = PeerAddress.parse("[2001:db8::1]:8001")
        other = PeerAddress.parse("[2001:0DB8:0::01]:08001")
        self.assertEqual(one, other)
        self.assertEqual(hash(one), hash(other))

    def test_is_frozen(self) -> None:
        with self.assertRaises(AttributeError):
            PeerAddress("localhost", 80).port = 81  # type: ignore[misc]

    @given(ADDRESSES)
    @example(PeerAddress("::", 1))
    @example(PeerAddress("fe80::1%eth0", MAX_PORT))
    def test_round_trip(self, address: PeerAddress) -> None:
        """What is written is read again as the same address."""
        self.assertEqual(PeerAddress.parse(str(address)), address)

    @given(st.one_of(st.text(), CLOSE))
    @example("[::1%\x00]:1")
    @example("\ud800:1")
    def test_parse_gives_an_address_or_an_address_error(self, text: str) -> None:
        try:
            address = PeerAddress.parse(text)
        except AddressError:
            return
        self.assertEqual(PeerAddress.parse(str(address)), address)
        # Such a text stands in a list of the wire: no separator may be in it.
        self.assertTrue(str(address).isprintable())
        self.assertNotIn(",", str(address))
        self.assertNotIn(" ", str(address))


class TargetTests(SynchronousTestCase):
    """What a user may dial."""

    def test_endpoint_strings(self) -> None:
        for text in (
            "tls:mesh.example.org:8001",
            "unix:/run/mesh.sock",
            "onion:abcdef.onion:8001",
            "tcp:host=localhost:port=8001",
            "tcp6::8001",
        ):
            target = parse_target(text)
            self.assertEqual(target, EndpointTarget(text))
            self.assertEqual(str(target), text)

    def test_addresses(self) -> None:
        for text, expected in (
            ("localhost:8001", PeerAddress("localhost", 8001)),
            ("tls:8001", PeerAddress("tls", 8001)),
            ("Example.org:8001", PeerAddress("example.org", 8001)),
            ("[::1]:8001", PeerAddress("::1", 8001)),
        ):
            self.assertEqual(parse_target(text), expected)

    def test_neither(self) -> None:
        """IPv6 without brackets is a slip, not an endpoint string."""
        for text in ("", "localhost", "unix", "fe80::1", "dead:beef::1:8001", ":8001"):
            self.assertRaises(AddressError, parse_target, text)

    def test_targets_tell_themselves_apart(self) -> None:
        targets: set[Target] = {
            EndpointTarget("tls:a:1"),
            EndpointTarget("tls:a:1"),
            EndpointTarget("tls:b:1"),
            PeerAddress("a", 1),
        }
        self.assertEqual(len(targets), 3)

    @given(ADDRESSES)
    def test_every_address_is_a_target(self, address: PeerAddress) -> None:
        self.assertEqual(parse_target(str(address)), address)

    @given(st.one_of(st.text(), CLOSE))
    def test_nothing_but_address_errors(self, text: str) -> None:
        try:
            target = parse_target(text)
        except AddressError:
            return
        self.assertEqual(parse_target(str(target)), target)
