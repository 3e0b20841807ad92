"""Rows of files of any format, sent as each protocol has them; a row that is refused is named with the server's reason."""

from __future__ import annotations

import asyncio
import json

import numpy as np
import pyarrow as pa
import pytest
import yaml
from pyarrow import parquet
from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route
from typer.testing import CliRunner

from modeltoll.cli import app
from modeltoll.cli.private_files import array_of
from modeltoll.errors import CalibrationError, UpstreamError
from modeltoll.gateway.assembly.components import build_served_model
from modeltoll.gateway.settings.load import load_settings
from modeltoll.gateway.setup.honest_rows import corrupted_rows, generic_strangers
from modeltoll.gateway.setup.measured_rows import measure_rows
from modeltoll.gateway.setup.row_files import read_requests, read_table
from modeltoll.gateway.setup.row_requests import Refusals, row_requests
from modeltoll.gateway.setup.row_sender import RowSender
from modeltoll.gateway.setup.row_table import RowTable, common_rows
from modeltoll.leak.private_rows import private_rows
from modeltoll.records import Answer
from modeltoll.testing.model_servers import FakeUpstream, serving

ROWS = [
    {"age": 41, "income": 2.5, "job": "cook, chef", "member": True},
    {"age": None, "income": 0.25, "job": None, "member": False},
    {"age": 7, "income": None, "job": "köchin", "member": None},
]
VALUES = [[*row.values()] for row in ROWS]
CSV = """age,income,job,member
41,2.5,"cook, chef",true

,0.25,,false
7,NA,"köchin",
"""


def write_parquet(path):
    parquet.write_table(pa.Table.from_pylist(ROWS), path)


