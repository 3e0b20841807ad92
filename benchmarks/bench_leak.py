"""Benchmark the leak measures per row, against plain implementations of the published formulas in the same run.

    python benchmarks/bench_leak.py [--json FILE] [--repeats N]

Set OPENBLAS_NUM_THREADS=1 for figures per core. Data is synthetic and seeded; slow plain implementations run on fewer
rows. Each figure is the minimum over the repeats, because other load only adds to it.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import scipy
from onnx import TensorProto, helper, numpy_helper
from scipy.special import erfc
from timing import least_microseconds

from modeltoll.leak.entropy import EntropyMeasure
from modeltoll.leak.gap import GapMeasure
from modeltoll.leak.input_transform import Standardised
from modeltoll.leak.layered_novelty import LayeredNovelty
from modeltoll.leak.novelty import NoveltyMeasure
from modeltoll.leak.novelty_network import NoveltyNetwork
from modeltoll.leak.pate import VoteReadout
from modeltoll.leak.pknn import PknnMeasure, log_scores
from modeltoll.leak.rdp import ORDERS, gnmax_rdp, log_q
from modeltoll.leak.teachers.ensemble import NetworkMembers, SeparateMembers, TeacherEnsemble
from modeltoll.leak.teachers.network_stack import Layer, NetworkStack
from modeltoll.leak.teachers.vote_head import VoteHead
from modeltoll.records import Evidence


@dataclass(frozen=True)
class Figure:
    """Microseconds per row of this package and of a plain implementation; ``target`` of the design, if any."""

    what: str
    rows: int
    microseconds: float
    plain: float
    target: float | None = None


def per_row(work: Callable[[], object], rows: int, repeats: int) -> float:
    """Minimum of the microseconds per row over the repeats."""
    return least_microseconds(work, repeats) / rows


def plain_rdp(votes, sigma):
    """Papernot et al. 2018, Theorem 6, Propositions 7 and 10, for one row of votes at all orders."""
    winner = int(np.argmax(votes))
    q = sum(erfc((votes[winner] - n) / (2 * sigma)) / 2 for j, n in enumerate(votes) if j != winner)
    log_q = np.log(min(q, 1 - 1 / len(votes)))
    m2 = sigma * np.sqrt(-log_q)
    m1 = m2 + 1
    e1, e2 = m1 / sigma**2, m2 / sigma**2
    ceiling = ORDERS / sigma**2
    if not (m2 > 1 and -log_q > e2 and log_q <= (m2 - 1) * e2 - m2 * (np.log(1 + 1 / m2) + np.log(1 + 1 / (m2 - 1)))):
        return ceiling
    t = ORDERS - 1
    log_a = np.log1p(-np.exp(log_q)) - np.log1p(-np.exp((log_q + e2) * (1 - 1 / m2)))
    log_b = e1 - log_q / (m1 - 1)
    bound = np.logaddexp(np.log1p(-np.exp(log_q)) + t * log_a, log_q + t * log_b) / t
    return np.where(m1 > ORDERS, np.minimum(bound, ceiling), ceiling)


def rdp_figures(rng: np.random.Generator, repeats: int) -> Iterator[Figure]:
    """GNMax of 250 teachers, sigma 10, batch 1000, 396 orders, from votes; of an easy, a hard and the worst mix."""
    leaders = np.concatenate([rng.beta(30, 1, 700), rng.uniform(0.1, 1.0, 300)])
    mixed = np.stack([rng.multinomial(250, [p, *[(1 - p) / 9] * 9]) for p in leaders])
    spread = np.stack(
        [rng.multinomial(250, [p, *rng.dirichlet(np.ones(9)) * (1 - p)]) for p in rng.uniform(0.1, 1, 1000)]
    )
    for name, votes in (("70 % near-unanimous votes", mixed), ("votes of all degrees of agreement", spread)):
        ours = per_row(lambda votes=votes: gnmax_rdp(log_q(votes, 10.0), 10.0, ORDERS), 1000, repeats)
        plain = per_row(lambda votes=votes: [plain_rdp(row, 10.0) for row in votes[:100]], 100, repeats)
        yield Figure(f"GNMax RDP, 396 orders, {name}", 1000, ours, plain, 2.0)
    readout = VoteReadout(10.0)
    ours = per_row(lambda: readout.leak(mixed), 1000, repeats)
    yield Figure("votes to leak, reading rdp, 70 % near-unanimous votes", 1000, ours, plain)
    values = -rng.uniform(100.0, 156.0, 1000)
    ours = per_row(lambda: gnmax_rdp(values, 10.0, ORDERS), 1000, repeats)
    yield Figure("GNMax RDP, 396 orders, 1000 distinct values near unanimity (worst case)", 1000, ours, plain, 2.0)


def evidence_of(scores=None, inputs=None) -> Evidence:
    """Evidence with these scores or inputs, and distinct fingerprints."""
    rows = len(scores if scores is not None else inputs)
    return Evidence(tuple(i.to_bytes(8, "big") for i in range(rows)), scores=scores, inputs=inputs)


def score_figures(rng: np.random.Generator, repeats: int) -> Iterator[Figure]:
    """Entropy and gap of one row of ten classes, including validation."""
    scores = rng.dirichlet(np.ones(10), 1)
    evidence = evidence_of(scores)
    plains = {
        "entropy": lambda: -(scores[0] * np.log(scores[0])).sum() / np.log(10),
        "gap": lambda: 1 - np.diff(np.sort(scores[0])[-2:])[0],
    }
    for measure in (EntropyMeasure(), GapMeasure()):
        ours = per_row(lambda measure=measure: measure.measure(evidence), 1, repeats)
        yield Figure(f"{measure.name}, one row, guards included", 1, ours, per_row(plains[measure.name], 1, repeats))


def pknn_figures(rng: np.random.Generator, repeats: int) -> Iterator[Figure]:
    """k = 300 among 60,000 private points of ten classes, from scores to the leak."""
    labels = rng.integers(0, 10, 60_000)

    def scores(rows, of):
        logits = rng.normal(size=(rows, 10)) * 2
        logits[np.arange(rows), of] += 8
        powers = np.exp(logits)
        return powers / powers.sum(axis=1, keepdims=True)

    private = log_scores(scores(60_000, labels))
    tracemalloc.start()
    measure = PknnMeasure(private, labels)
    batch = evidence_of(scores(64, rng.integers(0, 10, 64)))
    measure.measure(batch)
    print(f"pknn, 60,000 x 10, peak memory: {tracemalloc.get_traced_memory()[1] / 2**20:.0f} MiB", file=sys.stderr)
    tracemalloc.stop()

    def plain(row):
        near = np.argsort(np.linalg.norm(private - np.log(row), axis=1))[:300]
        return plain_rdp(np.bincount(labels[near], minlength=10), 28.0)

    slow = per_row(lambda: [plain(row) for row in batch.scores[:4]], 4, repeats)
    yield Figure("pknn, 60,000 points", 64, per_row(lambda: measure.measure(batch), 64, repeats), slow, 200.0)
    one = evidence_of(batch.scores[:1])
    yield Figure("pknn, 60,000 points, one row", 1, per_row(lambda: measure.measure(one), 1, repeats), slow)


def novelty_figures(rng: np.random.Generator, repeats: int) -> Iterator[Figure]:
    """SingleTeacher row against private inputs."""
    for count, dimensions, steepness, target in (
        (600, 64, 0.0, 60.0),
        (60_000, 64, 0.0, None),
        (60_000, 2, 0.0, None),
        (60_000, 784, 0.8, None),  # as in images, where the directions differ in weight
    ):
        scale = np.arange(1.0, dimensions + 1.0) ** -steepness
        private = rng.normal(size=(count, dimensions)) * scale
        measure = NoveltyMeasure(private, 5)
        one = evidence_of(inputs=rng.normal(size=(1, dimensions)) * scale)
        ours = per_row(lambda m=measure, e=one: m.measure(e), 1, repeats)
        plain = per_row(lambda p=private, e=one: np.sort(np.linalg.norm(p - e.inputs[0], axis=1))[4], 1, repeats)
        uneven = " of uneven spread" if steepness else ""
        yield Figure(f"novelty, {count} x {dimensions} private points{uneven}, one row", 1, ours, plain, target)


class SingleTeacher:
    """SingleTeacher teacher of an ensemble, evaluated alone."""

    def __init__(self, networks: NetworkMembers, teacher: int) -> None:
        pick = slice(teacher, teacher + 1)
        self._network = NetworkMembers(
            tuple(np.ascontiguousarray(w[:, pick] if i == 0 else w[pick]) for i, w in enumerate(networks.weights)),
            tuple(b[pick] for b in networks.biases),
            networks.activation,
        )

    def predict(self, inputs):
        return self._network.predict(inputs)[:, 0]


def teacher_figures(rng: np.random.Generator, repeats: int) -> Iterator[Figure]:
    """250 teachers of 784 inputs at batch 500; the plain implementation evaluates one after the other."""
    inputs = rng.uniform(size=(500, 784))
    for name, widths in (("linear", (784, 10)), ("perceptrons of 32 units", (784, 32, 10))):
        first, *later = itertools.pairwise(widths)
        weights = [rng.normal(size=(first[0], 250, first[1])), *(rng.normal(size=(250, *pair)) for pair in later)]
        networks = NetworkMembers(tuple(weights), tuple(np.zeros((250, w.shape[2])) for w in weights), "relu")
        ours, plain = (
            per_row(lambda m=members: TeacherEnsemble(m, np.arange(10), 784).votes(inputs), 500, max(3, repeats // 3))
            for members in (
                networks,
                SeparateMembers(tuple(SingleTeacher(networks, i) for i in range(250)), np.arange(10)),
            )
        )
        yield Figure(f"votes of 250 teachers, {name}", 500, ours, plain, 600.0)


def stack_of(rng: np.random.Generator, networks: int, convolutions: tuple, widths: tuple) -> NetworkStack:
    """Networks of 28 x 28 inputs with random weights."""

    def layer(entering, leaving, kernel):
        weights = rng.normal(size=(networks, entering, leaving)) / entering**0.5
        return Layer(weights.astype(np.float32), np.zeros((networks, leaving), np.float32), kernel)

    layers, side, channels = [], 28, 1
    for leaving, kernel in convolutions:
        layers.append(layer(channels * kernel**2, leaving, kernel))
        side, channels = (side - kernel + 1) // 2, leaving
    sizes = itertools.pairwise((side * side * channels, *widths))
    return NetworkStack((*layers, *(layer(i, o, 0) for i, o in sizes)), (28, 28, 1))


def onnx_winners(stack: NetworkStack) -> Callable[[np.ndarray], np.ndarray]:
    """Dense layers of many networks as one ONNX model on one core: inputs (rows, d) to classes (networks, rows)."""
    nodes, constants, flow = [], [], "inputs"
    for i, layer in enumerate(stack.layers):
        constants += [numpy_helper.from_array(layer.weights, f"w{i}")]
        constants += [numpy_helper.from_array(layer.biases[:, None], f"b{i}")]
        nodes += [helper.make_node("MatMul", [flow, f"w{i}"], [f"p{i}"])]
        nodes += [helper.make_node("Add", [f"p{i}", f"b{i}"], [f"s{i}"])]
        flow = f"s{i}"
        if i + 1 < len(stack.layers):
            nodes += [helper.make_node("Relu", [flow], [f"r{i}"])]
            flow = f"r{i}"
    nodes += [helper.make_node("ArgMax", [flow], ["winners"], axis=2, keepdims=0)]
    source = helper.make_tensor_value_info("inputs", TensorProto.FLOAT, [None, stack.dimensions])
    result = helper.make_tensor_value_info("winners", TensorProto.INT64, [None, None])
    graph = helper.make_graph(nodes, "teachers", [source], [result], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return lambda inputs: session.run(None, {"inputs": inputs})[0]


def network_figures(rng: np.random.Generator, repeats: int) -> Iterator[Figure]:
    """Networks of the kind that torch trains, in float32; the plain implementation evaluates one after the other.

    The vote head and layered novelty are compared with the votes of 250 perceptrons.
    """
    inputs = rng.uniform(size=(500, 784))
    few = max(3, repeats // 3)

    def votes(stack, rows):
        return TeacherEnsemble(stack, np.arange(10), 784).votes(inputs[:rows])

    perceptrons = stack_of(rng, 250, (), (32, 10))
    alone = [
        NetworkStack(tuple(Layer(w.weights[i : i + 1], w.biases[i : i + 1]) for w in perceptrons.layers), (28, 28, 1))
        for i in range(250)
    ]
    plain = per_row(lambda: [one.predict(inputs) for one in alone], 500, few)
    whole = per_row(lambda: votes(perceptrons, 500), 500, few)
    yield Figure("votes of 250 perceptrons of 32 units, float32", 500, whole, plain, 600.0)
    winners, single = onnx_winners(perceptrons), inputs.astype(np.float32)
    assert (perceptrons.predict(inputs) == winners(single).T).mean() > 0.999  # but for ties within float32's rounding
    runtime = per_row(lambda: winners(single), 500, few)
    yield Figure("the same perceptrons in ONNX Runtime, winners alone", 500, runtime, plain)
    mnistnets = stack_of(rng, 50, ((20, 5), (50, 5)), (500, 10))
    alone = [
        NetworkStack(
            tuple(Layer(w.weights[i : i + 1], w.biases[i : i + 1], w.kernel) for w in mnistnets.layers), (28, 28, 1)
        )
        for i in range(50)
    ]
    plain = per_row(lambda: [one.predict(inputs[:32]) for one in alone], 32, few)
    yield Figure("votes of 50 MnistNets, 32 rows", 32, per_row(lambda: votes(mnistnets, 32), 32, few), plain)
    head = VoteHead(stack_of(rng, 1, (), (256, 64, 10)), 250)
    yield Figure("vote head of 256 and 64 units", 500, per_row(lambda: head.votes(inputs), 500, few), whole)
    private = rng.uniform(size=(10_000, 784))
    observer = NoveltyNetwork(Standardised.fit(private, (28, 28, 1)), stack_of(rng, 1, ((24, 5), (48, 5)), (128, 10)))
    layered = LayeredNovelty(observer, private)
    one = evidence_of(inputs=inputs[:1])
    yield Figure(
        "layered novelty, 10,000 private images, one row", 1, per_row(lambda: layered.measure(one), 1, repeats), whole
    )


def main() -> None:
    """Measure, print a table, and write the figures if requested."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--repeats", type=int, default=15)
    options = parser.parse_args()
    print(f"{'us per row':<76} {'batch':>5} {'ours':>8} {'plain':>9} {'ratio':>7} {'target':>7}")
    figures = []
    for part in (rdp_figures, score_figures, pknn_figures, novelty_figures, teacher_figures, network_figures):
        for figure in part(np.random.default_rng(1), options.repeats):
            figures.append(figure)
            ratio, target = figure.plain / figure.microseconds, "" if figure.target is None else f"{figure.target:g}"
            print(
                f"{figure.what:<76} {figure.rows:>5} {figure.microseconds:>8.2f} {figure.plain:>9.1f} {ratio:>6.1f}x {target:>7}",
                flush=True,
            )
    if options.json is not None:
        versions = {"python": platform.python_version(), "numpy": np.__version__, "scipy": scipy.__version__}
        versions["onnxruntime"] = onnxruntime.__version__
        machine = {"machine": platform.machine(), "cores": os.cpu_count(), "system": platform.system()}
        document = {
            "command": "OPENBLAS_NUM_THREADS=1 python benchmarks/bench_leak.py --json FILE",
            "machine": machine,
            "versions": versions,
        }
        options.json.write_text(json.dumps(document | {"figures": [asdict(f) for f in figures]}, indent=2) + "\n")


if __name__ == "__main__":
    main()
