"""Which averages are taken, and what finer and coarser ones there are: small numbers by hand."""

import dataclasses
import functools
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

import learndyn as ld
from learndyn.averages import GaussHermite
from learndyn.averages import _choose as choose
from learndyn.averages import _errors as errors
from learndyn.averages import _fallback as fallback
from learndyn.averages import _mixed as mixed
from learndyn.averages import _series as series
from learndyn.averages import _smooth_students as smooth
from learndyn.averages._closed import closed_form, has_closed_form, rule_averages
from learndyn.averages._one_unit import _wedge, learns_half_plane, outside_of
from learndyn.averages._roots import field_root
from learndyn.averages._seen import seen_averages, seen_state
from learndyn.averages._split import SplitQuadrature, one_unit_averages
from learndyn.averages._types import AbstractAverages, half_square, not_negative
from learndyn.integrals.piecewise_linear import PiecewiseLinear
from learndyn.integrals.smooth import LEVELS, made
from learndyn.rules import FieldAverages, Modulation

RULE = ld.SGD(0.1)
STATE = ld.Overlaps([[0.9, 0.2], [0.2, 0.6]], [[0.3], [-0.1]], [[1.4]], [0.7, -1.3], [1.1])


def same(found, wanted, rtol=1e-12):
    np.testing.assert_allclose(found, wanted, rtol=rtol, atol=1e-14)


class Told(AbstractAverages):
    """Averages that are one number."""

    value: Array
    sets: int = 0

    def field_averages(self, problem, rule, state):
        return FieldAverages(*(self.value * jnp.ones(shape) for shape in ((2, 3), (2, 2), 2, 2)))

    def generalisation_error(self, problem, state):
        return self.value

    @property
    def replicates(self):
        return self.sets


# What every kind has


def test_squares_are_not_negative_by_rounding():
    same(half_square(jnp.array([0.5, -2.0]), jnp.array([[3.0, 0.7], [0.7, 1.1]])), 1.875)
    # Within a hundredth of the terms it is 0, and its derivative stays.
    value, change = jax.jvp(lambda x: not_negative(x, 2.0), (-0.019,), (3.0,))
    assert (float(value), float(change)) == (0.0, 3.0)
    assert np.isnan(not_negative(jnp.asarray(-0.021), 2.0))
    same(not_negative(jnp.asarray(0.3), 2.0), 0.3)


def test_averages_that_say_nothing_of_themselves():
    plain = Told(jnp.asarray(1.0))
    nothing = plain.neighbours(), plain.coarsest(), plain.levels(), plain.finer(2, 1)
    assert nothing == (None,) * 4
    assert (plain.falls, plain.rtol, plain.is_stepwise) == (math.inf, 0.0, False)
    assert plain.holds_at_singular
    assert float(plain.misfit(ld.Problem(), STATE)) == 0.0
    assert errors.is_exact(plain)
    assert not errors.is_exact(Told(jnp.asarray(1.0), sets=2))
    with pytest.raises(NotImplementedError, match="Told has no replicates"):
        plain.replicate(jnp.asarray(0))


def test_one_replicate_tells_no_error():
    one = Told(jnp.asarray(1.0), sets=1)
    found = errors.estimated(one, lambda a: [a.value])
    assert np.isnan(found.errors[0])
    assert bool(found.resolved)


def test_sizes_of_what_may_cancel():
    """(0.7 + 1.3 + 1.1 sqrt 1.4)**2: fields narrower than 1 count as 1."""
    same(errors.cancelling(STATE), (2.0 + 1.1 * 1.4**0.5) ** 2)
    some = FieldAverages(*(jnp.ones(shape) for shape in ((2, 3), (2, 2), 2, 2)))
    assert len(errors.sampled(some, STATE)) == 3
    biased = ld.Overlaps(STATE.Q, STATE.R, STATE.T, b=[0.1, 0.2], b_teacher=[0.3])
    assert len(errors.sampled(some, biased)) == 4


