"""Teachers that jump, in regression: squared loss, additive networks."""

from itertools import combinations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from averages_reference import STATE, averages_of, chosen
from scipy.special import erf, ndtr, owens_t

import learndyn as ld
from learndyn.averages import (
    MixedAverages,
    averages_error,
    choose_averages,
)
from learndyn.averages._piecewise_linear import PiecewiseLinearAverages
from learndyn.integrals.piecewise_linear import PiecewiseLinear, Resolution, network
from learndyn.integrals.piecewise_linear.conditioned import conditioned_products
from learndyn.integrals.piecewise_linear.jumping import jumping_products
from learndyn.problems import as_module, kinked_part, piecewise_linear


def heaviside(x):
    return jnp.where(x > 0.3, 1.0, 0.0)


def staircase(x):
    return -1.0 + 0.5 * (x > -0.8) + 1.0 * (x > 0.1) + 0.7 * (x > 0.9)


def one_step(knot, height=1.0, share=0.0, constant=0.0):
    return PiecewiseLinear(constant, 0.0, (knot,), (0.0,), (height,), (share,))


# What is recognised

JUMPING = {
    "sign": (ld.Sign(), one_step(0.0, 2.0, 1.0, -1.0)),
    "jnp.sign": (jnp.sign, one_step(0.0, 2.0, 0.5, -1.0)),
    "heaviside": (heaviside, one_step(0.3)),
    "staircase": (
        staircase,
        PiecewiseLinear(-1.0, 0.0, (-0.8, 0.1, 0.9), (0.0,) * 3, (0.5, 1.0, 0.7), (0.0,) * 3),
    ),
    "a jump at a kink": (
        lambda x: jnp.where(x > 0.5, x, 0.0),
        PiecewiseLinear(0.0, 0.0, (0.5,), (1.0,), (0.5,), (0.0,)),
    ),
    "a jump next to a kink": (
        lambda x: jax.nn.relu(x) - 2.0 * (x >= 0.125),
        PiecewiseLinear(0.0, 0.0, (0.0, 0.125), (1.0, 0.0), (0.0, -2.0), (0.0, 1.0)),
    ),
}


@pytest.mark.nightly(by_day=["sign", "a jump at a kink"])
@pytest.mark.parametrize(("g", "right"), JUMPING.values(), ids=JUMPING)
def test_jumps_are_recognised_to_rounding(g, right):
    g = as_module(g, "g")
    assert piecewise_linear(g) is None
    found = piecewise_linear(g, jumps=True)
    for value, expected in zip(found, right, strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-14, atol=1e-15)


OTHERS = {
    "as many jumps as there are integers": jnp.round,
    "a steep place": lambda x: jnp.tanh(1e10 * (x - 0.1)),
    "curved next to a jump": lambda x: jnp.where(x > 0, jnp.exp(-x), 0.0),
}


@pytest.mark.nightly
@pytest.mark.parametrize("g", OTHERS.values(), ids=OTHERS)
def test_other_functions_that_jump_are_not_taken(g):
    assert piecewise_linear(as_module(g, "g"), jumps=True) is None


@pytest.mark.nightly
def test_the_part_that_jumps_of_a_curved_function():
    g = lambda x: jnp.where(x > 0.25, jnp.exp(-x), 0.0)
    found = kinked_part(as_module(g, "g"), jumps=True)
    assert found.knots == (0.25,)
    # Left of the jump nothing; right of it exp(-x), whose slope is -exp(-x).
    np.testing.assert_allclose(found.jumps, np.exp(-0.25), rtol=1e-12)
    np.testing.assert_allclose(found.bends, -np.exp(-0.25), rtol=1e-9)
    assert kinked_part(as_module(g, "g")) is None


# Averages, against quadrature over the student's fields


def both_above(x, y, r):
    """P(f > x, g > y) of N(0, 1) fields of correlation r, by Owen (1956)."""
    x, y = -np.where(x == 0, 1e-15, x), -np.where(y == 0, 1e-15, y)
    q = np.sqrt((1 - r) * (1 + r))
    wedges = owens_t(x, (y - r * x) / (x * q)) + owens_t(y, (x - r * y) / (y * q))
    return 0.5 * (ndtr(x) + ndtr(y)) - wedges - np.where(x * y > 0, 0.0, 0.5)


