"""The overlap chain for structured inputs, against SGD on weights written here and white inputs."""

import jax
import numpy as np
import pytest
import scipy.special

import learndyn as ld

SIZES = np.array([6, 5, 4, 2])
S = np.array([0.5, 1.0, 1.5, 3.0])
NOISY = ld.Problem(noise=0.1)
UNSEEN = np.array([[0.3, 0.1], [0.1, 0.2]])


def drawn(rng, sizes, units=2, scale=1.0):
    return scale * rng.normal(size=(units, sizes.sum()))


def in_groups(a, b, sizes):
    """Overlaps of the rows of a and b, (..., groups, rows, rows), from their coordinates."""
    n, ends = sizes.sum(), np.cumsum(sizes)[:-1]
    pairs = zip(np.split(a, ends, -1), np.split(b, ends, -1), strict=True)
    return np.stack([x @ np.swapaxes(y, -1, -2) / n for x, y in pairs], axis=-3)


def start_of(w, teacher, sizes, s, unseen=None):
    given = (
        in_groups(w, w, sizes),
        in_groups(w, teacher, sizes),
        in_groups(teacher, teacher, sizes),
    )
    return ld.GroupedOverlaps(*given, ld.Spectrum(s, sizes / sizes.sum()), T_unseen=unseen)


def sgd_on_weights(rng, w, teacher, sizes, s, *, steps, runs, lr, decay, batch, beta, unseen):
    """Weights after some steps of erf units with squared loss and noise 0.1, by NumPy alone."""
    n, root = sizes.sum(), np.sqrt(np.repeat(s, sizes))
    w, u = np.broadcast_to(w, (runs, *w.shape)), np.zeros((runs, *w.shape))
    factor = np.linalg.cholesky(unseen) if unseen.any() else unseen
    for _ in range(steps):
        x = root * rng.normal(size=(runs, batch, n))
        lam = x @ np.swapaxes(w, 1, 2) / n**0.5
        rho = x @ teacher.T / n**0.5 + rng.normal(size=(runs, batch, 2)) @ factor.T
        g = lambda f: scipy.special.erf(f / 2**0.5)
        error = g(lam).sum(-1) - g(rho).sum(-1) - 0.1 * rng.normal(size=(runs, batch))
        c = (2 / np.pi) ** 0.5 * np.exp(-(lam**2) / 2) * error[..., None]
        gradient = np.swapaxes(c, 1, 2) @ x / (batch * n**0.5) + decay / n * w
        u = beta * u + gradient
        w = w - lr * u
    return w


CASES = {
    "one sample": {"lr": 0.8, "decay": 0.1, "batch": 1, "beta": 0.0, "unseen": UNSEEN},
    "batch": {"lr": 0.8, "decay": 0.1, "batch": 2, "beta": 0.0, "unseen": 0 * UNSEEN},
    "momentum": {"lr": 0.3, "decay": 0.1, "batch": 3, "beta": 0.6, "unseen": UNSEEN},
}


@pytest.mark.nightly(by_day=["one sample"])
@pytest.mark.parametrize("name", CASES)
def test_law_in_groups_smaller_than_the_frame(name, rng):
    """Four groups of 6, 5, 4 and 2 directions for 4 vectors, or 6 with momentum."""
    case, runs, steps = CASES[name], 4096, 17
    w, teacher = drawn(rng, SIZES, scale=0.5), drawn(rng, SIZES)
    final = sgd_on_weights(rng, w, teacher, SIZES, S, steps=steps, runs=runs, **case)
    beta = case["beta"] or None
    rule = ld.SGD(case["lr"], weight_decay=case["decay"], batch_size=case["batch"], momentum=beta)
    start = start_of(w, teacher, SIZES, S, case["unseen"])
    keys = jax.random.split(jax.random.key(5), runs)
    run = jax.vmap(
        lambda key: ld.simulate_chain(NOISY, rule, start, [0.0, steps / 17], n=17, key=key)
    )(keys)
    measured = [in_groups(final, final, SIZES), in_groups(final, teacher, SIZES)]
    for right, found in zip(measured, (run.Q_groups[:, -1], run.R_groups[:, -1]), strict=True):
        for power in (1, 2):
            a, b = right**power, np.asarray(found) ** power
            z = (a.mean(0) - b.mean(0)) / np.sqrt((a.var(0) + b.var(0)) / runs)
            assert np.abs(z).max() < 4.5  # 32 numbers twice
    # A repeated key is the same run, and the sums are what all levels have.
    np.testing.assert_allclose(run.Q, run.Q_groups.sum(axis=2), rtol=1e-13)
    np.testing.assert_allclose(run.Q_field, np.tensordot(run.Q_groups, S, (2, 0)), rtol=1e-12)


@pytest.mark.nightly(by_day=["one sample"])
@pytest.mark.parametrize("name", CASES)
def test_one_group_is_white_inputs_with_the_same_random_numbers(name):
    case = CASES[name]
    rule = ld.SGD(case["lr"], 0.2, batch_size=case["batch"], momentum=case["beta"] or None)
    q, r, t = [[0.3, 0.05], [0.05, 0.25]], [[0.12, 0.03], [0.02, 0.1]], np.eye(2)
    one = ld.GroupedOverlaps([q], [r], [t], ld.Spectrum([1.0], [1.0]))
    given = {"ts": [0.0, 0.5, 2.0], "n": 50, "key": jax.random.key(3)}
    right = ld.simulate_chain(NOISY, rule, ld.Overlaps(q, r, t), **given)
    run = ld.simulate_chain(NOISY, rule, one, **given)
    for name in ("Q", "R", "v", "eg"):
        np.testing.assert_allclose(getattr(run, name), getattr(right, name), rtol=1e-11, atol=1e-13)
