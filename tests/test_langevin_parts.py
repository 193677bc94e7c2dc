"""Parts of the Langevin level: repairs of overlaps that no weights have, the choice of a step."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

import learndyn as ld
from learndyn.dynamics import _step_errors
from learndyn.dynamics._langevin import _projected, _ProjectedEuler, _repaired, _StepNoise
from learndyn.dynamics._overlap_flow import OverlapFlow
from learndyn.dynamics._step_errors import (
    chosen_step,
    relative_errors,
    step_errors,
    warn_of_step,
)

LINEAR = ld.Problem(ld.Linear(), ld.Linear(), noise=0.3)
TRIANGLE = np.triu_indices(2)
ONE = ld.Overlaps([[0.7]], [[0.3]], [[1.4]])


def flow_of(start, **options):
    return ld.ode_term(LINEAR, ld.SGD(0.4, 0.3, **options), start).vector_field


def test_a_step_of_the_limit_is_of_order_one_and_strongly_of_order_a_half():
    solver, term = _ProjectedEuler(flow_of(ONE)), diffrax.ODETerm(lambda t, y, args: 3.0 * y)
    assert (solver.order(term), solver.strong_order(term)) == (1, 0.5)
    assert solver.func(term, 0.0, jnp.asarray(2.0), None) == 6.0


@pytest.mark.parametrize(
    ("begun", "dt", "index"), [(1.0, 0.4, 3), (0.6, 0.2, 3), (0.0, 0.3, 0), (0.61, 0.2, 4)]
)
def test_steps_are_counted_from_the_beginning_of_time(begun, dt, index):
    """A step that a run was stopped in has used up its numbers; 0.6 / 0.2 rounds to below 3."""
    times = jnp.asarray(begun), jnp.asarray(begun + 1), jnp.asarray(dt)
    path = _StepNoise(*times, jax.random.key(0), 2)
    assert path.first == index
    right = jax.random.normal(jax.random.fold_in(jax.random.key(0), index + 2), (2,))
    found = path.evaluate(begun + 2 * dt, begun + 2 * dt + 1.7)
    np.testing.assert_allclose(found, 1.7**0.5 * right, rtol=1e-7)


# Repairs, by hand: what is left of Q beyond R T^-1 R^T is [[a, b], [b, a]], with the eigenvalues
# a + b and a - b.

R, T = np.array([[0.6], [-0.3]]), np.array([[1.5]])
SPANNED = R @ R.T / T


def beyond(a, b):
    return np.array([[a, b], [b, a]])


def of_length_one(q, r):
    """Q and R, or those of all groups, with each w_i divided by its length."""
    length = np.sqrt(np.diag(q.reshape(-1, 2, 2).sum(axis=0)))
    return q / np.outer(length, length), r / length[:, None]


def as_given(q, r):
    return q, r


BROKEN = np.array([0.8, np.nan])
"""A second layer that has left every bound."""


@pytest.mark.parametrize("spherical", [False, True])
def test_overlaps_are_brought_back_to_those_of_weights(spherical):
    moved = of_length_one if spherical else as_given
    start = ld.Overlaps(*moved(SPANNED + beyond(0.5, 0.1), R), T)
    flow, projected = flow_of(start, spherical=spherical), eqx.filter_jit(_projected)
    at = lambda q, r, v=(0.8, -0.6): jnp.asarray(np.concatenate([q[TRIANGLE], r[:, 0], v]))

    # The eigenvalue 0.2 - 0.5 goes, and 0.2 + 0.5 is halved between all entries.
    wrong, right = SPANNED + beyond(0.2, 0.5), SPANNED + beyond(0.35, 0.35)
    found, count = projected(flow, at(wrong, R))
    np.testing.assert_allclose(found, at(*moved(right, R)), rtol=1e-12)
    assert count == 1
    for kept in (at(SPANNED + beyond(0.5, 0.2), R), at(wrong, R, BROKEN), at(np.nan * wrong, R)):
        found, count = projected(flow, kept)
        np.testing.assert_array_equal(found, kept)
        assert count == 0


@pytest.mark.parametrize("spherical", [False, True])
def test_overlaps_of_groups_are_brought_back_to_those_of_weights(spherical):
    """The first of two groups alone needs that; on the sphere lengths are those of both."""
    moved = of_length_one if spherical else as_given
    both = lambda q: np.stack([SPANNED + q, np.array([[0.7, 0.2], [0.2, 0.9]])])
    r, t = np.array([R, [[0.1], [0.4]]]), np.array([T, [[0.8]]])
    spectrum = ld.Spectrum([0.5, 1.5], [0.5, 0.5])
    start = ld.GroupedOverlaps(*moved(both(beyond(0.5, 0.1)), r), t, spectrum)
    flow, projected = flow_of(start, spherical=spherical), eqx.filter_jit(_projected)

    def at(q, r, v=(0.8, -0.6)):
        return jnp.asarray(np.concatenate([q[0][TRIANGLE], q[1][TRIANGLE], r.ravel(), v]))

    wrong = both(beyond(0.2, 0.5))
    found, count = projected(flow, at(wrong, r))
    np.testing.assert_allclose(found, at(*moved(both(beyond(0.35, 0.35)), r)), rtol=1e-12)
    assert count == 1
    for kept in (at(both(beyond(0.5, 0.2)), r), at(wrong, r, BROKEN), at(np.nan * wrong, r)):
        found, count = projected(flow, kept)
        np.testing.assert_array_equal(found, kept)
        assert count == 0


def test_a_run_of_a_single_time_is_its_start():
    given = {"n": 50.0, "key": jax.random.key(0)}
    run = ld.simulate_langevin(LINEAR, ld.SGD(0.4), ONE, [2.0], **given)
    np.testing.assert_allclose(run.eg, [(0.7 - 2 * 0.3 + 1.4) / 2], rtol=1e-12)
    assert run.result == ld.Result.SUCCESS
    assert run.level == "langevin"
    zeros = ("step_error", "step_error_relative", "corrections", "noise_error")
    for name, right in dict.fromkeys(zeros, 0).items():
        np.testing.assert_array_equal(np.ravel(run.stats[name]), [right])
    assert run.stats["dt"] == 1.0

    given |= {"n": 50.0, "dt": 0.1}
    traced = jax.jit(lambda lr: ld.simulate_langevin(LINEAR, ld.SGD(lr), ONE, [2.0], **given))
    bad = traced(-0.4)
    assert bad.result == ld.Result.INVALID_INPUT
    assert np.isnan(bad.eg).all()
    assert traced(0.4).stats["dt"] == pytest.approx(0.1)


# The error of steps, of y' = -a y with eg = y**2, whose steps are factors 1 - a dt


class Decay(OverlapFlow):
    a: Array

    def __call__(self, t, y, args):
        return -self.a * y

    def pack(self, state):
        return jnp.array([1.5])

    def unpack(self, y):
        return eqx.tree_at(lambda state: state.Q, self.start, y[:, None])

    def error_by(self, averages, state):
        return state.Q[0, 0] ** 2


def decay(a):
    flow = flow_of(ONE)
    return Decay(flow.problem, flow.rule, flow.averages, flow.start, jnp.asarray(a))


def eg_by_steps(ts, a, dt):
    """At times on the grid, or linear between."""
    whole = np.floor(ts / dt + 1e-9)
    first = 1.5 * (1 - a * dt) ** whole
    return (first * (1 - a * (ts - whole * dt))) ** 2


def test_errors_of_steps_by_richardson():
    """At the rate 0.9 the limit decides, at 9 twice the halves."""
    ts, dt = np.array([0.0, 0.3, 0.7, 1.5]), 0.2
    of = eqx.filter_jit(lambda flow: step_errors(flow, jnp.asarray(ts), jnp.asarray(dt)))
    for a in (0.9, 9.0):
        whole, half, quarter = (eg_by_steps(ts, a, dt / x) for x in (1, 2, 4))
        by_halves, by_limit = 2 * abs(whole - half), abs(whole - (2 * quarter - half))
        assert (by_halves[1:] > by_limit[1:]).any() == (a == 9.0)
        assert (by_halves[1:] < by_limit[1:]).any() == (a == 0.9)
        eg, error = of(decay(a))
        np.testing.assert_allclose(eg, half, rtol=1e-12)
        np.testing.assert_allclose(error, np.maximum(by_halves, by_limit), rtol=1e-10, atol=1e-15)


def test_steps_that_leave_every_bound():
    """Steps of 1 at the rate 3 double y each time; halves and quarters of them do not. At the rate
    30 all of them run away, and that is no error of the longest."""
    of = eqx.filter_jit(
        lambda flow: step_errors(flow, jnp.array([0.0, 900.0]), jnp.asarray(1.0))[1]
    )
    np.testing.assert_array_equal(of(decay(3.0)), [0.0, np.inf])
    np.testing.assert_array_equal(of(decay(30.0)), [0.0, 0.0])


@pytest.mark.parametrize(
    ("allowed", "ts", "halvings", "first"),
    [
        (2.0, [3.0, 103.0], 0, 1.0),  # the longest of all
        (2.0, [3.0, 35.0], 0, 0.5),  # 1/64 of the time
        (0.3, [3.0, 103.0], 2, 1.0),
        (0.5, [3.0, 103.0], 1, 1.0),
        (0.0, [3.0, 103.0], 14, 1.0),  # no more
    ],
)
def test_the_longest_step_that_is_fine(monkeypatch, allowed, ts, halvings, first):
    """The relative error at the last of the times that count passes 1 % above `allowed`."""
    asked = []

    def told(flow, looks, dt):
        asked.append(looks)
        error = jnp.where(dt > allowed, 0.0101, 0.0099)
        return jnp.full(len(looks), 2.0), jnp.zeros(len(looks)).at[-1].set(2.0 * error)

    monkeypatch.setattr(_step_errors, "step_errors", told)
    found = chosen_step(flow_of(ONE), jnp.asarray([ts[0], ts[0] + 0.1, ts[1]]))
    assert float(found) == first / 2**halvings
    span = ts[1] - ts[0]
    looks = np.asarray(asked[0])
    assert len(looks) == 65
    np.testing.assert_allclose(looks[[0, 1, -1]] - ts[0], [0.0, 1e-3 * span, span], rtol=1e-9)
    np.testing.assert_allclose(np.diff(np.log(looks[1:] - ts[0])), np.log(1e3) / 63, rtol=1e-6)


def test_relative_errors_have_a_floor():
    """A thousandth of the largest; where there is nothing, errors stay as they are."""
    eg = jnp.array([8.0, 2.0, 1e-4, jnp.nan])
    found = relative_errors(eg, jnp.array([0.4, 0.3, 0.02, 0.04]))
    np.testing.assert_allclose(found, [0.05, 0.15, 2.5, 5.0])
    found = relative_errors(jnp.zeros(4), jnp.full(4, 0.4))
    np.testing.assert_allclose(found, np.full(4, 0.4))
    found = relative_errors(jnp.array([8.0, jnp.inf, 2.0, 8.0]), jnp.full(4, 0.4))
    np.testing.assert_allclose(found, [0.05, 0.0, 0.2, 0.05], atol=1e-300)


@pytest.fixture(scope="module")
def told_run():
    """A run of three times with these errors."""
    given = {"n": 50.0, "key": jax.random.key(0)}
    run = ld.simulate_langevin(LINEAR, ld.SGD(0.4), ONE, [2.0], **given)

    def told(**stats):
        stats = {"dt": np.array(0.0625)} | {name: np.asarray(x) for name, x in stats.items()}
        return eqx.tree_at(lambda x: (x.stats, x.alpha), run, (stats, np.array([0.0, 2.0, 3.5])))

    return told


def test_a_step_that_is_too_long_is_told(told_run):
    words = r"step dt = 0.0625 changes eg by 2.1 % at alpha = 2: give a smaller dt"
    given = {"step_error": np.ones(3)}
    with pytest.warns(RuntimeWarning, match=words):
        warn_of_step(told_run(**given, step_error_relative=[0.001, 0.021, 0.0205]))
    # Any warning is an error here.
    warn_of_step(told_run(**given, step_error_relative=[0.019, 0.02, 0.001]))
    warn_of_step(told_run(**given, step_error_relative=[]))
    warn_of_step(told_run())


def test_rounding_of_overlaps_is_no_correction():
    """What is below zero by 1e-12 of 1, or of R T^-1 R^T where that is larger."""
    for q, spanned, needed in ((-1e-13, 0.0, False), (-1e-11, 0.0, True), (-1e-11, 90.0, False)):
        r = jnp.array([[np.sqrt(spanned)]])
        repaired, found = _repaired(jnp.array([[q + spanned]]), r, jnp.eye(1))
        assert bool(found) == needed
        np.testing.assert_allclose(repaired, [[spanned]], rtol=1e-12, atol=1e-15)