NODE, SHARE = np.polynomial.legendre.leggauss(14)
LAYER = np.array([-9.0, -5.0, -2.5, -1.0, 0.0, 1.0, 2.5, 5.0, 9.0])
"""Distances from the middle of a layer at which the quadrature below is cut, in its own widths."""


def panels(breaks):
    """Gauss-Legendre nodes on [-9, 9], cut at the breaks and at every 1.5."""
    edges = np.unique(np.clip([*np.linspace(-9, 9, 13), *breaks], -9, 9))
    middle, half = (edges[1:] + edges[:-1]) / 2, (edges[1:] - edges[:-1]) / 2
    return (middle[:, None] + half[:, None] * NODE).ravel(), (half[:, None] * SHARE).ravel()


def on_plane(q, kinks, b, lines):
    """Fields (p, 2) of two students and weights: nested, cut where the students bend and in the
    layers in which `lines` are passed: (direction in the fields, place, width) each."""
    root = np.linalg.cholesky(q)
    lines = [(root.T @ along + 1e-30, place, width) for along, place, width in lines]
    outer = [(place + np.hypot(width, a[1]) * LAYER) / a[0] for a, place, width in lines]
    # Where two lines cross, or a line and a kink of the other student, the inner integral bends.
    ends = [(root[1] + 1e-30, kink - b[1], 0.0) for kink in kinks]
    for (a, h, width), (a2, h2, width2) in combinations(lines + ends, 2):
        middle, half = h * a2[1] - h2 * a[1], np.hypot(width * a2[1], width2 * a[1])
        outer.append((middle + half * LAYER) / (a[0] * a2[1] - a2[0] * a[1] + 1e-30))
    z, weight = [], []
    for x, w in zip(*panels([*((kinks - b[0]) / root[0, 0]), *np.ravel(outer)]), strict=True):
        at = (kinks - b[1] - root[1, 0] * x) / root[1, 1]
        inner = [(place - a[0] * x + width * LAYER) / a[1] for a, place, width in lines]
        y, inner = panels([*at, *np.ravel(inner)])
        z.append(np.stack([np.full_like(y, x), y], axis=1))
        weight.append(w * inner)
    z, weight = np.concatenate(z), np.concatenate(weight)
    weight = weight * np.exp(-0.5 * np.sum(z**2, axis=1)) / (2 * np.pi)
    counts = weight > 1e-18
    return z[counts] @ root.T, weight[counts]


def right_averages(student, teacher, state, noise):
    """<F f>, Phi, h, f and eg of two students; the teacher is constant between its knots."""
    g, slope, kinks = student
    c, k = np.asarray(state.covariance), 2
    b, b_teacher = (np.zeros(2) if x is None else np.asarray(x) for x in (state.b, state.b_teacher))
    v, v_teacher = np.asarray(state.v), np.asarray(state.v_teacher)
    along = np.linalg.solve(c[:k, :k], c[:k, k:])
    left = c[k:, k:] - c[k:, :k] @ along
    width = np.sqrt(np.maximum(np.diag(left), 1e-24))  # layers that are too narrow to be seen
    lines = [
        (along[:, a], knot - b_teacher[a], width[a])
        for a in range(len(width))
        for knot in teacher.knots
    ]
    f, weight = on_plane(c[:k, :k], np.array(kinks), b, lines)
    steps = [
        (a, v_teacher[a] * jump, (knot - b_teacher[a] - f @ along[:, a]) / width[a])
        for a in range(len(width))
        for knot, jump in zip(teacher.knots, teacher.jumps, strict=True)
    ]
    label = sum(height * ndtr(-t) for _, height, t in steps)
    # Cov(rho, label) given the student's fields, by Stein's lemma
    peaks = [height / width[a] * np.exp(-0.5 * t**2) / np.sqrt(2 * np.pi) for a, height, t in steps]
    with_label = sum(p[:, None] * left[a] for p, (a, *_) in zip(peaks, steps, strict=True))
    square = 0.0
    for a, height, t in steps:
        for a2, height2, t2 in steps:
            r = np.clip(left[a, a2] / (width[a] * width[a2]), -0.999999, 0.999999)
            both = ndtr(-np.maximum(t, t2)) if a == a2 else both_above(t, t2, r)
            square = square + height * height2 * both
    known = g(f + b) @ v - teacher.constant * v_teacher.sum()
    error, squared = known - label, known**2 - 2 * known * label + square
    pull = v * slope(f + b)
    signal = pull * (weight * error)[:, None]
    with_teacher = signal.T @ (f @ along) - (pull * weight[:, None]).T @ with_label
    return (
        np.concatenate([signal.T @ f, with_teacher], axis=1),
        (pull * (weight * (squared + noise**2))[:, None]).T @ pull,
        g(f + b).T @ (weight * error),
        signal.sum(axis=0),
        0.5 * weight @ squared,
    )


