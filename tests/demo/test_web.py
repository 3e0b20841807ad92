"""The demo as a page: real servers, a URL on the terminal, and no process left at the end."""

import json
import re
import signal
import socket
import subprocess
import sys

import httpx
import numpy as np
import pytest
from typer.testing import CliRunner

from modeltoll.cli import app
from modeltoll.client.httpx import TollTransport
from modeltoll.demo.data import DATA_LOADERS, DataSizes
from modeltoll.demo.web import WebOptions, samples, serve_page
from modeltoll.errors import SettingsError

SIZES = DataSizes(pictures=7, noise=0)


def test_samples_are_honest_digits_in_whole_numbers_and_patches_in_shares():
    data = DATA_LOADERS["digits"](SIZES, None, np.random.default_rng(0))
    document = json.loads(samples(data))
    assert len(document["digits"]) == len(data.honest)
    assert np.array_equal(np.array(document["digits"]) / 16, data.honest)
    assert np.array(document["patches"]).shape == (7, 64)
    assert np.abs(np.array(document["patches"]) - data.pictures).max() <= 5e-5


def test_a_port_in_use_is_an_error_before_anything_is_trained(tmp_path, stage):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=f"--port: cannot listen on 127.0.0.1:{port}"):
            serve_page(WebOptions(port), tmp_path, stage, lambda url: None)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "output"),
    [
        (["--web", "--port", "65536"], "--port"),
        (["--web", "--port", "-1"], "--port"),
        (["--web", "--port", "http"], "--port"),
        (["--web", "--data", "mnist"], "leave out --data"),
        (["--web", "--short"], "leave out --data and --short"),
        (["--port", "8000"], "go with --web"),
        (["--open"], "go with --web"),
    ],
)
def test_options_that_exclude_each_other_are_a_usage_error(arguments, output):
    result = CliRunner().invoke(app, ["demo", *arguments], env={"TERM": "dumb", "COLUMNS": "200"})
    assert result.exit_code == 2
    assert output in re.sub(r"\x1b\[[0-9;]*m", "", result.output)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_page_is_served_until_it_is_interrupted_and_no_process_is_left(number, children, gone, interrupted):
    command = [sys.executable, "-m", "modeltoll", "demo", "--web", "--no-open"]
    demo = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        url = demo.stdout.readline().strip()
        assert url.startswith("http://127.0.0.1:"), demo.stderr.read()
        left = children(demo.pid)
        assert len(left) == 2
        config = httpx.get(url + "gateway.json").json()
        row = np.array(httpx.get(url + config["demo"]["samples"]).json()["digits"][0]) / 16
        body = {"inputs": [{"name": "x", "shape": [1, 64], "datatype": "FP64", "data": row.tolist()}]}
        headers = {"x-api-key": config["demo"]["keys"][0], "origin": url.rstrip("/")}
        with httpx.Client(transport=TollTransport(), timeout=60) as client:
            answer = client.post(config["gateway"] + config["models"][0]["infer"], json=body, headers=headers)
        assert len(answer.json()["outputs"][0]["data"]) == 10
        assert answer.headers["access-control-allow-origin"] == url.rstrip("/")
        demo.send_signal(number)
        _, output = demo.communicate(timeout=60)
    finally:
        demo.kill()
        demo.wait()
    assert demo.returncode in interrupted
    assert "Traceback" not in output
    assert gone(left), "a server outlived the demo"
