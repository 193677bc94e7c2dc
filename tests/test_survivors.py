"""What random faults showed to be untested: each test has an oracle that shares nothing with the
library."""

import jax
import jax.numpy as jnp
import numpy as np

import learndyn as ld
from learndyn.averages._samples import _episode_weights

# Averages


def test_density_of_an_episode_is_the_product_of_its_samples():
    """Where weights w_b change by w_b s_b, an episode's changes by w sum_b s_b, to first order."""
    rule = ld.rules.RewardPerceptron(3, 1.0)
    weight, scores = jnp.full(6, 1 / 6), jnp.array([0.3, -0.2, 0.5, 1.0, 0.0, -0.4])
    found = jax.jvp(lambda w: _episode_weights(rule, w), (weight,), (weight * scores,))
    np.testing.assert_allclose(found[0], weight)
    np.testing.assert_allclose(found[1], np.repeat([0.6, 0.6], 3) / 6, rtol=1e-12)
