"""Names that look alike, by Unicode's own list of confusable characters.

Unicode Technical Standard 39 gives every character a prototype, which stands
for all that look like it.  The list comes with ``confusable-homoglyphs``, a
megabyte of JSON: it is read when the first name that is not ASCII is met.
"""

from __future__ import annotations

import json
import unicodedata
from functools import cache
from typing import Literal

#: What Unicode takes for one and the same in ASCII, and small for capital
#: letters: ``I`` looks like ``l``, and ``i`` is a small ``I``.
_ASCII = str.maketrans(
    {"0": "o", "1": "l", "i": "l", "|": "l", "m": "rn", "`": "'", '"': "''"}
)
_FORMS: tuple[Literal["NFC", "NFD"], ...] = ("NFC", "NFD")
#: The list has every right-to-left character between two of these.
_LEFT_TO_RIGHT = "\u200e"


def skeletons(text: str) -> frozenset[str]:
    """What a text has in common with every text that looks like it.

    Two look alike when they share a skeleton.  Case and white space make no
    difference, nor do marks that only choose between two forms of a character.
    """
    if text.isascii():
        return frozenset((_folded(text),))
    # The list is for decomposed text, but has some composed letters too.
    return frozenset(
        _folded(_mapped(case, form)) for case in (text, text.upper()) for form in _FORMS
    )


def _mapped(text: str, form: Literal["NFC", "NFD"]) -> str:
    """The text with each character's prototype in its place."""
    prototypes = _prototypes()
    text = "".join(char for char in text if not _is_selector(char))
    # Twice, for a compatibility form may hide another look-alike.
    for each in (form, "NFKD"):
        text = unicodedata.normalize(each, text)
        text = "".join(prototypes.get(char, char) for char in text)
    return unicodedata.normalize("NFKD", text)


def _folded(text: str) -> str:
    return "".join(text.casefold().translate(_ASCII).split())


def _is_selector(char: str) -> bool:
    """Joiners and variation selectors: nothing of their own is to be seen."""
    return (
        char in "\u200c\u200d\u180b\u180c\u180d\u180f"
        or "\ufe00" <= char <= "\ufe0f"
        or "\U000e0100" <= char <= "\U000e01ef"
    )


@cache
def _prototypes() -> dict[str, str]:
    """The prototype of each character that is not ASCII and has another one."""
    # Slow to import, and hardly ever needed.
    from importlib import resources

    folder = resources.files("confusable_homoglyphs")
    alike = json.loads((folder / "confusables.json").read_text("utf-8"))
    found = {}
    for key, others in alike.items():
        # The list names every pair twice, once from either side.  One that has
        # several others is their prototype.
        char, other = (each.strip(_LEFT_TO_RIGHT) for each in (key, others[0]["c"]))
        if len(char) == 1 and not char.isascii() and len(others) == 1:
            is_pair = len(alike[others[0]["c"]]) == 1
            found[char] = min(char, other) if is_pair and len(other) == 1 else other
    return found
