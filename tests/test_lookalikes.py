"""Skeletons of names, beside the list that they are made from."""

from __future__ import annotations

import unicodedata
from itertools import combinations

from confusable_homoglyphs.confusables import (  # type: ignore[import-untyped]
    confusables_data,
)
from twisted.trial.unittest import SynchronousTestCase

from meshproto.run.lookalikes import _prototypes, skeletons

ASCII = [chr(code) for code in range(33, 127)]


def are_alike(one: str, other: str) -> bool:
    return bool(skeletons(one) & skeletons(other))


class SkeletonTests(SynchronousTestCase):
    def test_every_pair_of_the_list(self) -> None:
        """What Unicode takes for one another is one to us, both ways."""
        missed = [
            (key, other["c"])
            for key, others in confusables_data.items()
            for other in others
            if len(key.strip("\u200e")) == 1
            # Hebrew letters with points have no composed form of their own.
            and unicodedata.is_normalized("NFC", key + other["c"])
            and not are_alike(key.strip("\u200e"), other["c"].strip("\u200e"))
        ]
        # Of what is ASCII only letters and digits are looked up.
        self.assertEqual(missed, [("%", "\xba/\u2080")])

    def test_ascii(self) -> None:
        """In ASCII it is what the list says, and case, and nothing more.

        For names of ASCII the list is not read.
        """
        listed = {
            frozenset((key, other["c"]))
            for key, others in confusables_data.items()
            for other in others
            if (key + other["c"]).isascii()
        }
        listed |= {frozenset((char, char.upper())) for char in ASCII}
        alike = {
            frozenset((one, other))
            for one, other in combinations([*ASCII, "rn", "''"], 2)
            if are_alike(one, other)
        }
        self.assertEqual(listed - alike - {frozenset((c,)) for c in ASCII}, set())
        # By way of a third one: `i` is a small `I`, and `I` looks like `l`.
        self.assertEqual(
            {"".join(sorted(pair)) for pair in alike - listed},
            {"il", "1i", "i|", "1I", "1L", "1|", "IL", "I|", "L|", "Li", "0o", "Mrn"},
        )

    def test_unlike(self) -> None:
        for one, other in (("bob", "rob"), ("c", "o"), ("r", "t"), ("SYSTEM", "STEM")):
            self.assertFalse(are_alike(one, other))

    def test_other_forms(self) -> None:
        """Width, case, composition, white space, joiners, chosen forms."""
        for one, other in (
            ("\uff42ob", "bob"),
            ("BOB", "bob"),
            ("\xe9", "e\u0301"),
            ("b o\u2003b", "bob"),
            ("b\u200dob", "bob"),
            ("bob\ufe0f", "bob"),
            ("bo\U000e0100b", "bob"),
            ("\u0442\u0415\u0421\u0442", "TECT"),
        ):
            self.assertTrue(are_alike(one, other), ascii(one))

    def test_prototypes_are_their_own(self) -> None:
        """A prototype has no other prototype: one step is enough."""
        prototypes = _prototypes()
        further = {
            char: prototype
            for char, prototype in prototypes.items()
            if len(prototype) == 1 and prototypes.get(prototype, prototype) != prototype
        }
        self.assertEqual(further, {})
