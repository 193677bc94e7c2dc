"""Teachers that jump, close to their students or in the plane of two of them."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from averages_reference import STATE, chosen
from jumps_reference import (
    JUMPING,
    NODE,
    SHARE,
    STUDENTS,
    one_step,
    panels,
    right_averages,
    sampled,
)

import learndyn as ld
from learndyn.averages import averages_error
from learndyn.integrals.piecewise_linear import PiecewiseLinear, Resolution, network
from learndyn.integrals.piecewise_linear.jumping import jumping_products

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


BENDS = {
    # a function, the same in NumPy, its knots
    "relu": (ld.ReLU(), lambda x: np.maximum(x, 0), [0.0]),
    "abs": (jnp.abs, np.abs, [0.0]),
    "a jump at a kink": (JUMPING["a jump at a kink"][0], lambda x: np.where(x > 0.5, x, 0), [0.5]),
    "a jump next to a kink": (
        JUMPING["a jump next to a kink"][0],
        lambda x: np.maximum(x, 0) - 2.0 * (x >= 0.125),
        [0.0, 0.125],
    ),
}


def products_given_the_teacher(student, teacher, state):
    """Phi of two smooth students of one teacher unit: over its field in pieces between the knots,
    and given that over the students' by Gauss and Hermite's nodes."""
    (g, slope, _), (_, g_teacher, knots) = student, teacher
    q, r, t, v, b, b_teacher = map(
        np.asarray, (state.Q, state.R, state.T, state.v, state.b, state.b_teacher)
    )
    x, weight = panels((np.array(knots) - b_teacher) / np.sqrt(t[0]))
    weight = weight * np.exp(-0.5 * x**2) / np.sqrt(2 * np.pi)
    z, own = np.polynomial.hermite_e.hermegauss(40)
    both = np.stack(np.meshgrid(z, z), axis=-1).reshape(-1, 2)
    weight = np.outer(weight, np.outer(own, own).ravel() / (2 * np.pi))
    f = x[:, None, None] * r[:, 0] / np.sqrt(t[0]) + both @ np.linalg.cholesky(q - r @ r.T / t).T
    f = f + b
    label = np.asarray(state.v_teacher)[0] * g_teacher(np.sqrt(t[0]) * x + b_teacher)
    signal = v * slope(f) * (g(f) @ v - label[:, None])[..., None]
    return np.einsum("pqi,pq,pqj->ij", signal, weight, signal)


@pytest.mark.nightly
@pytest.mark.parametrize("teacher", BENDS)
def test_errors_told_of_smooth_students_close_to_a_teacher_that_bends(teacher):
    """Its bends, and the steps beside them, are not made wider, and levels of lattices agree on
    what they miss of them."""
    g, in_numpy = STUDENTS["erf"]
    problem, averages = ld.Problem(g, BENDS[teacher][0]), None
    aside = np.array([[0.0, 0.4, 0.8, -0.3], [0.0, 0.7, 0.3, 0.6]])
    aside /= np.linalg.norm(aside, axis=1)[:, None]
    for correlation in (0.8, 0.95, 0.98, 0.99, 0.999, 0.9999):
        angle, norms = np.arccos(correlation), np.array([[0.9], [1.1]])
        w = norms * (np.cos(angle) * np.eye(1, 4) + np.sin(angle) * aside)
        layers = {"v": [1.0, 0.7], "v_teacher": [0.8], "b": [0.2, -0.1], "b_teacher": [0.15]}
        state = ld.Overlaps(w @ w.T, w[:, :1], [[1.0]], **layers)
        averages = averages or chosen(problem, state)
        right = products_given_the_teacher(in_numpy, BENDS[teacher], state)
        wrong = np.abs(sampled(averages, problem, state)[1] - right).max()
        told = float(averages_error(problem, ld.SGD(lr=1.0), state, averages))
        assert wrong <= told, correlation
        # Of steps 0.13 and the differences of levels, of bends 0.003
        most = 0.2 if "jump" in teacher else 0.005
        assert told < most * np.abs(right).max(), correlation
        assert told < 2e-5 or correlation > 0.8


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