def test_sizes_of_the_terms_of_averages():
    """sqrt(<F**2> <f**2>), <F**2> and sqrt(<F**2>), where the widest field has variance 1.4."""
    phi, none = jnp.array([[4.0, -5.0], [-5.0, 9.0]]), jnp.zeros(2)
    sizes = errors.term_sizes([jnp.zeros((2, 4)), phi, none, none], STATE)
    np.testing.assert_allclose([float(size) for size in sizes], [3.0 * 1.4**0.5, 9.0, np.inf, 3.0])
    assert len(errors.term_sizes([jnp.zeros((2, 4)), phi, none], STATE)) == 3


def test_what_is_known_to_be_wrong_is_wrong_in_products_alone():
    assert errors.misfits(0.3, STATE) == [0.0, 0.3, 0.0]
    biased = ld.Overlaps(STATE.Q, STATE.R, STATE.T, b=[0.1, 0.2], b_teacher=[0.3])
    assert errors.misfits(0.3, biased) == [0.0, 0.3, 0.0, 0.0]


def test_noisy_inputs_widen_fields_and_lengthen_steps():
    state = seen_state(ld.rules.InputNoise(0.6, 0.1), STATE)
    same(state.Q, 1.36 * np.asarray(STATE.Q))
    same(state.R, STATE.R)
    plain = Told(jnp.asarray(2.0))
    found = seen_averages(plain, ld.Problem(), ld.rules.InputNoise(0.6, 0.1), STATE)
    same(found.G, 2.0 * np.array([[1.36, 1.36, 1.0]] * 2))
    same(found.Phi, 2.72)
    same(found.h, 2.0)
    same(seen_averages(plain, ld.Problem(), RULE, STATE).G, 2.0)


def test_roots_of_covariances_in_blocks():
    c = np.asarray(STATE.covariance)
    for student_first in (True, False):
        found = field_root(STATE, student_first=student_first)
        same(found.matrix() @ found.matrix().T, c)
        same(found.inverse() @ found.matrix(), np.eye(3))
        given = c[2:, :2] @ np.linalg.inv(c[:2, :2]) if student_first else c[:2, 2:] / c[2, 2]
        same(found.regression(), given)


# Closed forms and rules


def test_a_multiple_of_squared_loss_multiplies_averages():
    problem = ld.Problem(loss=lambda phi, y: 1.5 * (phi - y) ** 2)  # three times (phi - y)**2 / 2
    given = FieldAverages(jnp.ones((2, 3)), 2 * jnp.ones((2, 2)), jnp.ones(2), 5 * jnp.ones(2))
    found = rule_averages(problem, RULE, lambda state: given, STATE)
    v = np.asarray(STATE.v)
    same(found.G, 3 * v[:, None] * np.ones((2, 3)))
    same(found.Phi, 18 * np.outer(v, v))
    same(found.h, 3.0)
    same(found.f, 15 * v)
    # The signal is asked for at the second layer that the rule gives.
    asked = rule_averages(problem, RULE, lambda s: given._replace(h=s.v), STATE)
    same(asked.h, 3 * v)


def test_where_there_are_closed_forms():
    assert has_closed_form(ld.Problem(), RULE, biases=False)
    assert not has_closed_form(ld.Problem(), RULE, biases=True)
    assert not has_closed_form(ld.Problem(ld.Erf(), ld.ReLU()), RULE, biases=False)
    assert has_closed_form(ld.Problem(ld.ReLU(), ld.ReLU()), RULE, biases=False)
    plain = ld.LocalRule(lambda p, s, layers: Modulation(s.lam, s.lam), 0.1)
    assert not has_closed_form(ld.Problem(), plain, biases=False)
    assert type(closed_form(ld.Problem(), RULE, biases=False)).__name__ == "ClosedForm"
    for rule, biases, words in ((RULE, True, "biases=yes, rule=SGD"), (None, True, "biases=yes. ")):
        with pytest.raises(ValueError, match=words):
            closed_form(ld.Problem(), rule, biases=biases)
    with pytest.raises(ValueError, match="biases=no, rule=LocalRule"):
        closed_form(ld.Problem(), plain, biases=False)


