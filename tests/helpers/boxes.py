"""Averages over a few Gaussian fields by Gauss and Legendre's rule on boxes between the kinks, and
the states at which tests look.

Nothing of the library's own nodes is used here.
"""

import functools

import numpy as np

import learndyn as ld

C = np.array([[0.9, 0.2, 0.3], [0.2, 0.6, -0.25], [0.3, -0.25, 1.4]])
U, NOISE = np.array([0.7, -1.3, -1.1]), 0.3
STATE = ld.Overlaps(C[:2, :2], C[:2, 2:], C[2:, 2:], U[:2], -U[2:])
BIASED = ld.Overlaps(
    STATE.Q, STATE.R, STATE.T, STATE.v, STATE.v_teacher, b=[0.2, -0.3], b_teacher=[0.4]
)


def on_boxes(c, edges, count):
    """Nodes (fields, points) and weights of centred Gaussian fields with covariance c, by a rule
    with `count` nodes between each two edges of each field."""
    x, w = np.polynomial.legendre.leggauss(count)
    axes, weights = [], []
    for own in map(np.array, edges):
        middle, half = (own[1:] + own[:-1]) / 2, np.diff(own) / 2
        axes.append((middle[:, None] + half[:, None] * x).ravel())
        weights.append((half[:, None] * w).ravel())
    f = np.stack([axis.ravel() for axis in np.meshgrid(*axes, indexing="ij")])
    weight = functools.reduce(np.multiply.outer, weights).ravel()
    square = np.sum(f * np.linalg.solve(c, f), axis=0)
    return f, weight * np.exp(-0.5 * square) / np.sqrt(np.linalg.det(2 * np.pi * c))


def boxes(c, cuts, count):
    """The same for all fields; cuts: where else than at 0 the integrand is not smooth in each."""
    reach = 7.5 * np.sqrt(np.diagonal(c))
    edges = [[-far, *np.unique([*own, 0.0]), far] for far, own in zip(reach, cuts, strict=True)]
    return on_boxes(c, edges, count)
