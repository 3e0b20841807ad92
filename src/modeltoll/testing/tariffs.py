"""Conformance suite for tariffs: ``check_tariff(tariff)``."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from modeltoll.errors import AnswerError, CalibrationError
from modeltoll.evidence_records import EvidenceState, Verdict
from modeltoll.records import Account, Assessment, Caller, Leaks

if TYPE_CHECKING:
    from modeltoll.pricing.tariff import Tariff
    from modeltoll.records import Work

__all__ = ["check_tariff", "new_account"]


def new_account(tariff: Tariff, caller: Caller, model: str = "model") -> Account:
    """An account without rows, with evidence over the tariff's cells."""
    return Account(
        caller=caller,
        model=model,
        rows=0,
        requests=0,
        leaks=(0.0,) * len(tariff.measures),
        evidence=EvidenceState.new(tariff.cell_count, 0.0),
        work=0.0,
        tariff=tariff.identity,
        first_seen=0.0,
        last_seen=0.0,
    )


def check_tariff(tariff: Tariff, leaks: Leaks | None = None, *, seed: int = 0) -> None:
    """Check a tariff against the ``Tariff`` protocol.

    Args:
        tariff: the tariff.
        leaks: 3 rows or more to price; by default 40 log-normal ones.
        seed: seed of the default leaks and of every generator.

    Raises:
        AssertionError: the tariff violates the protocol; the message says how.
    """
    rng = np.random.default_rng(seed)
    if leaks is None:
        leaks = Leaks(tariff.measures, rng.lognormal(size=(40, len(tariff.measures))))
    assert len(leaks.values) >= 3, "the suite needs 3 rows or more"
    _check_identity(tariff)
    _check_unit_and_new_accounts(tariff)
    assessment = tariff.assess(leaks, np.random.default_rng(seed))
    _check_assessment(tariff, leaks, assessment)
    _check_rows_are_independent(tariff, leaks, assessment, seed)
    _check_refusals(tariff, leaks, rng)
    for caller in (Caller("key:alice"), Caller("net:198.51.100.7")):
        _check_work(tariff, leaks, caller, seed)
    _check_verdict(tariff, leaks)
    _check_surcharges(tariff, leaks, assessment)
    _check_names_have_no_price(tariff, leaks, assessment)
    _check_unsuspected_groups_have_no_price(tariff, leaks, assessment)


def _check_identity(tariff: Tariff) -> None:
    assert isinstance(tariff.identity, str)
    assert tariff.identity != ""
    assert tariff.identity == tariff.identity, "the identity changes"
    assert len(tariff.measures) >= 1
    assert tariff.cell_count >= 0


def _check_unit_and_new_accounts(tariff: Tariff) -> None:
    """What the gateway reserves and asks before the upstream: finite, and the same for callers of one kind."""
    assert 0.0 <= tariff.unit_seconds < math.inf
    for kind in (("key:alice", "key:bob", "jwt:alice"), ("net:198.51.100.7", "net:2001:db8:1:2::/64")):
        asked = {tariff.new_account_seconds(Caller(name)) for name in kind}
        assert len(asked) == 1, "two new accounts of one kind have different tolls"
        assert 0.0 <= min(asked) < math.inf


def _check_assessment(tariff: Tariff, leaks: Leaks, assessment: Assessment) -> None:
    rows = len(leaks.values)
    assert assessment.factors.shape == assessment.rarest.shape == assessment.cells.shape == (rows,)
    assert assessment.leaks is leaks
    assert np.isfinite(assessment.factors).all()
    assert (assessment.factors >= 0.0).all()
    assert ((assessment.rarest > 0.0) & (assessment.rarest <= 1.0)).all()
    assert assessment.cells.dtype == np.int64
    assert ((assessment.cells >= 0) & (assessment.cells < max(1, tariff.cell_count))).all()


