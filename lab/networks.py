"""Real networks on one machine: a namespace for each host.

A `Lab` is a `Fleet` whose daemons live on hosts of its own: network namespaces
with cables, switches, routers with NAT, and links that are slow or lose frames.
A namespace has no name and no file, it lasts as long as the process that holds
it; and every process of a lab is killed with the one that made the lab.  So
nothing is left behind, however a test ends.

Needs Linux, root, ``ip`` and ``nft``; `missing` tells what is not there.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import functools
import heapq
import json
import os
import random
import re
import select
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeVar

from twisted.logger import globalLogBeginner, textFileLogObserver
from twisted.python.runtime import platform

from lab.daemons import PATIENCE, Daemon, Fleet, Prompt
from lab.terminals import ROOT, environment
from meshproto import MeshNode
from meshproto.run.options import MeshOptions
from meshproto.run.process import set_clock
from meshproto.run.service import MeshService

_TWISTD = "from twisted.scripts.twistd import run; run()"
_CAME = re.compile(r"\[NETWORK\] (?:Peer|Connected to peer) (\S+) .*\([0-9]+/")
_WENT = re.compile(
    r"(?:\[NETWORK\] Peer|\[MAINTENANCE\] Removed stale peer) "
    r"(\S+) (?:disconnected|\(timeout\))"
)
#: In the kernel's words: open, or closed at one end only.
_OPEN = frozenset({"01", "04", "05", "08", "09", "0B"})
#: With the process that made the lab everything ends that it started.
_MORTAL = ("setpriv", "--pdeathsig", "KILL", "--")
_TOOLS = ("ip", "nft", "tc", "unshare", "nsenter", "setpriv", "sleep")

_PROBES = {
    "a cable": "ip link add near type veth peer name far",
    "a switch": "ip link add switch type bridge",
    "NAT": """
        test -e /proc/sys/net/netfilter/nf_conntrack_tcp_loose && nft -f - <<RULES
            table ip nat {
                chain postrouting {
                    type nat hook postrouting priority 100
                    oifname "eth0" masquerade
                }
            }
RULES""",
    "a firewall": """
        nft -f - <<RULES
            table ip filter {
                chain output {
                    type filter hook output priority 0
                    ip daddr 10.0.0.1 drop
                }
            }
