"""Record the leaks of honest callers and thieves, for studies of prices.

    python benchmarks/leak_record.py [mnist fashion cifar10] --data-dir DIR --cache DIR --out results/pricing

Writes ``leaks-NAME.npz``: arrays (rows, measures), float32 rounded to 12 bits, under the names of the callers, and
``measures``, the names of the columns; a JSON file beside it describes its origin. Victims that are not in the cache
are trained first; teachers and layered novelty (see ``leak_models.py``) are used if they are in the cache.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from modeltoll.bench import datasets
from modeltoll.bench.victims.registry import VICTIMS, TorchVictim, load_victim
from modeltoll.leak.entropy import EntropyMeasure
from modeltoll.leak.gap import GapMeasure
from modeltoll.leak.layered_novelty import LayeredNovelty, NoveltyTerms
from modeltoll.leak.measure import LeakMeasure
from modeltoll.leak.novelty import NoveltyMeasure
from modeltoll.leak.pate import PateMeasure
from modeltoll.leak.pknn import PknnMeasure, log_scores
from modeltoll.leak.teachers.fit_sklearn import TeacherEnsemble
from modeltoll.records import Evidence

SEED = 20260101
CALIBRATION, STOLEN, NOISE = 5000, 10_000, 5000
POINTS = 10_000  # private points kept for novelty in input space
BATCH = 500
OTHER = {"mnist": datasets.fashion, "fashion": datasets.mnist, "cifar10": datasets.mnist}


def callers(name: str, folder: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Each caller's name and images."""
    rng = np.random.default_rng(SEED)
    test = VICTIMS[name].load(folder, train=False).x
    order = rng.permutation(len(test))
    shape = test.shape[1:]
    yield "calibration", test[order[:CALIBRATION]]
    yield "honest", test[order[CALIBRATION:]]
    sources = {
        "tiny-imagenet": lambda: datasets.tiny_imagenet(folder).x,
        "emnist": lambda: datasets.emnist_letters(folder).x,
        "other": lambda: OTHER[name](folder, train=False).x,
    }
    for caller, load in sources.items():
        images = load()
        yield caller, datasets.resize_to(images[rng.permutation(len(images))[:STOLEN]], shape)
    yield "noise", rng.random((NOISE, *shape))


@dataclass(frozen=True)
class VictimFeatures:
    """The victim's late layers as a feature extractor for novelty; convolutions by the mean of each channel."""

    target: TorchVictim
    shape: tuple[int, ...]

    @property
    def dimensions(self) -> int:
        """The length of a flat input."""
        return int(np.prod(self.shape))

    def features(self, inputs: np.ndarray) -> list[np.ndarray]:
        """The features of the last three stages."""
        return self.target.stages(inputs.reshape(-1, *self.shape))[-3:]


def measures(name: str, folder: Path, cache: Path, target: TorchVictim) -> dict[str, Callable[[], LeakMeasure]]:
    """Functions that fit each measure to the private data, by name."""
    private = VICTIMS[name].load(folder, train=True)
    flat = private.x.reshape(len(private.x), -1)
    shape = private.x.shape[1:]
    found: dict[str, Callable[[], LeakMeasure]] = {
        "entropy": EntropyMeasure,
        "gap": GapMeasure,
        "pknn": lambda: PknnMeasure(log_scores(target.scores(private.x)), private.y),
        "novelty-input": lambda: NoveltyMeasure(flat, max_points=POINTS),
        "novelty-features": lambda: NoveltyMeasure(
            flat, embed=lambda x: target.features(x.reshape(-1, *shape)), max_points=2 * POINTS
        ),
        "novelty-directions": lambda: LayeredNovelty(
            VictimFeatures(target, shape), flat, NoveltyTerms(views=("direction",), power=1.0, max_points=2 * POINTS)
        ),
    }
    teachers, layered = (cache / f"{part}-{name}.npz" for part in ("teachers", "layered"))
    if teachers.is_file():
        ensemble = TeacherEnsemble.load(teachers)
        found["pate"] = lambda: PateMeasure(ensemble.votes, len(ensemble))
    if layered.is_file():
        found["novelty-layered"] = lambda: LayeredNovelty.load(layered)
    return found


def rounded(values: np.ndarray) -> np.ndarray:
    """Round to float32 with 12 bits of mantissa, which compresses well."""
    mantissa, exponent = np.frexp(values)
    return np.ldexp(np.round(mantissa * 4096) / 4096, exponent).astype(np.float32)


def record(name: str, folder: Path, cache: Path, out: Path, only: Sequence[str]) -> None:
    """Measure every caller of one victim, and write the file and its JSON; ``only`` updates some columns of the file."""
    begin = time.perf_counter()
    target = load_victim(name, folder, cache, lambda _done, _most: None)
    known = measures(name, folder, cache, target)
    fitted = {measure: fit() for measure, fit in known.items() if not only or measure in only}
    arrays: dict[str, np.ndarray] = {"measures": np.array(list(known))}
    before: dict[str, np.ndarray] = {}
    if only:
        with np.load(out / f"leaks-{name}.npz") as archive:
            before = dict(archive)
        arrays["measures"] = before["measures"]
    for caller, images in callers(name, folder):
        parts = []
        for start in range(0, len(images), BATCH):
            batch = images[start : start + BATCH]
            evidence = Evidence((b"",) * len(batch), target.scores(batch), batch.reshape(len(batch), -1))
            parts.append(np.stack([measure.measure(evidence) for measure in fitted.values()], axis=1))
        arrays[caller] = rounded(np.concatenate(parts))
        if only:
            columns = [before["measures"].tolist().index(measure) for measure in fitted]
            arrays[caller], measured = before[caller], arrays[caller]
            arrays[caller][:, columns] = measured
        print(f"{name}, {caller}: {len(images)} rows, {time.perf_counter() - begin:.0f} s", file=sys.stderr, flush=True)
    out.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(out / f"leaks-{name}.npz", **arrays)
    document = {
        "command": f"python benchmarks/leak_record.py {name} --data-dir DIR --cache DIR",
        "seed": SEED,
        "victim": target.identity,
        "accuracy": target.accuracy(VICTIMS[name].load(folder, train=False)),
        "measures": arrays["measures"].tolist(),
        "rows": {caller: len(array) for caller, array in arrays.items() if caller != "measures"},
        "versions": {"python": platform.python_version(), "numpy": np.__version__, "torch": torch.__version__},
    }
    (out / f"leaks-{name}.json").write_text(json.dumps(document, indent=2) + "\n")


def main() -> None:
    """Record the given victims."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=["mnist", "fashion", "cifar10"])
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--cache", type=Path, default=Path("build/victims"))
    parser.add_argument("--out", type=Path, default=Path("results/pricing"))
    parser.add_argument(
        "--only", action="append", default=[], help="measure this again and keep the other samples of the file"
    )
    options = parser.parse_args()
    for name in options.names:
        record(name, datasets.data_folder(options.data_dir), options.cache, options.out, options.only)


if __name__ == "__main__":
    main()
