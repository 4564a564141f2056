"""Nodes of the package zeromq-pyre.

A node drops its peer when more than some thousand messages wait, and does not
say how many do.  So every receiver tells the sender of each `STEP` messages, and
the sender is never further ahead than `WINDOW`.
"""

from __future__ import annotations

import ipaddress
import itertools
import os
import uuid
from importlib import import_module
from typing import Any

from bench.stage import HOST, Stage, send_in_a_loop

zmq: Any = import_module("zmq")
zbeacon: Any = import_module("pyre.zbeacon")
Pyre: Any = import_module("pyre").Pyre

GROUP = "bench"
STEP = 200
WINDOW = 800


def stay_on_loopback(beacon: Any) -> None:
    """Choose the interface: nodes shall not be heard outside of this machine."""
    beacon.address = beacon.network_address = ipaddress.IPv4Address(HOST)
    beacon.broadcast_address = ipaddress.IPv4Address("127.255.255.255")
    beacon.interface_name = "loopback"


zbeacon.ZBeacon._prepare_socket = stay_on_loopback


def node(name: str, beacon_port: int) -> Any:
    made = Pyre(name)
    made.set_port(str(beacon_port).encode())
    made.join(GROUP)
    made.start()
    return made


def sender(stage: Stage) -> None:
    beacon_port = 20000 + os.getpid() % 10000
    alice = node("sender", beacon_port)
    stage.tell(address=f"{HOST}:{beacon_port}")
    told: dict[bytes, int] = {}
    said = itertools.count(1)

    def listen() -> None:
        kind, peer, *rest = alice.recv()
        if kind == b"JOIN" and peer not in told:
            told[peer] = 0
        elif kind == b"WHISPER":
            told[peer] += STEP

    while len(told) < stage.peers:
        listen()
    stage.tell(linked=True)

    def say(text: str) -> None:
        number = next(said)
        while number - min(told.values()) > WINDOW:
            listen()
        alice.shouts(GROUP, text)

    stage.serve_here(send_in_a_loop(stage, say))


def receivers(stage: Stage) -> None:
    nodes = [node(f"receiver{number}", stage.port()) for number in range(stage.nodes)]
    poller = zmq.Poller()
    at = {each.socket(): each for each in nodes}
    tallies = dict(zip(at, stage.tallies, strict=True))
    heard = dict.fromkeys(at, 0)
    linked: dict[Any, set[bytes]] = {socket: set() for socket in at}
    for socket in at:
        poller.register(socket, zmq.POLLIN)
    stage.serve()
    is_ready = False
    while True:
        for socket, _ in poller.poll():
            kind, peer, name, *rest = at[socket].recv()
            if kind == b"SHOUT":
                heard[socket] += 1
                if not heard[socket] % STEP:
                    at[socket].whispers(uuid.UUID(bytes=peer), "taken")
                if stage.timed:
                    tallies[socket].timed(rest[1])
                else:
                    tallies[socket].one()
            elif kind == b"JOIN" and name == b"sender":
                linked[socket].add(peer)
                if not is_ready and all(linked.values()):
                    is_ready = True
                    stage.tell(ready=True)