RULES""",
    "a slow device": "tc qdisc add dev lo root tbf rate 1mbit burst 16kb latency 1s",
    "a TAP device": "ip tuntap add dev tap mode tap",
}

#: What a case has measured: the name of each figure with its unit, and the figure.
Figures = dict[str, float]
HostType = TypeVar("HostType", bound="Host")


@functools.cache
def missing(feature: str) -> str | None:
    """Why this machine cannot have such a thing in a namespace; None if it can."""
    if not platform.isLinux():
        return "network namespaces are a thing of Linux"
    if os.geteuid() != 0:
        return "network namespaces are made by root"
    for tool in _TOOLS:
        if shutil.which(tool) is None:
            return f"the command {tool} is not installed"
    probe = ["unshare", "--net", "sh", "-c", _PROBES[feature]]
    done = subprocess.run(probe, capture_output=True, text=True)
    if done.returncode == 0:
        return None
    return f"no namespace with {feature} can be made: {done.stderr.strip()}"


class Link(NamedTuple):
    """What a `Lab.slow_switch` does to every frame; times in seconds.

    A frame that draws a short delay overtakes one that drew a long one.
    """

    delay: float
    jitter: float = 0.0
    loss: float = 0.0
    seed: int = 1


class Host:
    """A network namespace, and what can be plugged into it.

    ``address`` is the last that it was given, without the length of its prefix.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.address = ""
        self._ports = 0
        self._holder = subprocess.Popen(
            [*_MORTAL, "unshare", "--net", "sleep", "infinity"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        ours = os.readlink("/proc/self/ns/net")
        while self._holder.poll() is None:
            self.namespace = os.readlink(f"/proc/{self.pid}/ns/net")
            if self.namespace != ours:
                break
            # The kernel tells nobody when a process has entered its namespace.
            time.sleep(0.001)
        else:
            assert self._holder.stderr is not None
            problem = self._holder.stderr.read().decode().strip()
            self.close()
            raise OSError(f"no network namespace: {problem}")
        self.run("ip", "link", "set", "lo", "up")
        # The one that every kernel has, and that minds loss the most.
        self.setting("ipv4/tcp_congestion_control", "reno")

    @property
    def pid(self) -> int:
        return self._holder.pid

    def command(self, *command: str) -> list[str]:
        """The command, made to run on this host."""
        return [*_MORTAL, "nsenter", f"--net=/proc/{self.pid}/ns/net", "--", *command]

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Let this thread be on the host: a socket stays where it was made."""
        with open("/proc/thread-self/ns/net") as home:
            _enter(self.pid)
            try:
                yield
            finally:
                _set_namespace(home.fileno())

    def run(self, *command: str, stdin: str = "") -> str:
        """Run a command on this host to its end; returns what it wrote."""
        done = subprocess.run(
            self.command(*command), input=stdin, capture_output=True, text=True
        )
        if done.returncode:
            raise OSError(f"{self.name}: {' '.join(command)}: {done.stderr.strip()}")
        return done.stdout

    def address_add(self, device: str, address: str) -> None:
        """Give the host an address, such as ``10.0.0.1/24``."""
        flags = ["nodad"] if ":" in address else []
        self.run("ip", "address", "add", address, "dev", device, *flags)
        self.address = address.partition("/")[0]

    def address_remove(self, device: str, address: str) -> None:
        self.run("ip", "address", "del", address, "dev", device)

    def gateway(self, address: str) -> None:
        """Send what is for elsewhere to a router."""
        self.run("ip", "route", "replace", "default", "via", address)

    def up(self, device: str) -> None:
        self.run("ip", "link", "set", device, "up")

    def down(self, device: str) -> None:
        self.run("ip", "link", "set", device, "down")

    def setting(self, name: str, value: object) -> None:
        """Write one of the kernel's settings of this namespace."""
        path = f"/proc/sys/net/{name}"
        self.run("sh", "-c", f"echo {value} > {path}")

    def counted(self, name: str) -> int:
        """One of the kernel's counts of TCP events, such as ``ActiveOpens``."""
        rows = [
            line.split()
            for line in Path(f"/proc/{self.pid}/net/snmp").read_text().splitlines()
            if line.startswith("Tcp:")
        ]
        return int(dict(zip(*rows, strict=True))[name])

    def filter(self, rules: str) -> None:
        """Add firewall rules, in the language of ``nft``."""
        self.run("nft", "-f", "-", stdin=rules)

    def drop_to(self, *addresses: str) -> None:
        """Let nothing leave for these addresses; they still reach this host."""
        drops = "\n".join(f"ip daddr {address} drop" for address in addresses)
        self.filter(
            "table inet oneway {\n chain output {\n"
            f"type filter hook output priority 0\n{drops}\n}}\n}}\n"
        )

    def drop_nothing(self) -> None:
        """Take back `drop_to`."""
        self.run("nft", "delete", "table", "inet", "oneway")

    def rate(self, device: str, rate: str) -> None:
        """Let no more than that, such as ``1mbit``, out of a device."""
        shape = ["rate", rate, "burst", "16kb", "latency", "400ms"]
        self.run("tc", "qdisc", "add", "dev", device, "root", "tbf", *shape)

    def new_port(self) -> str:
        """A name for one more device."""
        self._ports += 1
        return f"eth{self._ports - 1}"

    def close(self) -> None:
        self._holder.kill()
        self._holder.wait()
        if self._holder.stderr is not None:
            self._holder.stderr.close()


class Switch(Host):
    """A host that is one bridge."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.run("ip", "link", "add", "switch", "type", "bridge")
        self.up("switch")

    def attach(self, device: str) -> None:
        self.run("ip", "link", "set", device, "master", "switch")
        self.up(device)


class Router(Host):
    """A host that hides a network behind its one address, as at people's homes.

    ``eth0`` is outside, ``eth1`` inside.  A connection that it does not know
    is dropped without a word in both directions, or answered with a reset
    where ``resets``.
    """

    def masquerade(self, *, resets: bool = False) -> None:
        self.setting("ipv4/ip_forward", 1)
        # Of a connection that it has forgotten it knows nothing.
        self.setting("netfilter/nf_conntrack_tcp_loose", 0)
        verdict = "reject with tcp reset" if resets else "drop"
        self.filter(
            f"""
            table ip nat {{
                chain postrouting {{
                    type nat hook postrouting priority 100
                    oifname "eth0" masquerade
                }}
                chain forward {{
                    type filter hook forward priority 0
                    ct state invalid drop
                    ct state established,related accept
                    iifname "eth1" accept
                    drop
                }}
                chain input {{
                    type filter hook input priority 0
                    ct state established,related accept
                    iifname "eth0" meta l4proto tcp {verdict}
                    iifname "eth0" drop
                }}
            }}
            """
        )

    def forget_after(self, seconds: int) -> None:
        """Forget connections that are idle for so long."""
        for state in ("established", "unacknowledged"):
            self.setting(f"netfilter/nf_conntrack_tcp_timeout_{state}", seconds)


class Lab(Fleet):
    """Hosts, cables and daemons on them; all of it ends with the lab.

    ``patience`` is how long a wait may take before it is a failure.
    """

    def __init__(self, patience: float = PATIENCE) -> None:
        super().__init__()
        self.hosts: list[Host] = []
        self.on: dict[Daemon, Host] = {}
        self._patience = patience

    def __enter__(self) -> Self:
        return self

    # The network

    def host(self, name: str) -> Host:
        return self._kept(Host(name))

    def switch(self, name: str) -> Switch:
        return self._kept(Switch(name))

    def router(self, name: str) -> Router:
        return self._kept(Router(name))

    def cable(self, one: Host, other: Host) -> tuple[str, str]:
        """Connect two hosts; returns the devices that are its ends."""
        near, far = one.new_port(), other.new_port()
        ends = ["ip", "link", "add", near, "netns", str(one.pid), "type", "veth"]
        ends += ["peer", "name", far, "netns", str(other.pid)]
        subprocess.run(ends, check=True, capture_output=True)
        one.up(near)
        other.up(far)
        return near, far

    def plug(self, host: Host, switch: Switch, address: str = "") -> tuple[str, str]:
        """Connect a host to a switch; returns the devices, the host's first."""
        near, far = self.cable(host, switch)
        switch.attach(far)
        if address:
            host.address_add(near, address)
        return near, far

    def hosts_on(self, switch: Switch, *addresses: str) -> list[Host]:
        """A host for each address, all on one switch, called n0, n1 and so on."""
        hosts = []
        for number, address in enumerate(addresses):
            host = self.host(f"n{number}")
            self.plug(host, switch, address)
            hosts.append(host)
        return hosts

    def slow_switch(self, link: Link, hosts: Sequence[Host]) -> SlowSwitch:
        """Connect hosts by a switch on which every frame takes its time."""
        switch = SlowSwitch(link, hosts)
        self._stack.callback(switch.close)
        return switch

    # The daemons

    def node(
        self,
        host: Host,
        *options: object,
        name: str | None = None,
        port: int = 8001,
        bootstrap: Sequence[str] = (),
        variables: Sequence[str] = (),
    ) -> Daemon:
        """Launch ``twistd meshnode`` on a host, with the host's name.

        ``variables`` of its environment look like ``NAME=value``.
        """
        twistd = [sys.executable, "-c", _TWISTD, "-n", "--pidfile=", "meshnode"]
        twistd += ["--port", str(port), *_joining(bootstrap), *map(str, options)]
        return self._put(Daemon, host, name, twistd, variables)

    def speaker(
        self,
        host: Host,
        *options: object,
        name: str | None = None,
        port: int = 8001,
        bootstrap: Sequence[str] = (),
        variables: Sequence[str] = (),
    ) -> Daemon:
        """Launch ``meshproto`` on a host; what is typed there all peers hear."""
        prompt = [sys.executable, "-m", "meshproto", str(port)]
        prompt += [*_joining(bootstrap), *map(str, options)]
        return self._put(Prompt, host, name, prompt, variables)

    def crier(self, host: Host, *options: object, port: int = 8001) -> Daemon:
        """Launch a node that says what is typed at once, however much waits.

        A prompt would read on when its peers have taken what it said.
        """
        crier = [sys.executable, "-m", "lab.networks", "--port", str(port)]
        return self._put(Daemon, host, None, [*crier, *map(str, options)], ())

    def ear(self, host: Host | None, address: str, port: int = 8001) -> Ear:
        """A peer that the test speaks for, on a host or else on this machine."""
        place = contextlib.nullcontext() if host is None else host.entered()
        with place:
            ear = Ear(socket.create_connection((address, port), self._patience))
        self._stack.callback(ear.close)
        return ear

    def dials(self, daemon: Daemon) -> int:
        """How many connections were begun on the host of a daemon, ever."""
        return self.on[daemon].counted("ActiveOpens")

    def until(
        self,
        condition: Callable[[], object],
        what: str,
    ) -> float:
        """Wait until the condition holds; returns when that was."""
        deadline = time.monotonic() + self._patience
        while True:
            for daemon in self.daemons:
                daemon.read()
            now = time.monotonic()
            if condition():
                return now
            if now > deadline:
                raise AssertionError(
                    f"in {self._patience:g} s there was no {what}\n{self.logs()}"
                )
            # Other processes log when they like: their files are looked at again.
            time.sleep(0.01)

    def until_full(self, daemons: Sequence[Daemon]) -> float:
        """Wait until each has all others for peers, and one connection for each."""
        return self.until(lambda: is_mesh(daemons), "full mesh")

    def until_heard(
        self, said: Sequence[str], speaker: Daemon, hearers: Sequence[Daemon]
    ) -> float:
        """Wait until the last of what was said has been heard by everybody."""
        last = f"[{speaker.name}] {said[-1]}"
        return self.until(
            lambda: all(daemon.logged(last) for daemon in hearers),
            f"line {last!r} with everybody",
        )

    def rest(self, seconds: float) -> None:
        """Let time pass: the network between the daemons has no clock to set."""
        time.sleep(seconds)
        for daemon in self.daemons:
            daemon.read()

    def _put(
        self,
        kind: type[Daemon],
        host: Host,
        name: str | None,
        command: Sequence[str],
        variables: Sequence[str],
    ) -> Daemon:
        name = host.name if name is None else name
        command = ["env", *variables, *command, "--name", name]
        daemon = self._launch(kind, name, host.command(*command))
        self.on[daemon] = host
        return daemon

    def _kept(self, host: HostType) -> HostType:
        self._stack.callback(host.close)
        self.hosts.append(host)
        return host


class SlowSwitch:
    """A switch in a process of its own, which holds every frame for a while."""

    def __init__(self, link: Link, hosts: Sequence[Host]) -> None:
        self.frames = 0
        self.lost = 0
        devices = [(host.pid, host.new_port()) for host in hosts]
        self._process = subprocess.Popen(
            [*_MORTAL, sys.executable, "-m", "lab.networks"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment(),
            cwd=ROOT,
            text=True,
        )
        self._say({"link": link, "devices": devices})
        if self._heard() != "ready":
            self.close()
            raise OSError("the slow switch did not start")
        for host, (_, device) in zip(hosts, devices, strict=True):
            host.up(device)

    def count(self) -> None:
        """Note how many frames have been taken, and how many of them lost."""
        self._say("count")
        self.frames, self.lost = json.loads(self._heard())

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def _say(self, words: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(words) + "\n")
        self._process.stdin.flush()

    def _heard(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


class Frames:
    """The inside of a `SlowSwitch`: TAP devices, and frames that wait."""

    def __init__(self, link: Link, devices: Sequence[tuple[int, str]]) -> None:
        self.taken = 0
        self.lost = 0
        self._link = link
        self._random = random.Random(link.seed)
        self._taps = [_open_tap(pid, name) for pid, name in devices]
        self._behind: dict[bytes, int] = {}
        self._waiting: list[tuple[float, int, int, bytes]] = []

    def run(self) -> None:
        """Pass frames on until standard input ends."""
        while True:
            ready, _, _ = select.select([0, *self._taps], [], [], self._pause())
            for tap in ready:
                if tap != 0:
                    self._take(tap)
                elif not self._answer():
                    return
            self._deliver()

    def _pause(self) -> float | None:
        if not self._waiting:
            return None
        return max(0.0, self._waiting[0][0] - time.monotonic())

    def _answer(self) -> bool:
        asked = os.read(0, 100)
        if asked:
            os.write(1, f"[{self.taken}, {self.lost}]\n".encode())
        return bool(asked)

    def _take(self, tap: int) -> None:
        with contextlib.suppress(BlockingIOError):
            for _ in range(64):
                frame = os.read(tap, 65536)
                receiver, sender = frame[:6], frame[6:12]
                self._behind[sender] = tap
                only = self._behind.get(receiver)
                for other in self._taps if only is None else [only]:
                    if other != tap:
                        self._hold(other, frame)

    def _hold(self, tap: int, frame: bytes) -> None:
        self.taken += 1
        if self._random.random() < self._link.loss:
            self.lost += 1
            return
        spread = self._random.uniform(-self._link.jitter, self._link.jitter)
        due = time.monotonic() + self._link.delay + spread
        heapq.heappush(self._waiting, (due, self.taken, tap, frame))

    def _deliver(self) -> None:
        now = time.monotonic()
        while self._waiting and self._waiting[0][0] <= now:
            _, _, tap, frame = heapq.heappop(self._waiting)
            try:
                os.write(tap, frame)
            except OSError:  # the device is down, or full
                self.lost += 1


class Ear:
    """A peer that a test speaks for: it answers, and notes what it hears when.

    ``pings`` are the times at which a PING came, ``waits`` how long each PONG
    took, ``chat`` all else that was said.
    """

    def __init__(self, connection: socket.socket) -> None:
        self.pings: list[float] = []
        self.waits: list[float] = []
        self.chat: list[str] = []
        self.welcome = ""
        self.is_open = True
        self._asked: deque[float] = deque()
        self._unread = b""
        self._socket = connection
        self._say("ear:ear")

    def ping(self) -> None:
        """Ask for a PONG."""
        self._asked.append(time.monotonic())
        self._say("PING")

    def listen(self) -> None:
        """Take what has arrived."""
        while self.is_open and select.select([self._socket], [], [], 0)[0]:
            data = self._socket.recv(65536)
            self.is_open = bool(data)
            *lines, self._unread = (self._unread + data).split(b"\n")
            for line in lines:
                self._hear(line.decode())

    def close(self) -> None:
        self._socket.close()

    def _hear(self, line: str) -> None:
        if not self.welcome:
            self.welcome = line
        elif line == "PING":
            self.pings.append(time.monotonic())
            self._say("PONG")
        elif line == "PONG":
            # It answers every PING before it.
            if self._asked:
                self.waits.append(time.monotonic() - self._asked[0])
                self._asked.clear()
        elif line != "REQUEST_PEERS":
            self.chat.append(line)

    def _say(self, line: str) -> None:
        self._socket.sendall(line.encode() + b"\n")


def came(daemon: Daemon) -> Counter[str]:
    """How many times each peer came, by its name."""
    return _counted(daemon, _CAME)


def went(daemon: Daemon) -> Counter[str]:
    """How many times each peer went, by its name."""
    return _counted(daemon, _WENT)


def peers(daemon: Daemon) -> list[str]:
    """The names of its peers, sorted; one of two hosts stands there twice."""
    return sorted((came(daemon) - went(daemon)).elements())


def connections(daemon: Daemon) -> int:
    """How many TCP connections a daemon holds, as its kernel tells."""
    held = set()
    with contextlib.suppress(OSError):
        for entry in os.scandir(f"/proc/{daemon.pid}/fd"):
            with contextlib.suppress(OSError):
                held.add(os.readlink(entry.path))
    count = 0
    for table in ("tcp", "tcp6"):
        path = Path(f"/proc/{daemon.pid}/net/{table}")
        for line in path.read_text().splitlines()[1:]:
            words = line.split()
            count += words[3] in _OPEN and f"socket:[{words[9]}]" in held
    return count


def is_mesh(daemons: Sequence[Daemon]) -> bool:
    """Whether each has all others for peers, and one connection for each."""
    for daemon in daemons:
        others = sorted(each.name for each in daemons if each is not daemon)
        if peers(daemon) != others or connections(daemon) != len(others):
            return False
    return True


def messages(count: int, size: int = 0) -> list[str]:
    """Lines of chat that can be told apart, of at least that many bytes."""
    return [f"message {number} ".ljust(size, ".") + "!" for number in range(count)]


def say(speaker: Daemon, lines: Sequence[str]) -> None:
    """Type lines at a prompt."""
    speaker.type("\n".join(lines))


def heard(daemon: Daemon, speaker: Daemon) -> list[str]:
    """What a daemon has heard from a speaker, in that order."""
    head = f"[{speaker.name}] "
    return [line[len(head) :] for line in daemon.lines if line.startswith(head)]


def _counted(daemon: Daemon, pattern: re.Pattern[str]) -> Counter[str]:
    labels = (found[1] for line in daemon.lines if (found := pattern.match(line)))
    # Of two that have one name it says where they are, too.
    return Counter(label.partition("@")[0] for label in labels)


def _joining(addresses: Sequence[str]) -> list[str]:
    return [word for address in addresses for word in ("--bootstrap", address)]


def _open_tap(pid: int, name: str) -> int:
    """A new TAP device in the namespace of a process."""
    _enter(pid)
    tap = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    request = struct.pack("16sH22x", name.encode(), _IFF_TAP | _IFF_NO_PI)
    fcntl.ioctl(tap, _TUNSETIFF, request)
    return tap


def _enter(pid: int) -> None:
    with open(f"/proc/{pid}/ns/net") as namespace:
        _set_namespace(namespace.fileno())


def _set_namespace(descriptor: int) -> None:
    if ctypes.CDLL(None, use_errno=True).setns(descriptor, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


_CLONE_NEWNET = 0x40000000
_IFF_TAP, _IFF_NO_PI, _TUNSETIFF = 0x0002, 0x1000, 0x400454CA


def _switch() -> None:
    """Be the process of a `SlowSwitch`."""
    asked = json.loads(sys.stdin.readline())
    frames = Frames(Link(*asked["link"]), asked["devices"])
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    frames.run()


def _cry(arguments: Sequence[str]) -> None:
    """Be a node that broadcasts each line of its input."""
    from twisted.internet import reactor

    running: Any = reactor
    options = MeshOptions()
    options.parseOptions(arguments)
    set_clock(running, time.monotonic)
    node = MeshNode(options.config, reactor=running)
    globalLogBeginner.beginLoggingTo([textFileLogObserver(sys.stdout)])
    MeshService(node, debug=bool(options["debug"])).startService()

    def read() -> None:
        for line in sys.stdin:
            running.callFromThread(node.broadcast, line.rstrip("\n"))

    threading.Thread(target=read, daemon=True).start()
    running.run()


if __name__ == "__main__":
    if sys.argv[1:]:
        _cry(sys.argv[1:])
    else:
        _switch()
