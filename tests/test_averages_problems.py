"""Every kind of teacher and loss against plain Monte Carlo."""

import numpy as np
import pytest
from averages_reference import (
    RELU,
    RULE,
    SQUARE,
    STATE,
    TANH,
    V_TEACHER,
    V,
    averages_of,
    chosen,
    exponential,
    hinge,
    huber,
    logistic,
    perceptron,
    sampled,
    sign,
    squared,
)
from own_losses import ExponentialLoss, huber_loss

import learndyn as ld
from learndyn.averages import averages_error

B, B_TEACHER = np.array([0.3, -0.2]), np.array([0.1, 0.5])

# problem; student and its derivative; slope of the loss; teacher's output; biases
KINDS = {
    "tanh, biases, noise": (
        ld.Problem(ld.Tanh(), ld.Tanh(), noise=0.4),
        (TANH, squared, lambda rho, zeta: np.tanh(rho) @ V_TEACHER + 0.4 * zeta, True),
    ),
    "relu student of a tanh teacher": (
        ld.Problem(ld.ReLU(), ld.Tanh(), noise=0.4),
        (RELU, squared, lambda rho, zeta: np.tanh(rho) @ V_TEACHER + 0.4 * zeta, False),
    ),
    "relu, biases": (
        ld.Problem(ld.ReLU(), ld.ReLU()),
        (RELU, squared, lambda rho, zeta: np.maximum(rho, 0) @ V_TEACHER, True),
    ),
    "phase retrieval": (
        ld.Problem(ld.Quadratic(), ld.Quadratic(), noise=0.4),
        (SQUARE, squared, lambda rho, zeta: rho**2 @ V_TEACHER + 0.4 * zeta, False),
    ),
    "multi-index regression": (
        ld.Problem(ld.Tanh(), ld.MultiIndex(lambda rho, zeta: rho[0] * rho[1] + 0.5 * zeta)),
        (TANH, squared, lambda rho, zeta: rho[:, 0] * rho[:, 1] + 0.5 * zeta, False),
    ),
    "huber, noise": (
        ld.Problem(ld.Tanh(), ld.Tanh(), huber_loss, noise=0.8),
        (TANH, huber, lambda rho, zeta: np.tanh(rho) @ V_TEACHER + 0.8 * zeta, False),
    ),
    "logistic": (
        ld.Problem(ld.Tanh(), ld.Tanh(), ld.Logistic()),
        (TANH, logistic, lambda rho, zeta: sign(np.tanh(rho) @ V_TEACHER), False),
    ),
    "logistic, noise, sign teacher": (
        ld.Problem(ld.Tanh(), ld.Sign(), ld.Logistic(), noise=0.7),
        (TANH, logistic, lambda rho, zeta: sign(sign(rho) @ V_TEACHER + 0.7 * zeta), False),
    ),
    "hinge, biases, noise": (
        ld.Problem(ld.Tanh(), ld.Tanh(), ld.Hinge(), noise=0.7),
        (TANH, hinge, lambda rho, zeta: sign(np.tanh(rho) @ V_TEACHER + 0.7 * zeta), True),
    ),
    "perceptron, noise": (
        ld.Problem(ld.ReLU(), ld.Linear(), ld.Perceptron(), noise=0.7),
        (RELU, perceptron, lambda rho, zeta: sign(rho @ V_TEACHER + 0.7 * zeta), False),
    ),
    "parity": (
        ld.Problem(ld.Tanh(), ld.MultiIndex(lambda r, z: r[0] * r[1] + 0.5 * z), ld.Logistic()),
        (TANH, logistic, lambda rho, zeta: sign(rho[:, 0] * rho[:, 1] + 0.5 * zeta), False),
    ),
    "own classification loss": (
        ld.Problem(ld.Tanh(), ld.Tanh(), ExponentialLoss(), noise=0.7),
        (TANH, exponential, lambda rho, zeta: sign(np.tanh(rho) @ V_TEACHER + 0.7 * zeta), False),
    ),
}


def by_monte_carlo(student, slope, label, biased, classification, samples=400_000):
    """Means and standard errors of everything, sample by sample."""
    rng = np.random.default_rng(11)
    f = rng.normal(size=(samples, 4)) @ np.linalg.cholesky(STATE.covariance).T
    zeta = rng.normal(size=samples)
    lam, rho = f[:, :2] + biased * B, f[:, 2:] + biased * B_TEACHER
    g, dg = student
    phi = g(lam) @ V
    c = V * dg(lam) * slope(phi, label(rho, zeta))[:, None]
    dv = g(lam) * slope(phi, label(rho, zeta))[:, None]
    clean = label(rho, 0 * zeta)
    eg = (phi >= 0) != (clean >= 0) if classification else 0.5 * (phi - clean) ** 2
    products = (c[:, :, None] * f[:, None, :], c[:, :, None] * c[:, None, :], dv, c, eg)
    return [(x.mean(0), x.std(0) / np.sqrt(samples)) for x in products]


@pytest.mark.nightly(by_day=["tanh, biases, noise", "logistic, noise, sign teacher", "parity"])
@pytest.mark.parametrize("name", KINDS)
def test_kinds_of_problems_against_monte_carlo(name):
    problem, recipe = KINDS[name]
    state = STATE
    if recipe[-1]:
        state = ld.Overlaps(STATE.Q, STATE.R, STATE.T, V, V_TEACHER, B, B_TEACHER)
    averages = chosen(problem, state)
    found, eg = averages_of(averages, problem, state)
    own_error = float(averages_error(problem, RULE, state, averages))
    expected = by_monte_carlo(*recipe, problem.is_classification)
    for ours, (mean, error) in zip((*sampled(found, state), eg), expected, strict=True):
        # About 250 comparisons in all; 4.5 standard errors happen in one of 600 such suites.
        assert (np.abs(ours - mean) < 4.5 * error + own_error).all()
    assert own_error < 0.05 * max(np.abs(mean).max() for mean, _ in expected)
