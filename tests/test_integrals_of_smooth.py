"""Averages over smooth students of teachers that jump or bend, and what their lattice misses."""

import dataclasses
import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from averages_reference import RULE, chosen
from boxes import BIASED, NOISE, STATE, C, boxes

import learndyn as ld
from learndyn.averages import AbstractAverages
from learndyn.averages._mixed import MixedAverages, mixed_averages
from learndyn.integrals import mixed
from learndyn.integrals.smooth import LEVELS, Exact, Units, made
from learndyn.integrals.smooth.products import by_heat_equation, misfit
from learndyn.integrals.smooth.rules import Checks
from learndyn.rules import FieldAverages


def same(found, wanted, rtol=1e-11, atol=1e-13):
    np.testing.assert_allclose(found, wanted, rtol=rtol, atol=atol)


# Smooth students of teachers that jump or bend


def smooth_in_numpy(g, slope, teacher, state, cuts, count, noise):
    """<F f>, Phi, h, f and eg."""
    c, k = np.asarray(state.covariance), state.k
    b = np.zeros(len(c)) if state.b is None else np.concatenate([state.b, state.b_teacher])
    f, w = boxes(c, [np.array(cut) - b[a] for a, cut in enumerate(cuts)], count)
    x = f + b[:, None]
    v, v_teacher = np.asarray(state.v), np.asarray(state.v_teacher)
    error = v @ g(x[:k]) - v_teacher @ teacher(x[k:])
    pull = v[:, None] * slope(x[:k])
    signal = pull * error
    phi = (w * signal) @ signal.T + noise**2 * (w * pull) @ pull.T
    return (w * signal) @ f.T, phi, (w * error) @ g(x[:k]).T, signal @ w, 0.5 * w @ error**2


def erf_of(x):
    return scipy.special.erf(x / 2**0.5)


def erf_slope(x):
    return (2 / np.pi) ** 0.5 * np.exp(-(x**2) / 2)


def elu(x, steepness=1.0):
    return np.where(x > 0, x, steepness * np.expm1(np.minimum(x, 0.0)))


def elu_slope(x, steepness=1.0):
    return np.where(x > 0, 1.0, steepness * np.exp(np.minimum(x, 0.0)))


FOUR = np.array(
    [[0.9, 0.2, 0.3, -0.1], [0.2, 0.6, -0.25, 0.2], [0.3, -0.25, 1.0, 0.15], [-0.1, 0.2, 0.15, 0.7]]
)
TWO_TEACHERS = ld.Overlaps(FOUR[:2, :2], FOUR[:2, 2:], FOUR[2:, 2:], [0.7, -1.3], [1.1, 0.6])


def relu(x):
    return np.maximum(x, 0.0)


@pytest.mark.nightly(by_day=["signs"])
@pytest.mark.parametrize(
    ("teacher", "state", "count"),
    [((ld.Sign(), np.sign), TWO_TEACHERS, 16), ((ld.ReLU(), relu), BIASED, 20)],
    ids=["signs", "relu"],
)
def test_products_of_smooth_students_of_kinked_teachers(teacher, state, count):
    """Right to 2e-5 of the largest at overlaps of 1 and the level that is taken."""
    g_teacher, teacher_np = teacher
    problem = ld.Problem(ld.Erf(), g_teacher, noise=NOISE)
    averages = chosen(problem, state)
    assert isinstance(averages, MixedAverages)
    found = eqx.filter_jit(averages.products.field_averages)(problem, RULE, state).Phi
    cuts = [[]] * state.k + [[0.0]] * state.m
    phi = smooth_in_numpy(erf_of, erf_slope, teacher_np, state, cuts, count, NOISE)[1]
    same(found, phi, atol=2e-5 * np.abs(phi).max())


class Nothing(AbstractAverages):
    """Products that are not asked for."""

    def field_averages(self, problem, rule, state):
        return FieldAverages(*(jnp.full(shape, jnp.nan) for shape in ((2, 3), (2, 2), 2, 2)))

    def generalisation_error(self, problem, state):
        raise NotImplementedError


@pytest.mark.parametrize(("steepness", "teacher"), [(2.0, "relu"), (1.0, "elu")])
def test_students_whose_second_derivative_jumps(steepness, teacher):
    """elu's slope is continuous, its second derivative is not: <g''_i D> by Stein's lemma. With
    a steepness of 2 it has a kink as well, which meets the rest of the same unit. The error is that
    of the series' nodes, whose spacing is about 0.01."""
    g_teacher, teacher_np = {"relu": (ld.ReLU(), relu), "elu": (jax.nn.elu, elu)}[teacher]
    student, slope = (functools.partial(g, steepness=steepness) for g in (elu, elu_slope))
    problem = ld.Problem(lambda x: jax.nn.elu(x, steepness), g_teacher, noise=NOISE)
    if teacher == "relu":
        averages = mixed_averages(problem, 2, 1, rule=None, biases=False)
        averages = dataclasses.replace(averages, products=Nothing())
    else:
        averages = chosen(problem, STATE)
    found = eqx.filter_jit(averages.field_averages)(problem, RULE, STATE)
    fields, _, h, mean, _ = smooth_in_numpy(student, slope, teacher_np, STATE, [[]] * 3, 20, NOISE)
    same(found.with_fields(STATE.covariance), fields, atol=5e-6)
    same(found.h, h, atol=5e-6)
    same(found.f, mean, atol=5e-6)


