"""Receipts as callers carry them."""

import random

import pytest

from modeltoll.gateway.core.receipts import decrypt_receipts, encrypt_receipt
from modeltoll.records import Caller
from modeltoll.settlement_records import Receipt
from modeltoll.wire import MAX_RECEIPT_BYTES

ALICE, BOB, KEY = Caller("key:alice"), Caller("key:bob"), b"k" * 32
RECEIPT = Receipt(b"i" * 16, 1000.5, 0.25, 3)


@pytest.fixture
def encrypted():
    return encrypt_receipt(KEY, ALICE, RECEIPT, random.Random(1))


def test_a_receipt_opens_for_the_caller_and_the_key_it_was_encrypted_with(encrypted):
    assert decrypt_receipts(KEY, ALICE, [encrypted]) == (RECEIPT,)
    assert decrypt_receipts(KEY, BOB, [encrypted]) == ()
    assert decrypt_receipts(b"l" * 32, ALICE, [encrypted]) == ()


def test_a_receipt_with_any_bit_changed_counts_for_nothing(encrypted):
    for place in range(len(encrypted)):
        for bit in range(8):
            changed = bytearray(encrypted)
            changed[place] ^= 1 << bit
            assert decrypt_receipts(KEY, ALICE, [bytes(changed)]) == ()


def test_what_is_not_a_receipt_is_left_out_and_the_others_count(encrypted):
    other = encrypt_receipt(KEY, ALICE, Receipt(b"j" * 16, 2.0, 1.0, 1), random.Random(2))
    shown = [b"", b"\x02", encrypted[:-1], encrypted + b"\0", b"x" * 1000, encrypted, other, encrypted]
    assert [receipt.identity for receipt in decrypt_receipts(KEY, ALICE, shown)] == [b"i" * 16, b"j" * 16]


def test_receipts_of_all_prices_have_one_length_and_fit_the_wire(encrypted):
    lengths = {
        len(encrypt_receipt(KEY, ALICE, Receipt(b"i" * 16, expires, seconds, rows), random.Random(3)))
        for expires, seconds, rows in [(0.0, 0.0, 1), (1.7e9, 1e9, 10**6), (1.7e9 + 1e-3, 1e-9, 2**53)]
    }
    assert lengths == {len(encrypted)}
    assert len(encrypted) <= MAX_RECEIPT_BYTES


def test_a_receipt_shows_neither_price_nor_caller(encrypted):
    assert b"alice" not in encrypted
    assert encrypt_receipt(KEY, ALICE, RECEIPT, random.Random(4))[13:] != encrypted[13:]
