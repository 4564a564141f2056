"""What holds for the whole run under pytest; trial does the same by itself."""

from __future__ import annotations

import os
from collections.abc import Iterator
from unittest import TestCase

import pytest


@pytest.fixture(scope="session", autouse=True)
def folder_of_the_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests write into a temporary folder, not into the checkout."""
    before = os.getcwd()
    os.chdir(tmp_path_factory.mktemp("run"))
    yield
    os.chdir(before)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Coroutines come last: they start the reactor, which then runs to the end.

    Trial's test cases start it themselves, each anew, and cannot while it runs.
    """

    def is_coroutine(item: pytest.Item) -> bool:
        return not issubclass(getattr(item, "cls", None) or object, TestCase)

    items.sort(key=is_coroutine)