STUDENTS = {
    "relu": (ld.ReLU(), (lambda x: np.maximum(x, 0), lambda x: 1.0 * (x > 0), [0.0])),
    "linear": (ld.Linear(), (lambda x: x, np.ones_like, [])),
    "erf": (
        ld.Erf(),
        (
            lambda x: erf(x / np.sqrt(2)),
            lambda x: np.sqrt(2 / np.pi) * np.exp(-0.5 * x**2),
            [],
        ),
    ),
    "tanh": (ld.Tanh(), (np.tanh, lambda x: np.cosh(x) ** -2.0, [])),
}
BIASED = eqx.tree_at(
    lambda s: (s.b, s.b_teacher),
    STATE,
    (jnp.array([0.2, -0.1]), jnp.array([0.3, 0.1])),
    is_leaf=lambda x: x is None,
)
CASES = {
    # student, teacher, state, label noise, error of Phi
    "relu of sign": ("relu", "sign", STATE, 0.0, 2e-6),
    "relu of a staircase with biases": ("relu", "staircase", BIASED, 0.4, 2e-6),
    "linear of sign with biases": ("linear", "sign", BIASED, 0.4, 1e-11),
    "erf of heaviside with biases": ("erf", "heaviside", BIASED, 0.4, 2e-6),
    "tanh of sign": ("tanh", "sign", STATE, 0.0, 2e-6),
}


@pytest.mark.nightly(by_day=["linear of sign with biases"])
@pytest.mark.parametrize("name", CASES)
def test_averages_are_those_of_quadrature(name):
    student, teacher, state, noise, phi_error = CASES[name]
    g, in_numpy = STUDENTS[student]
    g_teacher, known = JUMPING[teacher]
    problem = ld.Problem(g, g_teacher, noise=noise)
    averages = chosen(problem, state)
    kind = MixedAverages if student in ("erf", "tanh") else PiecewiseLinearAverages
    assert isinstance(averages, kind)
    found, eg = averages_of(averages, problem, state)
    right = right_averages(in_numpy, known, state, noise)
    values = [found.with_fields(state.covariance), found.Phi, found.h, found.f, eg]
    for n, (value, expected) in enumerate(zip(values, right, strict=True)):
        np.testing.assert_allclose(value, expected, rtol=0, atol=phi_error if n == 1 else 1e-10)
    wrong = np.abs(found.Phi - right[1]).max()
    told = averages_error(problem, ld.SGD(lr=1.0), state, averages)
    assert wrong <= told + 1e-11
    assert told < 2e-5


# Students close to their teachers

ANGLES = [0.3, 0.1, 0.03, 1e-3, 1e-5]


