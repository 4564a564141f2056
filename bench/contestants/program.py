"""Any program that speaks ``mesh/1``, with its standard input and output.

It broadcasts the lines of its input, and prints a line for every message.  The
parts ``{port}``, ``{peer}`` and ``{name}`` of its command stand for the port to
listen on, for whom to dial, and for a name.  An argument that holds ``{peer}`` is
left out where there is nobody to dial.
"""

from __future__ import annotations

import os
import re
import select
import shlex
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from bench.stage import HOST, MARK, Order, Stage, now, send_in_a_loop

_STAMP = re.compile(rf"\b{MARK} (\d+) ".encode())
_TICK = os.sysconf("SC_CLK_TCK")


def command_line(command: str, port: int, peer: str, name: str) -> list[str]:
    """The arguments of one program."""
    return [
        part.format(port=port, peer=peer, name=name)
        for part in shlex.split(command)
        if peer or "{peer}" not in part
    ]


def start(stage: Stage, number: int) -> tuple[subprocess.Popen[bytes], int]:
    """Start one program, and wait until it listens."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
    command = command_line(
        str(stage.options["command"]), port, stage.address, f"n{number}"
    )
    program = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    while not _listens(port):
        if program.poll() is not None:
            raise SystemExit(f"{shlex.join(command)} has ended: {program.returncode}")
        time.sleep(0.05)
    return program, port


def _listens(port: int) -> bool:
    """Whether somebody listens; a connection would be a peer of the program."""
    wanted = f":{port:04X} "
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        for line in table.read_text().splitlines()[1:]:
            words = line.split()
            if f"{words[1]} ".endswith(wanted) and words[3] == "0A":
                return True
    return False


def watch(stage: Stage, programs: Sequence[subprocess.Popen[bytes]]) -> None:
    """Measure the programs instead of this process, and end them with it."""

    def cpu() -> float:
        ticks = 0
        for program in programs:
            stat = Path(f"/proc/{program.pid}/stat").read_text().rpartition(")")[2]
            ticks += sum(map(int, stat.split()[11:13]))
        return ticks / _TICK

    def end() -> None:
        for program in programs:
            program.kill()

    stage.cpu, stage.at_end = cpu, end


def sender(stage: Stage) -> None:
    program, port = start(stage, 0)
    watch(stage, [program])
    assert program.stdin is not None
    assert program.stdout is not None
    words = program.stdin
    stage.tell(address=f"{HOST}:{port}")
    stage.tell(linked=True)

    def say(text: str) -> None:
        words.write(text.encode() + b"\n")
        if stage.timed:
            words.flush()

    say_all = send_in_a_loop(stage, say)

    def send(order: Order) -> None:
        say_all(order)
        words.flush()

    stage.serve(send)
    while os.read(program.stdout.fileno(), 65536):
        pass


def receivers(stage: Stage) -> None:
    programs = [start(stage, 1 + number)[0] for number in range(stage.nodes)]
    watch(stage, programs)
    rests: dict[int, bytes] = {}
    tallies = {}
    for program, tally in zip(programs, stage.tallies, strict=True):
        assert program.stdout is not None
        rests[program.stdout.fileno()] = b""
        tallies[program.stdout.fileno()] = tally
    stage.serve()
    stage.tell(ready=True)
    while True:
        for output in select.select(list(rests), [], [])[0]:
            data = os.read(output, 1 << 16)
            lines, end, rest = (rests[output] + data).rpartition(b"\n")
            rests[output] = rest
            tally = tallies[output]
            stamps = _STAMP.findall(lines + end)
            if stage.timed:
                at = now()
                tally.delays += [at - int(stamp) for stamp in stamps]
            tally.many(len(stamps))
            if not data:
                del rests[output]
