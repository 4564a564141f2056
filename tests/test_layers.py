"""The floors of the house: who may import whom, and who may touch the world.

Imports point down or sideways, never up, and there is no circle.  The source
is read here, not run, so an import inside a function counts like any other;
only the last tests start Python, to see what really gets loaded.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "meshproto"
PLUGIN = ROOT / "twisted" / "plugins" / "meshnode_plugin.py"

#: The floors from the ground up, each a folder.  The values that applications see
#: lie in the package itself.
VALUES = ""
FLOORS = ("wire", VALUES, "rules", "link", "mesh", "run")
#: Beside the floors, a package: may import anything, and nothing imports it.
SIDE = "testing"
#: The door: loads what is behind it when it is asked for, and not before.
DOOR = "__init__"
#: The command line opens another door.
PROGRAM = "__main__"

#: Every file by the name of its module, a package's own file by ``__init__``.
FILES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
    for path in PACKAGE.rglob("*.py")
}
MODULES = set(FILES)


def folder_of(module: str) -> str:
    return module.rpartition(".")[0]


def floor_of(module: str) -> int:
    """How high a module stands; the doors above everything."""
    if module in {DOOR, PROGRAM}:
        return len(FLOORS)
    return FLOORS.index(folder_of(module))


INSIDE = {module for module in MODULES if module != DOOR and folder_of(module) != SIDE}
CORE = {
    module for module in INSIDE - {PROGRAM} if floor_of(module) < FLOORS.index("run")
}

#: A floor that a module keeps to though it stands on a higher one.
REACH = {"run.render": VALUES}
#: What it may use of its own floor.
BESIDE = {"run.render": {"run.lookalikes", "run.visible"}}

#: What each floor may take from outside the standard library.
OUTSIDE: dict[str, set[str]] = {
    "wire": set(),
    VALUES: {"zope"},
    "rules": {"zope"},
    "link": {"twisted", "zope"},
    "mesh": {"twisted", "zope"},
    "run": {"twisted", "zope"},
}
PROMPT_LIBRARY = ("run.terminal", "prompt_toolkit")

#: Where bytes are at home: the codec, the connections, standard input and output.
BYTES = {"run.cli", "run.history", "run.pipes"}

#: Clocks, randomness and the reactor belong to whoever starts the program.
WORLD = (
    "time.time",
    "time.time_ns",
    "time.monotonic",
    "time.monotonic_ns",
    "time.perf_counter",
    "time.perf_counter_ns",
    "time.sleep",
    "datetime.datetime.now",
    "datetime.datetime.utcnow",
    "datetime.datetime.today",
    "datetime.date.today",
    "os.urandom",
    "secrets",
    "uuid",
    "twisted.internet.reactor",
)
#: The classes may be named and made; the functions share one hidden state.
RANDOM_CLASSES = {"random.Random", "random.SystemRandom"}
#: Who may touch what of that.  The list only shrinks.
ALLOWED: dict[str, set[str]] = {
    # The reactor of a node that was given none.
    "mesh.node": {"twisted.internet.reactor"},
    # The programs own their process.
    "run.cli": {"time.monotonic", "twisted.internet.reactor"},
    "run.tap": {"time.monotonic", "twisted.internet.reactor"},
    "testing.__main__": {"time.monotonic"},
}

THREADS = (
    "threading",
    "multiprocessing",
    "concurrent",
    "asyncio",
    "twisted.internet.threads",
)
#: To start nothing under a loop that does not run the reactor one has to look.
ASKS_FOR_THE_LOOP = ("mesh.running", "asyncio.get_running_loop")


@dataclass(frozen=True)
class Import:
    """One name that a module imports, in full: ``meshproto.wire.mesh1.Greeting``."""

    name: str
    typing_only: bool

    @property
    def package(self) -> str:
        return self.name.partition(".")[0]

    @property
    def module(self) -> str | None:
        """The module of ours that it comes from, if it is one of ours."""
        if self.package != "meshproto":
            return None
        parts = self.name.split(".")[1:]
        while parts:
            for name in (".".join(parts), ".".join([*parts, DOOR])):
                if name in MODULES:
                    return name
            parts.pop()
        return DOOR


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"), str(path))


def source(module: str) -> ast.Module:
    return tree(FILES[module])


def is_type_checking(test: ast.expr) -> bool:
    return (isinstance(test, ast.Name) and test.id == "TYPE_CHECKING") or (
        isinstance(test, ast.Attribute) and test.attr == "TYPE_CHECKING"
    )


def imports(node: ast.AST, typing_only: bool = False) -> Iterator[Import]:
    """Every import below a node, wherever it stands."""
    match node:
        case ast.Import(names):
            for alias in names:
                yield Import(alias.name, typing_only)
        case ast.ImportFrom(module, names, level):
            base = "." * level + (module or "")
            for alias in names:
                yield Import(f"{base}.{alias.name}", typing_only)
        case ast.If(test, body, orelse) if is_type_checking(test):
            for statement in body:
                yield from imports(statement, True)
            for statement in orelse:
                yield from imports(statement, typing_only)
        case _:
            for child in ast.iter_child_nodes(node):
                yield from imports(child, typing_only)


def names_used(module: ast.Module) -> Iterator[str]:
    """Every imported thing that the source names, in full.

    ``from time import monotonic as now; now()`` gives ``time.monotonic``.
    """
    known: dict[str, str] = {}
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            for alias in node.names:
                first = alias.name.partition(".")[0]
                known[alias.asname or first] = alias.name if alias.asname else first
                yield alias.name
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                known[alias.asname or alias.name] = f"{node.module}.{alias.name}"
                yield f"{node.module}.{alias.name}"
    for node in ast.walk(module):
        parts: list[str] = []
        inner = node
        while isinstance(inner, ast.Attribute):
            parts.insert(0, inner.attr)
            inner = inner.value
        if parts and isinstance(inner, ast.Name) and inner.id in known:
            yield ".".join([known[inner.id], *parts])


def touches(module: str) -> set[str]:
    """What of the world a module touches."""
    found = set()
    for name in names_used(source(module)):
        for thing in WORLD:
            if name == thing or name.startswith(f"{thing}."):
                found.add(thing)
        if name.startswith("random.") and not any(
            name == cls or name.startswith(f"{cls}.") for cls in RANDOM_CLASSES
        ):
            found.add(name)
    return found


class FloorTests(SynchronousTestCase):
    """The imports, as they are written."""

    def test_every_folder_is_a_floor(self) -> None:
        """A new file needs no entry, a new folder does."""
        self.assertEqual({*map(folder_of, FILES)}, {*FLOORS, SIDE})

    def test_imports_are_absolute(self) -> None:
        """What follows reads absolute names."""
        found = [
            f"{module}: {each.name}"
            for module in sorted(MODULES)
            for each in imports(source(module))
            if each.name.startswith(".")
        ]
        self.assertEqual(found, [])

    def test_imports_point_down(self) -> None:
        """No module imports from a floor above its own, not even for types."""
        found = []
        for module in sorted(INSIDE):
            reach = FLOORS.index(REACH[module]) if module in REACH else floor_of(module)
            for each in imports(source(module)):
                target = each.module
                if target is None or target in BESIDE.get(module, ()):
                    continue
                if target not in INSIDE or floor_of(target) > reach:
                    found.append(f"{module} imports {each.name}")
        self.assertEqual(found, [])

    def test_exceptions_are_in_use(self) -> None:
        """An exception that nobody needs any more is taken off its list."""
        unused = {
            f"{module}: {thing}"
            for module in sorted(ALLOWED)
            for thing in ALLOWED[module] - touches(module)
        }
        self.assertEqual(unused, set())

    def test_no_circle(self) -> None:
        """Modules do not import each other in a ring, not even for types."""
        graph = {
            module: {
                each.module
                for each in imports(source(module))
                if each.module is not None
            }
            for module in MODULES - {DOOR}
        }
        try:
            TopologicalSorter(graph).prepare()
        except CycleError as error:
            self.fail(f"a circle of imports: {' -> '.join(error.args[1])}")

    def test_the_door_is_lazy(self) -> None:
        """The package's own file imports for the type checker alone."""
        found = [
            each.name
            for module in (DOOR,)
            for each in imports(source(module))
            if not each.typing_only
            and each.package not in {"__future__", "importlib", "typing"}
        ]
        self.assertEqual(found, [])

    def test_outside_libraries(self) -> None:
        """Each floor takes from outside what its row says, and no more."""
        found = []
        for module in sorted(INSIDE):
            allowed = OUTSIDE[folder_of(module)] | {"meshproto"}
            for each in imports(source(module)):
                typing_of_contracts = each.typing_only and module == "interfaces"
                if not (
                    each.package in sys.stdlib_module_names
                    or each.package in allowed
                    or (module, each.package) == PROMPT_LIBRARY
                    or (each.package == "twisted" and typing_of_contracts)
                ):
                    found.append(f"{module}: {each.name}")
        self.assertEqual(found, [])

    def test_no_threads_in_the_core(self) -> None:
        """One thread, one order of things: so one seed gives one run."""
        found = [
            f"{module}: {each.name}"
            for module in sorted(CORE)
            for each in imports(source(module))
            if (module, each.name) != ASKS_FOR_THE_LOOP
            and any(
                each.name == thing or each.name.startswith(f"{thing}.")
                for thing in THREADS
            )
        ]
        self.assertEqual(found, [])

    def test_the_world_is_a_parameter(self) -> None:
        """Clock, randomness and reactor are handed in, except by those named."""
        found = [
            f"{module}: {thing}"
            for module in sorted(MODULES)
            for thing in sorted(touches(module) - ALLOWED.get(module, set()))
        ]
        self.assertEqual(found, [])

    def test_bytes_stop_at_the_wire(self) -> None:
        """Above the codec and the protocol nobody spells or builds bytes."""
        found = []
        for module in sorted(INSIDE - BYTES):
            if folder_of(module) in {"wire", "link"}:
                continue
            for node in ast.walk(source(module)):
                match node:
                    case ast.Constant(value=bytes()):
                        found.append(f"{module}:{node.lineno}: a literal")
                    case ast.Call(func=ast.Name(id="bytes" | "bytearray" as name)):
                        found.append(f"{module}:{node.lineno}: {name}()")
        self.assertEqual(found, [])

    def test_the_plugin_names_and_imports_nothing(self) -> None:
        """``twistd --help`` loads every plugin: ours costs nothing."""
        found = {each.name for each in imports(tree(PLUGIN))}
        self.assertEqual(
            {name.rpartition(".")[0] for name in found} - {"__future__"},
            {"twisted.application.service"},
        )