def close(angle, turned=0.0):
    """Two students at an angle to their teachers, each to another side; turned: by how much both
    turn towards each other's teacher."""
    aside = np.array([[turned, 0.4, 0.8, -0.3, 0.1], [0.2, turned, 0.3, 0.7, 0.6]])
    aside[0, 0] = aside[1, 1] = 0.0
    aside[0, 1] += turned
    aside[1, 0] += turned
    aside /= np.linalg.norm(aside, axis=1)[:, None]
    norms = np.array([[0.9], [1.1]])
    w = norms * (np.cos(angle) * np.eye(2, 5) + np.sin(angle) * aside)
    every = np.concatenate([w, np.eye(2, 5)])
    c = every @ every.T
    return ld.Overlaps(c[:2, :2], c[:2, 2:], c[2:, 2:], STATE.v, STATE.v_teacher)


PLANES = {
    # angles in the plane of the students: between the students, and of the teachers to the first
    "sum": (1.5, 0.75, 2.3),
    "difference": (1.5, -0.8, 0.8),
    "both between": (1.6, 0.7, 0.9),
    "both outside": (0.9, 2.0, 2.6),
}


def in_plane(angle, plane):
    """Two students, and teachers at an angle to their plane, whose lines are at angles to both."""
    between, *turned = PLANES[plane]
    students = np.array([[0.9, 0.0], [1.1 * np.cos(between), 1.1 * np.sin(between)]])
    teachers = np.cos(angle) * np.array([[np.cos(x), np.sin(x)] for x in turned])
    aside = np.sin(angle) * np.array([[0.8, 0.6, 0.0], [0.3, -0.5, np.sqrt(0.66)]])
    every = np.concatenate(
        [np.pad(students, ((0, 0), (0, 3))), np.concatenate([teachers, aside], axis=1)]
    )
    c = every @ every.T
    return ld.Overlaps(c[:2, :2], c[:2, 2:], c[2:, 2:], STATE.v, STATE.v_teacher)


@pytest.mark.nightly
def test_products_close_to_a_teacher_that_jumps():
    """At any distance from two students, and from their plane, where nodes that are not cut at the
    layers are wrong by 1e-2."""
    student, teacher = PiecewiseLinear(0.0, 0.0, (0.0,), (1.0,), (0.0,), (0.0,)), one_step(0.3)
    net = network(student, teacher, 2, 2)
    v = np.array(STATE.v)

    @jax.jit
    def products(state):
        c, u = state.covariance, state.output_weights
        rest = jnp.zeros(4), u, 2, jnp.zeros(()), Resolution(7, 8, 14)
        return jumping_products(net, student, c, *rest)

    states = [close(angle) for angle in ANGLES]
    states += [in_plane(*x) for x in ((0.1, "difference"), (0.03, "both outside"), (0.0, "sum"))]
    for state in states:
        right = right_averages(STUDENTS["relu"][1], teacher, state, 0.0)[1]
        found = np.outer(v, v) * products(state)
        np.testing.assert_allclose(found, right, rtol=0, atol=1e-4)


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("teacher", "planes"), [("sign", PLANES), ("staircase", ["sum", "both between"])]
)
def test_teachers_that_jump_in_the_plane_of_two_students(teacher, planes):
    """The value, the error told, and both orders of students and teachers."""
    g, in_numpy = STUDENTS["relu"]
    g_teacher, known = JUMPING[teacher]
    problem, swap = ld.Problem(g, g_teacher), np.array([1, 0])
    averages, phi = chosen(problem, STATE), lambda state: sampled(averages, problem, state)[1]
    for plane in planes:
        for angle in (0.3, 0.1, 0.03, 1e-3, 0.0) if teacher == "sign" else (0.1, 1e-3):
            state = in_plane(angle, plane)
            right = right_averages(in_numpy, known, state, 0.0)[1]
            found = phi(state)
            wrong = np.abs(found - right).max()
            told = float(averages_error(problem, ld.SGD(lr=1.0), state, averages))
            assert wrong < 1e-4, (plane, angle)
            assert wrong <= told + 1e-11, (plane, angle)  # rounding of the quadrature
            c = state.Q[swap][:, swap], state.R[swap][:, swap], state.T[swap][:, swap]
            other = ld.Overlaps(*c, state.v[swap], state.v_teacher[swap])
            np.testing.assert_allclose(phi(other), found[swap][:, swap], rtol=0, atol=1e-13)