def _check_rows_are_independent(tariff: Tariff, leaks: Leaks, whole: Assessment, seed: int) -> None:
    """A row's price depends neither on the other rows, nor on their order, nor on the generator."""
    before = leaks.values.copy()
    order = np.random.default_rng(seed).permutation(len(before))
    shuffled = tariff.assess(leaks.rows(order), np.random.default_rng(seed + 1))
    assert np.array_equal(shuffled.factors, whole.factors[order])
    assert np.array_equal(shuffled.rarest, whole.rarest[order])
    for index in range(len(before)):
        single = tariff.assess(leaks.rows(np.array([index])), np.random.default_rng(seed + 2))
        assert single.factors[0] == whole.factors[index]
        assert single.rarest[0] == whole.rarest[index]
    again = tariff.assess(leaks, np.random.default_rng(seed))
    assert np.array_equal(again.cells, tariff.assess(leaks, np.random.default_rng(seed)).cells), (
        "the same generator gives different cells"
    )
    assert np.array_equal(leaks.values, before), "the tariff changed the leaks"


def _check_refusals(tariff: Tariff, leaks: Leaks, rng: np.random.Generator) -> None:
    wider = np.hstack([leaks.values, leaks.values[:, :1]])
    others = tuple(f"other {name}" for name in leaks.measures)
    for wrong in (Leaks(others, leaks.values), Leaks((*leaks.measures, "other"), wider), Leaks(leaks.measures, wider)):
        with pytest.raises(CalibrationError):
            tariff.assess(wrong, rng)
    for invalid in (math.nan, math.inf, -1.0):
        values = leaks.values.copy()
        values[1, 0] = invalid
        with pytest.raises(AnswerError):
            tariff.assess(Leaks(leaks.measures, values, leaks.classes), rng)


def _charged(account: Account, leaks: Leaks) -> Account:
    """The account after these rows, none of them counted in a cell, so that the caller is not suspected."""
    total = tuple(float(leak) for leak in np.array(account.leaks) + leaks.values.sum(axis=0))
    return replace(account, rows=account.rows + len(leaks.values), requests=account.requests + 1, leaks=total)


def _price_requests(tariff: Tariff, leaks: Leaks, caller: Caller, sizes: list[int], seed: int) -> list[Work]:
    """The work of each request if the rows are sent in requests of these sizes, in order."""
    account, works, start = new_account(tariff, caller), [], 0
    for size in sizes:
        part = leaks.rows(np.arange(start, start + size))
        account, start = _charged(account, part), start + size
        assessment = tariff.assess(part, np.random.default_rng(seed))
        works.append(tariff.work(assessment, account, tariff.verdict(account)))
    return works


def _check_work(tariff: Tariff, leaks: Leaks, caller: Caller, seed: int) -> None:
    """Work is finite and that of the rows alone, and a batch costs the same however it is split."""
    rows = len(leaks.values)
    splits = [[rows], [1] * rows, [1, rows - 1], [rows - 2, 2]]
    totals = []
    for sizes in splits:
        works = _price_requests(tariff, leaks, caller, sizes, seed)
        assert works == _price_requests(tariff, leaks, caller, sizes, seed), "the same requests have different prices"
        for work, size in zip(works, sizes, strict=True):
            assert work.rows == size
            assert 0.0 <= work.seconds < math.inf
            assert work.rows_seconds == work.seconds
            assert work.new_account_seconds == 0.0, "the new-account toll is asked before, not in the work"
            assert work.surcharge >= 1.0
            assert work.group_surcharge >= 1.0
        totals.append(sum(work.seconds for work in works))
    for total in totals[1:]:
        assert np.allclose(total, totals[0], rtol=1e-9, atol=1e-12), "splitting a batch changes its price"


def _work(tariff: Tariff, assessment: Assessment, account: Account) -> Work:
    """The work by the verdict on the account."""
    return tariff.work(assessment, account, tariff.verdict(account))


