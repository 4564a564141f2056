"""Nodes of meshproto, with an application that is told of every message."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet import reactor

from bench.contestants.on_twisted import run
from bench.stage import HOST, Stage, Tally, Turns
from meshproto import ChatReceived, ChatsReceived, Event, MeshNode, NodeConfig


def node(stage: Stage, name: str, bootstrap: tuple[str, ...] = ()) -> MeshNode:
    """A node as it comes, with seats for everybody."""
    return MeshNode(
        NodeConfig(
            port=0,
            interface=HOST,
            name=name,
            bootstrap=bootstrap,
            max_peers=max(NodeConfig().max_peers, stage.peers),
        )
    )


def sender(stage: Stage) -> None:
    alice = node(stage, "sender")

    def say(text: str, times: int) -> None:
        for _ in range(times):
            alice.broadcast(text)

    def when_taken(go_on: Callable[[], None]) -> None:
        alice.drain().addCallback(lambda _: go_on())

    def on_event(event: Event) -> None:
        if not linked and len(alice.peers()) == stage.peers:
            linked.append(True)
            stage.tell(linked=True)

    linked: list[bool] = []
    alice.subscribe(on_event)
    alice.start().addCallback(lambda _: stage.tell(address=f"{HOST}:{alice.port}"))
    run(stage, Turns(stage, reactor.callLater, say, when_taken).send)


def receivers(stage: Stage) -> None:
    """As nodes do, they find each other as well."""
    ready: set[MeshNode] = set()

    def play(number: int, tally: Tally) -> None:
        bob = node(stage, f"receiver{number}", (stage.address,))

        def on_chat(event: ChatReceived) -> None:
            tally.one()

        def on_run(event: ChatsReceived) -> None:
            for _ in event.texts:
                tally.one()

        def on_timed_chat(event: ChatReceived) -> None:
            tally.timed(event.text)

        def on_timed_run(event: ChatsReceived) -> None:
            for text in event.texts:
                tally.timed(text)

        def until_linked(event: Event) -> None:
            if len(bob.peers()) == stage.peers:
                unsubscribe()
                ready.add(bob)
                if len(ready) == stage.nodes:
                    stage.tell(ready=True)

        if stage.options.get("runs"):
            bob.subscribe(on_timed_run if stage.timed else on_run, ChatsReceived)
        else:
            bob.subscribe(on_timed_chat if stage.timed else on_chat, ChatReceived)
        unsubscribe = bob.subscribe(until_linked)
        bob.start()

    for number, tally in enumerate(stage.tallies):
        play(number, tally)
    run(stage)
