"""Layered novelty: the law of measures, what its scale means, and files that are checked."""

from __future__ import annotations

import numpy as np
import pytest

from modeltoll.errors import CalibrationError, RequestError
from modeltoll.leak.array_file import load_arrays, save_arrays
from modeltoll.leak.input_transform import HashedCodes, Standardised
from modeltoll.leak.layered_novelty import LayeredNovelty, NoveltyTerms, load_novelty
from modeltoll.leak.measure import clean_measure, input_width
from modeltoll.leak.novelty import NoveltyMeasure
from modeltoll.leak.novelty_network import NoveltyNetwork
from modeltoll.leak.teachers.network_stack import Layer, NetworkStack
from modeltoll.records import Evidence
from modeltoll.testing.measures import check_measure


def stack():
    """Two full layers and a last one, over standardised rows of eight numbers."""
    rng = np.random.default_rng(0)
    sizes = [(8, 6), (6, 5), (5, 3)]
    layers = [Layer(rng.normal(size=(1, i, o)).astype(np.float32), np.ones((1, o), np.float32)) for i, o in sizes]
    return NoveltyNetwork(Standardised.fit(normal(3000), (1, 1, 8)), NetworkStack(tuple(layers), (1, 1, 8)))


def normal(count, seed=0):
    return np.random.default_rng(seed).normal(size=(count, 8))


def evidence_of(inputs):
    return Evidence(tuple(i.to_bytes(8, "big") for i in range(len(inputs))), inputs=inputs)


def test_it_passes_the_suite():
    check_measure(LayeredNovelty(stack(), normal(200)), evidence_of(normal(20, 1) * 3))


@pytest.mark.parametrize("view", ["position", "direction"])
def test_zero_is_usual_one_is_rare_and_farther_is_more(view):
    """In each of three layers; with a large power the largest score dominates."""
    measure = LayeredNovelty(stack(), normal(3000), NoveltyTerms(views=(view,), power=16.0))
    fresh = measure.measure(evidence_of(normal(1000, 5)))
    assert 0.05 < (fresh == 0.0).mean() < 0.5
    assert 0.003 < (fresh > 1.1).mean() < 0.1


def test_farther_is_more_and_more_views_are_never_less():
    measure = LayeredNovelty(stack(), normal(3000))
    fresh = evidence_of(normal(100, 5))
    for views in (("position",), ("direction",)):
        assert (
            measure.measure(fresh) >= LayeredNovelty(stack(), normal(3000), NoveltyTerms(views=views)).measure(fresh)
        ).all()
    far = measure.measure(evidence_of(np.array([1.0, 10.0, 100.0])[:, None] * np.abs(normal(1, 2))))
    assert (np.diff(far) > 0).all()


def test_a_saved_measure_gives_the_same_bits_and_either_novelty_is_found_in_a_file(tmp_path):
    path, inputs = tmp_path / "novelty.npz", normal(50, 3) * 2
    measure = LayeredNovelty(stack(), normal(200))
    measure.save(path)
    assert np.array_equal(load_novelty(path).measure(evidence_of(inputs)), measure.measure(evidence_of(inputs)))
    plain = NoveltyMeasure(normal(200))
    plain.save(path)
    assert np.array_equal(load_novelty(path).measure(evidence_of(inputs)), plain.measure(evidence_of(inputs)))
    with pytest.raises(CalibrationError):
        load_novelty(tmp_path / "missing.npz")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda a: a.pop("view1_points"),
        lambda a: a.update(view0_centre=np.zeros(5)),
        lambda a: a.update(view0_layer=np.array(9)),
        lambda a: a.update(view0_usual=np.array(0.0)),
        lambda a: a.update(view0_far=a["view0_usual"]),
        lambda a: a.update(power=np.array(0.5)),
        lambda a: a.update(power=np.array(np.nan)),
        lambda a: [a.pop(name) for name in list(a) if name.startswith("view")],
        lambda a: a.update(k=np.array(0)),
        lambda a: a.update(k=np.array(200)),
        lambda a: a.pop("kernel0"),
        lambda a: a.pop("standard_centre"),
        lambda a: a.update(standard_spread=np.zeros(8)),
        lambda a: a.update(standard_order=np.zeros(8, int)),
        lambda a: a.update(standard_sides=np.array([1, 2, 4])),
        lambda a: a.update(kinds=np.array(["far"])),
        lambda a: a.update(clean_k=np.array(5)),
        lambda a: a.update(hashed_width=np.array(0)),
    ],
)
def test_files_whose_arrays_do_not_fit_are_refused(tmp_path, spoil):
    path = tmp_path / "novelty.npz"
    LayeredNovelty(stack(), normal(200)).save(path)
    arrays = load_arrays(path, "layered novelty")
    spoil(arrays)
    save_arrays(path, "layered novelty", arrays)
    with pytest.raises(CalibrationError):
        LayeredNovelty.load(path)


@pytest.mark.parametrize("private", [np.ones((50, 8)), np.ones((50, 7)), np.full((50, 8), np.inf), normal(5)])
def test_unusable_private_data_is_refused(private):
    with pytest.raises(CalibrationError):
        LayeredNovelty(stack(), private)


@pytest.mark.parametrize("inputs", [np.full((1, 8), np.inf), np.ones((1, 7)), np.full((1, 8), 1e101)])
def test_unusable_inputs_are_refused(inputs):
    with pytest.raises(RequestError):
        LayeredNovelty(stack(), normal(100)).measure(evidence_of(inputs))


