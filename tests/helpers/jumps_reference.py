"""Teachers that jump, in regression, and quadrature over the fields of two students, in NumPy."""

from itertools import combinations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from averages_reference import averages_of
from scipy.special import erf, ndtr, owens_t

import learndyn as ld
from learndyn.integrals.piecewise_linear import PiecewiseLinear


def heaviside(x):
    return jnp.where(x > 0.3, 1.0, 0.0)


def staircase(x):
    return -1.0 + 0.5 * (x > -0.8) + 1.0 * (x > 0.1) + 0.7 * (x > 0.9)


def one_step(knot, height=1.0, share=0.0, constant=0.0):
    return PiecewiseLinear(constant, 0.0, (knot,), (0.0,), (height,), (share,))


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


# Averages, over the fields of two students: nested, cut where anything bends


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


@eqx.filter_jit
def sampled(averages, problem, state):
    found, eg = averages_of(averages, problem, state)
    return found.with_fields(state.covariance), found.Phi, found.h, found.f, eg
