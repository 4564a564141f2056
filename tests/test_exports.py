"""The door: what ``from meshproto import ...`` gives, and that it is documented.

``docs/api.md`` is the list of what is public.  A name that is added to the
package is added there, or it is not public.
"""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import meshproto
import meshproto.testing

API_PAGE = Path(__file__).resolve().parent.parent / "docs" / "api.md"
DIRECTIVE = re.compile(
    r"^ *\.\. auto(?:class|data|exception|function):: "
    r"(?P<module>[\w.]+)\.(?P<name>\w+)$",
    re.MULTILINE,
)


def documented(module: str) -> list[str]:
    """The names of a module that the API page documents."""
    page = API_PAGE.read_text("utf-8")
    return [
        found["name"] for found in DIRECTIVE.finditer(page) if found["module"] == module
    ]


class ExportTests(SynchronousTestCase):
    """One list in the package, the same list in the documentation."""

    def test_all_is_what_is_documented(self) -> None:
        """Neither an undocumented name nor a documented one that is not there."""
        self.assertEqual(sorted(meshproto.__all__), sorted(documented("meshproto")))

    def test_testing_is_documented(self) -> None:
        """The tools for the tests of applications are public as well."""
        self.assertEqual(
            sorted(meshproto.testing.__all__), sorted(documented("meshproto.testing"))
        )

    def test_type_checkers_see_every_name(self) -> None:
        """They read ``__all__`` and the imports without running the file."""
        source = ast.parse(inspect.getsource(meshproto))
        listed = [
            ast.literal_eval(node.value)
            for node in source.body
            if isinstance(node, ast.Assign)
            and any(ast.unparse(target) == "__all__" for target in node.targets)
        ]
        self.assertEqual(listed, [meshproto.__all__])
        imported = {
            alias.asname or alias.name
            for node in source.body
            if isinstance(node, ast.If)
            for statement in node.body
            if isinstance(statement, ast.ImportFrom)
            for alias in statement.names
        }
        self.assertEqual(set(meshproto.__all__) - imported, set())

    def test_nothing_is_listed_twice(self) -> None:
        """Each name has one place."""
        for names in (meshproto.__all__, documented("meshproto")):
            self.assertEqual(len(names), len(set(names)))

    def test_every_name_is_there(self) -> None:
        """Each name can be had, one by one and by ``import *``."""
        for name in meshproto.__all__:
            self.assertTrue(hasattr(meshproto, name), name)
        namespace: dict[str, object] = {}
        exec("from meshproto import *", namespace)
        self.assertEqual(set(meshproto.__all__) - set(namespace), set())

    def test_dir_lists_every_name(self) -> None:
        """A reader at a Python prompt finds what is public."""
        self.assertEqual(set(meshproto.__all__) - set(dir(meshproto)), set())

    def test_unknown_name(self) -> None:
        """Asking for what is not there fails as it does for any module."""
        name = "NoSuchThing"
        with self.assertRaises(AttributeError) as caught:
            getattr(meshproto, name)
        self.assertIn(name, str(caught.exception))

    def test_everything_says_what_it_is(self) -> None:
        """No public name without a docstring of its own."""
        silent = []
        for name in meshproto.__all__:
            thing = getattr(meshproto, name)
            text = thing.__doc__ or ""
            made_up = text.startswith(f"{name}(")  # by dataclass()
            if not text.strip() or made_up:
                silent.append(name)
        self.assertEqual(silent, [])