def test_biases_that_matter():
    biased = ld.SGD(0.1, lr_bias=0.2)
    state = lambda b, b_teacher: ld.Overlaps(STATE.Q, STATE.R, STATE.T, b=b, b_teacher=b_teacher)
    rows = [
        (state(None, None), RULE, False),
        (state([0.0, 0.0], [0.0]), None, False),
        (state([0.0, 0.0], [0.0]), RULE, False),
        (state([0.0, 0.0], [0.0]), biased, True),
        (state([0.0, 0.3], [0.0]), None, True),
        (state([0.0, 0.0], [0.3]), RULE, True),
    ]
    assert [choose.has_biases(at, rule) for at, rule, _ in rows] == [x for _, _, x in rows]
    traced = []
    jax.eval_shape(lambda b: traced.append(choose.has_biases(state(b, [0.0]))), jnp.zeros(2))
    assert traced == [True]


def test_given_averages_are_taken():
    given = Told(jnp.asarray(1.0))
    sizes = {"k": 2, "m": 1, "rule": RULE, "biases": False}
    assert choose.choose_averages(ld.Problem(), **sizes, averages=given) is given
    nodes = choose.choose_averages(ld.Problem(), **sizes, averages=GaussHermite(3))
    assert nodes.z.shape == (1, 27, 3)
    assert not nodes.exact_error
    usual = choose.choose_nodes(ld.Problem(), 1, 1, rule=RULE, biases=False)
    assert usual.exact_error  # eg has a closed form
    more = choose.choose_nodes(
        ld.Problem(), 1, 1, rule=RULE, biases=False, nodes=GaussHermite(3), more=1
    )
    assert (more.z.shape, more.draws) == ((1, 27, 3), 1)
    for wrong in ("open", 3):
        with pytest.raises(ValueError, match=r'averages must be None, "closed"'):
            choose.choose_averages(ld.Problem(), **sizes, averages=wrong)


def test_who_takes_split_averages():
    sign, erf = ld.Sign(), ld.Erf()
    jumping = lambda p, s, layers: Modulation(jnp.sign(s.lam), s.lam)
    taken = lambda problem, rule=RULE: one_unit_averages(problem, 1, 1, rule=rule, biases=False)
    hinge = ld.Problem(erf, sign, ld.Hinge())
    assert isinstance(taken(hinge), SplitQuadrature)
    assert one_unit_averages(hinge, 2, 1, rule=RULE, biases=False) is None
    assert one_unit_averages(hinge, 1, 2, rule=RULE, biases=False) is None
    assert isinstance(taken(ld.Problem(erf, sign)), SplitQuadrature)  # a teacher that jumps
    assert taken(ld.Problem(erf, ld.ReLU())) is None
    assert taken(ld.Problem(erf, erf, lambda phi, y: (phi - y) ** 4)) is None  # smooth
    episode = ld.LocalRule(jumping, 0.1, episode=True, batch_size=2)
    reading = ld.LocalRule(jumping, 0.1, needs_overlaps=True)
    for rule in (episode, reading, ld.LocalRule(jumping, 0.1, draws=1)):
        assert taken(hinge, rule) is None


