"""Real daemons that find each other, lose each other and come back."""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence
from functools import partial

from lab.daemons import (
    HAS_PROC_TCP,
    NO_PROC_TCP,
    PATIENCE,
    Daemon,
    Shape,
    chain,
    free_ports,
    open_connections,
    star,
    tell,
)
from tests.daemons import DaemonTestCase
from tests.slow import slow

#: Daemons that lose patience soon, with each other and not with the machine.
QUICK = ("--maintenance-interval", 1, "--peer-timeout", 4, "--discovery-interval", 2)

MESH1 = ("--protocol", "mesh/1")
MESH2 = ("--protocol", "mesh/2")
BOTH = ()


def bootstrap_of(daemon: Daemon) -> tuple[str, str]:
    """The options that have another one join by it."""
    return "--bootstrap", f"localhost:{daemon.port}"


class MeshTestCase(DaemonTestCase):
    """Daemons that are to be a full mesh."""

    if not HAS_PROC_TCP:
        skip = NO_PROC_TCP

    def check_calm(self, daemons: Sequence[Daemon]) -> None:
        """Nobody came twice or went, on the way to the mesh."""
        for daemon in daemons:
            self.assertEqual(daemon.logged("[NETWORK] "), len(daemons) - 1, daemon.raw)
            self.assertEqual(daemon.logged("[MAINTENANCE]"), 0, daemon.raw)

    def check_no_dial_failed(self, daemons: Sequence[Daemon]) -> None:
        """But for seeds that did not listen yet; needs ``--debug``."""
        for daemon in daemons:
            failed = daemon.logged("Failed to connect")
            early = sum(
                "[BOOTSTRAP] Failed" in line and "connection refused" in line
                for line in daemon.lines
            )
            self.assertEqual(failed, early, daemon.raw)


