"""Nodes of the package p2pnetwork: a thread for each connection."""

from __future__ import annotations

import time
from importlib import import_module
from typing import Any

from bench.stage import HOST, Stage, Tally, send_in_a_loop

Node: Any = import_module("p2pnetwork.node").Node


def sender(stage: Stage) -> None:
    linked: list[object] = []

    def on_event(event: str, node: object, peer: object, data: object) -> None:
        if event == "inbound_node_connected":
            linked.append(peer)
            if len(linked) == stage.peers:
                stage.tell(linked=True)

    node = Node(HOST, 0, "sender", on_event)
    node.start()
    stage.tell(address=f"{HOST}:{node.sock.getsockname()[1]}")
    stage.serve_here(send_in_a_loop(stage, node.send_to_nodes))


def receivers(stage: Stage) -> None:
    def play(number: int, tally: Tally) -> None:
        def on_event(event: str, node: object, peer: object, data: str) -> None:
            if event != "node_message":
                pass
            elif stage.timed:
                tally.timed(data)
            else:
                tally.one()

        node = Node(HOST, 0, f"receiver{number}", on_event)
        node.start()
        while not node.connect_with_node(HOST, stage.port()):
            time.sleep(0.1)

    for number, tally in enumerate(stage.tallies):
        play(number, tally)
    stage.tell(ready=True)
    stage.serve_here()