def test_who_learns_a_half_plane():
    problem = ld.Problem(ld.Linear(), ld.Sign(), ld.Perceptron())
    learns = lambda problem, rule=None, biases=False: learns_half_plane(
        problem, rule, biases=biases
    )
    assert learns(problem)
    assert learns(problem, RULE)
    assert not learns(problem, biases=True)
    assert not learns(ld.Problem(ld.Erf(), ld.Sign(), ld.Perceptron()))
    assert not learns(ld.Problem(ld.Linear(), ld.Sign(), ld.Logistic()))
    assert learns(ld.Problem(ld.Linear(), ld.Sign(), ld.Logistic()), ld.rules.Hebb(0.1))
    assert not learns(ld.Problem(ld.Linear(), ld.Linear()))
    assert learns(ld.Problem(ld.Linear(), ld.Linear(), ld.Hebb(), noise=0.3))
    assert not learns(ld.Problem(ld.Linear(), ld.Erf(), ld.Hebb(), noise=0.3))
    assert learns(ld.Problem(ld.Linear(), ld.Erf(), ld.Hebb()))
    assert not learns(ld.Problem(ld.Linear(), ld.Quadratic(), ld.Hebb()))
    index = ld.MultiIndex(lambda rho, zeta: rho[0])
    assert not learns(ld.Problem(ld.Linear(), index, ld.Hebb()))
    same(outside_of(ld.Overlaps([[0.9]], [[0.3]], [[1.4]])), 0.9 - 0.09 / 1.4)
    assert float(outside_of(ld.Overlaps([[0.5]], [[0.0]], [[0.0]]))) == 0.5


def test_half_planes_of_noisy_labels():
    """v = -0.7, v* = -1.3: output and field have the covariance 0.91 R / 1.3."""
    state = ld.Overlaps([[1.2]], [[0.4]], [[1.5]], [-0.7], [-1.3])
    outside = jnp.asarray(0.9)
    linear = ld.Problem(ld.Linear(), ld.Linear(), ld.Hebb(), noise=0.5)
    more = (0.5 / 1.3) ** 2
    s, r, t, k = _wedge(linear, state, outside)
    unseen = 0.4**2 / 1.5 - 0.4**2 / (1.5 + more)
    same([s, r, t, k], [0.49 * (0.9 + unseen), 0.28, 1.5 + more, 1.0])
    turned = ld.Problem(ld.Linear(), ld.Sign(0.1), ld.Hebb(), noise=0.5)
    s, r, t, k = _wedge(turned, state, outside)
    same([s, r, t, k], [0.441, 0.28, 1.5, 0.8 * math.erf(1.3 / 0.5 / 2**0.5)])
    # Without noise nothing changes with the teacher's second layer.
    quiet = ld.Problem(ld.Linear(), ld.Sign(0.1), ld.Hebb())
    moved = lambda v: eqx.tree_at(lambda s: s.v_teacher, state, v)
    along = jax.jvp(
        lambda v: _wedge(quiet, moved(v), outside)[3], (jnp.array([-1.3]),), (jnp.ones(1),)
    )
    assert [float(x) for x in along] == [0.8, 0.0]


# Units with kinks