crossing = jax.jit(mixed.crossing, static_argnums=1)


@pytest.mark.parametrize("k", [1, 2])
@pytest.mark.parametrize("seed", range(6))
def test_where_jumps_of_two_teacher_units_meet(k, seed):
    """On the line of one student, or on the plane of two: by lines of NumPy for each pair."""
    rng = np.random.default_rng(seed)
    students, m = rng.normal(size=(k, 3)), 3
    # In the plane, close to it, and one that leaves much open.
    far = rng.permutation([0.0, 0.05, 1.0]) if seed % 2 else np.array([0.1, 0.2, 0.3])
    aside = far[:, None] * rng.normal(size=(m, 3))
    w = np.concatenate([students, rng.normal(size=(m, k)) @ students + aside])
    w /= np.linalg.norm(w, axis=1)[:, None]
    rules = jax.tree.map(jnp.asarray, made(LEVELS[3], half=False))
    z_line = np.asarray(rules.line[0])
    on_line, on_plane = (
        np.diff(x).max() for x in (z_line, (rules.plane[0] - rules.plane[1]) / 2**0.5)
    )
    r, least = w @ w.T, []

    def unresolved(spread, slope, spacing):
        width = 1.2 * spacing * slope
        return max(0.0, 1 - (spread / width) ** 2) if width > 0 else 0.0

    for a in range(k, k + m):
        for b in range(a + 1, k + m):
            for i in range(k):
                along = r[i, [a, b]]
                spread = np.sqrt(np.maximum(1 - along**2, 0.0))
                rho = (r[a, b] - along.prod()) / max(spread.prod(), 1e-100)
                slope = along[0] * spread[1] - np.sign(rho) * along[1] * spread[0]
                wide = np.maximum(spread, 1.2 * on_line * np.abs(along))
                left = wide.prod() * np.sqrt(max(2 * (1 - abs(rho)), 0.0))
                least.append(on_line**2 * unresolved(left, abs(slope), on_line) ** 3)
            if k == 2:
                known = r[np.ix_([a, b], [0, 1])] @ np.linalg.solve(r[:2, :2], r[:2][:, [a, b]])
                given = np.diagonal(known)
                each = [unresolved(max(1 - g, 0.0) ** 0.5, g**0.5, on_plane) for g in given]
                cosine = known[0, 1] ** 2 / given.prod()
                least.append(on_plane**2 * np.prod(each) ** 3 * cosine**4)
    same(crossing(jnp.asarray(r), k, rules), max(least), rtol=1e-6)
    alone = jnp.asarray(r[: k + 1, : k + 1])
    assert float(mixed.crossing(alone, k, rules)) == 0.0


def test_derivatives_by_the_heat_equation():
    """The value does not depend on c but through the shifts: half their second derivatives."""
    weights = jnp.array([0.3, -1.2])

    def summed(c, rest, rules):
        (scale,), u, shift = rest
        return (
            scale * u[0] * jnp.stack([shift[0] ** 2 * shift[1], jnp.sin(shift[0] + 2 * shift[1])])
        )

    average, shift = by_heat_equation(summed), np.array([0.4, -0.7])
    rest = (jnp.array(1.5),), weights, jnp.asarray(shift)
    dc = jnp.array([[0.5, 0.3], [0.3, -0.9]])
    c, rules = jnp.eye(2), made(Exact(1), half=False)
    value, change = eqx.filter_jvp(lambda c: average(c, rest, rules), (c,), (dc,))
    size, wave = 0.45, -np.sin(shift[0] + 2 * shift[1])
    same(value, size * np.array([shift[0] ** 2 * shift[1], -wave]))
    # d2/ds0 ds0, d2/ds0 ds1 and d2/ds1 ds1 of both
    second = np.array([[2 * shift[1], 2 * shift[0], 0.0], [wave, 2 * wave, 4 * wave]])
    through_c = size * second @ [0.25, 0.3, -0.45]
    same(change, through_c)
    more = lambda s: average(c, ((s,), *rest[1:]), rules)
    same(eqx.filter_jvp(more, (jnp.array(1.5),), (jnp.array(2.0),))[1], value / 1.5 * 2.0)
    at = lambda c, s: average(c, ((s,), *rest[1:]), rules)
    both = eqx.filter_jvp(at, (c, jnp.array(1.5)), (dc, jnp.array(2.0)))[1]
    same(both, through_c + value / 1.5 * 2.0)
    # Where nothing changes that it depends on, it does not either.
    moved = lambda s: average(c, rest, eqx.tree_at(lambda r: r.series.z, rules, s))
    z = jnp.asarray(rules.series.z)
    same(eqx.filter_jvp(moved, (z,), (z,))[1], 0.0)


