"""Initialisations, and weights with exactly the overlaps asked for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import learndyn as ld


def random_overlaps(seed, k, m, rank):
    """Overlaps of vectors in `rank` dimensions."""
    a = np.random.default_rng(seed).normal(size=(k + m, rank))
    c = a @ a.T / rank
    return ld.Overlaps(c[:k, :k], c[:k, k:], c[k:, k:], v=np.arange(k) - 0.5)


def assert_exact(weights, start):
    got, wanted = np.asarray(ld.overlaps(weights).covariance), np.asarray(start.covariance)
    assert np.abs(got - wanted).max() < 1e-14 * max(1.0, np.trace(wanted))
    np.testing.assert_array_equal(weights.v, start.v)


@settings(max_examples=25)
@given(rank=st.integers(1, 7), n=st.sampled_from([5, 40]), seed=st.integers(0, 2**16))
def test_weights_have_the_overlaps_asked_for_at_any_rank(rank, n, seed):
    start = random_overlaps(seed, 3, 2, rank)
    assert_exact(ld.weights_from_overlaps(jax.random.key(seed), start, n), start)


def test_as_many_dimensions_as_the_rank_suffice(key):
    start = random_overlaps(1, 3, 2, 4)
    assert_exact(ld.weights_from_overlaps(key, start, 4), start)


@pytest.mark.parametrize("n", [2, 784])
def test_a_student_that_equals_its_teacher(n, key):
    start = ld.Overlaps(jnp.eye(2), jnp.eye(2), jnp.eye(2), b=[0.1, 0.2])
    weights = ld.weights_from_overlaps(key, start, n)
    assert_exact(weights, start)
    np.testing.assert_allclose(weights.w, weights.w_teacher, atol=1e-13 * n**0.5)
    np.testing.assert_array_equal(weights.b, start.b)


def test_a_student_at_zero(key):
    start = ld.Overlaps(jnp.zeros((3, 3)), jnp.zeros((3, 2)), jnp.eye(2))
    weights = ld.weights_from_overlaps(key, start, 5)
    assert_exact(weights, start)
    np.testing.assert_allclose(weights.w, 0.0, atol=1e-14)


def test_orientation_is_uniform(key):
    """First and second moments of one vector's direction, and no preferred sign."""
    start = ld.Overlaps([[1.0]], [[0.6]], [[1.0]])
    keys = jax.random.split(key, 4000)
    w = jax.vmap(lambda key: ld.weights_from_overlaps(key, start, 3).w[0])(keys)
    # A coordinate of a uniform direction in three dimensions is uniform (Archimedes).
    for axis in range(3):
        uniform = np.asarray(w[:, axis]) / 3**0.5
        assert stats.kstest(uniform, "uniform", (-1, 2)).pvalue > 1e-3
    np.testing.assert_allclose(np.sum(w**2, axis=1), 3.0, rtol=1e-13)


def test_too_few_dimensions_say_how_many_are_needed(key):
    with pytest.raises(ValueError, match="rank 4 need n >= 4"):
        ld.weights_from_overlaps(key, random_overlaps(0, 3, 2, 4), 3)
    with pytest.raises(ValueError, match="n must be"):
        ld.weights_from_overlaps(key, random_overlaps(0, 3, 2, 4), 0)
    batch = jax.tree.map(lambda x: x[None], random_overlaps(0, 3, 2, 4))
    with pytest.raises(ValueError, match="vmap"):
        ld.weights_from_overlaps(key, batch, 9)


def test_traced_overlaps_that_do_not_exist_give_nan(key):
    def weights(r, n):
        return ld.weights_from_overlaps(key, ld.Overlaps([[1.0]], [[r]], [[1.0]]), n).w

    r = jnp.array([0.5, 1.0, 1.5])
    np.testing.assert_array_equal(
        np.isnan(jax.vmap(lambda r: weights(r, 2))(r)).any((1, 2)), [False, False, True]
    )
    np.testing.assert_array_equal(
        np.isnan(jax.vmap(lambda r: weights(r, 1))(r)).any((1, 2)), [True, False, True]
    )


