"""Detects names that look alike, with Unicode's list of confusable characters.

Unicode Technical Standard 39 maps each character to a prototype, shared by all that
look like it.  The list comes with ``confusable-homoglyphs``.  It is a megabyte of
JSON, so it is loaded only for the first name that is not ASCII.
"""

from __future__ import annotations

import json
import unicodedata
from functools import cache
from typing import Literal

#: Unicode's confusable ASCII characters, after folding case: ``I`` looks like ``l``,
#: so ``i`` counts as ``l``, too.
_ASCII = str.maketrans(
    {"0": "o", "1": "l", "i": "l", "|": "l", "m": "rn", "`": "'", '"': "''"}
)
_FORMS: tuple[Literal["NFC", "NFD"], ...] = ("NFC", "NFD")
#: The list puts every right-to-left character between two of these.
_LEFT_TO_RIGHT = "\u200e"


def skeletons(text: str) -> frozenset[str]:
    """The skeletons of a text; two texts look alike if they share one.

    Case and white space make no difference, nor do variation selectors, which only
    choose between forms of a character.
    """
    if text.isascii():
        return frozenset((_folded(text),))
    # The list is for decomposed text, but also has some composed letters.
    return frozenset(
        _folded(_mapped(case, form)) for case in (text, text.upper()) for form in _FORMS
    )


def _mapped(text: str, form: Literal["NFC", "NFD"]) -> str:
    """The text with each character replaced by its prototype."""
    prototypes = _prototypes()
    text = "".join(char for char in text if not _is_selector(char))
    # Twice, because a compatibility form may hide another look-alike.
    for each in (form, "NFKD"):
        text = unicodedata.normalize(each, text)
        text = "".join(prototypes.get(char, char) for char in text)
    return unicodedata.normalize("NFKD", text)


def _folded(text: str) -> str:
    return "".join(text.casefold().translate(_ASCII).split())


def _is_selector(char: str) -> bool:
    """Whether it is a joiner or variation selector, invisible on its own."""
    return (
        char in "\u200c\u200d\u180b\u180c\u180d\u180f"
        or "\ufe00" <= char <= "\ufe0f"
        or "\U000e0100" <= char <= "\U000e01ef"
    )


@cache
def _prototypes() -> dict[str, str]:
    """The prototype of each non-ASCII character that has one other than itself."""
    # Slow to import, and rarely needed.
    from importlib import resources

    folder = resources.files("confusable_homoglyphs")
    alike = json.loads((folder / "confusables.json").read_text("utf-8"))
    found = {}
    for key, others in alike.items():
        # The list names every pair twice, once from each side.  A character with
        # several look-alikes is their prototype.
        char, other = (each.strip(_LEFT_TO_RIGHT) for each in (key, others[0]["c"]))
        if len(char) == 1 and not char.isascii() and len(others) == 1:
            is_pair = len(alike[others[0]["c"]]) == 1
            found[char] = min(char, other) if is_pair and len(other) == 1 else other
    return found
