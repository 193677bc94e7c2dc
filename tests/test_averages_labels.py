"""Labels given the teacher's fields, with their probabilities; which label noise needs nodes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.linalg
import scipy.special

import learndyn as ld
from learndyn.averages._places import Places
from learndyn.averages._samples import (
    at_rest,
    has_zeta_node,
    labels,
    needs_zeta_node,
    probability_positive,
)
from learndyn.averages._split_labels import _positive_over_zeta, label_distribution
from learndyn.rules import Modulation

SQUARES = ld.Problem(ld.Quadratic(), ld.Linear(), noise=0.3)


def same(found, wanted, rtol=1e-11):
    np.testing.assert_allclose(found, wanted, rtol=rtol, atol=1e-13)


def centred(problem, samples, layers):
    """Each sample's field, from which the episode's mean is taken."""
    lam = samples.lam - jnp.mean(samples.lam, axis=0)
    return Modulation(lam, samples.lam)


def test_which_label_noise_needs_nodes():
    episode = ld.LocalRule(centred, 0.1, episode=True, batch_size=2)
    plain = ld.LocalRule(lambda p, s, layers: Modulation(s.lam, s.lam), 0.1)
    absolute = ld.Problem(loss=lambda phi, y: jnp.abs(phi - y))
    sign = ld.Problem(ld.Linear(), ld.Sign(), ld.Perceptron())
    turned = ld.Problem(ld.Linear(), ld.Sign(0.1), ld.Perceptron())
    index = ld.Problem(ld.Linear(), ld.MultiIndex(lambda rho, zeta: rho[0]))
    noisy = ld.Problem(ld.Linear(), ld.MultiIndex(lambda rho, zeta: rho[0] * zeta))
    rows = [
        (ld.Problem(), None, False, False),
        (SQUARES, ld.SGD(0.1), False, False),
        (SQUARES, plain, True, True),
        (absolute, ld.SGD(0.1), True, True),
        (sign, plain, False, False),
        (sign, episode, True, False),
        (turned, episode, True, True),
        (SQUARES, episode, True, True),
        (index, ld.SGD(0.1), True, False),
        (noisy, None, True, True),
    ]
    for problem, rule, needs, has in rows:
        assert (needs_zeta_node(problem, rule), has_zeta_node(problem, rule, 1)) == (needs, has)


def test_labels_with_their_probabilities():
    rho, zeta = jnp.array([[0.5], [-0.8]]), jnp.array([0.3, -0.9])
    layers = ld.Overlaps([[1.0]], [[0.0]], [[1.0]], [1.0], [1.2]).layers
    clean = 1.2 * np.array([0.5, -0.8])
    # Two points of either sign, exact up to third powers of the noise
    found = labels(ld.Problem(teacher=ld.Linear(), noise=0.3), ld.SGD(0.1), rho, zeta, layers)
    assert sorted(float(y[0]) for _, y in found) == pytest.approx([0.3, 0.9])
    same([p for p, _ in found], [0.5, 0.5])
    plain = ld.LocalRule(lambda p, s, layers: Modulation(s.lam, s.lam), 0.1)
    [(p, y)] = labels(ld.Problem(teacher=ld.Linear(), noise=0.3), plain, rho, zeta, layers)
    assert p == 1.0
    same(y, clean + 0.3 * np.array(zeta))
    turned = ld.Problem(ld.Linear(), ld.Sign(0.1), ld.Logistic(), noise=0.5)
    (p, y), (p_other, y_other) = labels(turned, ld.SGD(0.1), rho, zeta, layers)
    right = scipy.special.ndtr(1.2 * np.array([1, -1]) / 0.5)
    same(p, 0.1 + 0.8 * right)
    same(p + p_other, 1.0)
    assert (y.tolist(), y_other.tolist()) == ([1.0, 1.0], [-1.0, -1.0])
    quiet = ld.Problem(ld.Linear(), ld.Sign(0.1), ld.Logistic())
    same(probability_positive(quiet, jnp.array([-0.3, 0.0, 2.0])), [0.1, 0.9, 0.9])


def test_numbers_that_no_modulation_depends_on_are_left_out():
    problem = ld.Problem(ld.Linear(), ld.Sign(0.1), ld.Logistic(), noise=0.5)
    quiet, still = at_rest(problem, ld.rules.FeedbackAlignment([0.4], 0.2, weight_decay=0.3))
    assert (quiet.noise, quiet.teacher.flip) == (0.0, 0.0)
    assert (still.lr, still.lr_second, still.weight_decay, still.momentum) == (None,) * 4
    same(still.feedback, [0.4])
    assert at_rest(SQUARES, ld.SGD(0.1))[0].teacher == ld.Linear()


def test_labels_of_an_index_over_its_noise():
    """sign(zeta**2 - rho**2 + 0.5 zeta rho): positive outside of the roots of a quadratic."""
    teacher = ld.MultiIndex(lambda rho, zeta: zeta**2 - rho[0] ** 2 + 0.5 * zeta * rho[0])
    rho = np.array([0.3, -1.7])
    half, spread = -0.25 * rho, np.abs(rho) * (1 + 0.0625) ** 0.5
    inside = scipy.special.ndtr(half + spread) - scipy.special.ndtr(half - spread)
    found, change = jax.jvp(
        lambda x: _positive_over_zeta(teacher, x), (jnp.asarray(rho),), (jnp.array([1.0, 0.5]),)
    )
    same(found, 1 - inside, rtol=1e-11)
    density = lambda x: np.exp(-(x**2) / 2) / (2 * np.pi) ** 0.5
    steps = -0.25, np.sign(rho) * (1 + 0.0625) ** 0.5
    slope = (steps[0] + steps[1]) * density(half + spread)
    slope -= (steps[0] - steps[1]) * density(half - spread)
    # Differences of steps of 1e-6 between values right to 1e-14
    same(change, -slope * [1.0, 0.5], rtol=1e-6)
    problem = ld.Problem(ld.Linear(), teacher, ld.Perceptron())
    known = Places((), (), (), (), (), (), uses_zeta=True)
    layers = ld.Overlaps([[1.0]], [[0.0]], [[1.0]]).layers
    p, y = label_distribution(problem, jnp.asarray(rho), layers, known, True, 3)
    same(p, [1 - inside, inside])
    assert y.tolist() == [[1.0, 1.0], [-1.0, -1.0]]
    p, y = label_distribution(
        problem, jnp.asarray(rho), layers, known._replace(uses_zeta=False), True, 3
    )
    same(p, [[0.0, 0.0], [1.0, 1.0]])  # at zeta = 0


def test_labels_of_a_teacher_are_turned_by_noise_and_flips():
    """0.1 + 0.8 N(1.2 g / 0.5) where the sign of rho is the label, g = 1 or -1."""
    problem = ld.Problem(ld.Linear(), ld.Sign(0.1), ld.Logistic(), noise=0.5)
    layers = ld.Overlaps([[1.0]], [[0.0]], [[1.0]], [1.0], [1.2]).layers
    known = Places((), (), (), (), (), ())
    p, y = label_distribution(problem, jnp.array([0.5, -0.2, 0.7]), layers, known, True, 3)
    right = scipy.special.ndtr(2.4 * np.array([1, -1, 1]))
    same(p, [0.1 + 0.8 * right, 0.9 - 0.8 * right])
    assert y.tolist() == [[1.0] * 3, [-1.0] * 3]


@pytest.mark.parametrize(
    ("teacher", "uses_zeta", "exact", "points"),
    [
        (ld.Linear(), False, True, 2),
        (ld.Linear(), False, False, 6),
        (ld.MultiIndex(lambda rho, zeta: rho[0] + 0.3 * zeta), True, True, 6),
        (ld.MultiIndex(lambda rho, zeta: rho[0]), False, True, 1),
    ],
    ids=["linear in the noise", "any rule", "index", "quiet index"],
)
def test_labels_that_are_numbers(teacher, uses_zeta, exact, points):
    """Gauss and Hermite's rule with this many points: moments of the noise up to 2 points - 1."""
    noise = 0.0 if isinstance(teacher, ld.MultiIndex) else 0.3
    problem = ld.Problem(ld.Linear(), teacher, noise=noise)
    known = Places((), (), (), (), (), (), uses_zeta=uses_zeta)
    layers = ld.Overlaps([[1.0]], [[0.0]], [[1.0]]).layers
    p, y = label_distribution(problem, jnp.array([0.5, -0.2]), layers, known, exact, 3)
    assert p.shape == y.shape == (points, 2)
    same(jnp.sum(p, axis=0), 1.0)
    variance = 0.0 if points == 1 else 0.09
    centre = jnp.array([0.5, -0.2])
    same(jnp.sum(p * y, axis=0), centre)
    same(jnp.sum(p * (y - centre) ** 2, axis=0), variance)
    if points > 2:
        same(jnp.sum(p * (y - centre) ** 4, axis=0), 3 * variance**2)
