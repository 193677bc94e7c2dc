"""Extremal directions of ReLU neurons in the plane, against the utility on a fine circle."""

import numpy as np
import pytest

from learndyn import flow

GRID = 2 * np.pi * np.arange(20_000) / 20_000
CIRCLE = np.stack([np.cos(GRID), np.sin(GRID)], axis=1)


def maxima(x, y, sign):
    """Angles of the local maxima of the utility, and its values."""
    utility = sign * np.maximum(CIRCLE @ x.T, 0.0) @ y / len(x)
    is_top = (utility > np.roll(utility, 1)) & (utility >= np.roll(utility, -1)) & (utility > 0)
    return GRID[is_top], utility[is_top]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("sign", [1, -1])
def test_they_are_the_maxima_of_the_utility(seed, sign):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(8, 2)), rng.normal(size=8)
    found = flow.extremal_directions(x, y, sign)
    angles, values = maxima(x, y, sign)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1.0)
    mine = np.arctan2(found[:, 1], found[:, 0]) % (2 * np.pi)
    order = np.argsort(-values)
    np.testing.assert_allclose(mine, angles[order], atol=2 * np.pi / 20_000)


def test_kinks_and_smooth_maxima():
    data = flow.Data([[1.0, 0.0], [0.0, 1.0]], [1.0, 2.0])
    np.testing.assert_allclose(flow.extremal_directions(data), [[1 / 5**0.5, 2 / 5**0.5]])
    # The utility of the second sample is negative: the maximum stays at its edge.
    kinked = flow.extremal_directions([[1.0, 0.0], [1.0, 1.0]], [1.0, -0.5])
    np.testing.assert_allclose(kinked, [[0.5**0.5, -(0.5**0.5)]], atol=1e-15)


def test_samples_that_count_twice_or_for_nothing():
    x, y = np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([1.0, 2.0])
    more = np.concatenate([x, 0.3 * x, np.zeros((1, 2))])
    found = flow.extremal_directions(more, np.r_[y, y, 5.0])
    np.testing.assert_allclose(found, flow.extremal_directions(x, y), rtol=1e-12)
    assert flow.extremal_directions(np.zeros((1, 2)), [1.0]).shape == (0, 2)
    assert flow.extremal_directions(x, [0.0, 0.0]).shape == (0, 2)
    assert flow.extremal_directions(x, y, -1).shape == (0, 2)


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="inputs in the plane"):
        flow.extremal_directions(np.eye(3), np.ones(3))
    with pytest.raises(ValueError, match="sign must be 1 or -1"):
        flow.extremal_directions(np.eye(2), np.ones(2), 0)
    with pytest.raises(ValueError, match="needs labels"):
        flow.extremal_directions(np.eye(2))