def test_random_weights_have_the_scales_asked_for(key):
    weights = ld.init_weights(
        key, n=20_000, k=2, m=3, scale=0.5, teacher_scale=2.0, v="gaussian", b="gaussian"
    )
    start = ld.overlaps(weights)
    np.testing.assert_allclose(start.Q, 0.25 * np.eye(2), atol=0.02)
    np.testing.assert_allclose(start.R, 0.0, atol=0.05)
    np.testing.assert_allclose(start.T, 4.0 * np.eye(3), atol=0.2)
    assert (weights.v.shape, weights.v_teacher.shape) == ((2,), (3,))
    np.testing.assert_array_equal(weights.v_teacher, 1.0)
    np.testing.assert_array_equal(weights.b_teacher, 0.0)
    assert weights.b.shape == (2,)


def test_parts_have_random_numbers_of_their_own(key):
    plain = ld.init_weights(key, 30, 2, 2)
    other = ld.init_weights(key, 30, 2, 2, v="gaussian", b="gaussian", orthonormal_teacher=True)
    np.testing.assert_array_equal(plain.w, other.w)
    assert plain.b is None
    assert not np.allclose(plain.w, plain.w_teacher)
    assert not np.allclose(other.v, other.b)


def test_layers_given_as_words_or_numbers(key):
    weights = ld.init_weights(key, 9, 4, 2, v="mean", v_teacher="sqrt", b=0.3, b_teacher=[1, 2])
    np.testing.assert_allclose(weights.v, 0.25)
    np.testing.assert_allclose(weights.v_teacher, 0.5**0.5)
    np.testing.assert_allclose(weights.b, 0.3)
    np.testing.assert_allclose(weights.b_teacher, [1, 2])
    drawn = ld.init_weights(key, 1, 2000, 1, scale=0.1, v="gaussian").v
    assert np.std(drawn) == pytest.approx(0.1, rel=0.1)


def test_orthonormal_teacher_is_exact(key):
    start = ld.overlaps(ld.init_weights(key, 50, 2, 4, orthonormal_teacher=True, teacher_scale=2.0))
    np.testing.assert_allclose(start.T, 4 * np.eye(4), atol=1e-13)


@pytest.mark.parametrize(("k", "known"), [(2, 2), (3, 3), (5, 3)])
def test_informed_units_are_the_teachers(k, known, key):
    exact = ld.init_weights(key, 40, k, 3, start="informed", scale=0.0)
    np.testing.assert_array_equal(exact.w[:known], exact.w_teacher[:known])
    np.testing.assert_array_equal(exact.w[known:], 0.0)
    near = ld.init_weights(key, 40, k, 3, start="informed")
    assert np.std(near.w - exact.w) == pytest.approx(0.1, rel=0.3)


def test_denoising_start_has_no_error(key):
    weights = ld.init_weights(key, 40, 6, 2, start="denoising", scale=0.0, v_teacher=[2.0, -1.0])
    np.testing.assert_array_equal(weights.w[4], weights.w_teacher[0])
    np.testing.assert_allclose(weights.v, np.array([2.0, -1.0] * 3) / 3)
    error = ld.generalisation_error(ld.Problem(), ld.overlaps(weights))
    assert error == pytest.approx(0.0, abs=1e-14)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": 0}, "k must be"),
        ({"n": -1}, "n must be"),
        ({"scale": -1.0}, "scale must be"),
        ({"teacher_scale": -1.0}, "teacher_scale must be"),
        ({"start": "hot"}, '"informed", "denoising"; got'),
        ({"start": "denoising"}, "multiple of m"),
        ({"v": "half"}, '"mean", "sqrt", "gaussian"; got'),
        ({"b": "mean"}, 'b must be one of "gaussian"'),
        ({"v": [1.0, 2.0]}, "one per unit"),
        ({"m": 9, "orthonormal_teacher": True}, "m <= n"),
    ],
)
def test_bad_input_says_what_must_hold(change, message, key):
    with pytest.raises(ValueError, match=message):
        ld.init_weights(key, **{"n": 8, "k": 3, "m": 2} | change)
