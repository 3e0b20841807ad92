"""What tests of the demo share: a silent terminal."""

import contextlib

import pytest


@contextlib.contextmanager
def _silent(title):
    del title
    yield lambda done, most: None


@pytest.fixture(scope="session")
def stage():
    """A step of the demo that says nothing."""
    return _silent
