"""What hostile peers, and a machine, try by too much of everything: every case once.

A case takes a stage and how hard it tries, and returns an `Outcome` with what
was measured; what of it is good enough is for the caller to say.
"""

from __future__ import annotations

import random
import resource
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress

from lab.attackers import (
    KiB,
    Meter,
    MiB,
    Outcome,
    Pourers,
    Reader,
    Stage,
    close_all,
    join,
    open_descriptors,
    pour,
)
from lab.daemons import PATIENCE, Daemon, Wire, free_ports

# Floods


def flood(
    stage: Stage,
    *,
    command: str,
    total: int,
    reads: bool,
    flooders: int = 1,
    patience: float = PATIENCE,
    **settings: float,
) -> Outcome:
    """One command as fast as it goes, by peers that read the answers or do not."""
    node = stage.node(**settings)
    how = "reading" if reads else "not reading"
    who = "peer" if flooders == 1 else "peers"
    with stage.watch(f"{command} flood, {flooders} {who} {how}", node) as outcome:
        # What there is to be told of.
        ports = free_ports(18 - flooders)
        company = [stage.greet(node, f"peer-{port}:p{port}") for port in ports]
        wires = [
            stage.rough_peer(node, f"loud-{number}", 4 * MiB if reads else 4 * KiB)
            for number in range(flooders)
        ]
        sent = received = cut = 0
        slowest = 0.0
        lock = threading.Lock()

        def run(wire: Wire) -> None:
            nonlocal sent, received, cut, slowest
            exchange = pour(
                wire, f"{command}\n".encode(), total, reads=reads, patience=patience
            )
            with lock:
                sent += exchange.sent
                received += exchange.received
                cut += exchange.cut
                slowest = max(slowest, exchange.seconds)

        threads = [threading.Thread(target=run, args=(wire,)) for wire in wires]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for wire in wires:
            wire.close()
        close_all([each.socket for each in company])
        outcome.cut_after = slowest if cut else None
        outcome.seen = {
            "MB sent": sent / 1e6,
            "MB answered": received / 1e6,
            "bytes out per byte in": received / sent,
            "cut": cut,
        }
    outcome.seen["slow consumer"] = node.logged("(slow consumer)")
    return outcome


def _lines_of_all_lengths() -> bytes:
    """From 1 to 16 384 bytes, as many short ones as long ones are rare."""
    dice = random.Random(5)
    lengths = [1, 16_384, *(int(2 ** dice.uniform(0, 14)) for _ in range(500))]
    dice.shuffle(lengths)
    return b"".join(b"z" * length + b"\n" for length in lengths)


#: What floods are made of, by how their lines are.
LINES = {
    "one-letter": b"x\n" * 32_768,
    "two-letter": b"xy\n" * 21_845,
    "mixed": _lines_of_all_lengths(),
    "ordinary": (b"y" * 63 + b"\n") * 1024,
}


#: What else peers can send without end.
COMMANDS = {
    "PING": b"PING\n" * 10_000,
    "REQUEST_PEERS": b"REQUEST_PEERS\n" * 5000,
    "PEERS": b"PEERS:"
    + b",".join(b"198.51.100.%d:9999" % n for n in range(100))
    + b"\n",
}


def stopping(stage: Stage, *, flooders: int, what: str, reads: bool) -> Outcome:
    """A node is stopped in the midst of a flood."""
    node = stage.node(max_peers=flooders)
    how = "reading" if reads else "not reading"
    outcome = Outcome(f"stop in a flood of {what}, {flooders} peers {how}")
    wires = [stage.greet(node, f"loud-{each}:loud") for each in range(flooders)]
    pourers = Pourers(wires, {**LINES, **COMMANDS}[what], reads=reads)
    try:
        # Until every queue on the way is full.
        time.sleep(1.0)
        outcome.seen["stopped after s"] = _time_to_stop(node)
    finally:
        pourers.close()
    return outcome


