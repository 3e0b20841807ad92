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
    ``clean_leak``: by the measure fitted without kinds, with ``clean_p_value`` among all traffic and the factor at it.
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

    ``factor`` = (1 - ``numeraire_weight``) * ``rarity`` + ``numeraire_weight`` * ``numeraire``, where ``rarity`` is the
    weighted mean of the measures' factors and ``numeraire`` the ratio of known strangers to honest kinds in the row's
    ``cell``; its weight is 0 where no strangers are known. ``price_factor``: ``factor``, or where the surcharge of the
    caller applies (``surcharged``) the largest of 1, ``factor`` and ``clean_factor``. It applies where the row's cell is
    ``frequent`` among the caller's rows, or ``clean_rarest`` is below the limit. ``seconds`` = ``unit_seconds`` *
    ``price_factor`` * max(``surcharge``, ``group_surcharge``) * ``markup`` * (1 - ``discount``). ``cell_bounds``: from
    where to where the cell's smoothed p-values reach, for each of the ``coordinates``.
    """

    readings: tuple[MeasureReading, ...]
    g: float
    rarity: float
    numeraire: float
    numeraire_weight: float
    factor: float
    rarest: float
    coordinates: tuple[str, ...]
    cell: int
    cell_bounds: tuple[tuple[float, float], ...]
    clean_factor: float
    clean_rarest: float
    frequent: bool
    surcharged: bool
    surcharge: float
    group_surcharge: float
    markup: float
    discount: float
    unit_seconds: float
    price_factor: float
    seconds: float


@dataclass(frozen=True, slots=True)
class TestReading:
    """One of the tests whose weighted mean is the evidence.

    ``block_rows``: 0 for the test of all rows, else the rows after which a block ends. ``number``: of the current block,
    from 1. ``rows``: those tested. ``log_evidence``: of them. ``weight``: of the current block in the evidence.
    """

    block_rows: int
    number: int
    rows: int
    log_evidence: float
    weight: float


@dataclass(frozen=True, slots=True)
class CellReading:
    """One cell of a caller's rows, and the same of the honest law that fits the caller best.

    ``bounds``: of the smoothed p-values, for each coordinate. ``share``: of the caller's rows. ``honest``: the share under
    the fitted law, which includes the tolerance. ``log_ratio`` = ``rows`` * ln(``share`` / ``honest``): what the cell adds to
    the evidence against the caller, or takes away where it is below 0.
    """

    cell: int
    bounds: tuple[tuple[float, float], ...]
    rows: int
    share: float
    honest: float
    log_ratio: float

    @property
    def against(self) -> bool:
        """Whether the cell speaks against the caller: its share of the rows exceeds the honest one."""
        return self.share > self.honest


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
    logarithm of the weighted mean of ``tests``, of what the finished blocks (``finished_log``, None for none) and the
    blocks to come add, and of what earlier tariffs left (``carried_log``, None for none; left out where the caller's own log
    is a kind). At ``log_threshold`` = ln(1/alpha) suspicion starts. Then rows in cells ``against`` the caller, and rows
    with clean p below ``rare_below``, cost ``surcharge`` times as much; or rows with p below ``group_rare_below``
    ``group_surcharge`` times, if that is more. ``own_kind``: the name of the kind made of the caller's own log, or None.
    ``kinds``: nearest first. ``cells``: those with rows, strongest against the caller first. ``markup`` multiplies the
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