def test_how_much_wider_steps_of_a_teacher_are_made():
    """A student and a teacher of correlation 0.98: the spread that is left, 0.2, is below 1.2
    spacings of the lattice times 0.98."""
    rules = made(LEVELS[4], half=False)
    z_plus, z_minus, _ = rules.plane
    spacing = np.diff(np.unique(np.round((z_plus - z_minus) / 2**0.5, 9))).max()
    left, wide = (1 - 0.98**2) ** 0.5, 1.2 * spacing * 0.98
    assert left < wide
    alone = np.diag([0.9, 1.4, 0.6])
    alone[0, 1] = alone[1, 0] = 0.98 * (0.9 * 1.4) ** 0.5
    rules = jax.tree.map(jnp.asarray, rules)
    for k in (1, 2):
        at = [0, 1, 2] if k == 1 else [0, 2, 1]  # another student has no part in it
        found = mixed.widening(jnp.asarray(alone[np.ix_(at, at)]), k, rules)
        same(found, 0.5 * (1 - (left / wide) ** 2), rtol=1e-8)
    assert float(mixed.widening(jnp.eye(3), 1, rules)) == 0.0


def test_what_a_lattice_misses_of_a_narrow_step():
    """A normal law of width 0.2 / 0.98, by which a step is blurred, leaves so much of a wave as
    long as the spacing: that of the line, and for two students that of the plane."""
    rules = made(LEVELS[4], half=False)
    z_plus, z_minus, _ = rules.plane
    plane = np.diff(np.unique(np.round((z_plus - z_minus) / 2**0.5, 9))).max()
    line = np.diff(rules.line[0]).max()
    rules = jax.tree.map(jnp.asarray, rules)
    alone = np.diag([0.9, 1.4, 0.6])
    alone[0, 1] = alone[1, 0] = 0.98 * (0.9 * 1.4) ** 0.5
    x = np.linspace(-3, 3, 20001)
    blur = np.exp(-0.5 * (x * 0.98 / (1 - 0.98**2) ** 0.5) ** 2)
    for k, spacing in ((1, line), (2, plane)):
        at = [0, 1, 2] if k == 1 else [0, 2, 1]
        left = blur @ np.cos(2 * np.pi * x / spacing) / blur.sum()
        for order in (1, 2):
            found = mixed.missed(jnp.asarray(alone[np.ix_(at, at)]), k, rules, order)
            same(found, spacing**order * left, rtol=1e-8)
    assert float(mixed.missed(jnp.eye(3), 2, rules, 1)) == 0.0


@pytest.mark.parametrize("k", [1, 2])
def test_what_a_lattice_misses_of_steep_units(rng, k):
    """The error of one rule at a time: of <g'**2> of students, over it, for those of the plane and
    the line, and of <g>, over the root of <g**2>, for other fields, which vary less given these."""
    rough, exact = rng.uniform(0.1, 0.3, size=(2, 4, 5))
    nodes, b = rng.normal(size=5), np.array([0.2, -0.3, 0.4])
    rules = jax.tree.map(jnp.asarray, made(Exact(1), half=False))
    line, slope = lambda x: 3.0 * x, lambda x: 2 * x
    units = Units(jnp.square, line, slope, jnp.ones_like, k, False, True, jnp.asarray(b))
    sigma = np.sqrt(np.diagonal(C))
    r = C / sigma / sigma[:, None]
    left = sigma * np.sqrt(np.maximum(1 - np.min(r[:k] ** 2, axis=0), 0.0))
    x = left[:, None] * nodes + b[:, None]
    g = np.where(np.arange(3)[:, None] < k, x**2, 3 * x)
    slopes = (2 * (sigma[:, None] * nodes + b[:, None])[:k]) ** 2
    errors = [np.abs(slopes @ rough[n] / (slopes @ exact[n]) - 1).max() for n in (0, 1)]
    errors += [(np.abs(g @ (rough - exact)[n]) / np.sqrt(g**2 @ exact[n])).max() for n in (2, 3)]
    for n, wanted in enumerate(errors):
        one = np.where(np.arange(4)[:, None] == n, rough, exact)
        checks = Checks(*map(jnp.asarray, (nodes, one, exact)))
        found = misfit(units, jnp.asarray(C), rules._replace(checks=checks))
        same(found, 0.0 if k == 1 and n in (0, 2) else wanted)  # one unit needs no plane
