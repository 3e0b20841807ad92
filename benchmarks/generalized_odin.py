"""Generalized ODIN as the cost of a query: what it tells of foreign images that entropy and novelty do not.

    python benchmarks/generalized_odin.py [mnist cifar10] --data-dir DIR --cache DIR

Hsu, Shen, Jin and Kira, CVPR 2020: the victim's architecture with a decomposed head, trained as the victim is. Its logits are
h_i(x) / g(x), where h_i is the cosine of the features and a class's weights (equation 6, DeConf-C) and g the sigmoid of a
normalised linear unit (equation 5). The score of an input is the largest h_i after a step of size epsilon along the sign of
its gradient (equation 9), with the epsilon that makes the scores of held-out honest images largest (equation 10). The cost is
1 minus the score. Writes ``results/leak/odin-NAME.json``: how well each measure tells foreign from honest images (area under
the ROC curve), and the mean price factor of each caller under it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from studies import printed_progress, study_data_sets
from torch import Tensor, nn
from torch.nn import functional

from modeltoll.bench import datasets
from modeltoll.bench.victims.measure_files import layered_novelty
from modeltoll.bench.victims.networks import ARCHITECTURES, MnistNet, Network, ResidualNet, as_tensor
from modeltoll.bench.victims.registry import VICTIMS
from modeltoll.bench.victims.trained_networks import trained_network
from modeltoll.leak.entropy import EntropyMeasure
from modeltoll.records import Evidence

ROWS, HELD_OUT, SEED, BATCH = 2000, 1000, 0, 250
STEPS = (0.0, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.08)  # epsilons, the paper's
POWER = 0.8  # g of the price factor


class Decomposed(nn.Module):
    """The head of DeConf-C in place of a network's last layer."""

    def __init__(self, features: int, classes: int = 10) -> None:
        super().__init__()
        self.classes = nn.Linear(features, classes, bias=False)
        self.unit = nn.Linear(features, 1)
        self.norm = nn.BatchNorm1d(1)

    def cosines(self, features: Tensor) -> Tensor:
        """h_i, (n, classes)."""
        return functional.linear(functional.normalize(features), functional.normalize(self.classes.weight))

    def forward(self, features: Tensor) -> Tensor:
        """Logits h_i / g, (n, classes)."""
        return self.cosines(features) / torch.sigmoid(self.norm(self.unit(features)))


class DecomposedMnistNet(MnistNet):
    """MnistNet with the decomposed head."""

    def __init__(self) -> None:
        super().__init__()
        self.last = Decomposed(500)  # type: ignore[assignment]  a layer of another kind in its place


class DecomposedResidualNet(ResidualNet):
    """The residual victim with the decomposed head."""

    def __init__(self) -> None:
        super().__init__()
        self.last = Decomposed(192)  # type: ignore[assignment]


NETWORKS: dict[str, Callable[[], Network]] = {"mnist": DecomposedMnistNet, "cifar10": DecomposedResidualNet}


def scores(network: Network, images: np.ndarray, step: float) -> np.ndarray:
    """The largest h_i of each image after a step of this size, (n,)."""
    found = []
    for start in range(0, len(images), BATCH):
        batch = as_tensor(images[start : start + BATCH]).requires_grad_()
        best = network.last.cosines(network.stages(batch)[-1]).amax(dim=1)
        if step:
            (gradient,) = torch.autograd.grad(best.sum(), batch)
            with torch.no_grad():
                best = network.last.cosines(network.stages(batch + step * gradient.sign())[-1]).amax(dim=1)
        found.append(best.detach().numpy())
    return np.concatenate(found).astype(np.float64)


def factors(honest: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """The conformal price factor of costs, against those of honest rows."""
    above = len(honest) - np.searchsorted(np.sort(honest), asked, "left")
    p = (1.0 + above) / (len(honest) + 1.0)
    return (1.0 - POWER) * p**-POWER


def compare(costs: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]) -> dict[str, Any]:
    """Area and mean factors by measure, of costs of held-out honest, honest and foreign images."""
    return {
        name: {
            "area": float(roc_auc_score(np.r_[np.zeros(len(honest)), np.ones(len(foreign))], np.r_[honest, foreign])),
            "factor_honest": float(factors(held_out, honest).mean()),
            "factor_foreign": float(factors(held_out, foreign).mean()),
        }
        for name, (held_out, honest, foreign) in costs.items()
    }


def study(name: str, folder: Path, cache: Path) -> dict[str, Any]:
    """Train the network with the decomposed head, or read it from the cache, and compare its cost."""
    private, unseen = (VICTIMS[name].load(folder, train=train_part) for train_part in (True, False))
    ARCHITECTURES[f"decomposed-{name}"] = NETWORKS[name]
    recipe = replace(VICTIMS[name].recipe, architecture=f"decomposed-{name}")
    begin = time.process_time()
    network = trained_network(recipe, private, cache / f"odin-{name}.pt", printed_progress(name))
    trained = time.process_time() - begin
    network.to(memory_format=torch.contiguous_format)
    tiny, rng = datasets.tiny_imagenet(folder).x, np.random.default_rng(SEED)
    foreign = datasets.resize_to(tiny[rng.permutation(len(tiny))[:ROWS]], unseen.x.shape[1:])
    parts = (unseen.x[:HELD_OUT], unseen.x[HELD_OUT : HELD_OUT + ROWS], foreign)
    step = max(STEPS, key=lambda each: float(scores(network, parts[0], each).mean()))
    with torch.inference_mode():
        probabilities = [network(as_tensor(part)).double().softmax(dim=1).numpy() for part in parts]
    novelty = layered_novelty(name, private, cache)
    evidence = [
        Evidence((b"",) * len(part), shown, part.reshape(len(part), -1))
        for part, shown in zip(parts, probabilities, strict=True)
    ]
    costs = {
        "generalized ODIN": tuple(1.0 - scores(network, part, step) for part in parts),
        **{measure.name: tuple(map(measure.measure, evidence)) for measure in (EntropyMeasure(), novelty)},
    }
    accuracy = float((probabilities[1].argmax(axis=1) == unseen.y[HELD_OUT : HELD_OUT + ROWS]).mean())
    return {
        "data": name,
        "recipe": asdict(recipe),
        "training_cpu_seconds": trained,
        "accuracy": accuracy,
        "epsilon": step,
        "measures": compare(costs),
    }


if __name__ == "__main__":
    study_data_sets(study, "odin", ("mnist", "cifar10"))