@pytest.mark.parametrize("choice", [{"views": ()}, {"views": ("sideways",)}, {"power": 0.5}, {"power": np.nan}])
def test_invalid_views_and_powers_are_refused(choice):
    with pytest.raises(CalibrationError, match="views are position and direction"):
        NoveltyTerms(**choice)


class Foreign:
    """A custom network, which ignores signs, or everything."""

    dimensions = 8

    def __init__(self, *, blind=False):
        self.blind = blind

    def features(self, inputs):
        return [np.ones_like(inputs) if self.blind else np.abs(inputs)]


def test_a_custom_network_can_be_used_but_not_saved(tmp_path):
    measure = LayeredNovelty(Foreign(), normal(200), NoveltyTerms(views=("direction",), power=1.0))
    assert measure.measure(evidence_of(np.eye(8) * 5)).min() > 1.0
    with pytest.raises(CalibrationError, match="only a network that fit-novelty trained"):
        measure.save(tmp_path / "novelty.npz")
    with pytest.raises(CalibrationError, match="no distances"):
        LayeredNovelty(Foreign(blind=True), normal(200), NoveltyTerms(views=("direction",)))
    assert np.isfinite(measure.measure(evidence_of(np.zeros((1, 8))))).all()  # a row without a direction


def test_a_custom_network_is_never_shown_a_missing_value():
    measure = LayeredNovelty(Foreign(), normal(200), NoveltyTerms(views=("direction",)))
    with pytest.raises(RequestError):
        measure.measure(evidence_of(np.full((1, 8), np.nan)))


def test_a_missing_value_and_a_number_of_any_size_are_measured():
    """Rows that the private data do not have are strange; none of them is an error."""
    measure = LayeredNovelty(stack(), normal(1000))
    rows = normal(3, 4)
    rows[1, 2], rows[2, 2] = np.nan, 1e100
    usual, missing, huge = measure.measure(evidence_of(rows))
    assert usual < missing < huge < np.inf
    check_measure(measure, evidence_of(np.concatenate([rows, normal(5)])))


def shifted(count, seed):
    return normal(count, seed) + 5.0


def test_rows_of_a_declared_kind_are_usual_and_strange_to_the_variant_without_kinds():
    measure = LayeredNovelty(stack(), normal(1000), kinds={"shifted": shifted(500, 1)})
    assert measure.kinds == ("shifted",)
    of_kind, clean, stranger = (evidence_of(rows) for rows in (shifted(200, 2), normal(200, 2), normal(200, 2) - 5.0))
    assert np.median(measure.measure(of_kind)) < 1.5
    assert np.median(measure.measure(clean)) < 1.0
    assert np.median(measure.measure(stranger)) > 2.5
    without = clean_measure(measure)
    assert without.name == "novelty:clean"
    assert np.median(without.measure(of_kind)) > 2.5
    assert np.array_equal(without.measure(of_kind), LayeredNovelty(stack(), normal(1000)).measure(of_kind))
    assert input_width(without) == input_width(measure) == 8


def test_the_variant_without_kinds_passes_the_suite_and_can_be_another_measure():
    other = LayeredNovelty(stack(), normal(500), NoveltyTerms(views=("direction",)))
    measure = LayeredNovelty(stack(), normal(500), kinds={"shifted": shifted(200, 1)}, clean=other)
    evidence = evidence_of(normal(20, 1) * 3)
    check_measure(measure, evidence)
    check_measure(measure.clean, evidence)
    assert np.array_equal(measure.clean.measure(evidence), other.measure(evidence))
    assert other.name == "novelty"


def test_without_kinds_a_measure_is_its_own_clean_variant():
    measure = LayeredNovelty(stack(), normal(200))
    assert measure.clean is None
    assert clean_measure(measure) is measure


def test_the_variant_and_the_names_of_the_kinds_are_in_the_same_file(tmp_path):
    path, evidence = tmp_path / "novelty.npz", evidence_of(shifted(20, 3))
    measure = LayeredNovelty(stack(), normal(300), kinds={"shifted": shifted(100, 1), "far": normal(100) + 9.0})
    measure.save(path)
    loaded = load_novelty(path)
    assert loaded.kinds == ("shifted", "far")
    assert loaded.clean.name == "novelty:clean"
    for ours, theirs in ((measure, loaded), (measure.clean, loaded.clean)):
        assert np.array_equal(ours.measure(evidence), theirs.measure(evidence))


def test_without_a_network_the_transformed_inputs_are_compared(tmp_path):
    """For numbers, and for hashed codes, whose layer is too wide to be whitened."""
    path = tmp_path / "novelty.npz"
    words = np.random.default_rng(0).integers(1, 100, (6, 8))
    codes = words[np.random.default_rng(1).integers(0, 6, (300, 5))].reshape(300, -1).astype(float)
    for private, transform in ((normal(300), Standardised.fit(normal(300), (1, 1, 8))), (codes, HashedCodes(40))):
        measure = LayeredNovelty(NoveltyNetwork(transform, None), private)
        strange = evidence_of(private[:20, ::-1] * 3.0)
        assert np.median(measure.measure(strange)) > np.median(measure.measure(evidence_of(private[20:60])))
        measure.save(path)
        assert np.array_equal(load_novelty(path).measure(strange), measure.measure(strange))
        check_measure(measure, strange)


def test_a_file_of_an_earlier_version_says_what_to_do(tmp_path):
    path = tmp_path / "novelty.npz"
    LayeredNovelty(stack(), normal(200)).save(path)
    arrays = {name: array for name, array in load_arrays(path, "layered novelty").items() if "standard" not in name}
    save_arrays(path, "layered novelty", arrays)
    with pytest.raises(CalibrationError, match="fit it anew with fit-novelty"):
        load_novelty(path)
