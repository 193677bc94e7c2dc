"""Overlaps and weights: what they accept, fill in and refuse, and the networks they stand for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import erf

import learndyn as ld

I2 = np.eye(2)
W = np.random.default_rng(0).normal(size=(2, 7))

BAD_OVERLAPS = {
    "vector": (([1, 1], I2, I2), r"square matrices.*\(2,\)"),
    "not square": ((np.ones((2, 3)), I2, I2), r"Q must have shape \(3, 3\)"),
    "k of Q and R differ": ((I2, np.ones((3, 2)), I2), r"R must have shape \(2, 2\).*\(3, 2\)"),
    "m of R and T differ": ((I2, np.ones((2, 3)), I2), r"R must have shape \(2, 2\).*\(2, 3\)"),
    "R a vector": ((I2, np.ones(2), I2), "R must have shape"),
    "no students": ((np.ones((0, 0)), np.ones((0, 2)), I2), "k, m >= 1"),
    "no teachers": ((I2, np.ones((2, 0)), np.ones((0, 0))), "k, m >= 1"),
    "numbers": ((1.0, 0.1, 1.0), "k, m >= 1"),
    "nothing": ((None, I2, I2), "Q must be a real number"),
    "R too large": ((I2, 2 * I2, I2), "semi-definite.*smallest eigenvalue of -1.*Use overlaps"),
    "negative norm": ((-I2, 0 * I2, I2), "semi-definite"),
    "Q asymmetric": (([[1, 0.1], [0, 1]], 0 * I2, I2), "Q must be symmetric"),
    "T asymmetric": ((I2, 0 * I2, [[1, 0.1], [0, 1]]), "T must be symmetric"),
    "NaN": ((np.nan * I2, 0 * I2, I2), "finite"),
    "v too long": ((I2, 0 * I2, I2, [1, 2, 3]), r"v must have shape \(2,\)"),
    "v NaN": ((I2, 0 * I2, I2, [1, np.nan]), "v must be finite"),
    "v* infinite": ((I2, 0 * I2, I2, None, np.inf), "v_teacher must be finite"),
    "b too long": ((I2, 0 * I2, I2, None, None, [1, 2, 3]), r"b must have shape \(2,\)"),
    "b NaN": ((I2, 0 * I2, I2, None, None, np.nan), "b must be finite"),
    "batches differ": (([I2] * 3, [0 * I2] * 2, I2), "batch axes must broadcast"),
    "batch of v differs": (([I2] * 3, 0 * I2, I2, np.ones((2, 2))), "batch axes must broadcast"),
}


@pytest.mark.parametrize(("args", "words"), BAD_OVERLAPS.values(), ids=BAD_OVERLAPS)
def test_bad_overlaps_say_what_must_hold(args, words):
    with pytest.raises(ValueError, match=words):
        ld.Overlaps(*args)


BAD_WEIGHTS = {
    "n differs": ((np.ones((2, 5)), np.ones((2, 6))), r"w_teacher must have shape \(2, 5\)"),
    "one row": ((np.ones(5), np.ones((2, 5))), "k, m, n >= 1"),
    "no students": ((np.ones((0, 5)), np.ones((2, 5))), "k, m, n >= 1"),
    "no inputs": ((np.ones((2, 0)), np.ones((2, 0))), "k, m, n >= 1"),
    "NaN": ((np.nan * W, W), "w must be finite"),
    "infinite teacher": ((W, np.inf * W), "w_teacher must be finite"),
    "v too short": ((W, W, [1.0]), r"v must have shape \(2,\)"),
    "text": (("w", W), "w must be a real number"),
}


@pytest.mark.parametrize(("args", "words"), BAD_WEIGHTS.values(), ids=BAD_WEIGHTS)
def test_bad_weights_say_what_must_hold(args, words):
    with pytest.raises(ValueError, match=words):
        ld.Weights(*args)


def test_what_is_not_given():
    plain = ld.Overlaps(I2, 0.1 * I2, I2)
    np.testing.assert_array_equal(plain.v, [1, 1])
    np.testing.assert_array_equal(plain.v_teacher, [1, 1])
    assert plain.b is None
    assert plain.b_teacher is None
    biased = ld.Overlaps(I2, 0.1 * I2, I2, v=0.5, b_teacher=[0.3, 0.4])
    np.testing.assert_array_equal(biased.v, [0.5, 0.5])
    np.testing.assert_array_equal(biased.b, [0, 0])
    np.testing.assert_array_equal(biased.b_teacher, [0.3, 0.4])
    assert all(leaf.dtype == jnp.float64 for leaf in jax.tree.leaves(biased))
    assert not any(leaf.weak_type for leaf in jax.tree.leaves((plain, biased)))


def test_batches_broadcast():
    batch = ld.Overlaps([I2] * 3, 0.1 * I2, I2, v=np.ones((3, 2)), b=[0.1, 0.2])
    assert (batch.k, batch.m) == (2, 2)
    shapes = {x.shape for x in (batch.v, batch.v_teacher, batch.b, batch.b_teacher)}
    assert shapes == {(3, 2)}
    assert batch.T.shape == batch.R.shape == (3, 2, 2)
    assert batch.covariance.shape == (3, 4, 4)
    assert ld.Overlaps(I2, 0.1 * I2, I2, v=np.ones((5, 2))).Q.shape == (5, 2, 2)
    assert ld.Weights([W] * 3, W).w_teacher.shape == (3, 2, 7)


def test_singular_overlaps_are_states_too():
    ld.Overlaps(I2, I2, I2)  # student = teacher
    ld.Overlaps(np.zeros((3, 3)), np.zeros((3, 2)), I2)  # students at rest
    ld.Overlaps(np.ones((3, 3)), np.ones((3, 1)), [[1.0]])  # more units than directions
    rounding = 1e-11
    ld.Overlaps(I2, (1 + rounding) * I2, I2)
    with pytest.raises(ValueError, match="semi-definite"):
        ld.Overlaps(I2, (1 + 1e-9) * I2, I2)


def test_traced_overlaps_cannot_raise():
    assert not jax.jit(lambda r: ld.Overlaps(I2, r * I2, I2).R[0, 0] < 2)(2.0)


@settings(max_examples=15)  # each shape is compiled
@given(st.integers(1, 5), st.integers(1, 4), st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_overlaps_of_any_weights_are_accepted(k, m, n, seed):
    rng = np.random.default_rng(seed)
    w, w_teacher = rng.normal(size=(k, n)), 10.0 ** rng.uniform(-3, 3) * rng.normal(size=(m, n))
    state = ld.overlaps(ld.Weights(w, w_teacher, rng.normal(size=k)))
    np.testing.assert_allclose(state.Q, w @ w.T / n, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(state.R, w @ w_teacher.T / n, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(state.T, w_teacher @ w_teacher.T / n, rtol=1e-12)


def test_networks():
    rng = np.random.default_rng(1)
    w, w_teacher, x = rng.normal(size=(3, 6)), rng.normal(size=(2, 6)), rng.normal(size=6)
    v, b = rng.normal(size=3), rng.normal(size=3)
    weights = ld.Weights(w, w_teacher, v, [2.0, -1.0], b, [0.5, 0.1])
    problem = ld.Problem(ld.Erf(), jnp.sin)
    phi = v @ erf((w @ x / np.sqrt(6) + b) / np.sqrt(2))
    assert float(ld.student(problem, weights)(jnp.asarray(x))) == pytest.approx(phi, rel=1e-14)
    expected = np.array([2.0, -1.0]) @ np.sin(w_teacher @ x / np.sqrt(6) + [0.5, 0.1])
    assert float(ld.teacher(problem, weights)(jnp.asarray(x))) == pytest.approx(expected)
    plain = ld.student(problem, ld.Weights(w, w_teacher))
    assert float(plain(jnp.asarray(x))) == pytest.approx(erf(w @ x / np.sqrt(12)).sum())


def test_networks_of_a_batch_or_a_multi_index_teacher_are_refused():
    with pytest.raises(ValueError, match="one run at a time"):
        ld.student(ld.Problem(), ld.Weights([W] * 3, W))
    multi = ld.Problem(teacher=ld.MultiIndex(lambda rho, zeta: rho[0]))
    with pytest.raises(ValueError, match="function of the fields"):
        ld.teacher(multi, ld.Weights(W, W))


def test_theory_in_single_precision_is_refused():
    ts = [0.0, 1.0]
    with jax.enable_x64(False):
        single = ld.Overlaps(I2, 0.1 * I2, I2)
        with pytest.raises(ValueError, match=r'needs float64.*"jax_enable_x64", True'):
            ld.solve_ode(ld.Problem(), ld.SGD(lr=0.1), single, ts)
        with pytest.raises(ValueError, match="needs float64"):
            ld.generalisation_error(ld.Problem(), single)
        problem, rule = ld.Problem(noise=0.1), ld.SGD(lr=0.1)
    double = ld.Overlaps(I2, 0.1 * I2, I2)
    for args in (
        (problem, ld.SGD(lr=0.1), double),
        (ld.Problem(), rule, double),
    ):
        with pytest.raises(ValueError, match="arguments was made in float32"):
            ld.solve_ode(*args, ts)