def test_mixed_averages_are_as_their_products():
    plain = mixed.mixed_averages(ld.Problem(ld.ReLU(), ld.Tanh()), 1, 1, rule=None, biases=True)
    assert plain.biases
    assert (plain.exact, plain.curved, plain.bends) == ((True, False), True, False)
    assert (plain.replicates, plain.neighbours(), plain.levels()) == (0, None, None)
    assert (plain.finer(1, 1), plain.rtol, plain.is_stepwise) == (None, 0.0, False)
    assert plain.holds_at_singular
    assert float(plain.misfit(ld.Problem(), STATE)) == 0.0
    assert plain.falls == math.inf
    assert dataclasses.replace(plain, bends=True).falls == 20.0
    with pytest.raises(AssertionError, match="no replicates"):
        plain.replicate(jnp.asarray(0))
    with pytest.raises(AssertionError, match="generalisation error alone"):
        plain.field_averages(ld.Problem(), RULE, STATE)

    arrays = jnp.zeros((2, 3, 2)), jnp.ones(3)
    nodes = fallback.NodeAverages(*arrays, score=True, coarse=arrays, fine=arrays)
    ready = dataclasses.replace(plain, products=nodes)
    assert (ready.replicates, ready.is_stepwise, ready.holds_at_singular) == (2, True, False)
    one = ready.replicate(jnp.asarray(1))
    assert (one.products.replicates, one.series is ready.coarser) == (1, True)
    coarser, finer = ready.neighbours()
    assert coarser.series is coarser.coarser is finer.coarser is ready.coarser
    assert finer.series is finer.finer_series is ready.finer_series
    assert (finer.student, finer.teacher, finer.exact) == (
        ready.student,
        ready.teacher,
        (True, False),
    )
    assert (finer.curved, finer.bends, finer.biases) == (True, False, True)
    assert ready.levels() is None  # nodes have none in arrays
    assert ready.finer(1, 1) is None

    smooth = series.at_level(4, even=False)
    levels = dataclasses.replace(plain, products=smooth)
    assert levels.rtol == smooth.rtol
    assert (levels.finer(1, 1).products.level, levels.finer(1, 1).series is plain.series) == (
        6,
        True,
    )
    three = levels.levels()
    assert all(leaf.shape[0] == 3 for leaf in jax.tree.leaves(three.series))
    for terms in (three.series, three.coarser, three.finer_series):
        assert terms.order.tolist() == [128, 256, 512]
    # The coarser, usual and finer series, each of its own number of terms and nodes
    for place, own in enumerate((plain.coarser, plain.series, plain.finer_series)):
        for padded, leaf in zip(jax.tree.leaves(three.series), jax.tree.leaves(own), strict=True):
            assert np.sum(np.abs(padded[place])) == pytest.approx(np.sum(np.abs(leaf)), rel=1e-9)


@pytest.mark.parametrize(
    ("student", "teacher", "exact", "curved", "bends"),
    [
        (ld.ReLU(), ld.Tanh(), (True, False), True, False),
        (ld.Tanh(), ld.ReLU(), (False, True), True, False),
        (ld.ReLU(), jax.nn.elu, (True, False), True, True),  # elu's second derivative jumps
        (jax.nn.elu, ld.ReLU(), (False, True), False, True),
    ],
    ids=["relu of tanh", "tanh of relu", "relu of elu", "elu of relu"],
)
def test_what_is_left_of_units_without_kinks(student, teacher, exact, curved, bends):
    found = mixed.mixed_averages(ld.Problem(student, teacher), 2, 2, rule=None, biases=False)
    assert (found.exact, found.curved, found.bends, found.biases) == (exact, curved, bends, False)
    assert found.products is None


def test_who_has_no_kinks():
    none = lambda student, teacher, rule=None: mixed.mixed_averages(
        ld.Problem(student, teacher), 2, 2, rule=rule, biases=False
    )
    assert none(ld.Tanh(), ld.Tanh()) is None
    assert none(ld.ReLU(), ld.MultiIndex(lambda rho, zeta: rho[0])) is None
    assert none(ld.ReLU(), ld.Tanh(), ld.rules.Dropout(0.5, 0.1)) is None


def test_series_for_teachers_that_jump():
    usual, rest = ((256, 2000), (128, 700), (512, 5600)), ((128, 480), (64, 240), (256, 960))
    continuous = PiecewiseLinear(0.0, 1.0, knots=(0.3,), bends=(-0.5,))
    jumps = PiecewiseLinear(0.0, 1.0, knots=(0.3,), bends=(0.0,), jumps=(-0.5,))
    assert mixed._sizes(continuous, bends=False) == usual
    assert mixed._sizes(jumps, bends=True) == usual
    assert mixed._sizes(jumps, bends=False) == rest


