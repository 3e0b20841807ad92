"""The digits target and its baseline, prepared once for all tests of the bench."""

from __future__ import annotations

import pytest

from modeltoll.bench.baseline import measure_baseline
from modeltoll.bench.prepared_target import Workspace
from modeltoll.bench.targets import TARGETS


@pytest.fixture(scope="session")
def workspace(tmp_path_factory):
    return Workspace(None, tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def prepared(workspace):
    return TARGETS["digits"].prepare(workspace, lambda _done, _most: None)


@pytest.fixture(scope="session")
def baseline(workspace, prepared):
    return measure_baseline(TARGETS["digits"], workspace.cache, lambda: prepared)