def loaded_after(statement: str) -> set[str]:
    """The modules that a fresh Python has loaded after a statement."""
    program = f"{statement}\nimport sys\nprint(*sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    return set(run.stdout.split())


class LoadingTests(SynchronousTestCase):
    """The imports, as they happen."""

    def test_the_door_loads_no_twisted(self) -> None:
        """``import meshproto`` is cheap and leaves the choice of reactor open."""
        self.assertNotIn("twisted", loaded_after("import meshproto"))

    def test_values_and_policy_load_no_twisted(self) -> None:
        """They can be used, and tested, where there is no Twisted."""
        modules = ", ".join(
            f"meshproto.{module}"
            for module in sorted(INSIDE)
            if floor_of(module) <= FLOORS.index("rules")
        )
        self.assertNotIn("twisted", loaded_after(f"import {modules}"))

    def test_nothing_loads_the_reactor(self) -> None:
        """No module installs a reactor by being imported.

        Not even the programs: both let their user choose one.
        """
        everything = ", ".join(
            f"meshproto.{module}"
            for module in sorted(MODULES)
            if not module.endswith("__")
        )
        loaded = loaded_after(f"import {everything}")
        self.assertNotIn("twisted.internet.reactor", loaded)
        self.assertNotIn("prompt_toolkit", loaded)
