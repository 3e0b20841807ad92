"""A thief who reads prices: what quotes tell of a row's leak, in whatever company the row is sent, and how many are free."""

from __future__ import annotations

import itertools
import math
from bisect import bisect_left

import numpy as np
import pytest
from scipy.special import entr

from laboratory import CLASSES, KEYS, UNIT
from modeltoll.client.httpx import TollTransport
from modeltoll.pricing.calibration_file import load_calibration
from modeltoll.pricing.conformal_tariff import ConformalTariff
from modeltoll.records import Leaks

EXACT, COARSE, BLIND = "exact", "coarse", "blind"
RICH = {"seconds": 1e6, "units": 1}  # credit that ends no test
POOR = {"seconds": 0.001, "units": 200}
QUOTED = 60  # rows whose prices are read


@pytest.fixture(scope="module")
def gateway(laboratory):
    """The victim priced by its answers alone, once for each thing that a toll may publish."""
    members = {
        disclose: laboratory.variant(
            disclose, measures=("entropy",), puzzle={"disclose": disclose, "blind_seconds": 4 * (disclose == BLIND)}
        )
        for disclose in (EXACT, COARSE, BLIND)
    }
    settings = laboratory.settings(models=members)
    settings["callers"]["credit"] = RICH
    with laboratory.gateway(settings=settings) as gateway:
        yield gateway


class Truth:
    """What the owner knows of rows: their exact factors, and those of the bins that they are priced by."""

    def __init__(self, laboratory, victim):
        calibration = load_calibration(laboratory.folder / f"{EXACT}-{UNIT}.tariff.json")
        self._victim, self._tariff = victim, ConformalTariff(calibration)
        self._g, self.honest_rows = calibration.g, calibration.honest_rows

    def _leaks(self, rows):
        return Leaks(("entropy",), (entr(self._victim.scores(rows)).sum(axis=1) / np.log(CLASSES))[:, None])

    def exact(self, rows):
        p = self._tariff.p_values(self._leaks(rows))[:, 0]
        return (1 - self._g) * p**-self._g

    def priced(self, rows):
        return self._tariff.assess(self._leaks(rows), np.random.default_rng(0)).factors

    @property
    def bins(self):
        return self._tariff.row_prices.price_bins.count


@pytest.fixture(scope="module")
def truth(laboratory, victim, gateway):
    return Truth(laboratory, victim)


@pytest.fixture(scope="module")
def alike(truth, victim):
    """Two rows of one bin, as different as they can be: one leaks nearly as rarely as half the other."""
    exact, priced = truth.exact(victim.test), truth.priced(victim.test)
    pairs = [
        (exact[i] / exact[j], i, j)
        for i, j in itertools.permutations(range(len(exact)), 2)
        if priced[i] == priced[j] and 1 < priced[i] < 16
    ]
    ratio, *rows = max(pairs)
    assert ratio > 1.5
    return [victim.test[row] for row in rows]


@pytest.fixture(scope="module")
def cheap(truth, victim):
    """An honest row of the least price."""
    return victim.test[np.argmin(truth.priced(victim.test))]


