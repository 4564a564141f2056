"""Makes text safe to show on a terminal, and wraps it so that no row misleads."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator

_INDENT = "  "
_JOINERS = "\u200c\u200d"
#: Characters that Unicode calls printable but that are invisible.  First letters and
#: marks with the property ``Default_Ignorable_Code_Point`` (see
#: DerivedCoreProperties.txt) that do not select a form of another character; then
#: symbols and letters that are drawn blank, or in many fonts not at all.
_BLANKS = frozenset(
    "\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0"
    "\u2800\u303f\ufffc\U00013441\U00013442\U00016fe4\U0001d159"
)


def visible(text: str) -> str:
    r"""The text with every invisible character escaped.

    Control characters (tab and line breaks, too), escape sequences, format
    characters, bidirectional controls, line separators, blank letters, lone
    surrogates, and private or unassigned characters become ``\x1b``, ``\u202e`` or
    ``\U000e0001``.  Letters, marks, digits, punctuation, symbols and spaces of every
    script stay, and so do the two joiners (U+200C, U+200D) between visible
    characters, where scripts and emoji need them.  A mark at the start is escaped,
    because it would combine with whatever precedes the text.

    The result has no line break, is safe on a terminal, and can be encoded as UTF-8.

    >>> visible("red \x1b[31malert")
    'red \\x1b[31malert'
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        char if is_shown(text, index) else escaped(char)
        for index, char in enumerate(text)
    )


def clipped(text: str, most: int) -> str:
    """The result of `visible`, cut after at most ``most`` bytes of UTF-8.

    If it is cut, a note gives the size of the rest: ``... (9 more bytes)``.  The
    cost depends on ``most``, not on the length of the text.

    >>> clipped("0123456789", 4)
    '0123 ... (6 more bytes)'
    """
    size = 0
    # A character takes at least one byte.
    for index, char in enumerate(text[: most + 1]):
        piece = char if is_shown(text, index) else escaped(char)
        size += len(piece.encode())
        if size > most:
            break
    else:
        return visible(text)
    kept = text[:index].rstrip(_JOINERS)
    more = len(text[len(kept) :].encode("utf-8", "surrogatepass"))
    what = "byte" if more == 1 else "bytes"
    return f"{visible(kept)} ... ({more} more {what})"


def guarded(line: str, columns: int) -> str:
    """The line, wrapped so that no row of it can pass for a line of its own.

    A terminal wraps long lines, so a message of the right length could continue on
    the next row as what looks like a line of ours.  Where that is possible, the line
    is wrapped here, and a row that starts with ``[`` is indented; any other line is
    left to the terminal.  Terminals differ in the width of some characters, so the
    check allows for any of them.
    """
    least = most = 0
    for char in line:
        if char == "[":
            # A wide character at the edge may leave the last column of a row empty,
            # or extend beyond it.
            edge = -(-max(least - least // columns, 1) // columns) * columns
            if edge <= most + most // columns:
                return "\n".join(_rows(line, columns))
        narrow, wide = _widths(char)
        least += narrow
        most += wide
    return line


def is_shown(text: str, index: int) -> bool:
    char = text[index]
    if char in _JOINERS:
        around = text[max(index - 1, 0) : index] + text[index + 1 : index + 2]
        return len(around) == 2 and all(
            each.isprintable() and not each.isspace() and each not in _BLANKS
            for each in around
        )
    if index == 0 and unicodedata.category(char).startswith("M"):
        return False
    if char.isprintable():
        return char not in _BLANKS
    return unicodedata.category(char) == "Zs"


def _rows(line: str, columns: int) -> Iterator[str]:
    """The line, split into rows that fit any terminal of that width."""
    row, used = "", 0
    for char in line:
        narrow, wide = _widths(char)
        if row and used + wide > columns:
            yield row
            # After characters of no width, a bracket would still come first.
            row = "" if narrow and char != "[" else _INDENT
            used = len(row)
        row += char
        used += wide
    yield row


def _widths(char: str) -> tuple[int, int]:
    """The least and the most columns that a character takes on some terminal."""
    if char.isascii():
        return 1, 1
    category, width = unicodedata.category(char), unicodedata.east_asian_width(char)
    if category[0] == "L" and width in "WF":
        return 2, 2
    if category[0] == "L" and width in ("N", "Na", "H") and ord(char) < 0x530:
        return 1, 1
    return 0, 2


def escaped(char: str) -> str:
    code = ord(char)
    if code < 0x100:
        return f"\\x{code:02x}"
    if code < 0x10000:
        return f"\\u{code:04x}"
    return f"\\U{code:08x}"


def columns_of(text: str) -> int:
    """Roughly how many terminal columns the text takes."""
    return sum(
        0
        if unicodedata.combining(char) or char in _JOINERS
        else 1 + (unicodedata.east_asian_width(char) in "WF")
        for char in text
    )