def in_one_plane(student, teacher, u):
    """Phi of ReLU students of sign teachers that all lie in one plane: polar coordinates (angle,
    length) each, so that Delta is radius times ReLUs plus signs; an integral over the angle."""
    angle, length = np.concatenate([student, teacher]).T
    k, half = len(student), np.pi / 2
    zeros = np.unique(np.add.outer(angle, [-half, half]) % (2 * np.pi))
    edges = np.append(zeros, zeros[0] + 2 * np.pi)
    middle, width = (edges[1:] + edges[:-1]) / 2, np.diff(edges) / 2
    phi = (middle[:, None] + width[:, None] * NODE).ravel()
    weight = (width[:, None] * SHARE).ravel() / (2 * np.pi)
    f = length[:, None] * np.cos(phi - angle[:, None])
    ramps, signs = u[:k] @ np.maximum(f[:k], 0), u[k:] @ np.sign(f[k:])
    # <radius**2> = 2, <radius> = sqrt(pi / 2)
    square = 2 * ramps**2 + 2 * np.sqrt(np.pi / 2) * ramps * signs + signs**2
    steps = 1.0 * (f[:k] > 0)
    return (steps * weight * square) @ steps.T


IN_ONE_PLANE = {
    "all differ": ([0.0, 0.9, 2.0], [2.6, 0.5, -1.0]),
    "students are teachers": ([0.0, 0.9, 2.0], [2.0, 0.0, -1.0]),
    "equal and opposite students": ([0.3, 0.3, 0.3 + np.pi], [0.9, 0.9, 2.2]),
}


