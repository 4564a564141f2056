"""``python -m fuzz receive``: let Atheris look for an input that breaks a rule.

What follows the target's name goes to libFuzzer.  Its seeds and its dictionary
are used in any case; what is found besides stays in the folder that is named.
Inputs that are named instead of a folder are played once, without Atheris.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
TARGETS = sorted(path.stem for path in HERE.glob("[a-z]*.py"))


def main() -> None:
    """Run one target until it fails or libFuzzer has had enough."""
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        names = ",".join(TARGETS)
        sys.exit(f"usage: python -m fuzz {{{names}}} [folder or inputs] [-option=...]")
    target = sys.argv[1]
    options = [each for each in sys.argv[2:] if each.startswith("-")]
    paths = [Path(each) for each in sys.argv[2:] if not each.startswith("-")]
    if paths and all(path.is_file() for path in paths):
        module = importlib.import_module(f"fuzz.{target}")
        for path in paths:
            module.one_input(path.read_bytes())
        return
    try:
        atheris = importlib.import_module("atheris")
    except ImportError:
        sys.exit("fuzz: install atheris first (pip install atheris, Python 3.11)")
    with atheris.instrument_imports(include=["meshproto"]):
        module = importlib.import_module(f"fuzz.{target}")
    # libFuzzer writes what it finds into the first folder: never into the seeds.
    paths = paths or [HERE / "found" / target]
    for path in paths:
        path.mkdir(parents=True, exist_ok=True)
    command = [
        f"fuzz {target}",
        f"-dict={HERE / target}.dict",
        f"-artifact_prefix={paths[0]}/",
        *options,
        *map(str, paths),
        str(HERE / "corpus" / target),
    ]
    atheris.Setup(command, module.one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
