"""The registries: what their lines name is there, their names are those of the plug-ins, and importing them is cheap."""

from __future__ import annotations

import inspect
import json
import re
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest

from modeltoll import names
from modeltoll.errors import CalibrationError, SettingsError
from modeltoll.gateway.assembly.measures import build_measure
from modeltoll.gateway.assembly.protocols import build_protocol
from modeltoll.gateway.protocols.plain_errors import PlainErrors
from modeltoll.gateway.protocols.protocol import Routes
from modeltoll.gateway.protocols.registry import PROTOCOLS, ProtocolSpec
from modeltoll.gateway.settings.served_models import MeasureSettings, ModelSettings
from modeltoll.leak.registry import MEASURES, MeasureSpec
from modeltoll.ledger.from_url import ledger_from_url
from modeltoll.ledger.registry import LEDGERS, LedgerSpec
from modeltoll.plugins import Registry, call_factory, resolve
from modeltoll.puzzle.registry import PUZZLES, PuzzleSpec, puzzle_solver

REFERENCES = [
    *(spec.factory for spec in MEASURES.built_in.values()),
    *(spec.factory for spec in PUZZLES.built_in.values()),
    *(spec.solver for spec in PUZZLES.built_in.values()),
    *(spec.store for spec in LEDGERS.built_in.values()),
    *(spec.factory for spec in PROTOCOLS.built_in.values()),
    *(spec.discover for spec in PROTOCOLS.built_in.values() if spec.discover),
]
JSON_PATH = {"route": "/predict"}


@pytest.mark.parametrize("reference", dict.fromkeys(REFERENCES))
def test_what_a_line_names_is_there(reference):
    assert callable(resolve(reference))


@pytest.mark.parametrize("name", PROTOCOLS.built_in)
def test_a_protocol_has_the_name_of_its_line(name):
    spec = PROTOCOLS.find(name)
    measure = next(known for known in MEASURES.built_in.values() if spec.kinds[0] in known.kinds)
    model = ModelSettings(
        protocol=name,
        json_path=JSON_PATH if spec.json_path else None,
        tariff="t",
        output={"name": "p", "kind": spec.kinds[0], "labels": ["a", "b"]},
        measures=[{"name": measure.name, "file": "private.npy" if measure.file == "needed" else None}],
    )
    assert build_protocol(model).name == name
    assert set(spec.kinds) <= {*names.SCORE_KINDS, names.EMBEDDINGS, names.TOKENS}
    assert spec.texts is (spec.sample is not None)


@pytest.mark.parametrize("spec", MEASURES.built_in.values(), ids=lambda spec: spec.name)
def test_a_measures_factory_takes_what_its_line_says(spec):
    parameters = inspect.signature(resolve(spec.factory)).parameters
    assert ("file" in parameters) is (spec.file != "none")
    assert ("neighbours" in parameters) is spec.neighbours
    needed = [name for name, parameter in parameters.items() if parameter.default is parameter.empty]
    assert needed == (["file"] if spec.file == "needed" else [])


def test_each_mode_has_a_built_in_puzzle_that_is_preferred():
    for mode in names.MODES:
        preferences = [spec.preference for spec in PUZZLES.built_in.values() if mode in spec.modes]
        assert len(preferences) == len(set(preferences)) > 0


@pytest.mark.parametrize("name", ["", "SHA256", "a b", "a,b", "x" * 33])
def test_a_puzzle_has_a_name_that_the_wire_can_carry(name):
    with pytest.raises(ValueError, match="not a puzzle's name"):
        PuzzleSpec(name, "x:y", 1)


def only(monkeypatch, registry, spec):
    """A registry whose one built-in plug-in is this one."""
    monkeypatch.setattr(registry, "built_in", {spec.name: spec})


class Measure:
    name, inputs_alone = "gap", True

    def measure(self, evidence):
        return evidence.inputs[:, 0]


class Nameless:
    measure = Measure.measure


class Serving(PlainErrors):
    name = "v1"
    read = evidence = ask = lambda self: None

    def __init__(self, routes):
        self.routes = routes


def test_a_plug_in_that_is_not_what_its_specification_says_is_refused(monkeypatch):
    settings = MeasureSettings(name="gap")
    model = ModelSettings(protocol="v1", tariff="t", output={"kind": "logits"}, measures=[settings])
    only(monkeypatch, MEASURES, MeasureSpec("gap", Measure, reads="inputs"))
    assert isinstance(build_measure(settings), Measure)
    only(monkeypatch, MEASURES, MeasureSpec("gap", Measure))
    with pytest.raises(SettingsError, match="reads='answers' and its attribute inputs_alone disagree"):
        build_measure(settings)
    only(monkeypatch, MEASURES, MeasureSpec("entropy", Measure))
    with pytest.raises(SettingsError, match="its factory returned an object named 'gap'"):
        build_measure(settings.model_copy(update={"name": "entropy"}))
    only(monkeypatch, PROTOCOLS, ProtocolSpec("v1", Measure))
    with pytest.raises(SettingsError, match="protocol v1: its factory returned an object named 'gap'"):
        build_protocol(model)


def test_the_variant_of_a_measure_without_kinds_has_its_name_and_reads_the_same(monkeypatch):
    """It prices the rows of callers under suspicion; a wrong one is refused at start."""
    settings = MeasureSettings(name="gap")
    variant = type("Variant", (), {"name": "gap:clean", "measure": lambda self, evidence: None})
    made = type("Made", (), {"name": "gap", "clean": variant(), "measure": lambda self, evidence: None})
    only(monkeypatch, MEASURES, MeasureSpec("gap", made))
    assert isinstance(build_measure(settings).clean, variant)
    variant.inputs_alone = True
    with pytest.raises(SettingsError, match="disagree in inputs_alone"):
        build_measure(settings)
    variant.name = "gap"
    with pytest.raises(SettingsError, match="its attribute clean"):
        build_measure(settings)


