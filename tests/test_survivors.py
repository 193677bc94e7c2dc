"""What random faults showed to be untested: each test has an oracle that shares nothing with the
library."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import learndyn as ld
from learndyn.averages._samples import _episode_weights
from learndyn.averages._symmetry import _flips

# Averages


def test_density_of_an_episode_is_the_product_of_its_samples():
    """Where weights w_b change by w_b s_b, an episode's changes by w sum_b s_b, to first order."""
    rule = ld.rules.RewardPerceptron(3, 1.0)
    weight, scores = jnp.full(6, 1 / 6), jnp.array([0.3, -0.2, 0.5, 1.0, 0.0, -0.4])
    found = jax.jvp(lambda w: _episode_weights(rule, w), (weight,), (weight * scores,))
    np.testing.assert_allclose(found[0], weight)
    np.testing.assert_allclose(found[1], np.repeat([0.6, 0.6], 3) / 6, rtol=1e-12)


@pytest.mark.parametrize(
    ("student", "teacher", "biases", "flips"),
    [
        (ld.Erf(), ld.Tanh(), True, ((-1, -1, -1),)),  # all fields together
        (ld.Erf(), ld.ReLU(), True, ()),
        (ld.ReLU(), ld.Erf(), True, ()),
        (ld.Quadratic(), ld.ReLU(), False, ((-1, 1, 1),)),
        (ld.ReLU(), ld.Quadratic(), False, ((1, -1, 1),)),
        (ld.ReLU(), ld.Erf(), False, ()),
    ],
)
def test_flips_of_fields_that_odd_and_even_functions_allow(student, teacher, biases, flips):
    assert _flips(ld.Problem(student, teacher), 2, biases) == flips


# Rules


def test_a_rate_that_falls_as_the_inverse_of_time():
    """lr / (1 + alpha / time): half of it at alpha = time."""
    rate = ld.rules.InverseTimeRate(0.4, time=5.0)
    np.testing.assert_allclose([rate(x) for x in (0.0, 2.5, 5.0)], [0.4, 0.4 / 1.5, 0.2])


def test_rewards_for_episodes_with_turned_labels():
    """One decision of three by a perceptron, over angles of the two fields, in NumPy."""
    lr, size, reward, penalty, flip = 0.8, 3, 1.2, 0.3, 0.1
    q, r, t = 0.7, 0.3, 1.4
    angle = (np.arange(200_000) + 0.5) * 2 * np.pi / 200_000
    along, across = np.cos(angle), np.sin(angle)
    lam = q**0.5 * along
    rho = r / q**0.5 * along + (t - r**2 / q) ** 0.5 * across
    right = np.where(lam * rho > 0, 1 - flip, flip)
    others = right.mean() ** (size - 1)
    # <c f> with the radius' mean sqrt(pi/2); a reward needs all three to be right.
    c = -np.sign(lam) * ((reward + penalty) * right * others - penalty)
    radius = (np.pi / 2) ** 0.5
    square = reward**2 * right.mean() * others + penalty**2 * (1 - right.mean() * others)
    first, second = radius * (c * lam).mean(), radius * (c * rho).mean()
    wanted = [-2 * lr * first + lr**2 / size * square, -lr * second]

    problem = ld.Problem(ld.Linear(), ld.Sign(flip=flip), ld.Perceptron())
    rule = ld.rules.RewardPerceptron(size, reward, penalty, lr=lr)
    start = ld.Overlaps([[q]], [[r]], [[t]])
    flow = ld.ode_term(problem, rule, start).vector_field
    np.testing.assert_allclose(flow(0.0, jnp.array([q, r]), None), wanted, rtol=1e-4)
