"""Averages written once more in NumPy, and the states that tests of averages share.

Nothing of the library's own nodes is used here.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import learndyn as ld
from learndyn.averages import choose_averages

V, V_TEACHER = np.array([0.7, -1.3]), np.array([1.1, 0.4])

STATE = ld.Overlaps(
    [[0.9, 0.2], [0.2, 0.6]], [[0.3, -0.1], [0.1, 0.4]], [[1.0, 0.1], [0.1, 0.8]], V, V_TEACHER
)
ONE = ld.Overlaps([[0.8]], [[0.35]], [[1.1]], [0.9])


def erf(x):
    return jax.scipy.special.erf(x / jnp.sqrt(2.0))


RULE = ld.SGD(lr=1.0)


@eqx.filter_jit
def averages_of(averages, problem, state, rule=RULE):
    """G, Phi, h, f as one tree, and eg."""
    return (
        averages.field_averages(problem, rule, state),
        averages.generalisation_error(problem, state),
    )


def sampled(found, state):
    """<F f>, Phi, h, f."""
    return found.with_fields(state.covariance), found.Phi, found.h, found.f


def chosen(problem, state, averages=None, rule=RULE):
    biases = state.b is not None
    return choose_averages(problem, state.k, state.m, rule=rule, biases=biases, averages=averages)


def sign(x):
    return np.where(x >= 0, 1.0, -1.0)


def squared(phi, y):
    return phi - y


def logistic(phi, y):
    return -y / (1 + np.exp(y * phi))


def hinge(phi, y):
    return np.where(y * phi < 1, -y, 0.0)


def perceptron(phi, y):
    return np.where(y * phi < 0, -y, 0.0)


def huber(phi, y):
    return np.clip(phi - y, -1, 1)


def exponential(phi, y):
    return -y * np.exp(-y * phi)


TANH = (np.tanh, lambda x: 1 - np.tanh(x) ** 2)
RELU = (lambda x: np.maximum(x, 0), lambda x: (x > 0) * 1.0)
SQUARE = (np.square, lambda x: 2 * x)
NOWHERE, ORIGIN = np.array([]), np.array([0.0])

LEGENDRE = np.polynomial.legendre.leggauss(100)


def pieces(breaks, reach):
    """Gauss-Legendre nodes on [-reach, reach], cut at the breaks."""
    edges = np.unique([-reach, *breaks, reach])
    middle, half = (edges[1:] + edges[:-1]) / 2, (edges[1:] - edges[:-1]) / 2
    x, weight = LEGENDRE
    return (middle[:, None] + half[:, None] * x).ravel(), (half[:, None] * weight).ravel()


def piecewise_averages(p, student, slope, label, breaks):
    """<F f>, Phi, h, f for k = m = 1 by quadrature between the jumps; p = (Q, R, T, b)."""
    q, r, t, b = p
    x, weight_x = pieces(breaks[0] - b, 9 * np.sqrt(q))
    y, weight_y = pieces(breaks[1], 9 * np.sqrt(t))
    x, y = np.meshgrid(x, y, indexing="ij")
    det = q * t - r**2
    density = np.exp(-(t * x**2 - 2 * r * x * y + q * y**2) / (2 * det))
    weight = np.outer(weight_x, weight_y) * density / (2 * np.pi * np.sqrt(det))
    g, dg = student
    pull = slope(0.9 * g(x + b), label(y))
    c = 0.9 * dg(x + b) * pull
    return np.array([(weight * h).sum() for h in (c * x, c * y, c * c, g(x + b) * pull, c)])
