"""The records of an explanation: how a row's price arises, and what the evidence against a caller consists of."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "CallerExplanation",
    "CellReading",
    "GroupReading",
    "KindDistance",
    "KindPValue",
    "MeasureReading",
    "RowExplanation",
    "TestReading",
]


@dataclass(frozen=True, slots=True)
class KindPValue:
    """The p-value of a leak among the rows of one kind: p = (1 + ``at_least``) / (``rows`` + 1).

    ``at_least`` of the kind's ``rows`` rows have that leak or more.
    """

    kind: str
    role: str
    at_least: int
    rows: int
    p_value: float


@dataclass(frozen=True, slots=True)
class MeasureReading:
    """One measure's term of a row's price: weight * factor.

    ``kinds``: the p-value among each kind by which the row is priced. ``decisive``: the name of the kind with the largest,
    which is ``p_value``. ``factor``: the mean of (1 - g) p^(-g) over the bin of p, from ``p_low`` to ``p_high``.
    ``clean_leak``: by the measure fitted without kinds. ``clean_p_value``: the smaller p-value of the two leaks, each among all
    traffic alone. ``clean_factor``: the factor at that p.
    """

    measure: str
    leak: float
    kinds: tuple[KindPValue, ...]
    decisive: str
    p_value: float
    p_low: float
    p_high: float
    weight: float
    factor: float
    clean_leak: float
    clean_p_value: float
    clean_factor: float


@dataclass(frozen=True, slots=True)
class RowExplanation:
    """The price of one row, without the new-account toll.

    ``rarity``: the weighted mean of the measures' factors. ``cell_price``: that of the row's cell, by how much more often
    known strangers fall into it than any honest caller; None where none are known. ``factor``: the mean of the two, or
    ``own_factor`` where that is less: the weighted mean with p-values among the caller's own log too (None without one).

    ``surcharged``: whether the caller's surcharge applies: its cell is one of those that speak against the caller
    (``frequent``), or ``clean_rarest`` is below the limit. The row costs the larger one of ``price_factor`` * ``surcharge`` and
    ``factor`` * ``group_surcharge`` units, where ``price_factor`` is ``factor``, or of a surcharged row the largest of that,
    ``clean_factor`` and 1; and ``seconds`` = units * ``unit_seconds`` * ``markup`` * (1 - ``discount``). Both surcharges are 1
    where they do not apply. ``cell_bounds``: the smoothed p-values of the cell, for each of the ``coordinates``.
    """

    readings: tuple[MeasureReading, ...]
    g: float
    rarity: float
    cell_price: float | None
    own_factor: float | None
    factor: float
    rarest: float
    coordinates: tuple[str, ...]
    cell: int
    cell_bounds: tuple[tuple[float, float], ...]
    clean_factor: float
    clean_rarest: float
    frequent: bool
    surcharged: bool
    price_factor: float
    surcharge: float
    group_surcharge: float
    markup: float
    discount: float
    unit_seconds: float
    seconds: float


@dataclass(frozen=True, slots=True)
class TestReading:
    """One of the tests whose weighted mean is the evidence.

    ``block_rows``: 0 for the test of all rows, else the rows after which a block ends. ``number``: of the block, from 1.
    ``finished``: it has ended, and waits for its evidence to be added. ``rows``: those tested, with ``log_evidence``, which
    has this ``weight`` in the whole.
    """

    block_rows: int
    number: int
    finished: bool
    rows: int
    log_evidence: float
    weight: float


@dataclass(frozen=True, slots=True)
class CellReading:
    """One cell of a caller's rows, and the same of the honest law that fits the caller best.

    ``bounds``: of the smoothed p-values, for each coordinate. ``share``: of the caller's rows. ``honest``: the share under
    the fitted law, which includes the tolerance. ``log_ratio`` = ``rows`` * ln(``share`` / ``honest``): what the cell adds to
    the evidence against the caller, or takes away where it is below 0. ``against``: whether its share exceeds the honest one.
    """

    cell: int
    bounds: tuple[tuple[float, float], ...]
    rows: int
    share: float
    honest: float
    log_ratio: float
    against: bool


@dataclass(frozen=True, slots=True)
class KindDistance:
    """How far a caller's rows lie from one kind: ``nats`` a row, the relative entropy of their cells to the kind's law."""

    kind: str
    role: str
    label: str
    rows: int
    nats: float


@dataclass(frozen=True, slots=True)
class GroupReading:
    """A group of the caller: ``rows`` ever, ``counted`` ones since ``since`` (seconds since the epoch), and its evidence."""

    group: str
    rows: int
    counted: int
    since: float
    log_evidence: float
    surcharge: float


@dataclass(frozen=True, slots=True)
class CallerExplanation:
    """The state of one caller of one model. Times are in seconds since the epoch.

    ``rows``: total. ``counted``: fresh rows since ``since``, at which the evidence began anew. ``log_evidence`` is the
    logarithm of the weighted mean of ``tests``, of what the ``finished_blocks`` (``finished_log``, None for nothing) and the
    blocks to come add, and of what earlier tariffs left (``carried_log``, None for nothing; not counted where the caller's own
    log is a kind). At ``log_threshold`` = ln(1/alpha) suspicion starts. Then rows in cells ``against`` the caller, and rows
    with clean p below ``rare_below``, cost ``surcharge`` times as much; or rows with p below ``group_rare_below``
    ``group_surcharge`` times, if that is more. ``own_kind``: the name of the kind made of the caller's own log, or None.
    ``kinds``: nearest first. ``cells``: those with rows of the ``leading`` test, that of all rows or of a
    suspect the one with most of the evidence, strongest against the caller first. ``markup`` multiplies the
    price of rows; ``discount`` is taken off it, and is 0 under suspicion. ``entry_units``: the part of the new-account toll
    that is not paid; requests with ``entry_rows`` rows together owe it.
    """

    caller: str
    model: str
    rows: int
    settled_rows: int
    counted: int
    first_seen: float
    since: float
    work_seconds: float
    own_kind: str | None
    tests: tuple[TestReading, ...]
    leading: TestReading
    finished_blocks: int
    finished_log: float | None
    carried_log: float | None
    log_evidence: float
    log_threshold: float
    surcharge: float
    rare_below: float
    group_surcharge: float
    group_rare_below: float
    groups: tuple[GroupReading, ...]
    markup: float
    discount: float
    entry_units: float
    entry_rows: int
    coordinates: tuple[str, ...]
    cells: tuple[CellReading, ...]
    kinds: tuple[KindDistance, ...]

    @property
    def suspected(self) -> bool:
        """Whether the caller is under suspicion."""
        return self.surcharge > 1.0

    @property
    def frequent(self) -> frozenset[int]:
        """The cells whose share of the caller's rows exceeds that of the fitted honest law."""
        return frozenset(each.cell for each in self.cells if each.against)