def test_an_exact_quote_shows_the_bin_and_nothing_else(gateway, thief, victim, truth, cheap):
    """Alone, and as the difference of two batches, in which it was 0.2 ms exact."""
    rows, thieves = victim.test[:QUOTED], [thief(gateway, key) for key in KEYS[: QUOTED // 6]]
    for number, row in enumerate(rows):
        client, beside = thieves[number % len(thieves)], np.array([cheap] * 5)
        alone = client.toll(row, model=EXACT)["typical_seconds"]
        together = client.toll(np.vstack([row, beside]), model=EXACT)["typical_seconds"]
        rest = client.toll(beside, model=EXACT)["typical_seconds"]
        expected = truth.priced(row)[0] * UNIT
        assert alone == pytest.approx(expected, rel=0.1)
        assert together - rest == pytest.approx(expected, rel=0.2, abs=0.1 * UNIT)
    exact, priced = truth.exact(rows), truth.priced(rows)
    assert len(set(priced)) <= truth.bins <= 1 + 0.8 * np.log2(truth.honest_rows + 1) + 1e-9
    spread = [np.ptp(np.log2(exact[priced == price])) for price in set(priced)]
    assert 0.5 < max(spread) <= 1.0 + 1e-9


def octave(toll):
    """The power of two that a coarse toll publishes; each memory, of which the stock decides, rounds it in its own way."""
    return round(math.log2(toll["typical_seconds"]))


def flip(quote, low, high):
    """The least number in ``low..high`` at which a quote changes to another power of two, and the quotes that it took."""
    asked = []

    def beyond(number):
        asked.append(number)
        return quote(number) > base

    base = quote(low)
    return low + bisect_left(range(low, high), True, key=beyond), len(asked) + 1


def test_copies_of_a_cheap_row_tell_no_more_than_the_bin(gateway, thief, alike, cheap):
    """Eight coarse quotes gave a row's price to 0.2 ms: here they give that of its bin."""
    found = []
    for key, row in zip(KEYS[10:], alike, strict=False):
        client = thief(gateway, key)

        def quote(copies, client=client, row=row):
            return octave(client.toll(np.vstack([row, *[cheap] * copies]), model=COARSE))

        found.append(flip(quote, 20, 200))
    (one, quotes), (other, _) = found
    assert one == other
    assert quotes <= 10


@pytest.mark.parametrize(
    "accept", ["argon2id, sha256; mode=sealed; receipts", "sha256; mode=sealed; receipts", "argon2id"]
)
def test_coarse_quotes_are_powers_of_two(gateway, thief, victim, truth, accept):
    """Puzzle, memory, parts, bounds and the seal's length follow from the published wait, which is rounded up."""
    client = thief(gateway, KEYS[12])
    shapes = {}
    rows = victim.test[:30]
    for row, priced in zip(rows, truth.priced(rows), strict=True):
        toll = client.toll(row, model=COARSE, accept=accept)
        wait = 2.0 ** np.ceil(np.log2(2 * priced * UNIT))
        assert toll["typical_seconds"] == pytest.approx(wait / 2, rel=0.35)
        shapes.setdefault(wait, set()).add(shape(toll))
    assert len(shapes) >= 3
    assert [len(found) for found in shapes.values()] == [1] * len(shapes)


def shape(toll):
    """Everything in a toll that is not random."""
    puzzle = toll["puzzle"]
    parts = tuple(part["n"] for part in puzzle["parts"])
    payload = "sealed" if "sealed" in toll else "token"
    return toll["mode"], puzzle["name"], puzzle.get("m_kib"), parts, toll["typical_seconds"], len(toll[payload])


@pytest.mark.parametrize("accept", ["argon2id, sha256; mode=sealed; receipts", "sha256; mode=redeem; memory=1MiB"])
def test_blind_tolls_of_as_many_rows_are_all_alike(gateway, thief, victim, photograph_patches, cheap, accept):
    client, shapes = thief(gateway, KEYS[13]), set()
    client.toll((victim.test[:200] + victim.test[200:400]) / 2, model=BLIND)  # far from every class: suspicion
    for row in (cheap, *victim.test[:10], *photograph_patches(20), np.random.default_rng(0).random(64)):
        shapes.add(shape(client.toll(row, model=BLIND, accept=accept)))
    assert gateway.log()[-1]["suspected"]
    assert len(shapes) == 1
    batches = (np.array([cheap] * 20), photograph_patches(20, seed=1))
    assert len({shape(client.toll(batch, model=BLIND, accept=accept)) for batch in batches}) == 1


@pytest.fixture(scope="module")
def poor(laboratory):
    """The same with a credit of 200 units."""
    members = {
        disclose: laboratory.variant(
            disclose, measures=("entropy",), puzzle={"disclose": disclose, "blind_seconds": 4 * (disclose == BLIND)}
        )
        for disclose in (COARSE, BLIND)
    }
    settings = laboratory.settings(models=members)
    settings["callers"]["credit"] = POOR
    with laboratory.gateway(settings=settings) as gateway:
        yield gateway


def test_what_an_admission_asks_tells_no_more_of_a_thrown_away_row_than_its_bin(poor, laboratory, thief, alike, cheap):
    """Rows that were never admitted are weighed against what is owed already: free, but they weigh the bin."""
    found = []
    for key, row in zip(KEYS[14:], alike, strict=False):
        client = thief(poor, key)
        client.toll(row, model=COARSE)
        asked = len(laboratory.server.bodies)

        def missing(copies, client=client):
            toll = client.toll(np.array([cheap] * copies), model=COARSE)
            assert toll["admission"]
            return octave(toll)

        found.append(flip(missing, 220, 420)[0])
        assert len(laboratory.server.bodies) == asked
    assert found[0] == found[1]


def test_blind_admissions_are_all_alike(poor, thief, cheap):
    client = thief(poor, KEYS[16])
    tolls = [client.toll(np.array([cheap] * copies), model=BLIND) for copies in (201, 300, 500, 1000)]
    assert all(toll["admission"] for toll in tolls)
    assert len({shape(toll)[:5] for toll in tolls}) == 1


@pytest.mark.parametrize("disclose", [COARSE, BLIND])
def test_the_receipt_of_an_answer_that_was_paid_before_tells_what_a_toll_would_tell(
    poor, thief, truth, cheap, disclose
):
    """``Toll-Receipt`` gave the work of prepaid answers to four digits."""
    client = thief(poor, KEYS[19 + (disclose == BLIND)], transport=TollTransport(max_seconds=60))
    response = client.ask(np.array([cheap] * 300), model=disclose)
    assert response.status_code == 200
    rows, work, mode = (member.partition("=")[2] for member in response.headers["toll-receipt"].split("; "))
    price = 300 * truth.priced(cheap)[0] * UNIT
    assert (rows, mode) == ("300", "prepaid")
    expected = 4.0 if disclose == BLIND else 2.0 ** np.ceil(np.log2(price))
    assert float(work) == pytest.approx(expected, rel=1e-3)
    assert float(work) != pytest.approx(price, rel=1e-3)


def test_the_length_of_an_admission_does_not_tell_what_is_owed(poor, victim, thief, cheap):
    """A token holds the seconds that it pays for, as a number of more or fewer digits."""
    client, lengths = thief(poor, KEYS[18]), set()
    for row in victim.test[:12]:
        client.toll(row, model=COARSE)
        toll = client.toll(np.array([cheap] * 400), model=COARSE)
        assert toll["admission"]
        lengths.add(len(toll["token"]))
    assert len(lengths) == 1


def test_labels_along_the_way_between_two_known_rows_end_with_the_credit(poor, laboratory, victim, thief):
    """A price peaks at the model's boundary: 3,750 quotes labelled 1,000 rows. Here a credit of 200 units ends them."""
    client, asked, random = thief(poor, KEYS[17]), len(laboratory.server.bodies), np.random.default_rng(0)
    quotes = refused = 0
    while refused < 10:
        one, other = victim.test[random.choice(100, 2, replace=False)]
        for share in np.linspace(0, 1, 17)[1:-1]:
            toll = client.toll((1 - share) * one + share * other, model=COARSE)
            quotes, refused = quotes + 1, refused + bool(toll.get("admission"))
    answered = quotes - refused
    print("free quotes", answered)
    assert len(laboratory.server.bodies) - asked == answered <= 200
