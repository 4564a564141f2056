"""ZeroMQ's PUB and SUB sockets; its core is in C and has threads of its own.

The queues have no high-water mark, because a publisher drops what is above it.
XPUB is the same publisher, and tells of everybody who has subscribed.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from bench.stage import HOST, Stage, send_in_a_loop

zmq: Any = import_module("zmq")


def sender(stage: Stage) -> None:
    publisher = zmq.Context().socket(zmq.XPUB)
    publisher.sndhwm = 0
    publisher.xpub_verbose = True
    port = publisher.bind_to_random_port(f"tcp://{HOST}")
    stage.tell(address=f"{HOST}:{port}")
    for _ in range(stage.peers):
        publisher.recv()
    stage.tell(linked=True)
    stage.serve_here(send_in_a_loop(stage, lambda text: publisher.send(text.encode())))


def receivers(stage: Stage) -> None:
    context = zmq.Context()
    counts: dict[Any, Any] = {}
    for tally in stage.tallies:
        subscriber = context.socket(zmq.SUB)
        subscriber.rcvhwm = 0
        subscriber.subscribe(b"")
        subscriber.connect(f"tcp://{stage.address}")
        counts[subscriber] = tally
    stage.serve()
    stage.tell(ready=True)
    if stage.nodes == 1:
        ((subscriber, tally),) = counts.items()
        while True:
            text = subscriber.recv()
            if stage.timed:
                tally.timed(text)
            else:
                tally.one()
    poller = zmq.Poller()
    for subscriber in counts:
        poller.register(subscriber, zmq.POLLIN)
    while True:
        for subscriber, _ in poller.poll():
            tally = counts[subscriber]
            try:
                while True:
                    text = subscriber.recv(zmq.NOBLOCK)
                    if stage.timed:
                        tally.timed(text)
                    else:
                        tally.one()
            except zmq.Again:
                pass
