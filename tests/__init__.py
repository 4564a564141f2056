"""The tests: ``python -m pytest`` or ``python -m twisted.trial tests``.

Most are trial test cases, which both runners take.  What only pytest can run
(fixtures, coroutines with a reactor) stands in files called
``test_pytest_*.py``.
"""

from __future__ import annotations

import os
import signal

from hypothesis import settings

from tests.slow import examples

# Here and not in conftest.py, so that it holds under trial as well: a slow
# machine is no failure, and a failure in CI is one again on the next run.
settings.register_profile(
    "meshproto",
    deadline=None,
    derandomize=bool(os.environ.get("CI")),
    max_examples=examples(100),
)
settings.load_profile("meshproto")

# A child inherits that a signal is ignored, as under nohup or in the background
# of a shell, and there is a handler only until the child begins.  So these
# signals still do nothing here, and everything in the programs that are tested.
for _name in ("SIGINT", "SIGHUP"):
    _number = getattr(signal, _name, None)
    if _number is not None and signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, lambda number, frame: None)
