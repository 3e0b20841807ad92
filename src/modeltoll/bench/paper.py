"""Tables 2, 3 and 5 of Dziedzic et al., ICLR 2022 (arXiv 2201.09243v3), by the bench's names of data set and attack."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["BATCH_OF_TABLE_5", "TABLE_2", "TABLE_3", "TABLE_5", "Table2Row", "Table3Row", "Table5Row", "data_of"]


def data_of(target: str) -> str:
    """The data set of a target, which is named by it and its victim where it has several: cifar10 of cifar10-resnet34."""
    return target.partition("-")[0]


@dataclass(frozen=True, slots=True)
class Table2Row:
    """A row of Table 2: the summed PATE cost, seconds without and with the proof of work, accuracy and fidelity in per cent."""

    queries: int
    cost: float
    without: float
    within: float
    accuracy: float
    fidelity: float

    @property
    def ratio(self) -> float:
        """Seconds with the proof of work divided by seconds without."""
        return self.within / self.without


@dataclass(frozen=True, slots=True)
class Table3Row:
    """A row of Table 3: gap and entropy sums, the composed pkNN cost, seconds, accuracy in per cent (None: not given)."""

    queries: int
    gap: float
    entropy: float
    pknn: float
    without: float
    within: float
    accuracy: float | None = None

    @property
    def ratio(self) -> float:
        """Seconds with the proof of work divided by seconds without."""
        return self.within / self.without


@dataclass(frozen=True, slots=True)
class Table5Row:
    """Seconds per query, Table 5's divided by its 64 queries: of the model alone, and with an estimator of the leak.

    ``pknn`` is the time without proof of work in Table 3 per query, which holds that estimator. None: not given.
    """

    inference: float
    pate: float
    pknn: float | None = None
    entropy: float | None = None
    gap: float | None = None


TABLE_2: Mapping[tuple[str, str], Table2Row] = {
    ("mnist", "mixmatch"): Table2Row(8_000, 2047, 58.9, 67.1, 99.5, 99.6),
    ("mnist", "standard"): Table2Row(10_000, 2576, 73.6, 83.9, 98.4, 98.7),
    ("mnist", "knockoff-random"): Table2Row(10_000, 5301, 73.6, 21_283, 98.7, 99.0),
    ("mnist", "knockoff-adaptive"): Table2Row(10_000, 5251, 73.6, 21_235, 89.7, 90.0),
    ("mnist", "copycat"): Table2Row(10_000, 5301, 73.6, 21_283, 92.7, 92.9),
    ("mnist", "jacobian"): Table2Row(10_000, 2421.6, 73.6, 91.1, 81.4, 81.5),
    ("mnist", "datafree"): Table2Row(2_000_000, 1.39e6, 14_375, 276_904, 95.18, 95.7),
    ("cifar10", "mixmatch"): Table2Row(8_000, 22_378, 131.8, 163, 91.7, 92.2),
    ("cifar10", "standard"): Table2Row(9_000, 25_147, 148.3, 182.4, 65.7, 66.0),
    ("cifar10", "knockoff-random"): Table2Row(9_000, 29_584, 148.3, 23_921, 64.0, 64.2),
    ("cifar10", "knockoff-adaptive"): Table2Row(9_000, 27_927, 148.3, 23_528, 32.0, 32.3),
    ("cifar10", "copycat"): Table2Row(9_000, 29_584, 148.3, 23_921, 54.2, 54.8),
    ("cifar10", "jacobian"): Table2Row(9_000, 25_574, 148.3, 199.9, 30.5, 31.1),
    ("cifar10", "datafree"): Table2Row(20_000_000, 7.14e7, 3.22e5, 2.95e6, 87.15, 88.0),
}

TABLE_3: Mapping[tuple[str, str], Table3Row] = {
    ("mnist", "standard"): Table3Row(10_000, 59.7, 37.5, 4.58, 73.4, 88.9),
    ("mnist", "knockoff-random"): Table3Row(10_000, 4539, 4367, 50, 73.4, 42_513),
    ("mnist", "copycat"): Table3Row(10_000, 4539, 4367, 50, 73.4, 42_513),
    ("mnist", "jacobian"): Table3Row(10_000, 41.9, 46.2, 3.46, 73.4, 88.9),
    ("mnist", "entropyrev-ood"): Table3Row(10_000, 3750, 3295, 62.2, 73.4, 58_078, 91.0),
    ("mnist", "worstcase-ood"): Table3Row(10_000, 444.6, 704, 34, 73.4, 24_474, 95.3),
    ("cifar10", "standard"): Table3Row(30_000, 704.9, 588.3, 15.9, 215.6, 262.5),
    ("cifar10", "knockoff-random"): Table3Row(30_000, 6889, 5656, 146, 215.6, 290_377, 87.8),
    ("cifar10", "worstcase-ood"): Table3Row(30_000, 4407, 3442, 91.8, 215.6, 139_208, 70.5),
}

BATCH_OF_TABLE_5 = 64  # queries
_MNIST = Table5Row(
    0.214 / BATCH_OF_TABLE_5,
    0.464 / BATCH_OF_TABLE_5,
    73.4 / 10_000,
    0.214 / BATCH_OF_TABLE_5,
    0.214 / BATCH_OF_TABLE_5,
)
TABLE_5: Mapping[str, Table5Row] = {
    "mnist": _MNIST,
    "fashion": _MNIST,  # which is not in the table
    "svhn": Table5Row(0.250 / BATCH_OF_TABLE_5, 2.167 / BATCH_OF_TABLE_5),
    "cifar10": Table5Row(0.249 / BATCH_OF_TABLE_5, 1.031 / BATCH_OF_TABLE_5, 215.6 / 30_000),
}