def test_what_a_factory_makes_has_a_name_and_the_methods_of_its_kind(monkeypatch):
    settings = MeasureSettings(name="gap")
    for factory, fault in {
        Nameless: "^measure gap: its factory returned an object without a name: Nameless$",
        lambda: 7: "^measure gap: its factory returned an object without a name: int$",
        lambda: SimpleNamespace(name="gap"): "^measure gap: the object that its factory returned lacks measure$",
    }.items():
        only(monkeypatch, MEASURES, MeasureSpec("gap", factory))
        with pytest.raises(SettingsError, match=fault):
            build_measure(settings)


ROUTES = {
    "none at all": (None, "its routes are NoneType, not Routes"),
    "no path of inference": (Routes((), (), None, "/r"), "infer is not empty"),
    "a text for a tuple": (Routes("/p", (), None, "/r"), "infer and pass_through are tuples"),
    "no slash": (Routes(("p",), (), None, "/r"), "the path 'p' does not begin with '/'"),
    "a misspelled placeholder": (Routes(("/p",), (), None, "/{modle}"), "or holds an unknown placeholder"),
    "a type in a placeholder": (Routes(("/p",), (), "/{model:path}", "/r"), "or holds an unknown placeholder"),
    "a path that is no text": (Routes(("/p",), (7,), None, "/r"), "the path 7 does not begin"),
}


@pytest.mark.parametrize("case", ROUTES)
def test_a_protocol_has_routes_that_can_be_served(case, monkeypatch):
    routes, fault = ROUTES[case]
    model = ModelSettings(protocol="v1", tariff="t", output={"kind": "logits"}, measures=[{"name": "gap"}])
    only(monkeypatch, PROTOCOLS, ProtocolSpec("v1", lambda: Serving(routes)))
    with pytest.raises(SettingsError, match=f"^protocol v1: .*{re.escape(fault)}"):
        build_protocol(model)
    only(monkeypatch, PROTOCOLS, ProtocolSpec("v1", lambda: Serving(Routes(("/p/{model}",), (), None, "/r"))))
    assert isinstance(build_protocol(model), Serving)


def test_a_factory_that_fails_is_a_fault_in_one_line():
    def failing(sharpness=1):
        raise TypeError(f"no number\n{sharpness}")

    def refusing():
        raise CalibrationError("the file is of another model")

    with pytest.raises(SettingsError, match=r"^it: cannot be made; check its options: TypeError: no number 2$"):
        call_factory(failing, {"sharpness": 2}, "it")
    with pytest.raises(CalibrationError, match="another model"):
        call_factory(refusing, {}, "it")
    for reference in ("modeltoll.nowhere:X", "modeltoll.plugins:nowhere"):
        with pytest.raises(SettingsError, match=f"^it: its factory {reference} cannot be used: "):
            call_factory(reference, {}, "it")


def test_arguments_are_compared_before_the_factory_is_called():
    calls = []

    def factory(*, first, second=2):
        calls.append((first, second))
        return 7

    assert call_factory(factory, {"first": 1}, "it") == 7
    for arguments in ({}, {"first": 1, "third": 3}):
        with pytest.raises(SettingsError, match="it takes: first, second"):
            call_factory(factory, arguments, "it")
    assert calls == [(1, 2)]


def test_an_unknown_name_lists_the_known_ones():
    registry = Registry(
        "measure", "modeltoll.nothing", MeasureSpec, (MeasureSpec("one", "x:y"), MeasureSpec("two", "x:y"))
    )
    assert registry.names() == ("one", "two")
    assert registry.find("two").name == "two"
    with pytest.raises(SettingsError, match=r"^there is no measure 'three'; there are: one, two$"):
        registry.find("three")


def test_a_specification_can_be_changed_by_replace():
    spec = PUZZLES.find("sha256")
    assert replace(spec, preference=1).preference == 1


def test_importing_the_registries_imports_no_plug_in():
    modules = ["leak.registry", "puzzle.registry", "ledger.registry", "gateway.protocols.registry"]
    code = "import json, sys, modeltoll; before = set(sys.modules)\n"
    code += f"import {', '.join(f'modeltoll.{module}' for module in modules)}\n"
    code += "print(json.dumps([*(set(sys.modules) - before)]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(json.loads(done.stdout))
    assert loaded.isdisjoint({"numpy", "scipy", "msgspec", "jmespath", "psycopg", "redis", "importlib.metadata"})
    plug_ins = {str(reference).partition(":")[0] for reference in REFERENCES}
    assert len(plug_ins) > 10
    assert loaded.isdisjoint(plug_ins)


def test_a_store_or_a_solver_that_does_not_exist_is_named_in_one_error(monkeypatch):
    monkeypatch.setattr(LEDGERS, "built_in", {"odd": LedgerSpec(("odd",), "modeltoll.ledger.memory:Odd")})
    with pytest.raises(SettingsError, match=r"^ledger odd: its store modeltoll.ledger.memory:Odd cannot be used: Attr"):
        ledger_from_url("odd://")
    only(monkeypatch, PUZZLES, replace(PUZZLES.find("sha256"), solver="modeltoll.puzzle.solver:odd"))
    with pytest.raises(
        SettingsError, match=r"^puzzle sha256: its solver modeltoll.puzzle.solver:odd cannot be used: Att"
    ):
        puzzle_solver("sha256")