def stopping_among_visitors(stage: Stage) -> Outcome:
    """A node is stopped while one after the other comes and goes."""
    node = stage.node()
    outcome = Outcome("stop while peers come and go as fast as they can")
    stopped = False

    def come_and_go() -> None:
        number = 0
        while not stopped:
            number += 1
            with suppress(OSError):
                with socket.create_connection(("127.0.0.1", node.port), 1) as link:
                    link.sendall(b"visitor-%d:visitor\n" % number)
                    link.recv(100)

    thread = threading.Thread(target=come_and_go)
    thread.start()
    try:
        time.sleep(1.0)
        outcome.seen["stopped after s"] = _time_to_stop(node)
    finally:
        stopped = True
        thread.join()
    return outcome


def _time_to_stop(node: Daemon) -> float:
    began = time.monotonic()
    node.send_signal(signal.SIGTERM)
    node.process.wait(PATIENCE)
    return time.monotonic() - began


def chat_flood(stage: Stage, *, flooders: int, lines: str, seconds: float) -> Outcome:
    """Chat as fast as it goes, beside a peer whose lines are ordinary.

    What that one gets rid of is compared with its share beside as many peers of
    its own kind.  At last the node is stopped while the flood goes on.
    """
    seats = flooders + 4
    alike = stage.node(max_peers=seats)
    rates = _rates(stage, alike, ["ordinary"] * (flooders + 1), seconds)
    alike.kill()
    node = stage.node(max_peers=seats)
    who = "peer" if flooders == 1 else "peers"
    with ExitStack() as floods:
        with stage.watch(f"{lines} lines, {flooders} {who}", node) as outcome:
            kinds = [lines] * flooders + ["ordinary"]
            *others, steady = _rates(stage, node, kinds, seconds, floods)
            share = sum(rates) / len(rates)
            outcome.seen = {
                "MB/s of a flooder": sum(others) / flooders / 1e6,
                "of an ordinary peer": steady / 1e6,
                "times its share": steady / share,
            }
        outcome.seen["stopped after s"] = _time_to_stop(node)
    node.read()
    outcome.seen["log KB/s"] = len(node.raw) / seconds / 1e3
    return outcome


def _rates(
    stage: Stage,
    node: Daemon,
    kinds: Sequence[str],
    seconds: float,
    floods: ExitStack | None = None,
) -> list[float]:
    """Bytes a second that each of these peers gets rid of, all at once.

    They go on until ``floods`` is closed, where that is given.
    """
    with ExitStack() as at_once:
        pourers = []
        for kind in dict.fromkeys(kinds):
            wires = [
                stage.greet(node, f"{kind}-{number}:{kind}")
                for number in range(kinds.count(kind))
            ]
            pourers.append(Pourers(wires, LINES[kind]))
            (floods or at_once).callback(pourers[-1].close)
        # The first megabytes of each are taken by the kernel.
        time.sleep(1.0)
        before = [sent for each in pourers for sent in each.sent]
        began = time.monotonic()
        time.sleep(seconds)
        after = [sent for each in pourers for sent in each.sent]
        spent = time.monotonic() - began
    return [(now - then) / spent for now, then in zip(after, before, strict=True)]


