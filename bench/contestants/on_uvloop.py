"""The least that can be done on asyncio with uvloop: see `bench.contestants.bare`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any, cast

from bench.stage import HOST, Stage, Tally, Turns


def sender(stage: Stage) -> None:
    _run(_sender(stage))


def receivers(stage: Stage) -> None:
    _run(_receivers(stage))


def _run(main: Any) -> None:
    import_module("uvloop").run(main)


async def _sender(stage: Stage) -> None:
    loop = asyncio.get_running_loop()
    transports: list[asyncio.Transport] = []
    full: set[asyncio.Protocol] = set()
    waiting: list[Callable[[], None]] = []

    class Accepted(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            transports.append(cast(asyncio.Transport, transport))
            if len(transports) == stage.peers:
                stage.tell(linked=True)

        def pause_writing(self) -> None:
            full.add(self)

        def resume_writing(self) -> None:
            full.discard(self)
            if not full and waiting:
                waiting.pop()()

    def say(text: str, times: int) -> None:
        data = b"".join([text.encode() + b"\n"] * times)
        for transport in transports:
            transport.write(data)

    def when_taken(go_on: Callable[[], None]) -> None:
        if full:
            waiting.append(go_on)
        else:
            go_on()

    def later(seconds: float, job: Callable[[], None]) -> object:
        return loop.call_later(seconds, job) if seconds else loop.call_soon(job)

    server = await loop.create_server(Accepted, HOST, 0)
    stage.serve(
        Turns(stage, later, say, when_taken).send,
        loop.call_soon_threadsafe,
    )
    stage.tell(address=f"{HOST}:{server.sockets[0].getsockname()[1]}")
    await server.serve_forever()


class Counter(asyncio.Protocol):
    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._rest = b""

    def data_received(self, data: bytes) -> None:
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        for _ in lines:
            self._tally.one()


class Timer(Counter):
    def data_received(self, data: bytes) -> None:
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        for line in lines:
            self._tally.timed(line)


async def _receivers(stage: Stage) -> None:
    loop = asyncio.get_running_loop()
    made = Timer if stage.timed else Counter
    for tally in stage.tallies:
        await loop.create_connection(partial(made, tally), HOST, stage.port())
    stage.serve(call=loop.call_soon_threadsafe)
    stage.tell(ready=True)
    await loop.create_future()