def test_units_without_their_kinks():
    """x**3 + 0.5 |x - 0.3| less its line of slope 0.2 and constant -0.1 and its bend of 1."""
    g = lambda x: x**3 + 0.5 * jnp.abs(x - 0.3)
    part = PiecewiseLinear(-0.1, 0.2, knots=(0.3,), bends=(1.0,))
    x = np.array([-1.2, 0.1, 0.9])
    value, slope = mixed._rest(g, part, False)
    same(value(jnp.asarray(x)), np.array(g(x)) + 0.1 - 0.2 * x - np.maximum(x - 0.3, 0.0))
    same(slope(jnp.asarray(x)), 3 * x**2 + 0.5 * np.sign(x - 0.3) - 0.2 - (x > 0.3))
    value, slope = mixed._rest(g, part, True)
    assert not np.any(value(x))
    assert not np.any(slope(x))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"smooth": True}, False),
        ({}, True),
        ({"still_labels": True}, True),
        ({"smooth_student": True}, True),
        ({"still_labels": True, "smooth_student": True}, False),
        ({"smooth": True, "score": True}, True),
    ],
)
def test_where_derivatives_of_averages_over_nodes_jump(settings, expected):
    arrays = jnp.zeros((2, 3, 2)), jnp.ones(3)
    options = {"score": False, "smooth": False, "still_labels": False, "smooth_student": False}
    nodes = dataclasses.replace(fallback.NodeAverages(*arrays, score=False), **options | settings)
    assert nodes.has_stepwise_slopes == expected
    for whole in (nodes, dataclasses.replace(MIXED, products=nodes)):
        assert whole.has_stepwise_slopes == expected


MIXED = mixed.mixed_averages(ld.Problem(ld.ReLU(), ld.Tanh()), 1, 1, rule=None, biases=True)


def test_products_of_smooth_students_at_their_levels(monkeypatch):
    """Rules of levels 2, 5 and 6 side by side; then level 7, as long as that is affordable."""
    teacher = PiecewiseLinear(0.0, 0.0, (0.3,), (0.0,), (1.0,), (0.0,))
    told = {"misfit": 0.1, "crossing": 0.0, "widening": 0.0, "missed": 0.0}
    for module, name in (
        (smooth.products, "misfit"),
        (mixed.mixed, "crossing"),
        (mixed.mixed, "widening"),
        (mixed.mixed, "missed"),
    ):
        monkeypatch.setattr(module, name, lambda *args, name=name: jnp.asarray(told[name]))
    at = functools.partial(smooth._at_level, even=False, biases=False)
    found = at(teacher, 5)
    assert (found.rtol, found.replicates, found.level) == (series.level_rtol(5), 0, 5)
    assert (found.finer(1, 1).level, found.finer(1, 1).teacher) == (7, teacher)
    assert at(teacher, len(LEVELS) - 3).finer(1, 1) is None
    side_by_side = found.levels()
    for n, level in enumerate((2, 5, 6)):
        one = jax.tree.leaves(made(LEVELS[level], False))
        for x, y in zip(jax.tree.leaves(side_by_side.rules), one, strict=True):
            assert np.count_nonzero(x[n]) == np.count_nonzero(y)  # with zeros behind them
    with pytest.raises(NotImplementedError, match="products alone"):
        found.generalisation_error(ld.Problem(), STATE)
    # The largest of what each cause makes
    for change, factor in (({}, 0.1), ({"crossing": 2.0}, 0.12), ({"widening": 1e3}, 0.2)):
        told.update(crossing=0.0, widening=0.0)
        told.update(change)
        same(found.misfit(ld.Problem(), STATE), factor)
    bent = teacher._replace(bends=(0.4,))
    same(at(bent, 5).misfit(ld.Problem(), STATE), 0.1)  # steps are then not made wider
    told.update(crossing=2.0)
    same(at(bent, 5).misfit(ld.Problem(), STATE), 0.12)
    bends = bent._replace(jumps=(0.0,))
    same(at(bends, 5).misfit(ld.Problem(), STATE), 0.1)
    # What a lattice misses of bends, and of steps beside them; steps alone are made wider.
    told.update(crossing=0.0, widening=0.0, missed=20.0)
    for one, factor in ((bends, 0.16), (bent, 3.0), (teacher, 0.1)):
        same(at(one, 5).misfit(ld.Problem(), STATE), factor)