def stuck_reader(
    stage: Stage,
    *,
    speed: float | None,
    count: int,
    size: int,
    gap: str,
    runs: int = 1,
    readers: int = 4,
    **settings: float,
) -> Outcome:
    """The application talks to all; one of them reads slowly, or not at all.

    ``speed`` is in bytes per second.  Each run is made twice, with and without
    that peer.
    """
    node = stage.node(**settings)
    how = f"reads {speed:g} B/s" if speed else "stops reading"
    pace = {"drain": "at the pace of drain()", "0": "as fast as it goes"}
    name = f"peer that {how}; {count} x {size} B {pace.get(gap, f'each 32 in {gap} s')}"
    with stage.watch(name, node) as outcome:
        others = [
            Reader(stage.greet(node, f"reader-{each}:reader-{each}"))
            for each in range(readers)
        ]
        honest = stage.honest(node.port, "speaker")

        def talk() -> float:
            for other in others:
                other.ended_at = None
            began = time.monotonic()
            honest.say(f"flood {count} {size} {gap}")
            stage.until(
                lambda: all(other.ended_at or other.is_cut for other in others),
                "end of the talk",
            )
            return max(other.ended_at or 0.0 for other in others) - began

        alone, beside, cut_after = [], [], []
        for run in range(runs):
            alone.append(talk())
            stuck = stage.rough_peer(node, f"stuck-{run}", 4 * KiB)
            slow = Reader(stuck, speed) if speed else None
            began = time.monotonic()
            beside.append(talk())
            reason = "(slow consumer)"
            # What has not been cut, has been told all; nobody waits for more.
            with suppress(AssertionError):
                at = stage.until_logged(node, reason, times=run + 1)
                cut_after.append(at - began)
            if slow is not None:
                slow.close()
            stuck.close()
        for other in others:
            other.close()
        honest.finish()
        outcome.cut_after = max(cut_after, default=None)
        expected = list(range(count)) * (2 * runs)
        outcome.seen = {
            "others lost": sum(len(expected) - len(other.numbers) for other in others),
            "others in order": all(other.numbers == expected for other in others),
            "s without it": sorted(alone)[runs // 2],
            "s with it": sorted(beside)[runs // 2],
            "throughput kept": sorted(alone)[runs // 2] / sorted(beside)[runs // 2],
            "cut": len(cut_after),
        }
    return outcome


# The machine


def descriptors(
    stage: Stage, *, limit: int, connections: int, seconds: float, greets: bool
) -> Outcome:
    """More connections than the process may have."""
    node = stage.node(max_peers=4 * connections)
    kind = "peers" if greets else "silent links"
    with stage.watch(f"{connections} {kind}, {limit} descriptors", node) as outcome:
        before = open_descriptors(node)
        resource.prlimit(node.pid, resource.RLIMIT_NOFILE, (limit, limit))
        links = []
        for number in range(connections):
            with suppress(OSError):
                link = socket.create_connection(("127.0.0.1", node.port), PATIENCE)
                links.append(link)
                if greets:
                    link.sendall(b"many-%d:x\n" % number)
        stage.until(lambda: open_descriptors(node) >= limit - 2, "exhaustion")
        meter = Meter(node.pid)
        # What the node takes in this time is what is measured.
        time.sleep(seconds)
        _, work, spent = meter.read()
        held = open_descriptors(node)
        close_all(links)
        began = time.monotonic()
        stage.until(lambda: open_descriptors(node) <= before, "free descriptors")
        freed = time.monotonic() - began
        joined = join(node)
        outcome.seen = {
            "CPU % while exhausted": 100 * work / spent,
            "descriptors": held,
            "free again after s": freed,
            "then joins in s": joined,
        }
    return outcome


#: How a daemon can be unable to write its log, as the shell says it.
LOGS = {
    "stdout is /dev/full": "> /dev/full 2>&1",
    "stdout is closed": ">&-",
    "stdout and stderr are closed": ">&- 2>&-",
    "stdout is a pipe without a reader": "> >(exec true)",
}


def useless_log(stage: Stage, *, kind: str, seconds: float) -> Outcome:
    """The node has nowhere to log to."""
    return _log_much(stage, stage.mute_node(LOGS[kind]), kind, seconds)


def full_disk(stage: Stage, *, seconds: float) -> Outcome:
    """The node logs to a disk that is full.  This takes root, for the disk."""
    disk = stage.folder / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(disk)]
    subprocess.run(mount, check=True)
    try:
        node = stage.mute_node("", "--logfile", str(disk / "log"))
        outcome = _log_much(stage, node, "log file on a full disk", seconds)
        outcome.seen["bytes free"] = shutil.disk_usage(disk).free
        node.kill()
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)
    return outcome


def _log_much(stage: Stage, node: Daemon, case: str, seconds: float) -> Outcome:
    with stage.watch(case, node) as outcome:
        began = time.monotonic()
        while time.monotonic() < began + seconds:
            bad = stage.connect(node)
            bad.say("PING\n")
            bad.rest()
            stage.greet(node, "visitor:visitor").close()
            # The attacker leaves the node some of the processor.
            time.sleep(0.01)
    outcome.seen = {"runs": node.process.poll() is None, "joins in s": join(node)}
    return outcome
