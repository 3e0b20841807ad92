"""Commands in the Redis protocol: hiredis writes the same bytes as Python does."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeltoll.ledger import valkey_commands
from modeltoll.ledger.valkey_commands import encode_command

ARGUMENTS = st.one_of(st.binary(), st.text(st.characters(exclude_categories=["Cs"])), st.floats(), st.integers())


def in_python(arguments):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(valkey_commands, "_packed", None)
        return encode_command(arguments)


@given(st.lists(ARGUMENTS))
def test_hiredis_writes_the_same_bytes(arguments):
    assert valkey_commands._packed is not None  # the extra ``valkey`` has it
    assert encode_command(arguments) == in_python(arguments)


def test_a_command_has_the_length_of_each_argument_and_all_digits_of_a_float():
    assert encode_command(iter((b"GET", "kö", 0.1 + 0.2, 7))) == (
        b"*4\r\n$3\r\nGET\r\n$3\r\nk\xc3\xb6\r\n$19\r\n0.30000000000000004\r\n$1\r\n7\r\n"
    )


def test_numbers_of_numpy_are_written_as_those_of_python():
    assert encode_command((np.float64(0.1), "k")) == in_python((0.1, "k"))