class FormationTests(MeshTestCase):
    """All are started at the same instant, with the settings they come with."""

    def form(self, size: int, shape: Shape, *options: object) -> list[Daemon]:
        began = time.monotonic()
        daemons = self.fleet.mesh(size, shape, "--debug", *options)
        launched = time.monotonic()
        listening = self.fleet.until_listening(*daemons)
        full = self.fleet.until_full(daemons)
        tell(
            f"{shape.__name__} of {size}: launched in {launched - began:.2f} s, all "
            f"listen at {listening - began:.2f} s, full mesh at {full - began:.2f} s"
        )
        self.check_calm(daemons)
        self.check_no_dial_failed(daemons)
        ports = [daemon.port for daemon in daemons]
        self.assertEqual(open_connections(ports), size * (size - 1) // 2)
        return daemons

    @slow
    def test_chain_of_3(self) -> None:
        self.form(3, chain)

    @slow
    def test_star_of_3(self) -> None:
        self.form(3, star)

    def test_chain_of_5(self) -> None:
        self.form(5, chain)

    @slow
    def test_star_of_5(self) -> None:
        self.form(5, star)

    @slow
    def test_chain_of_20(self) -> None:
        self.form(20, chain)

    @slow
    def test_star_of_20(self) -> None:
        self.form(20, star)

    @slow
    def test_no_round_needed(self) -> None:
        """The rounds of discovery and maintenance have no part in it."""
        hour = 3600
        options = ["--discovery-interval", hour, "--maintenance-interval", hour]
        self.form(5, chain, *options, "--peer-timeout", 2 * hour)

    @slow
    def test_everybody_knows_everybody(self) -> None:
        """Each is given the addresses of all, its own too."""

        def everybody(ports: Sequence[int], number: int) -> Sequence[int]:
            return ports

        self.form(4, everybody)

    @slow
    def test_joining_one_by_one(self) -> None:
        """A mesh is full again after each that comes, wherever it joins."""
        daemons: list[Daemon] = []
        for number in range(4):
            bootstrap = [daemons[-1].port] if daemons else []
            daemons.append(self.fleet.start(f"n{number}", bootstrap=bootstrap))
            self.fleet.until_full(daemons)
        self.check_calm(daemons)


class ProtocolTests(MeshTestCase):
    """Nodes that speak both protocols, and nodes that speak one."""

    def start(self, *settings: Sequence[object]) -> list[Daemon]:
        """A daemon for each list of options, all but the first told of the first."""
        daemons: list[Daemon] = []
        for number, options in enumerate(settings):
            bootstrap = [daemon.port for daemon in daemons[:1]]
            daemons.append(
                self.fleet.start(f"n{number}", "--debug", *options, bootstrap=bootstrap)
            )
        return daemons

    @slow
    def test_both_and_mesh1(self) -> None:
        """Everybody hears everybody, once, whoever was there first."""
        prompts: list[Daemon] = []
        for number, options in enumerate((MESH1, BOTH, BOTH, MESH1, BOTH)):
            seed = [word for each in prompts[-1:] for word in bootstrap_of(each)]
            prompts.append(self.fleet.prompt(f"n{number}", *options, *seed))
        self.fleet.until_full(prompts)
        said = []
        for prompt in prompts:
            for text in (f"hello from {prompt.name}", "PING", "\u2060x", "Zoë 🦊"):
                prompt.type(text)
                said.append(f"[{prompt.name}] {text}".replace("\u2060", "\\u2060"))

        def heard(prompt: Daemon) -> list[str]:
            return sorted(line for line in prompt.lines if line.startswith("[n"))

        def is_heard() -> bool:
            return all(len(heard(prompt)) >= len(said) for prompt in prompts)

        self.fleet.until(is_heard, "complete chat")
        for prompt in prompts:
            self.assertEqual(heard(prompt), sorted(said))
        self.check_calm(prompts)

    @slow
    def test_both_and_mesh2(self) -> None:
        """One that speaks nothing else joins, as the first and as a later one."""
        daemons = self.start(MESH2, BOTH, BOTH, MESH2)
        self.fleet.until_full(daemons)
        self.check_calm(daemons)
        self.check_no_dial_failed(daemons)

    @slow
    def test_mesh2_dials_mesh1(self) -> None:
        """It says why it hangs up; the other one saw a peer of its own kind go."""
        one, two = self.start(MESH1, MESH2)
        self.fleet.until_logged(
            two,
            f"[BOOTSTRAP] Failed to connect to seed node localhost:{one.port}: "
            "speaks none of our protocols (attempt 2",
        )
        self.fleet.until_logged(one, "[NETWORK] Peer n1 disconnected")
        self.assertEqual(two.peers, [])
        self.fleet.until(lambda: one.peers == [], "end of the link")

    @slow
    def test_mesh1_dials_mesh2(self) -> None:
        """It is not answered: what it speaks has no words for that."""
        two, one = self.start(MESH2, MESH1)
        self.fleet.until_logged(
            two, "[ERROR] Handshake with 127.0.0.1: speaks none of our protocols"
        )
        self.fleet.until_logged(
            one,
            f"[BOOTSTRAP] Failed to connect to seed node localhost:{two.port}: "
            "closed without an answer, perhaps it speaks only mesh/2 (attempt 2",
        )
        self.assertEqual((one.logged("[NETWORK]"), two.logged("[NETWORK]")), (0, 0))

    @slow
    def test_one_that_speaks_both_between_them(self) -> None:
        """It has links with all; each other has links with its own kind."""
        both, *others = self.start(BOTH, MESH1, MESH2, MESH1, MESH2)
        wanted = ["n0", "n3"], ["n0", "n4"], ["n0", "n1"], ["n0", "n2"]

        def is_complete() -> bool:
            return both.peers == ["n1", "n2", "n3", "n4"] and all(
                set(names) <= set(daemon.peers)
                for daemon, names in zip(others, wanted, strict=True)
            )

        self.fleet.until(is_complete, "mesh")
        for daemon, names in zip(others, wanted, strict=True):
            for name in names:
                self.assertEqual(
                    daemon.logged(f"Peer {name} disconnected"), 0, daemon.raw
                )
        self.assertEqual(both.logged("disconnected"), 0, both.raw)


class MeshNameTests(MeshTestCase):
    """``--mesh``: who belongs to another mesh stays out."""

    @slow
    def test_another_mesh(self) -> None:
        """Both dial, and both say why they hang up; so does one that has no mesh."""
        ports = free_ports(3)
        daemons = [
            self.fleet.launch(
                *(f"n{number}", "--debug", *options),
                port=port,
                bootstrap=[each for each in ports if each != port],
            )
            for number, (port, options) in enumerate(
                zip(
                    ports,
                    (("--mesh", "kitchen"), ("--mesh", "garden"), ()),
                    strict=True,
                )
            )
        ]
        for daemon, own in zip(daemons, ports, strict=True):
            for port in ports:
                if port != own:
                    self.fleet.until_logged(
                        daemon,
                        "[BOOTSTRAP] Failed to connect to seed node "
                        f"localhost:{port}: it belongs to another mesh",
                    )
        for daemon in daemons:
            self.assertEqual(daemon.logged("[NETWORK]"), 0, daemon.raw)

    @slow
    def test_same_mesh(self) -> None:
        """A name is compared as it is written."""
        ports = free_ports(3)
        names = ("kitchen", "kitchen", "Kitchen")
        first, second, third = (
            self.fleet.launch(
                *(f"n{number}", "--mesh", name),
                port=port,
                bootstrap=ports[:1] if number else (),
            )
            for number, (port, name) in enumerate(zip(ports, names, strict=True))
        )
        self.fleet.until_logged(third, "it belongs to another mesh")
        self.fleet.until_full([first, second])
        self.assertEqual(third.peers, [])

    @slow
    def test_mesh1_has_no_names(self) -> None:
        """Who speaks ``mesh/1`` is taken in: it cannot say where it belongs."""
        kitchen = self.fleet.start("n0", "--mesh", "kitchen")
        guest = self.fleet.start("n1", *MESH1, bootstrap=[kitchen.port])
        self.fleet.until_full([kitchen, guest])


class ReturnTests(MeshTestCase):
    """What was lost comes back by itself."""

    def restart(self, daemon: Daemon, bootstrap: Sequence[int] = ()) -> Daemon:
        return self.fleet.launch(daemon.name, port=daemon.port, bootstrap=bootstrap)

    def rejoin(self, lost: int) -> None:
        ports = free_ports(3)
        daemons = self.fleet.mesh(3, star)
        self.fleet.until_full(daemons)
        ports = [each.port for each in daemons]
        daemons[lost].kill()
        began = time.monotonic()
        bootstrap = star(ports, lost)
        daemons[lost] = self.restart(daemons[lost], bootstrap)
        listening = self.fleet.until_listening(daemons[lost])
        full = self.fleet.until_full(daemons)
        tell(
            f"kill -9 and restart of n{lost}: listens again at "
            f"{listening - began:.2f} s, full mesh at {full - began:.2f} s"
        )

    @slow
    def test_member_killed(self) -> None:
        """It is started again under the same port."""
        self.rejoin(2)

    @slow
    def test_first_node_killed(self) -> None:
        """It was told of nobody: the others come back to it."""
        self.rejoin(0)

    @slow
    def test_killed_at_once(self) -> None:
        """All but one are killed; the one that is left keeps their addresses."""
        daemons = self.fleet.mesh(4, star)
        self.fleet.until_full(daemons)
        for daemon in daemons[1:]:
            daemon.kill()
        daemons[1:] = [self.restart(daemon) for daemon in daemons[1:]]
        self.fleet.until_full(daemons)

    @slow
    def test_frozen(self) -> None:
        """A stopped process is dropped in time, and rejoins when it goes on."""
        daemons = self.fleet.mesh(3, star, *QUICK)
        self.fleet.until_full(daemons)
        *awake, frozen = daemons
        frozen.send_signal(signal.SIGSTOP)
        began = time.monotonic()
        for daemon in awake:
            self.fleet.until_logged(daemon, "Removed stale peer n2 (timeout)")
        reaped = time.monotonic()
        self.fleet.until_full(awake)
        frozen.send_signal(signal.SIGCONT)
        woken = time.monotonic()
        full = self.fleet.until_full(daemons)
        tell(
            f"frozen with a peer timeout of 4 s: reaped after {reaped - began:.2f} s, "
            f"full mesh {full - woken:.2f} s after it went on"
        )
        # Nobody else was suspected meanwhile.
        for daemon, other in zip(awake, reversed(awake), strict=True):
            self.assertNotIn(f"Removed stale peer {other.name}", daemon.raw)

    @slow
    def test_late_bootstrap(self) -> None:
        """A daemon keeps trying the address that it was given."""
        early, late = free_ports(2)
        daemons = [self.fleet.start("early", "--debug", port=early, bootstrap=[late])]
        self.fleet.until_logged(
            daemons[0],
            f"[BOOTSTRAP] Failed to connect to seed node localhost:{late}: "
            "connection refused (attempt 2",
        )
        daemons.append(self.fleet.start("late", port=late))
        listening = time.monotonic()
        full = self.fleet.until_full(daemons)
        self.fleet.until_logged(
            daemons[0], f"[BOOTSTRAP] Connected to seed node localhost:{late}"
        )
        tell(f"late bootstrap node: joined after {full - listening:.2f} s")

    @slow
    def test_broken_link(self) -> None:
        """A link that the network resets is replaced, each time.

        The daemons reach each other through port forwards only, which they
        tell as their addresses.
        """
        ports = free_ports(2)
        forwarders = [self.fleet.forwarder(port) for port in ports]
        there, back = (f"127.0.0.1:{forwarder.port}" for forwarder in forwarders)
        alice = self.fleet.start("alice", "--advertise", there, port=ports[0])
        bob = self.fleet.start(
            *("bob", "--advertise", back, "--bootstrap", there), port=ports[1]
        )

        def is_linked(losses: int) -> bool:
            return (
                (alice.peers, bob.peers) == (["bob"], ["alice"])
                and alice.logged("bob disconnected (connection lost)") == losses
                and bob.logged("alice disconnected (connection lost)") == losses
                and open_connections(ports) == 1
            )

        self.fleet.until(partial(is_linked, 0), "link")
        for losses in range(1, 6):
            for forwarder in forwarders:
                forwarder.reset()
            began = time.monotonic()
            healed = self.fleet.until(partial(is_linked, losses), "link")
            tell(f"link reset: healed after {healed - began:.2f} s")


class LeavingTests(MeshTestCase):
    """Daemons that are told to end."""

    @slow
    def test_terminate(self) -> None:
        """SIGTERM and SIGINT: the others hear of it at once, all is closed."""
        daemons = self.fleet.mesh(3, chain)
        self.fleet.until_full(daemons)
        for number in (signal.SIGTERM, signal.SIGINT):
            leaving = daemons.pop()
            leaving.send_signal(number)
            # twistd ends by the signal that ended it.
            self.assertIn(leaving.process.wait(PATIENCE), (0, -number))
            self.fleet.until_full(daemons)
            self.assertTrue(leaving.logged("Server Shut Down."), leaving.raw)
            for daemon in daemons:
                self.assertIn(
                    f"[NETWORK] Peer {leaving.name} disconnected", daemon.lines
                )

    def test_flush(self) -> None:
        """What is queued is sent before the connection is closed in order."""
        alice = self.fleet.start("alice")
        for port in free_ports(8):
            self.fleet.greet(alice, f"peer-{port}:x{port}")
        bob = self.fleet.greet(alice, "bob:bob")
        asked = 256
        bob.say("REQUEST_PEERS\n" * asked + "that is all\n")
        self.fleet.until_logged(alice, "[bob] that is all")
        alice.process.terminate()
        self.fleet.until_logged(alice, "Received SIGTERM")
        answers = bob.rest().decode().splitlines(keepends=True)
        self.assertFalse(bob.was_reset)
        self.assertEqual(len(answers), asked)
        self.assertEqual(len(set(answers)), 1)
        self.assertTrue(answers[0].startswith(f"PEERS:127.0.0.1:{alice.port},"))
        self.assertTrue(answers[0].endswith("\n"))
        alice.process.wait()

    @slow
    def test_same_folder(self) -> None:
        """Several daemons run in one folder, and leave nothing there."""
        daemons = self.fleet.mesh(2, star)
        self.fleet.until_full(daemons)
        self.assertEqual(list(self.fleet.home.iterdir()), [])
