"""The pages of the documentation, as a plain Markdown viewer shows them.

Whoever reads them where the source is kept sees no more than that.  So links
have texts and lead somewhere, the code that a page shows is in the page, and
nothing in it is for Sphinx alone.
"""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import meshproto
import meshproto.testing

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

FENCE = re.compile(
    r"^(?P<fence>```+|:::+)(?P<language>.*)\n(?P<body>(?:.*\n)*?)(?P=fence)$",
    re.MULTILINE,
)
LINK = re.compile(r"(?<!!)\[(?P<text>[^\]]*)\]\((?P<target>[^)\s]*)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
SHOWN_FROM = re.compile(
    r"^<!-- from (?P<file>\S+) -->\n```(?P<language>\w+)\n(?P<body>(?:.*\n)*?)```$",
    re.MULTILINE,
)

#: The page whose long half is built from the docstrings.
REFERENCE = ROOT / "docs" / "api.md"
#: What a viewer shows as it stands, where Sphinx makes something of it.
NOISE = {
    "a role": r"\{[\w:.+-]+\}`",
    "a label": r"^\([\w-]+\)=$",
    "a definition": r"^: ",
    "a comment of MyST": r"^% ",
    "a block break": r"^\+\+\+",
    "a substitution": r"\{\{",
    "a fence that is none": r"^:::",
}


def text_of(page: Path) -> str:
    return page.read_text("utf-8")


def prose(text: str) -> str:
    """A page without its blocks of code, and with nothing in its code spans."""
    return re.sub(r"`[^`]+`", "`code`", FENCE.sub("", text))


def anchors(text: str) -> set[str]:
    """What a forge calls the headings of a page."""
    headings = HEADING.findall(FENCE.sub("", text))
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


def broken_links(text: str, folder: Path) -> Iterator[str]:
    """Links of a page that a reader cannot see or cannot follow."""
    for link in LINK.finditer(prose(text)):
        path, _, anchor = link["target"].partition("#")
        if not link["text"].strip():
            yield f"{link[0]}: no text"
        if re.match(r"https?:", path):
            continue
        there = folder / path
        if not there.exists():
            yield f"{link[0]}: no such file"
        elif anchor and anchor not in anchors(text_of(there) if path else text):
            yield f"{link[0]}: no such heading"


def noise(text: str, directives: tuple[str, ...] = ()) -> Iterator[str]:
    """What only Sphinx understands, apart from these directives."""
    for block in FENCE.finditer(text):
        language = block["language"].strip()
        if not re.fullmatch(r"[a-z]+", language) and language not in directives:
            yield f"a block of {language!r}"
    for what, pattern in NOISE.items():
        for found in re.finditer(pattern, prose(text), re.MULTILINE):
            yield f"{what}: {found[0]}"


def indent_of(line: str) -> int:
    return len(line) - len(line.lstrip())


def is_shown_whole(shown: str, source: str) -> bool:
    """Whether lines of a page are a whole piece of a file, perhaps further left."""
    wanted = shown.splitlines()
    there = source.splitlines()
    for start in range(len(there) - len(wanted) + 1):
        piece = there[start : start + len(wanted)]
        if textwrap.dedent("\n".join(piece)).splitlines() == wanted:
            # Nothing of the last definition is left out.
            rest = [line for line in there[start + len(wanted) :] if line]
            return not rest or indent_of(rest[0]) <= indent_of(piece[0])
    return False


class CheckTests(SynchronousTestCase):
    """The checks themselves find what they are for."""

    def test_links(self) -> None:
        for text in (
            "[](limits.md)",
            "[Limits](limit.md)",
            "[Limits](limits.md#no-such-heading)",
            "[Here](#no-such-heading)",
            "[`code`](no/such/file)",
        ):
            self.assertEqual(len(list(broken_links(text, ROOT / "docs"))), 1, text)
        good = "## A `b`, c\n[x](#a-b-c) [`y`](limits.md#rates) `[](z)` [z](https://z)"
        self.assertEqual(list(broken_links(good, ROOT / "docs")), [])

    def test_noise(self) -> None:
        for text in (
            "```{toctree}\nlimits\n```",
            "```{literalinclude} ../x.py\n```",
            ":::{note}\nx\n:::",
            "A {py:class}`NodeConfig`.",
            "(label)=\n# A",
            "Term\n: what it means",
            "% nobody sees this",
        ):
            self.assertEqual(len(list(noise(text))), 1, text)
        self.assertEqual(list(noise("```python\nx = {y}\n```\n`{z}` (a)=1")), [])
        self.assertEqual(list(noise("```{a}\n```", ("{a}",))), [])

    def test_pieces(self) -> None:
        source = "import a\n\n\nclass B:\n    def c(self):\n        a()\n        b()\n"
        for whole in (source, "import a\n", "def c(self):\n    a()\n    b()\n"):
            self.assertTrue(is_shown_whole(whole, source), whole)
        for wrong in ("import b\n", "def c(self):\n    a()\n", "def c(self):\nb()\n"):
            self.assertFalse(is_shown_whole(wrong, source), wrong)


class PageTests(SynchronousTestCase):
    """Every page, and the README."""

    def test_links(self) -> None:
        """Each has a text, and leads to a file and a heading that are there."""
        found = {p.name: list(broken_links(text_of(p), p.parent)) for p in PAGES}
        self.assertEqual({name: wrong for name, wrong in found.items() if wrong}, {})

    def test_plain(self) -> None:
        """Nothing is for Sphinx alone, but for the reference."""
        found = {
            p.name: list(noise(text_of(p), ("{eval-rst}",) if p == REFERENCE else ()))
            for p in PAGES
        }
        self.assertEqual({name: wrong for name, wrong in found.items() if wrong}, {})

    def test_all_are_found(self) -> None:
        """The first page, and the README, lead to every other one."""
        names = {page.name for page in PAGES} - {"README.md", "index.md"}
        for start in (ROOT / "README.md", ROOT / "docs" / "index.md"):
            targets = [link["target"] for link in LINK.finditer(text_of(start))]
            self.assertEqual(names - {Path(t).name for t in targets}, set(), start.name)

    def test_code(self) -> None:
        """A block from a file is what stands there; any other one runs."""
        shown = 0
        for page in PAGES[1:]:
            text = text_of(page)
            for block in SHOWN_FROM.finditer(text):
                shown += 1
                source = (ROOT / block["file"]).read_text("utf-8")
                self.assertTrue(is_shown_whole(block["body"], source), block[0])
            for block in FENCE.finditer(SHOWN_FROM.sub("", text)):
                if block["language"] == "python":
                    exec(compile(block["body"], page.name, "exec"), {})
        self.assertGreater(shown, 10)


class ReferenceTests(SynchronousTestCase):
    """The half of the reference that needs no build."""

    def test_every_name_has_its_line(self) -> None:
        """Above what the build makes of a section stand its names, in its order."""
        listed = []
        for section in re.split(r"^##+ ", text_of(REFERENCE), flags=re.MULTILINE):
            rows = re.findall(r"^\| `(\w+)` \| (.+) \|$", section, re.MULTILINE)
            built = re.findall(
                r"^\.\. auto\w+:: ([\w.]+)\.(\w+)$", section, re.MULTILINE
            )
            self.assertEqual([name for name, _ in rows], [name for _, name in built])
            for (name, line), (module, _) in zip(rows, built, strict=True):
                self.assertEqual(line, self.first_line(module, name) or line)
                listed.append(name)
        public = [*meshproto.__all__, *meshproto.testing.__all__]
        self.assertEqual(sorted(listed), sorted(public))

    def first_line(self, module: str, name: str) -> str:
        """What the docstring of a class says first; nothing for a number."""
        thing = getattr(meshproto if module == "meshproto" else meshproto.testing, name)
        if isinstance(thing, int):
            return ""
        first = (inspect.getdoc(thing) or thing.__doc__).splitlines()[0]
        return first.replace("``", "`").replace(".  ", ". ")
