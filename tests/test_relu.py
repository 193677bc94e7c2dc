"""ReLU averages against quadrature that shares nothing with the closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from relu_oracle import PATTERNS, all_pairs, covariance, errors, every, oracle_I2, oracle_I4

from learndyn.integrals.relu.canonical_frame import cone
from learndyn.integrals.relu.quadruples import average_by_way


def nearly(v, size, rng):
    """A vector at about this angle to v, of another length."""
    other = rng.normal(size=v.shape)
    other -= (other @ v) / (v @ v) * v
    return rng.uniform(0.5, 2.0) * (v + size * np.linalg.norm(v) / np.linalg.norm(other) * other)


def singular_cases(rng, size):
    """Vectors of four fields, of which some are dependent but for `size`."""
    x = rng.normal(size=(4, 5))
    yield "student = teacher", [x[0], x[1], nearly(x[0], size, rng), x[3]]
    yield "both students", [x[0], x[1], nearly(x[0], size, rng), nearly(x[1], size, rng)]
    yield "parallel students", [x[0], nearly(x[0], size, rng), x[2], x[3]]
    yield "all parallel", [x[0], *(nearly(x[0], size, rng) for _ in range(3))]
    yield "antiparallel", [x[0], x[1], nearly(x[0], size, rng), -nearly(x[0], size, rng)]
    for rank in (2, 3):
        y = rng.normal(size=(4, 4))
        y[:, rank:] *= size
        yield f"rank {rank}", list(y)


@pytest.mark.nightly(by_day=["7"])
@pytest.mark.parametrize("dims", [4, 7])
def test_every_average_at_random_covariances(rng, dims):
    for _ in range(3):
        error = errors(rng.normal(size=(4, dims)))
        assert error.pop("I4").max() < 1e-11
        assert max(e.max() for e in error.values()) < 1e-13


@pytest.mark.nightly(by_day=["1e-07"])
@pytest.mark.parametrize("size", [1e-1, 1e-3, 1e-5, 1e-7])
def test_nearly_singular_covariances(rng, size):
    # 1 - |r| = size**2 / 2, down to 5e-15. There rounding of C moves the probability of two
    # parallel steps by 1e-10 and more, whatever the formula.
    steps = 2e-9 if size < 1e-6 else 1e-10
    for name, x in singular_cases(rng, size):
        error = errors(np.array(x))
        assert error["J2"].max() < steps, name
        assert error["I4"].max() < steps, name
        assert max(error["I2"].max(), error["I3"].max(), error["I4"][2:].max()) < 1e-12, name


def test_equal_fields_give_the_form_of_equal_indices(rng):
    """Continuity: at exactly singular covariances the general form has the right limit.

    Parallel steps lose digits, since J2 and I4 have infinite slopes there.
    """
    x = np.append(rng.normal(size=(3, 3)), np.ones((1, 3)), axis=0)
    for four, pattern in (
        ([0, 1, 2, 2], (0, 1, 2, 2)),
        ([0, 1, 0, 2], (0, 1, 0, 2)),
        ([0, 1, 0, 1], (0, 1, 0, 1)),
        ([0, 1, 1, 1], (0, 1, 1, 1)),
        ([0, 0, 1, 2], (0, 0, 1, 2)),
        ([0, 0, 0, 1], (0, 0, 0, 1)),
        ([0, 0, 0, 0], (0, 0, 0, 0)),
    ):
        value = every(covariance(x[four]))["I4"][0]
        expected = every(covariance(x))["I4"][PATTERNS.index(pattern)]
        assert float(value) == pytest.approx(float(expected), abs=1e-8)


@pytest.mark.parametrize("last", [[0.8, 0.6], [0.28, 0.96], [-0.6, 0.8]])
def test_four_vectors_in_one_plane(last):
    """Free of rounding, so that all conditional variances are exactly zero."""
    x = np.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8], last])
    value = jax.jit(lambda x: average_by_way(cone(x)))(jnp.array(x))
    assert float(value[0]) == pytest.approx(oracle_I4(x, 0, 1, 2, 3), abs=1e-12)
    assert float(value[1]) == pytest.approx(oracle_I4(x, 2, 3, 0, 1), abs=1e-12)


def test_symmetries_of_the_four_field_average(rng):
    x = rng.normal(size=(4, 6))
    value = every(covariance(x))["I4"][0]
    for order in ([1, 0, 2, 3], [0, 1, 3, 2], [1, 0, 3, 2]):
        assert float(every(covariance(x[order]))["I4"][0]) == pytest.approx(float(value), abs=1e-11)


def test_pair_average_without_pi_half_is_wrong(rng):
    """A known misprint, <a_+ b_+> = [sqrt(D) + C_ab arcsin r] / 2 pi, is told apart."""
    x = rng.normal(size=(2, 3))
    (s_a, s_b), c = np.linalg.norm(x, axis=1), x[0] @ x[1]
    area, angle = np.sqrt((s_a * s_b) ** 2 - c**2), np.arcsin(c / (s_a * s_b))
    right, misprint = ((area + c * (angle + more)) / (2 * np.pi) for more in (np.pi / 2, 0.0))
    assert all_pairs(covariance(x))[0, 1] == pytest.approx(right, abs=1e-13)
    assert oracle_I2(x, 0, 1) == pytest.approx(right, abs=1e-13)
    assert abs(misprint - right) > 1e-3
