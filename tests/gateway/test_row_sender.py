"""Rows that are not timed go in batches only where the model server says the same of a batch, and sooner."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field

import numpy as np
import pytest

from modeltoll.errors import CalibrationError
from modeltoll.gateway.assembly.components import build_served_model
from modeltoll.gateway.settings.gateway import Settings
from modeltoll.gateway.setup.honest_rows import RowsToSend
from modeltoll.gateway.setup.measured_rows import measure_rows, sample_rows
from modeltoll.gateway.setup.row_requests import Refusals
from modeltoll.gateway.setup.row_sender import SINGLE_ROWS, RowSender
from modeltoll.gateway.setup.row_table import RowTable
from modeltoll.records import Answer
from modeltoll.testing.model_servers import FakeUpstream

ROWS = np.random.default_rng(0).random((SINGLE_ROWS + 200, 2))


@dataclass
class Server:
    """A scoring server with a clock of its own: ``request_seconds`` a request and ``row_seconds`` a row."""

    request_seconds: float = 0.01
    row_seconds: float = 0.001
    warmer_in_batches: float = 0.0  # how much flatter its scores are there
    most: int = 1000  # rows of a request
    refused: float = -1.0
    now: float = 0.0
    sizes: list[int] = field(default_factory=list)
    lacking: list[bool] = field(default_factory=list)  # a value, of each request

    def __call__(self, path, body):
        if not body:
            return Answer(200, "application/json", b"{}")
        document = json.loads(body)
        rows = document["inputs"] if "inputs" in document else document["dataframe_split"]["data"]
        self.sizes.append(len(rows))
        self.lacking.append(any(None in row for row in rows))
        self.now += self.request_seconds + self.row_seconds * len(rows)
        if len(rows) > self.most or any(self.refused in row for row in rows):
            return Answer(400, "application/json", b'{"message": "no such row"}')
        values = np.array([[0.5 if value is None else value for value in row] for row in rows], float)
        powers = np.exp((values @ [[3.0, 1.0], [0.0, 2.0]]) / (1 + self.warmer_in_batches * (len(rows) > 1)))
        scores = powers / powers.sum(axis=1, keepdims=True)
        return Answer(200, "application/json", json.dumps({"predictions": scores.tolist()}).encode())

    def sender(self, refusals=None):
        model = {"protocol": "mlflow", "tariff": "t.json", "output": {"kind": "probabilities"}, "mode": "shadow"}
        model["measures"] = [{"name": "entropy"}]
        settings = Settings.model_validate({"upstream": {"url": "http://127.0.0.1:1"}, "models": {"m": model}})
        clock = lambda: self.now  # noqa: E731
        return RowSender(build_served_model(settings, "m"), FakeUpstream(self), refusals or Refusals(), clock)

    def measured(self, rows=ROWS, refusals=None):
        return asyncio.run(measure_rows(self.sender(refusals), rows))


def one_at_a_time():
    """A server that takes no batches, and what its rows leak."""
    return Server(most=1).measured()


def test_rows_in_batches_leak_what_they_leak_alone_and_those_that_are_timed_go_alone():
    server = Server()
    found, alone = server.measured(), one_at_a_time()
    assert server.sizes.count(1) == 20 + SINGLE_ROWS  # to warm up, and timed
    assert max(server.sizes) == 32
    assert sum(server.sizes) == 20 + len(ROWS) + 32  # those of the trial were sent alone before
    assert np.allclose(found.leaks.values, alone.leaks.values, rtol=1e-12, atol=0)
    assert np.array_equal(found.leaks.classes, alone.leaks.classes)
    assert found.kept.tolist() == list(range(len(ROWS)))
    assert found.undefended_seconds == pytest.approx(0.011)
    assert found.undefended_seconds == pytest.approx(alone.undefended_seconds)


@pytest.mark.parametrize(
    ("server", "tried"),
    [
        (Server(warmer_in_batches=0.3), [32, 8]),
        (Server(request_seconds=0.0), [32, 8]),
        (Server(most=1), [32, 8]),
        (Server(request_seconds=1.0), []),  # 32 of such rows may take longer than a request should
    ],
    ids=["leaks otherwise", "no faster", "refused", "slow"],
)
def test_where_a_batch_is_no_good_every_row_goes_alone(server, tried):
    found = server.measured()
    assert [size for size in server.sizes if size > 1] == tried
    assert np.allclose(found.leaks.values, one_at_a_time().leaks.values, rtol=1e-12, atol=0)


def test_a_smaller_batch_is_tried_after_a_large_one_was_refused():
    server = Server(most=8)
    server.measured()
    assert [size for size in server.sizes if size > 1][:3] == [32, 8, 8]


def test_a_refused_row_of_a_batch_is_named_or_left_out_alone():
    rows = ROWS.copy()
    rows[601] = 7.0
    with pytest.raises(CalibrationError, match="row 602: the model server refused it with status 400: no such row"):
        Server(refused=7.0).measured(RowTable.of_numbers(rows))
    refusals = Refusals(leave_out=True)
    found = Server(refused=7.0).measured(rows, refusals)
    assert np.setdiff1d(np.arange(len(rows)), found.kept).tolist() == [601]
    assert len(refusals.reasons) == 1
    assert np.allclose(found.leaks.values, np.delete(one_at_a_time().leaks.values, 601, axis=0), rtol=1e-12, atol=0)


def test_rows_that_lack_a_value_go_alone():
    """A server may read a column of one null otherwise than a null beside numbers."""
    rows = ROWS.copy()
    rows[::7, 1] = np.nan
    names = ("age", "income")
    table = RowTable.of_columns(
        [
            (name, [None if np.isnan(value) else float(value) for value in rows[:, place]])
            for place, name in enumerate(names)
        ],
        "rows.csv",
        "line",
        range(2, len(rows) + 2),
    )
    server = Server()
    found = server.measured(table)
    assert len(found.leaks.values) == len(rows)
    assert {size for size, lacking in zip(server.sizes, server.lacking, strict=True) if lacking} == {1}
    assert max(server.sizes) == 32


def test_rows_that_nobody_times_are_tried_alone_first_and_the_decision_holds_for_all_of_them():
    server = Server()
    heard = []
    samples = [RowsToSend.of("first", ROWS[:300]), RowsToSend.of("second", ROWS[300:600])]
    first, second = asyncio.run(sample_rows(server.sender(), samples, lambda *done: heard.append(done)))
    assert server.sizes.count(1) == 100
    assert heard[-1] == (600, 600)
    expected = one_at_a_time().leaks.values
    assert np.allclose(np.vstack([first.values, second.values]), expected[:600], rtol=1e-12, atol=0)
