"""Benchmarks of meshproto against the alternatives.

Run from a checkout: ``python -m bench --help``.
"""

from __future__ import annotations