def _check_verdict(tariff: Tariff, leaks: Leaks) -> None:
    """A new account is not suspected; of another tariff's cells it is refused; a verdict changes nothing by itself."""
    account = new_account(tariff, Caller("key:alice"))
    verdict = tariff.verdict(account)
    assert (verdict.surcharge, verdict.group_surcharge, verdict.frequent) == (1.0, 1.0, None)
    assert tariff.verdict(account).log_evidence == verdict.log_evidence
    unknown = tariff.verdict(account, "the pseudonym of nobody")
    assert (unknown.surcharge, unknown.own_kind) == (1.0, ""), "a caller without a log of its own has one"
    if tariff.cell_count:
        other = replace(account, evidence=EvidenceState.new(tariff.cell_count + 1, 0.0))
        for mixed in (other, replace(account, groups=(other,))):
            with pytest.raises(CalibrationError):
                tariff.verdict(mixed)
    assessment = tariff.assess(leaks, np.random.default_rng(0))
    assert tariff.work(assessment, account, verdict, leaks.values.copy()) == tariff.work(
        assessment, account, verdict
    ), "clean leaks change the price of a caller who is not suspected"


def _check_surcharges(tariff: Tariff, leaks: Leaks, assessment: Assessment) -> None:
    """A suspect pays no less than others, and at most the surcharge times more than its dearest rows would."""
    account = _charged(new_account(tariff, Caller("key:alice")), leaks)
    alone = tariff.work(assessment, account, Verdict())
    if not tariff.cell_count:
        return
    none, every = np.zeros(tariff.cell_count, np.bool_), np.ones(tariff.cell_count, np.bool_)
    spared, seen = (
        tariff.work(assessment, account, Verdict(surcharge=8.0, log_evidence=20.0, frequent=cells), leaks.values)
        for cells in (none, every)
    )
    assert alone.seconds <= spared.seconds <= seen.seconds
    least = 8.0 * float(np.maximum(assessment.factors, 1.0).sum()) * tariff.unit_seconds
    assert seen.seconds >= least * (1.0 - 1e-9), (
        "a row that speaks against a suspect costs less than one unit times the surcharge"
    )
    assert seen.surcharge == 8.0


def _check_names_have_no_price(tariff: Tariff, leaks: Leaks, assessment: Assessment) -> None:
    alice, bob = (_charged(new_account(tariff, Caller(name)), leaks) for name in ("key:alice", "key:bob"))
    assert _work(tariff, assessment, alice) == _work(tariff, assessment, bob), (
        "two callers with equal accounts have different prices"
    )


def _check_unsuspected_groups_have_no_price(tariff: Tariff, leaks: Leaks, assessment: Assessment) -> None:
    single = _charged(new_account(tariff, Caller("key:alice")), leaks)
    groups = tuple(_charged(new_account(tariff, Caller(name)), leaks) for name in ("org:acme", "prefix:10.0.0.0/8"))
    for settled in (0, 10**6):
        member = replace(single, groups=groups, settled_rows=settled)
        assert _work(tariff, assessment, member) == _work(tariff, assessment, single), (
            "groups that are not suspected change the price"
        )
    _check_settled_callers_owe_nothing_for_groups(tariff, leaks, assessment)


def _check_settled_callers_owe_nothing_for_groups(tariff: Tariff, leaks: Leaks, assessment: Assessment) -> None:
    """Others change no price of a caller with many settled rows, and raise another's at most tenfold."""
    single = _charged(new_account(tariff, Caller("key:alice")), leaks)
    for cell in range(tariff.cell_count):
        counts = tuple(1000 * (place == cell) for place in range(tariff.cell_count))
        evidence = replace(EvidenceState.new(tariff.cell_count, 0.0), counts=counts)
        group = replace(_charged(new_account(tariff, Caller("org:acme")), leaks), evidence=evidence)
        member, alone = replace(single, groups=(group,)), _work(tariff, assessment, single)
        assert _work(tariff, assessment, replace(member, settled_rows=10**6)) == alone, (
            "a group changes the price of a caller with many settled rows"
        )
        together = _work(tariff, assessment, member)
        assert alone.seconds * (1.0 - 1e-9) <= together.seconds <= 10.0 * alone.seconds * (1.0 + 1e-9)
