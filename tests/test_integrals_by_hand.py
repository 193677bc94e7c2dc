"""Averages over three or four fields, by Gauss and Legendre's rule on boxes between the kinks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from boxes import NOISE, C, U, boxes, on_boxes

from learndyn.integrals import half_planes, linear
from learndyn.integrals.piecewise_linear import PiecewiseLinear, Resolution, first_layer
from learndyn.integrals.piecewise_linear.conditioned import _clustered
from learndyn.integrals.piecewise_linear.steps import owen_t
from learndyn.integrals.relu.correlations import correlations
from learndyn.integrals.relu.forms import (
    relu_relu,
    step_field_relu,
    step_relu_relu,
    step_step_relu,
    step_step_square,
)
from learndyn.integrals.relu.quadruples import WAYS, quadruples
from learndyn.integrals.relu.two_sided import two_sided_signals
from learndyn.integrals.smooth.products import correlations_left

R = np.array(
    [
        *([1.0, 0.3, -0.2, 0.4], [0.3, 1.0, 0.25, -0.35]),
        *([-0.2, 0.25, 1.0, 0.15], [0.4, -0.35, 0.15, 1.0]),
    ]
)


def same(found, wanted, rtol=1e-11, atol=1e-13):
    np.testing.assert_allclose(found, wanted, rtol=rtol, atol=atol)


# Steps and ReLUs


def in_numpy(r):
    """<theta_i theta_j a_+ b_+> in six ways, and averages of the first three fields."""
    f, w = on_boxes(r, [[0.0, 7.5]] * 4, 20)
    found = [w @ (f[a] * f[b]) for _, _, a, b in WAYS]
    f, w = on_boxes(r[:3, :3], [[0.0, 7.5]] * 3, 24)
    both = w @ (f[1] * f[2])
    found += [w @ f[2], w @ f[2] ** 2, both]
    turned = np.diag([1.0, -1.0, 1.0])
    g, v = on_boxes(turned @ r[:3, :3] @ turned, [[0.0, 7.5]] * 3, 24)
    first, second = on_boxes(r[:2, :2], [[0.0, 7.5]] * 2, 24)
    return np.array([*found, second @ (first[0] * first[1]), both - v @ (g[1] * g[2])])


def by_forms(r):
    f = correlations(r)
    at = f.angles
    ij, ia, ja = at[0, 1], at[0, 2], at[1, 2]
    forms = [step_step_relu(ij, ia, ja), step_step_square(ij, ia, ja), step_relu_relu(ij, ia, ja)]
    forms += [relu_relu(ij), step_field_relu(ij, ia, ja)]
    return jnp.concatenate([quadruples(f, np.array([[0, 1, 2, 3]]))[0], jnp.stack(forms)])


@jax.jit
def with_change(r, along):
    return jax.jvp(by_forms, (r,), (along,))


def test_steps_and_relus_of_four_fields_with_their_derivatives():
    along = np.array([[0, 0.7, 0.3, -0.6], [0, 0, -0.8, 0.5], [0, 0, 0, 0.9], [0, 0, 0, 0]])
    along = along + along.T
    value, change = with_change(R, along)
    same(value, in_numpy(R), rtol=1e-9)
    # Differences by five points, which leave the step's fourth power
    h = 4e-3
    at = {n: in_numpy(R + n * h * along) for n in (-2, -1, 1, 2)}
    wanted = (8 * (at[1] - at[-1]) - (at[2] - at[-2])) / (12 * h)
    same(change, wanted, rtol=1e-6, atol=1e-8)


def test_steps_that_are_parallel_are_one_or_exclude_each_other():
    """<theta_i a_+> = (1 + r) / 2 sqrt(2 pi) at i = j, and 0 at i = -j."""
    r = 0.3
    for sign, wanted in ((1.0, (1 + r) / 2 / (2 * np.pi) ** 0.5), (-1.0, 0.0)):
        c = np.eye(4)
        c[:3, :3] = [[1.0, sign, r], [sign, 1.0, sign * r], [r, sign * r, 1.0]]
        same(with_change(c, np.zeros((4, 4)))[0][6], wanted)


def test_parts_of_wedges_are_owens_t():
    """T(|x|, y/|x|) of SciPy, odd in y; 0 where both are 0, where the wedge has no angle."""
    x, y = np.meshgrid([-2.0, -1e-9, 0.0, 0.4, 3.0], [-5.0, -0.4, 0.0, 0.4, 1e-9, 2.0])
    ratio = y / np.maximum(np.abs(x), 1e-300)
    wanted = scipy.special.owens_t(np.abs(x), ratio)
    same(owen_t(jnp.asarray(x), jnp.asarray(y)), wanted, rtol=1e-12, atol=1e-15)


# Networks of piecewise linear units

LEAKY = PiecewiseLinear(-0.2, 0.3, knots=(0.0,), bends=(0.9,))
SHIFTED = PiecewiseLinear(0.1, -0.4, knots=(0.0,), bends=(1.7,))
RISING = PiecewiseLinear(-0.2, 0.0, knots=(0.0,), bends=(0.9,))
FALLING = PiecewiseLinear(0.1, -0.4, knots=(0.0,), bends=(0.4,))
BENT = PiecewiseLinear(0.1, 0.2, knots=(-0.5, 0.7), bends=(0.9, -0.6))
JUMPING = PiecewiseLinear(
    -0.3, 0.4, knots=(-0.2, 0.6), bends=(0.5, 0.0), jumps=(0.8, -1.1), shares=(0.0, 0.0)
)


def slope_of(g, x):
    return g.slope + sum(
        (bend * (x > knot) for knot, bend in zip(g.knots, g.bends, strict=True)), 0.0 * x
    )


def network_in_numpy(student, teacher, b, c=C, u=U, count=18):
    """<s_i f>, <s_i s_j>, <g_i e> and <s_i> of two students."""
    k, d = 2, len(c)
    cuts = [np.array((student if a < k else teacher).knots) - b[a] for a in range(d)]
    f, w = boxes(c, cuts, count)
    x = f + b[:, None]
    g = np.concatenate([student(x[:k]), teacher(x[k:])])
    error = u @ g
    signal, slopes = slope_of(student, x[:k]) * error, slope_of(student, x[:k])
    product = (w * signal) @ signal.T + NOISE**2 * (w * slopes) @ slopes.T
    return (w * signal) @ f.T, product, (w * error) @ g[:k].T, signal @ w


@pytest.mark.parametrize(
    ("student", "teacher", "b", "error"),
    [
        (RISING, FALLING, None, 1e-10),
        (PiecewiseLinear(0.1, 0.6), JUMPING, [0.2, -0.3, 0.4], 1e-10),
        (BENT, SHIFTED._replace(knots=(0.3,)), [0.2, -0.3, 0.4], 2e-5),
        (BENT, JUMPING, [0.2, -0.3, 0.4], 2e-4),
    ],
    ids=["all at 0", "a line", "bends", "jumps"],
)
def test_a_network_of_piecewise_linear_units(student, teacher, b, error):
    """With constants that do not cancel. error: of products where they are an integral by nodes."""

    @jax.jit
    def of(c):
        given = None if b is None else jnp.array(b)
        rest = jnp.asarray(U), 2, jnp.asarray(NOISE**2), Resolution(10, 12, 14)
        return first_layer(student, teacher, c, given, *rest)

    found = of(jnp.asarray(C))
    shift = np.zeros(3) if b is None else np.array(b)
    fields, product, h, mean = network_in_numpy(student, teacher, shift)
    same(found.G @ C, fields, rtol=1e-10, atol=1e-12)  # where slopes nearly cancel
    same(found.h, h, rtol=1e-10)
    same(found.mean, mean, rtol=1e-10)
    same(found.product, product, rtol=error)


@pytest.mark.parametrize("k", [2, 3])
def test_signals_of_units_with_two_slopes(k):
    """<g_i' g_j' sum_a u_a g_a>, without constants."""
    units = [LEAKY._replace(constant=0.0)] * k + [SHIFTED._replace(constant=0.0)] * (3 - k)
    f, w = boxes(C, [[]] * 3, 26)
    output = sum(u * g(x) for u, g, x in zip(U, units, f, strict=True))
    slopes = slope_of(units[0], f[:k])
    below, above = (jnp.array([g.slopes[side] for g in units]) for side in (0, -1))
    found = jax.jit(two_sided_signals, static_argnums=4)(above, below, C, U, k)
    same(found, (w * slopes * output) @ slopes.T, rtol=1e-10)


@pytest.mark.parametrize("ends", [(False, False), (True, False), (False, True), (True, True)])
def test_nodes_that_are_denser_at_knots(ends):
    """Rules on [0, 1] for polynomials: x = s**2, 1 - (1 - s)**2 or s**2 (3 - 2 s) in place of s."""
    x, weight = _clustered(5, *ends)
    same([weight @ x**n for n in range(3)], [1.0, 1 / 2, 1 / 3])
    s = (1 + np.polynomial.legendre.leggauss(5)[0]) / 2
    wanted = {
        (True, False): s**2,
        (False, True): 1 - (1 - s) ** 2,
        (True, True): s**2 * (3 - 2 * s),
    }
    same(x, wanted.get(ends, s))


# Small parts


def test_correlations_left_by_what_is_given():
    loading = np.array([[0.5, 0.2], [-0.3, 0.6], [0.8, 0.6], [0.1, -0.4]])  # the third is known
    which = jnp.array([0, 1]), jnp.array([1, 2, 3])
    found = jax.jit(correlations_left)(jnp.asarray(R), jnp.asarray(loading), *which)
    left = R - loading @ loading.T
    spread = np.sqrt(np.diagonal(left))
    wanted = [[left[a, b] / (spread[a] * spread[b]) for b in (1, 3)] for a in (0, 1)]
    same(found, np.insert(wanted, 1, 0.0, axis=1))


def test_roots_are_smooth_at_zero():
    assert [float(half_planes.root(jnp.asarray(x))) for x in (-1.0, 0.0, 4.0)] == [0.0, 0.0, 2.0]
    assert [float(jax.grad(half_planes.root)(x)) for x in (0.0, 4.0)] == [0.0, 0.25]


def test_slopes_of_lines():
    assert linear.squared_slope(jnp.array([0.3, 2.0]), jnp.zeros(2)).tolist() == [1.0, 1.0]


def test_the_angle_between_student_and_teacher():
    same(half_planes.angle(*map(jnp.asarray, (0.7, -0.4, 1.5))), np.pi - np.arctan(1.05**0.5 / 0.4))
    assert float(half_planes.angle(*map(jnp.asarray, (0.0, 0.0, 1.5)))) == np.pi / 2
    assert float(half_planes.angle(*map(jnp.asarray, (0.0, -0.3, 1.5)))) == np.pi
    theta = np.array([0.1, 0.2, 0.3, 1.2])
    same(half_planes.wedge(jnp.asarray(theta)), theta - np.sin(theta) * np.cos(theta), rtol=1e-13)


@pytest.mark.parametrize("turned", [0.0, 0.1])
def test_losses_of_which_half_planes_matter(turned):
    """Over the angle of both fields: <c f> and <c**2> of three losses, in NumPy."""
    s, r, t = 0.7, -0.4, 1.5
    q, k = s + r**2 / t, 1 - 2 * turned
    angle = (np.arange(100_000) + 0.5) * 2 * np.pi / 100_000
    phi = q**0.5 * np.cos(angle)
    rho = r / q**0.5 * np.cos(angle) + (t - r**2 / q) ** 0.5 * np.sin(angle)
    given = [jnp.asarray(x) for x in (s, r, t, k)]
    radius = (np.pi / 2) ** 0.5  # the mean distance from 0; its square's is 2
    # c, its power of the radius
    losses = {
        "hebb": (lambda y: -y, 0),
        "perceptron": (lambda y: -y * (y * phi < 0), 0),
        "adatron": (lambda y: phi * (y * phi < 0), 1),
    }
    for name, (slope, power) in losses.items():
        found, y = getattr(half_planes, name)(*given), np.sign(rho)
        mean = lambda of: np.mean((1 - turned) * of(y) + turned * of(-y))  # noqa: B023
        size = 2.0 if power else radius
        pulls = [size * mean(lambda y, f=f: slope(y) * f) for f in (phi, rho)]  # noqa: B023
        square = mean(lambda y: slope(y) ** 2) * (2.0 if power else 1.0)  # noqa: B023
        student, teacher = float(found.student), float(found.teacher)
        same([student * q + teacher * r, student * r + teacher * t], pulls, rtol=1e-4)
        same(found.square, square, rtol=1e-4)
