"""Records whose construction is quick behave as the frozen dataclasses that they are."""

import dataclasses
import inspect
import pickle
from dataclasses import dataclass, field

import pytest

from modeltoll import evidence_records, records, settlement_records, toll_records
from modeltoll.record_init import quick_init


@quick_init
@dataclass(frozen=True, slots=True)
class Quick:
    one: int
    two: str = "b"
    three: bytes = field(default=b"c", repr=False)


@dataclass(frozen=True, slots=True)
class Plain:
    one: int
    two: str = "b"
    three: bytes = field(default=b"c", repr=False)


@pytest.mark.parametrize("arguments", [((1,), {}), ((1, "x"), {"three": b"y"}), ((), {"two": "z", "one": 3})])
def test_it_has_the_values_the_text_the_equality_and_the_hash_of_a_plain_one(arguments):
    given, named = arguments
    quick, plain = Quick(*given, **named), Plain(*given, **named)
    assert dataclasses.astuple(quick) == dataclasses.astuple(plain)
    assert repr(quick) == repr(plain).replace("Plain", "Quick")
    assert quick == Quick(*given, **named)
    assert hash(quick) == hash(plain)
    assert pickle.loads(pickle.dumps(quick)) == quick
    assert dataclasses.astuple(dataclasses.replace(quick, two="new")) == (quick.one, "new", quick.three)


def test_it_cannot_be_changed():
    quick = Quick(1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        quick.one = 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        del quick.one


def test_it_has_the_signature_of_a_plain_one():
    assert inspect.signature(Quick) == inspect.signature(Plain)


@pytest.mark.parametrize(("given", "named"), [((), {}), ((1, 2, 3, 4), {}), ((1,), {"four": 4}), ((1,), {"one": 1})])
def test_wrong_arguments_are_refused(given, named):
    with pytest.raises(TypeError):
        Quick(*given, **named)


def test_what_it_does_not_know_is_refused():
    @dataclass(frozen=True, slots=True)
    class WithFactory:
        one: list = field(default_factory=list)

    @dataclass(frozen=True, slots=True)
    class WithCheck:
        one: int

        def __post_init__(self):
            raise ValueError

    @dataclass(frozen=True)
    class WithoutSlots:
        one: int

    for record in (WithFactory, WithCheck, WithoutSlots):
        with pytest.raises(TypeError, match=record.__name__):
            quick_init(record)


@pytest.mark.parametrize("module", [records, evidence_records, settlement_records, toll_records])
def test_the_records_of_the_packages_stay_frozen(module):
    for name in module.__all__:
        record = getattr(module, name)
        if inspect.isclass(record):
            assert record.__dataclass_params__.frozen
            assert not hasattr(object.__new__(record), "__dict__")
