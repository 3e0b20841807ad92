"""Mean price factors of recorded leaks, per data set, caller and measure; a table, a JSON file each, and a figure.

    python benchmarks/leak_table.py [mnist fashion cifar10] [--leaks results/pricing] [--out results/leak] [--figure FILE]

The tariff is the conformal one with g = 0.8, calibrated on the 5000 rows recorded as ``calibration``. ``half`` is the
mean factor of the cheaper half of a caller's rows: the price for a thief who abandons the others.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from modeltoll.pricing.calibration import Calibration
from modeltoll.pricing.conformal_tariff import ConformalTariff
from modeltoll.records import Leaks

G = 0.8
DEFAULT = {"entropy": 1, "novelty-layered": 2}
MEANS = (
    {"entropy": 1, "pate": 1},
    {"entropy": 1, "novelty-input": 1},
    {"entropy": 1, "novelty-features": 1},
    {"entropy": 1, "novelty-layered": 1},
    DEFAULT,
    {"entropy": 1, "novelty-layered": 1, "novelty-directions": 1},
)
TITLES = {
    "tiny-imagenet": "Tiny-ImageNet",
    "emnist": "EMNIST letters",
    "other": "the other MNIST",
    "noise": "noise",
    "honest": "honest",
}


def named(weights: dict[str, int]) -> str:
    """The name of a weighted mean of measures."""
    return " + ".join(measure if weight == 1 else f"{weight} {measure}" for measure, weight in weights.items())


def factors(leaks: dict[str, np.ndarray], chosen: dict[str, int], caller: str) -> np.ndarray:
    """The price factors of a caller's rows under a weighted mean of measures, ascending."""
    measures, total = tuple(chosen), sum(chosen.values())
    columns = [leaks["measures"].tolist().index(measure) for measure in measures]
    scores = np.sort(leaks["calibration"][:, columns].T.astype(np.float64), axis=1)
    weights = tuple(weight / total for weight in chosen.values())
    tariff = ConformalTariff(Calibration("recorded", measures, scores, weights, G, unit_seconds=1.0))
    values = leaks[caller][:, columns].astype(np.float64)
    return np.sort(tariff.assess(Leaks(measures, values), np.random.default_rng(0)).factors)


def table(leaks: dict[str, np.ndarray]) -> dict[str, dict[str, dict[str, float]]]:
    """{measures: {caller: {mean, half}}}."""
    names = tuple(leaks["measures"].tolist())
    choices = [{name: 1} for name in names] + [mean for mean in MEANS if set(mean) <= set(names)]
    rows: dict[str, dict[str, dict[str, float]]] = {}
    for chosen in choices:
        row = rows.setdefault(named(chosen), {})
        for caller in (caller for caller in TITLES if caller in leaks):
            prices = factors(leaks, chosen, caller)
            row[caller] = {"mean": float(prices.mean()), "half": float(prices[: len(prices) // 2].mean())}
    return rows


def draw(tables: dict[str, dict[str, dict[str, dict[str, float]]]], path: Path) -> None:
    """One panel per data set: the factor of each caller for each choice of measures, with its cheaper half as a tick."""
    import matplotlib as mpl  # noqa: PLC0415  only for the figure

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    figure, panels = plt.subplots(
        1, len(tables), figsize=(3.4 + 3.6 * len(tables), 5.2), squeeze=False, sharex=True, sharey=True
    )
    colours = dict(zip(TITLES, ("#b5402a", "#d9962e", "#4a7f5c", "#3d6896", "#8a8a8a"), strict=True))
    for panel, (name, rows) in zip(panels[0], tables.items(), strict=True):
        for place, row in enumerate(reversed(rows.values())):
            for caller, cost in row.items():
                panel.plot([cost["half"], cost["mean"]], [place, place], color=colours[caller], alpha=0.35, lw=2)
                panel.plot(cost["half"], place, "|", color=colours[caller], ms=9)
                panel.plot(
                    cost["mean"], place, "o", color=colours[caller], ms=6, label=TITLES[caller] if not place else ""
                )
        panel.set(xscale="log", title=name)
        panel.set_yticks(range(len(rows)), list(reversed(rows)))
        panel.axvline(1.0, color="#cccccc", lw=1, zorder=0)
        panel.axvline(20.0, color="#cccccc", lw=1, ls=":", zorder=0)
        panel.spines[["top", "right"]].set_visible(False)
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=len(TITLES), frameon=False)
    figure.supxlabel("mean price factor, in units (tick: cheaper half)", y=0.07, fontsize="medium")
    figure.tight_layout(rect=(0, 0.06, 1, 1))
    figure.savefig(path, dpi=130)


def main() -> None:
    """Tabulate the recorded leaks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=["mnist", "fashion", "cifar10"])
    parser.add_argument("--leaks", type=Path, default=Path("results/pricing"))
    parser.add_argument("--out", type=Path, default=Path("results/leak"))
    parser.add_argument("--figure", type=Path)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    tables = {}
    for name in options.names:
        with np.load(options.leaks / f"leaks-{name}.npz") as archive:
            leaks = dict(archive)
        tables[name] = table(leaks)
        document = {
            "command": f"python benchmarks/leak_table.py {name}",
            "leaks": f"leaks-{name}.npz",
            "g": G,
            "calibration_rows": len(leaks["calibration"]),
            "default": named(DEFAULT),
            "factors": tables[name],
        }
        (options.out / f"factors-{name}.json").write_text(json.dumps(document, indent=2) + "\n")
        print(f"\n### {name}\n\n| measures | " + " | ".join(TITLES.values()) + " |\n|---|" + "---:|" * len(TITLES))
        for measures, row in tables[name].items():
            cells = (f"{row[c]['mean']:.1f} ({row[c]['half']:.1f})" if c in row else "" for c in TITLES)
            print(f"| {measures} | " + " | ".join(cells) + " |")
    if options.figure is not None:
        draw(tables, options.figure)


if __name__ == "__main__":
    main()
