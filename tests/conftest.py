"""How hypothesis searches: without deadlines, and in CI always along the same paths. What programs under test hear."""

from __future__ import annotations

import os
import signal

from hypothesis import settings

settings.register_profile("default", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") == "true" else "default")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # As where the tests run in the background: what they start would inherit it, and never hear an interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)