WRITERS = {
    "rows.csv": lambda path: path.write_text(CSV, encoding="utf-8-sig"),
    "rows.tsv": lambda path: path.write_text(
        "age\tincome\tjob\tmember\n41\t2.5\tcook, chef\ttrue\n\t0.25\t\tfalse\n7\tnan\tköchin\t\n"
    ),
    "rows.jsonl": lambda path: path.write_text("".join(json.dumps(row) + "\n\n" for row in ROWS)),
    "rows.json": lambda path: path.write_text(json.dumps(ROWS)),
    "rows.parquet": write_parquet,
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_same_rows_with_texts_categories_and_missing_values(tmp_path, name):
    WRITERS[name](tmp_path / name)
    table = read_table(tmp_path / name)
    assert table.columns == ("age", "income", "job", "member")
    assert [table.values(row) for row in range(3)] == VALUES
    assert [type(value) for value in table.values(0)] == [int, float, str, bool]
    assert table.numeric.tolist() == [True, True, False, False]


def test_a_place_is_the_line_of_the_file(tmp_path):
    WRITERS["rows.csv"](tmp_path / "rows.csv")
    table = read_table(tmp_path / "rows.csv")
    assert [table.where(row) for row in range(3)] == [f"{tmp_path / 'rows.csv'}, line {line}" for line in (2, 4, 5)]


def test_digits_that_are_no_quantity_stay_texts_and_a_file_of_numbers_needs_no_heading(tmp_path):
    (tmp_path / "codes.csv").write_text("zip,n\n01067,1\n80331,2\n")
    assert read_table(tmp_path / "codes.csv").values(0) == ["01067", 1]
    (tmp_path / "plain.csv").write_text("1,2.5\n3,4\n")
    table = read_table(tmp_path / "plain.csv")
    assert (table.columns, table.values(1), table.where(0)[-6:]) == ((), [3, 4.0], "line 1")


def test_columns_of_an_archive_and_callers_of_any_format(tmp_path):
    np.savez(tmp_path / "rows.npz", x=np.arange(2), y=np.array(["a", "b"]), callers=np.array(["anna", "bert"]))
    (tmp_path / "rows.csv").write_text("x,callers\n1,anna\n2,\n")
    assert read_table(tmp_path / "rows.npz").values(1) == [1, "b"]
    assert read_table(tmp_path / "rows.npz").callers == ("anna", "bert")
    assert read_table(tmp_path / "rows.csv").callers == ("anna", "")


WRONG = {
    "rows.txt": ("x", "not from .txt"),
    "ragged.csv": ("a,b\n1,2\n3\n", "line 3: 1 fields where there are 2 columns"),
    "twice.csv": ("a,a\n1,2\n", "a column twice"),
    "empty.csv": ("a,b\n", "holds no rows"),
    "bad.jsonl": ('{"a": 1}\n{"a": \n', "line 2: not JSON"),
    "mixed.jsonl": ('{"a": 1}\n[1]\n', "different kinds"),
    "none.parquet": ("no table", "none.parquet"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_file_that_cannot_be_read_is_an_error_that_names_the_line(tmp_path, name):
    text, message = WRONG[name]
    (tmp_path / name).write_text(text)
    with pytest.raises(CalibrationError, match=message):
        read_table(tmp_path / name)
    with pytest.raises(CalibrationError, match="cannot be read"):
        read_table(tmp_path / f"nowhere-{name.replace('.txt', '.csv')}")


def test_training_rows_are_found_whatever_the_format_and_the_order_of_columns(tmp_path):
    WRITERS["rows.csv"](tmp_path / "rows.csv")
    (tmp_path / "known.jsonl").write_text(json.dumps(dict(reversed(ROWS[1].items()))) + "\n")
    assert common_rows(read_table(tmp_path / "rows.csv"), read_table(tmp_path / "known.jsonl")) == 1
    numbers = np.random.default_rng(0).random((5, 3))
    assert common_rows(RowTable.of_numbers(numbers), RowTable.of_numbers(numbers[2:4])) == 2


def served(tmp_path, **model):
    document = {
        "tariff": "t.json",
        "output": {"kind": "probabilities"},
        "measures": [{"name": "entropy"}],
        "mode": "shadow",
    }
    settings = {"upstream": {"url": "http://127.0.0.1:1"}, "models": {"m": document | model}}
    (tmp_path / "modeltoll.yaml").write_text(yaml.safe_dump(settings))
    return build_served_model(load_settings(tmp_path / "modeltoll.yaml"), "m")


def bodies(model, table, metadata=b""):
    return [json.loads(each.body) for each in row_requests(model, metadata, table)]


def test_named_columns_are_a_split_frame_of_mlflow_in_the_order_of_the_inputs(tmp_path):
    WRITERS["rows.csv"](tmp_path / "rows.csv")
    table = read_table(tmp_path / "rows.csv")
    plain = bodies(served(tmp_path, protocol="mlflow"), table)
    assert plain == [{"dataframe_split": {"columns": [*ROWS[0]], "data": [values]}} for values in VALUES]
    declared = bodies(served(tmp_path, protocol="mlflow", inputs=["job", "age"]), table)
    assert declared[0] == {"dataframe_split": {"columns": ["job", "age"], "data": [["cook, chef", 41]]}}
    with pytest.raises(CalibrationError, match="lacks the model's size; it has age, income"):
        bodies(served(tmp_path, protocol="mlflow", inputs=["age", "size"]), table)


def test_named_columns_are_tensors_of_the_open_inference_protocol(tmp_path):
    (tmp_path / "rows.csv").write_text("age,job,id\n41,cook,1\n7,smith,2\n")
    inputs = [
        {"name": "job", "datatype": "BYTES", "shape": [-1, 1]},
        {"name": "age", "datatype": "INT64", "shape": [-1, 1]},
    ]
    model = served(tmp_path, output={"name": "p", "kind": "probabilities"}, inputs=["job", "age"])
    (first, _) = bodies(model, read_table(tmp_path / "rows.csv"), json.dumps({"inputs": inputs}).encode())
    assert first["inputs"] == [
        {"name": "job", "shape": [1, 1], "datatype": "BYTES", "data": ["cook"]},
        {"name": "age", "shape": [1, 1], "datatype": "INT64", "data": [41]},
    ]


def test_columns_of_pixels_are_one_tensor_and_texts_are_what_text_services_take(tmp_path):
    (tmp_path / "rows.csv").write_text("p0,p1\n1,2.5\n")
    model = served(tmp_path, output={"name": "p", "kind": "probabilities"}, inputs=[{"name": "x", "width": 2}])
    metadata = json.dumps({"inputs": [{"name": "x", "datatype": "FP64", "shape": [-1, 2]}]}).encode()
    ((tensor,),) = [body["inputs"] for body in bodies(model, read_table(tmp_path / "rows.csv"), metadata)]
    assert (tensor["shape"], tensor["data"]) == ([1, 2], [1.0, 2.5])
    (tmp_path / "texts.jsonl").write_text('"good"\n{"a": 1}\n'.replace('{"a": 1}', '"bad"'))
    (tmp_path / "texts.csv").write_text('review\ngood\n"bad"\n')
    labels = {"kind": "probabilities", "labels": ["a", "b"]}
    for name in ("texts.jsonl", "texts.csv"):
        table = read_table(tmp_path / name)
        assert bodies(served(tmp_path, protocol="labels", output=labels), table)[1] == {"inputs": "bad"}
        path = {"route": "/predict", "inputs": "texts", "scores": "p"}
        assert bodies(served(tmp_path, protocol="json", json_path=path), table)[1] == {"texts": ["bad"]}
        chat = served(tmp_path, protocol="openai-chat", output={"kind": "tokens"}, measures=[{"name": "tokens"}])
        assert bodies(chat, table)[0]["messages"] == [{"role": "user", "content": "good"}]


def test_recorded_requests_are_sent_as_they_are(tmp_path):
    lines = ['{"dataframe_split": {"columns": ["a"],  "data": [[1.50], [2]]}}', "", '{"instances": [[1]]}']
    (tmp_path / "log.jsonl").write_text("\n".join(lines))
    requests = read_requests(tmp_path / "log.jsonl")
    model = served(tmp_path, protocol="mlflow")
    asked = row_requests(model, b"", requests)
    assert [each.body.decode() for each in asked] == [lines[0], lines[2]]
    assert asked[1].where.endswith("log.jsonl, line 3")

    def answer(path, body):
        rows = len(json.loads(body).get("dataframe_split", {"data": [1]})["data"])
        return Answer(200, "application/json", json.dumps({"predictions": [[0.5, 0.5]] * rows}).encode())

    sample = asyncio.run(measure_rows(RowSender(model, FakeUpstream(answer), Refusals()), requests))
    assert (len(sample.leaks.values), len(sample.seconds), sample.kept.tolist()) == (3, 3, [0, 1])
    (tmp_path / "bad.jsonl").write_text("{}\n{")
    with pytest.raises(CalibrationError, match="line 2: not JSON"):
        read_requests(tmp_path / "bad.jsonl")


def picky(path, body):
    """A model that takes no missing age, and breaks off at an age of 7."""
    age = json.loads(body)["dataframe_split"]["data"][0][0] if body else 1
    if age == 7:
        raise UpstreamError("the model server does not answer", private="ServerDisconnectedError")
    if age is None:
        return Answer(400, "application/json", b'{"error_code": "BAD_REQUEST", "message": "age is null"}')
    return Answer(200, "application/json", b'{"predictions": [[0.5, 0.5]]}')


def test_a_refused_row_is_named_with_its_line_and_the_servers_reason_or_left_out_and_counted(tmp_path):
    WRITERS["rows.csv"](tmp_path / "rows.csv")
    table, model = read_table(tmp_path / "rows.csv"), served(tmp_path, protocol="mlflow")
    with pytest.raises(
        CalibrationError, match=r"rows\.csv, line 4: the model server refused it with status 400: age is null"
    ):
        asyncio.run(measure_rows(RowSender(model, FakeUpstream(picky), Refusals()), table))
    refusals = Refusals(leave_out=True)
    sample = asyncio.run(measure_rows(RowSender(model, FakeUpstream(picky), refusals), table))
    assert sample.kept.tolist() == [0]
    count, first, second = refusals.summary(3)
    assert count == "2 of 3 rows were refused and left out"
    assert first.endswith("line 4: the model server refused it with status 400: age is null")
    assert "line 5: the model server closed the connection" in second
    with pytest.raises(CalibrationError, match="every row was refused"):
        asyncio.run(measure_rows(RowSender(model, FakeUpstream(picky), Refusals(True)), table.take(np.array([1, 2]))))


def test_kinds_change_numbers_only_and_strangers_keep_to_the_columns(tmp_path):
    rng = np.random.default_rng(0)
    lines = [
        f"{age},{rng.random():.3f},{job}"
        for age, job in zip(rng.integers(20, 60, 200), rng.choice(["cook", "smith"], 200), strict=True)
    ]
    (tmp_path / "rows.csv").write_text("age,income,job\n" + "\n".join(lines) + "\n,0.5,\n")
    table = read_table(tmp_path / "rows.csv")
    for kind in corrupted_rows("jitter:0.1,missing:0.15", table, (1, 1, 3), 200, 0):
        values = [kind.make().values(row) for row in range(200)]
        assert {type(value) for age, _, _ in values for value in [age]} <= {int, type(None)}
        assert {job for _, _, job in values} <= {"cook", "smith", None}
    for stranger in generic_strangers(table, (1, 1, 3), 0):
        assert {stranger.make().values(row)[2] for row in range(100)} <= {"cook", "smith", None}
    texts = RowTable.of_columns([("", ["a", "b"])], "", "line", (1, 2))
    assert generic_strangers(texts, (1, 1, 1), 0) == ()


def test_the_measures_read_the_same_files_and_refuse_texts_beside_numbers(tmp_path):
    WRITERS["rows.csv"](tmp_path / "rows.csv")
    with pytest.raises(CalibrationError, match="job, member hold texts"):
        array_of(tmp_path / "rows.csv", "inputs")
    (tmp_path / "x.csv").write_text("a,b\n1,\n3,4\n")
    (tmp_path / "y.csv").write_text("label\ncat\ndog\n")
    assert np.isnan(private_rows(array_of(tmp_path / "x.csv", "inputs")).inputs[0, 1])
    assert array_of(tmp_path / "y.csv", "labels").tolist() == ["cat", "dog"]


def mlflow_server():
    async def invocations(request):
        frame = json.loads(await request.body())["dataframe_split"]
        answers = []
        for row in frame["data"]:
            named = dict(zip(frame["columns"], row, strict=True))
            if named["job"] == "pilot":
                return JSONResponse({"error_code": "BAD_REQUEST", "message": "unknown category pilot"}, 400)
            share = 1 / (1 + np.exp(((named["age"] or 40) - 40) / 10 + (named["job"] == "cook")))
            answers.append([share, 1 - share])
        return JSONResponse({"predictions": answers})

    async def ok(_):
        return PlainTextResponse("ok")

    routes = [Route("/ping", ok), Route("/version", ok), Route("/invocations", invocations, methods=["POST"])]
    return Starlette(routes=routes)


def test_calibrate_takes_a_table_with_categories_and_missing_values(tmp_path):
    rng = np.random.default_rng(0)
    jobs = rng.choice(["cook", "smith"], 300)
    lines = [f"{'' if n % 9 == 0 else rng.integers(200, 600) / 10},{job},{n}" for n, job in enumerate(jobs)]
    lines[20] = "33,pilot,20"
    (tmp_path / "honest.csv").write_text("age,job,id\n" + "\n".join(lines) + "\n")
    with serving(mlflow_server()) as url:
        model = {"protocol": "mlflow", "tariff": "t.json", "inputs": ["age", "job"], "measures": [{"name": "entropy"}]}
        model |= {"output": {"kind": "probabilities"}, "mode": "shadow"}
        (tmp_path / "m.yaml").write_text(yaml.safe_dump({"upstream": {"url": url}, "models": {"m": model}}))
        command = ["calibrate", str(tmp_path / "m.yaml"), "--inputs", str(tmp_path / "honest.csv")]
        stopped = CliRunner().invoke(app, command)
        left_out = CliRunner().invoke(app, [*command, "--refused", "leave-out", "--kinds", "jitter:0.02"])
    said = " ".join(stopped.stderr.split())
    assert stopped.exit_code == 1
    assert "honest.csv, line 22: the model server refused it with status 400: unknown category pilot" in said
    assert left_out.exit_code == 0, left_out.output
    assert "rows were refused and left out" in " ".join(left_out.stderr.split())
    assert (tmp_path / "t.json").exists()