@pytest.mark.nightly
def test_three_students_and_teachers_in_one_plane():
    """Values where all is singular, and finite derivatives there and where R = 0."""
    student = PiecewiseLinear(0.0, 0.0, (0.0,), (1.0,), (0.0,), (0.0,))
    net = network(student, one_step(0.0, 2.0, 1.0, -1.0), 3, 3)
    u = jnp.array([0.7, -1.3, 0.5, -1.1, -0.4, 0.8])
    rest = jnp.zeros(6), u, 3, jnp.zeros(()), Resolution(7, 8, 14)
    products = lambda c: jumping_products(net, student, c, *rest)
    both = jax.jit(lambda c: (products(c), jax.grad(lambda c: jnp.sum(products(c)))(c)))
    for angles in IN_ONE_PLANE.values():
        polar = [np.stack([x, [0.9, 1.1, 0.7]], axis=1) for x in map(np.array, angles)]
        angle, length = np.concatenate(polar).T
        x = length[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
        found, slopes = both(jnp.array(x @ x.T))
        np.testing.assert_allclose(found, in_one_plane(*polar, np.array(u)), rtol=0, atol=1e-4)
        assert np.isfinite(slopes).all()
    _, slopes = both(jnp.eye(6))
    assert np.isfinite(slopes).all()


@pytest.mark.nightly
@pytest.mark.parametrize("teacher", ["sign", "staircase"])
def test_errors_told_close_to_a_teacher_that_jumps(teacher):
    g, in_numpy = STUDENTS["relu"]
    g_teacher, known = JUMPING[teacher]
    problem, ratios = ld.Problem(g, g_teacher), []
    averages = chosen(problem, STATE)
    for angle in [*ANGLES, 0.01]:
        state = close(angle)
        right = right_averages(in_numpy, known, state, 0.0)[1]
        wrong = np.abs(sampled(averages, problem, state)[1] - right).max()
        told = float(averages_error(problem, ld.SGD(lr=1.0), state, averages))
        assert wrong < 1e-4
        assert wrong <= told + 1e-11  # rounding of the quadrature
        ratios.append(told / max(wrong, 1e-11))
    assert np.median(ratios) < 10


@pytest.mark.nightly
@pytest.mark.parametrize(("student", "teacher"), [("erf", "sign"), ("tanh", "staircase")])
def test_smooth_students_close_to_a_teacher_that_jumps(student, teacher):
    """Correlations of 0.8 to 0.9999: steps that are narrower than the spacing of the lattice."""
    g, in_numpy = STUDENTS[student]
    g_teacher, known = JUMPING[teacher]
    problem = ld.Problem(g, g_teacher)
    averages = chosen(problem, STATE)
    for correlation in (0.8, 0.9, 0.95, 0.99, 0.999, 0.9999):
        state = close(np.arccos(correlation))
        right = right_averages(in_numpy, known, state, 0.0)[1]
        wrong = np.abs(sampled(averages, problem, state)[1] - right).max()
        told = float(averages_error(problem, ld.SGD(lr=1.0), state, averages))
        assert wrong < 2e-4
        assert wrong <= told
        assert told < 1e-3


@pytest.mark.nightly
def test_errors_told_where_jumps_meet_on_the_lattice_of_smooth_students():
    """Two teacher units in the plane of two students: the error is 1e-2 at worst, and told."""
    g, in_numpy = STUDENTS["erf"]
    g_teacher, known = JUMPING["sign"]
    problem = ld.Problem(g, g_teacher)
    averages = chosen(problem, STATE)
    for plane in PLANES:
        for angle in (0.3, 0.1, 0.03, 1e-3):
            state = in_plane(angle, plane)
            right = right_averages(in_numpy, known, state, 0.0)[1]
            wrong = np.abs(sampled(averages, problem, state)[1] - right).max()
            told = float(averages_error(problem, ld.SGD(lr=1.0), state, averages))
            assert wrong < 2e-2, (plane, angle)
            assert wrong <= told, (plane, angle)


@pytest.mark.nightly
@pytest.mark.parametrize(("student", "teacher"), [("relu", "staircase"), ("tanh", "sign")])
def test_derivatives_of_products_and_batches_of_states(student, teacher):
    """jvp with respect to Q and R against differences of quadrature, grad against jvp, vmap against
    single states."""
    problem = ld.Problem(STUDENTS[student][0], JUMPING[teacher][0])
    averages, known = chosen(problem, STATE), JUMPING[teacher][1]
    change = np.array([[0.3, 0.1], [0.1, -0.2]]), np.array([[0.2, -0.3], [0.1, 0.4]])
    moved = lambda state, by: eqx.tree_at(
        lambda s: (s.Q, s.R), state, (state.Q + by * change[0], state.R + by * change[1])
    )
    at = lambda state: lambda by: sampled(averages, problem, moved(state, by))[1]
    # Generic, and close to the teacher, where averages turn faster with the overlaps.
    for state, step, error in ((STATE, 1e-3, 1e-5), (close(0.4), 1e-3, 1e-4)):
        _, found = jax.jvp(at(state), (0.0,), (1.0,))
        value = lambda by, state=state: right_averages(
            STUDENTS[student][1], known, moved(state, by), 0.0
        )[1]
        # Richardson's extrapolation of central differences
        near, far = ((value(h) - value(-h)) / (2 * h) for h in (step, 2 * step))
        np.testing.assert_allclose(found, (4 * near - far) / 3, rtol=0, atol=error)
    backward = jax.grad(lambda by: jnp.sum(at(state)(by)))(0.0)
    np.testing.assert_allclose(backward, np.sum(found), rtol=1e-9)
    several = jax.tree.map(lambda *x: jnp.stack(x), STATE, close(0.4), close(0.01))
    batch = jax.vmap(lambda state: sampled(averages, problem, state)[1])(several)
    for one, state in zip(batch, (STATE, close(0.4), close(0.01)), strict=True):
        np.testing.assert_allclose(one, sampled(averages, problem, state)[1], rtol=0, atol=1e-12)


@pytest.mark.nightly
def test_products_are_those_of_nodes_that_know_no_layers():
    """Three students, two of them bent at two places, of a teacher that jumps and bends, with
    biases: at a generic state fine nodes in the fields agree to rounding."""
    student = PiecewiseLinear(-1.0, 0.1, (-1.0, 1.0), (1.0, -0.6), (0.0, 0.0), (0.0, 0.0))
    teacher = PiecewiseLinear(0.2, 0.3, (-0.4, 0.5), (0.5, -1.2), (-0.6, 0.7), (0.0, 0.0))
    net = network(student, teacher, 3, 2)
    rng = np.random.default_rng(5)
    w = rng.normal(size=(5, 12)) / 3.5
    b, u = jnp.array(0.3 * rng.normal(size=5)), jnp.array(rng.normal(size=5))
    rest, c = (b, u, 3, jnp.array(0.09)), jnp.array(w @ w.T)
    fine, finer = Resolution(12, 12, 24), Resolution(40, 90, 16)
    found = jax.jit(lambda c: jumping_products(net, student, c, *rest, fine))(c)
    right = jax.jit(lambda c: conditioned_products(net, student, c, *rest, finer))(c)
    np.testing.assert_allclose(found, right, rtol=0, atol=1e-11)


@eqx.filter_jit
def sampled(averages, problem, state):
    found, eg = averages_of(averages, problem, state)
    return found.with_fields(state.covariance), found.Phi, found.h, found.f, eg


@pytest.mark.nightly
@pytest.mark.parametrize("student", ["relu", "erf"])
def test_symmetric_in_the_units_and_continuous_where_fields_coincide(student):
    """Both orders of students and teachers, with the sign of one teacher turned; and a student that
    gets the teacher's direction."""
    problem = ld.Problem(STUDENTS[student][0], ld.Sign())
    averages = chosen(problem, STATE)
    here = sampled(averages, problem, STATE)
    turn = np.array([[0.0, 1.0], [-1.0, 0.0]])
    swap = lambda x: x[::-1]
    other = ld.Overlaps(
        STATE.Q[::-1, ::-1],
        swap(STATE.R @ turn.T),
        turn @ STATE.T @ turn.T,
        swap(STATE.v),
        turn @ STATE.v_teacher,
    )
    there = sampled(averages, problem, other)
    fields = np.concatenate([here[0][::-1, 1::-1], here[0][::-1, 2:] @ turn.T], axis=1)
    right = [fields, here[1][::-1, ::-1], swap(here[2]), swap(here[3]), here[4]]
    for value, expected in zip(there, right, strict=True):
        np.testing.assert_allclose(value, expected, rtol=0, atol=3e-15)

    def at(angle):
        overlap = 0.9 * np.cos(angle) * np.eye(2)
        state = ld.Overlaps(0.81 * np.eye(2), overlap, np.eye(2), STATE.v, STATE.v_teacher)
        return sampled(averages, problem, state)

    for near, limit in zip(at(1e-5), at(0.0), strict=True):
        np.testing.assert_allclose(near, limit, rtol=0, atol=2e-5)


def test_error_and_its_gradient_by_hand():
    """<sign(a) sign(c)> = 2 arcsin(r) / pi; erf(x / sqrt 2) is a sign blurred by one more field, so
    <erf sign> = 2 arcsin(R / sqrt((1 + Q) T)) / pi."""
    problem, q, t, v = ld.Problem(ld.Erf(), ld.Sign()), 0.9, 1.3, 1.4
    averages = choose_averages(problem, 1, 2, biases=False)
    assert isinstance(averages, MixedAverages)

    def error(overlap):
        state = ld.Overlaps([[q]], [[overlap, 0.3]], t * jnp.eye(2), [v], [0.8, 0.0])
        return averages.generalisation_error(problem, state)

    r = 0.6
    eg, slope = jax.jit(lambda r: jax.jvp(error, (r,), (1.0,)))(r)
    sine = r / np.sqrt((1 + q) * t)
    own = v**2 * 2 / np.pi * np.arcsin(q / (1 + q)) + 0.8**2
    np.testing.assert_allclose(eg, 0.5 * own - v * 0.8 * 2 / np.pi * np.arcsin(sine), rtol=1e-12)
    right = -v * 0.8 * 2 / np.pi / np.sqrt((1 + q) * t - r**2)
    np.testing.assert_allclose(slope, right, rtol=1e-10)
