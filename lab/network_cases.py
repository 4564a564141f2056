"""Real daemons on real networks: NAT, cuts, loss, narrow links, changed addresses.

Each case is a function that builds its network in a `Lab`, plays, and returns
what it measured.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from lab.daemons import Daemon
from lab.networks import (
    Figures,
    Host,
    Lab,
    Link,
    Router,
    Switch,
    came,
    connections,
    heard,
    is_mesh,
    messages,
    peers,
    say,
    went,
)

#: Daemons that lose patience soon, with each other and not with the machine.
QUICK: Sequence[object] = (
    *("--maintenance-interval", 1),
    *("--peer-timeout", 4),
    *("--discovery-interval", 2),
    *("--connection-timeout", 2),
)
#: The same, with time for some retransmissions.
PATIENT: Sequence[object] = (*QUICK, "--peer-timeout", 20)
#: The same, with nothing to say but PING.
TERSE: Sequence[object] = (*QUICK, "--discovery-interval", 3600)
#: The same, with a PING later than a forgetful router remembers.
FORGOTTEN: Sequence[object] = (
    *TERSE,
    *("--maintenance-interval", 4),
    *("--peer-timeout", 5),
)

HUB = "198.51.100.1"


def homes_behind_nat(
    lab: Lab,
    options: Sequence[object] = QUICK,
    watched: float = 5,
    *,
    neighbours: bool = True,
) -> Figures:
    """Two homes with the same private addresses, and a public node.

    One of the routers drops what it does not know, the other one refuses it.
    The second node of each home is told of its neighbour only, or else of the
    public node only.
    """
    internet = lab.switch("internet")
    hub = public_hub(lab, internet, options)
    insiders = []
    for name, external, resets in (("a", 10, False), ("b", 20, True)):
        inside = lab.switch(f"home-{name}")
        external_address = f"198.51.100.{external}/24"
        gateway(lab, internet, inside, external_address, resets=resets)
        first, second = (
            insider(lab, inside, f"{name}{number}", f"192.168.1.{number + 1}/24")
            for number in (1, 2)
        )
        insiders.append(lab.speaker(first, *options, bootstrap=[f"{HUB}:8001"]))
        near = f"{first.address if neighbours else HUB}:8001"
        insiders.append(lab.node(second, *options, port=8002, bootstrap=[near]))
    a1, a2, b1, b2 = insiders
    expected = {hub: insiders, a1: [a2, hub], a2: [a1, hub]}
    expected |= {b1: [b2, hub], b2: [b1, hub]}
    if not neighbours:
        expected |= {each: [hub] for each in insiders}

    def is_joined() -> bool:
        return all(
            peers(daemon) == sorted(other.name for other in others)
            and connections(daemon) == len(others)
            for daemon, others in expected.items()
        )

    listening = lab.until_listening(*expected)
    joined = lab.until(is_joined, "link of everybody to whom there is a way")
    wrong = sum(
        chat(lab, speaker, expected[speaker], messages(100))[1]
        for speaker in (hub, a1, b1)
    )
    before = {daemon: lab.dials(daemon) for daemon in expected}
    lab.rest(watched)
    dials = [lab.dials(daemon) - before[daemon] for daemon in expected]
    assert is_joined(), lab.logs()
    strangers = {a1: (b1, b2), a2: (b1, b2), b1: (a1, a2), b2: (a1, a2)}
    return {
        "joined after (s)": joined - listening,
        "links across the NATs": sum(
            came(one)[other.name] for one in strangers for other in strangers[one]
        ),
        "messages wrong": wrong,
        "peers lost": losses(expected),
        "dials until joined": sum(before.values()),
        "dials a minute later on, all five": sum(dials) * 60 / watched,
        "by the busiest": max(dials) * 60 / watched,
    }


def partition(lab: Lab, options: Sequence[object] = QUICK, apart: float = 2) -> Figures:
    """Two and two nodes, of which the cable between them is pulled, and put back.

    ``apart`` is how long it stays so after all have noticed.
    """
    daemons, cut = two_sides(lab, options)
    cut()
    began = time.monotonic()

    def is_split() -> bool:
        return is_mesh(daemons[:2]) and is_mesh(daemons[2:])

    split = lab.until(is_split, "mesh on each side")
    before = {daemon: lab.dials(daemon) for daemon in daemons}
    lab.rest(apart)
    assert is_split(), lab.logs()
    dials = [lab.dials(daemon) - before[daemon] for daemon in daemons]
    cut(heal=True)
    healed = time.monotonic()
    full = lab.until_full(daemons)
    _, wrong = chat(lab, daemons[0], daemons[1:], messages(100))
    return {
        "the other side dropped after (s)": split - began,
        "apart for (s)": healed - began,
        "dials meanwhile, by the busiest": max(dials),
        "full mesh after the heal (s)": full - healed,
        "peers lost by each": losses(daemons) / len(daemons),
        "messages wrong": wrong,
    }


def short_cut(
    lab: Lab, options: Sequence[object] = PATIENT, seconds: float = 3
) -> Figures:
    """The same cable is pulled for less than the peer timeout, during a chat."""
    daemons, cut = two_sides(lab, options)
    cut()
    lines = messages(100)
    say(daemons[0], lines)
    began = time.monotonic()
    lab.rest(seconds)
    across = len(heard(daemons[2], daemons[0])) + len(heard(daemons[3], daemons[0]))
    assert across == 0, lab.logs()
    cut(heal=True)
    healed = time.monotonic()
    arrived = lab.until_heard(lines, daemons[0], daemons[1:])
    wrong = sum(heard(each, daemons[0]) != lines for each in daemons[1:])
    lab.until_full(daemons)
    return {
        "cut for (s)": healed - began,
        "what was said meanwhile is there after (s)": arrived - healed,
        "listeners that missed any": wrong,
        "peers lost": losses(daemons),
    }


def one_way(lab: Lab, options: Sequence[object] = QUICK) -> Figures:
    """What n1 sends to n0 vanishes; everything else gets through."""
    switch = lab.switch("switch")
    hosts = lab.hosts_on(switch, *line_of(3))
    daemons = start(lab, hosts, options)
    lab.until_full(daemons)
    n0, n1, n2 = daemons
    hosts[1].drop_to(hosts[0].address)
    began = time.monotonic()
    dropped = lab.until(
        lambda: went(n0)["n1"] and went(n1)["n0"], "end of the link of n0 and n1"
    )
    lab.rest(1)
    assert peers(n0) == peers(n1) == ["n2"], lab.logs()
    hosts[1].drop_nothing()
    healed = time.monotonic()
    full = lab.until_full(daemons)
    _, wrong = chat(lab, n0, [n1, n2], messages(100))
    return {
        "dropped by both after (s)": dropped - began,
        "full mesh after the heal (s)": full - healed,
        "peers lost by the two": losses([n0, n1]),
        "by the third": losses([n2]),
        "messages wrong": wrong,
    }


def namesakes(
    lab: Lab, options: Sequence[object] = QUICK, watched: float = 5
) -> Figures:
    """Two nodes with the default port behind one NAT, and a public one.

    They speak ``mesh/1``.  For the public node they have one ID and one host, so they
    are one to it.
    """
    options = (*options, "--protocol", "mesh/1")
    internet, inside = lab.switch("internet"), lab.switch("home")
    gateway(lab, internet, inside, "198.51.100.10/24")
    hub = public_hub(lab, internet, options)
    hosts = [
        insider(lab, inside, f"a{number}", f"192.168.1.{number + 1}/24")
        for number in (1, 2)
    ]
    first = lab.speaker(hosts[0], *options, bootstrap=[f"{HUB}:8001"])
    lab.until(lambda: is_mesh([hub, first]), "link")
    given = [f"{HUB}:8001", f"{hosts[0].address}:8001"]
    second = lab.node(hosts[1], *options, bootstrap=given)
    lab.until(lambda: peers(first) == ["a2", "hub"], "link of the neighbours")
    lab.rest(watched)
    assert peers(hub) == ["a1"], lab.logs()
    _, wrong = chat(lab, first, [hub, second], messages(100))
    return {
        "the second one refused as DUPLICATE, times": second.logged(
            "it still has a link to this node"
        ),
        f"its dials in {watched:g} s": lab.dials(second),
        "peers lost": losses([hub, first, second]),
        "messages of the first one wrong": wrong,
    }


def forgetful_nat(
    lab: Lab, options: Sequence[object] = FORGOTTEN, memory: int = 2
) -> Figures:
    """A router that forgets a connection before anything is said on it again."""
    hub, inside, _ = behind_one_nat(lab, options, memory)
    began = time.monotonic()
    dropped = lab.until(lambda: losses([hub]) and losses([inside]), "end of the link")
    again = lab.until(lambda: is_mesh([hub, inside]), "link")
    return {
        "dropped by both after (s)": dropped - began,
        "linked again after (s)": again - dropped,
        "peers lost by each": max(losses([hub]), losses([inside])),
    }


def kept_nat(
    lab: Lab,
    options: Sequence[object] = TERSE,
    memory: int = 3,
    seconds: float = 8,
) -> Figures:
    """The same router remembers for longer than the time between two PINGs."""
    hub, inside, _ = behind_one_nat(lab, options, memory)
    lab.rest(seconds)
    assert is_mesh([hub, inside]), lab.logs()
    return {
        "watched (s)": seconds,
        "peers lost": losses([hub, inside]),
        "connections begun from inside": lab.dials(inside),
    }


def router_restart(lab: Lab, options: Sequence[object] = QUICK) -> Figures:
    """A router that loses all that it knows, as at a restart."""
    hub, inside, router = behind_one_nat(lab, options)
    router.down("eth0")
    router.up("eth0")
    began = time.monotonic()
    dropped = lab.until(lambda: losses([hub]) and losses([inside]), "end of the link")
    again = lab.until(lambda: is_mesh([hub, inside]), "link")
    _, wrong = chat(lab, hub, [inside], messages(100))
    return {
        "dropped by both after (s)": dropped - began,
        "linked again after (s)": again - dropped,
        "peers lost by each": max(losses([hub]), losses([inside])),
        "messages wrong": wrong,
    }


def lossy(
    lab: Lab, options: Sequence[object] = PATIENT, count: int = 2000, seed: int = 1
) -> Figures:
    """50 ms +- 5 ms each way and 3 % loss between every two of three nodes.

    Every message has 200 bytes.
    """
    hosts = [lab.host(f"n{number}") for number in range(3)]
    link = Link(delay=0.05, jitter=0.005, loss=0.03, seed=seed)
    network = lab.slow_switch(link, hosts)
    for host, address in zip(hosts, line_of(3), strict=True):
        host.address_add("eth0", address)
    daemons = start(lab, hosts, options, prompts=True)
    listening = time.monotonic()
    full = lab.until_full(daemons)
    took, wrong = chat(lab, daemons[0], daemons[1:], messages(count, 200))
    network.count()
    return {
        "full mesh after (s)": full - listening,
        f"{count} messages of 200 bytes with everybody after (s)": took,
        "messages wrong": wrong,
        "peers lost": losses(daemons),
        "frames": network.frames,
        "of them lost": network.lost,
    }


def narrow(
    lab: Lab,
    options: Sequence[object] = QUICK,
    count: int = 700,
    rate: str = "1mbit",
) -> Figures:
    """A node says at once what its uplink carries in several peer timeouts.

    Every message has 1000 bytes, and goes to two peers.
    """
    switch = lab.switch("switch")
    hosts = lab.hosts_on(switch, *line_of(3))
    hosts[0].rate("eth0", rate)
    n0 = lab.crier(hosts[0], *options)
    lab.until_listening(n0)
    ear = lab.ear(hosts[1], hosts[0].address)
    n2 = lab.speaker(hosts[2], *options, bootstrap=[f"{hosts[0].address}:8001"])
    lab.until(lambda: peers(n0) == ["ear", "n2"] and peers(n2) == ["n0"], "links")
    lines = messages(count, 1000)
    began = asked = time.monotonic()
    say(n0, lines)

    def is_heard() -> bool:
        nonlocal asked
        ear.listen()
        if time.monotonic() > asked + 0.5:
            asked = time.monotonic()
            ear.ping()
        return n2.logged(f"[n0] {lines[-1]}") > 0 and lines[-1] in ear.chat

    ended = lab.until(is_heard, "last message")
    wrong = (heard(n2, n0) != lines) + (ear.chat != lines)
    return {
        f"{count} messages of 1000 bytes with both after (s)": ended - began,
        "listeners that missed any": wrong,
        "peers lost": losses([n0, n2]),
        "PONGs of the speaker meanwhile": len(ear.waits),
        "the slowest took (s)": max(ear.waits),
    }


def ipv6_only(lab: Lab, options: Sequence[object] = QUICK) -> Figures:
    """Three nodes where IPv4 does not exist, on loopback neither."""
    switch = lab.switch("switch")
    addresses = [f"fd00::{number + 1}/64" for number in range(3)]
    hosts = lab.hosts_on(switch, *addresses)
    for host in hosts:
        host.address_remove("lo", "127.0.0.1/8")
    daemons = start(lab, hosts, options)
    listening = time.monotonic()
    full = lab.until_full(daemons)
    _, wrong = chat(lab, daemons[0], daemons[1:], messages(100))
    return {
        "full mesh after (s)": full - listening,
        "messages wrong": wrong,
        "peers lost": losses(daemons),
    }


def moved(lab: Lab, options: Sequence[object] = QUICK, mover: int = 2) -> Figures:
    """A host loses its address and gets another one; its daemon goes on."""
    switch = lab.switch("switch")
    hosts = lab.hosts_on(switch, *line_of(3))
    daemons = start(lab, hosts, options)
    lab.until_full(daemons)
    host = hosts[mover]
    host.address_remove("eth0", f"{host.address}/24")
    host.address_add("eth0", "10.0.0.99/24")
    began = time.monotonic()
    stayed = [daemon for daemon in daemons if daemon is not daemons[mover]]

    def is_back() -> bool:
        return is_mesh(daemons) and all(
            came(daemon)[host.name] > 1 for daemon in stayed
        )

    back = lab.until(is_back, "full mesh with the new address")
    _, wrong = chat(lab, daemons[0], daemons[1:], messages(100))
    before = {daemon: lab.dials(daemon) for daemon in daemons}
    lab.rest(2)
    assert is_mesh(daemons), lab.logs()
    return {
        "full mesh with the new address after (s)": back - began,
        "peers lost by the one": losses([daemons[mover]]),
        "by the two others": losses(stayed),
        "messages wrong": wrong,
        "dials in 2 s after that, by the busiest": max(
            lab.dials(daemon) - before[daemon] for daemon in daemons
        ),
    }


def same_port(lab: Lab, options: Sequence[object] = QUICK) -> Figures:
    """Three hosts whose daemons all have the default port, ID and name."""
    switch = lab.switch("switch")
    hosts = lab.hosts_on(switch, *line_of(3))
    for host in hosts:
        host.name = "peer-8001"
    daemons = start(lab, hosts, options)
    listening = time.monotonic()
    full = lab.until_full(daemons)
    say(daemons[0], messages(100))
    # They are told apart by where they are.
    for daemon in daemons[1:]:
        lab.until_logged(daemon, "[peer-8001@10.0.0.1:8001] message", 100)
    return {
        "full mesh after (s)": full - listening,
        "peers lost": losses(daemons),
    }


def line_of(count: int) -> list[str]:
    """So many addresses on one network."""
    return [f"10.0.0.{number + 1}/24" for number in range(count)]


def start(
    lab: Lab, hosts: Sequence[Host], options: Sequence[object], *, prompts: bool = False
) -> list[Daemon]:
    """One daemon for each host; the first one is a prompt, and all join by it.

    With ``prompts`` all are: those show everything that they hear, and the log
    of a daemon leaves out most of a flood.
    """
    first, *others = hosts
    host = f"[{first.address}]" if ":" in first.address else first.address
    daemons = [lab.speaker(first, *options)]
    for other in others:
        launch = lab.speaker if prompts else lab.node
        daemons.append(launch(other, *options, bootstrap=[f"{host}:8001"]))
    lab.until_listening(*daemons)
    return daemons


def two_sides(lab: Lab, options: Sequence[object]) -> tuple[list[Daemon], Cable]:
    """A mesh of two and two nodes, and the cable between the two sides."""
    left, right = lab.switch("left"), lab.switch("right")
    near, far = lab.cable(left, right)
    left.attach(near)
    right.attach(far)
    hosts = []
    for number, address in enumerate(line_of(4)):
        host = lab.host(f"n{number}")
        lab.plug(host, left if number < 2 else right, address)
        hosts.append(host)
    daemons = start(lab, hosts, options)
    lab.until_full(daemons)
    return daemons, Cable(left, near)


class Cable:
    """What can be pulled out, and put back."""

    def __init__(self, host: Host, device: str) -> None:
        self._host = host
        self._device = device

    def __call__(self, *, heal: bool = False) -> None:
        if heal:
            self._host.up(self._device)
        else:
            self._host.down(self._device)


def public_hub(lab: Lab, internet: Switch, options: Sequence[object]) -> Daemon:
    """A prompt that everybody can reach."""
    host = lab.host("hub")
    lab.plug(host, internet, f"{HUB}/24")
    return lab.speaker(host, *options)


def gateway(
    lab: Lab, internet: Switch, inside: Switch, external: str, *, resets: bool = False
) -> Router:
    """A router between the internet and 192.168.1.0/24."""
    router = lab.router(f"router of {inside.name}")
    lab.plug(router, internet, external)
    lab.plug(router, inside, "192.168.1.1/24")
    router.masquerade(resets=resets)
    return router


def insider(lab: Lab, inside: Switch, name: str, address: str) -> Host:
    """A host behind a router."""
    host = lab.host(name)
    lab.plug(host, inside, address)
    host.gateway("192.168.1.1")
    return host


def behind_one_nat(
    lab: Lab, options: Sequence[object], memory: int | None = None
) -> tuple[Daemon, Daemon, Router]:
    """A public node and one behind a router, linked.

    ``memory`` is after how many idle seconds the router forgets a connection.
    """
    internet, inside = lab.switch("internet"), lab.switch("home")
    router = gateway(lab, internet, inside, "198.51.100.10/24")
    if memory is not None:
        router.forget_after(memory)
    hub = public_hub(lab, internet, options)
    host = insider(lab, inside, "inside", "192.168.1.2/24")
    daemon = lab.node(host, *options, port=8002, bootstrap=[f"{HUB}:8001"])
    lab.until(lambda: is_mesh([hub, daemon]), "link")
    return hub, daemon, router


def chat(
    lab: Lab, speaker: Daemon, hearers: Sequence[Daemon], lines: Sequence[str]
) -> tuple[float, int]:
    """Say something; returns how long it took to reach all, and what went wrong.

    A message is wrong that is missing, doubled or out of order.
    """
    old = {hearer: len(heard(hearer, speaker)) for hearer in hearers}
    began = time.monotonic()
    say(speaker, lines)
    ended = lab.until_heard(lines, speaker, hearers)
    wrong = 0
    for hearer in hearers:
        new = heard(hearer, speaker)[old[hearer] :]
        wrong += sum(one != other for one, other in zip(new, lines, strict=False))
        wrong += abs(len(new) - len(lines))
    return ended - began, wrong


def losses(daemons: Sequence[Daemon] | dict[Daemon, list[Daemon]]) -> int:
    """How many times a peer was lost, by all of them."""
    return sum(went(daemon).total() for daemon in daemons)
