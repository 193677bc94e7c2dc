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


@pytest.mark.nightly
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


# Fluctuations and Langevin

TWO_S, TWO_F = [0.5, 2.166666666666667], [0.7, 0.3]


@pytest.fixture(scope="module")
def two_groups():
    split = lambda x: np.asarray(TWO_F)[:, None, None] * np.asarray(x)
    q, r, t = [[0.3, 0.05], [0.05, 0.25]], [[0.12, 0.03], [0.02, 0.1]], np.eye(2)
    return ld.GroupedOverlaps(split(q), split(r), split(t), ld.Spectrum(TWO_S, TWO_F))


@pytest.fixture(scope="module")
def spread(two_groups):
    return ld.fluctuations(NOISY, ld.SGD(0.5), two_groups, [0.0, 3.0])


@pytest.mark.nightly
def test_fluctuations_of_two_groups(spread):
    """Against an independent program; whose nodes differ from these."""
    upper = np.triu_indices(2)
    q = [np.asarray(spread.std.Q_groups[-1, g])[upper] for g in (0, 1)]
    r = [np.asarray(spread.std.R_groups[-1, g]).ravel() for g in (0, 1)]
    right_q = [
        [0.1413222060423508, 0.1123666409199452, 0.13505562220861758],
        [0.11070978661246732, 0.09972923788211781, 0.10833284956813585],
    ]
    right_r = [
        [0.13826412653682066, 0.13883356033815286, 0.13994911956601985, 0.1394622741039187],
        [0.08471237563615021, 0.08639828778789561, 0.08697832748160092, 0.08500514494155756],
    ]
    np.testing.assert_allclose(q, right_q, rtol=5e-3)
    np.testing.assert_allclose(r, right_r, rtol=5e-3)


@pytest.mark.nightly
def test_datasets_have_groups_and_scatter(spread, two_groups, tmp_path):
    dataset = ld.to_dataset(spread)
    assert dataset.Q_group.dims == ("alpha", "group", "student", "student_")
    assert dataset.Q_group_std.dims == dataset.Q_group.dims
    np.testing.assert_allclose(dataset.coords["eigenvalue"], TWO_S)
    np.testing.assert_allclose(dataset.coords["share"], TWO_F)
    assert list(dataset.group) == [1, 2]
    ld.save(dataset, tmp_path / "run.nc")
    again = ld.load(tmp_path / "run.nc")
    state = ld.overlaps_at(again, 0.0)
    np.testing.assert_array_equal(state.Q, two_groups.Q)
    np.testing.assert_array_equal(ld.read_state(tmp_path / "run.nc").R, two_groups.R)


@pytest.mark.nightly
def test_a_chain_of_groups_goes_on_as_if_it_had_not_stopped(two_groups):
    given = {"n": 50, "key": jax.random.key(2)}
    rule = ld.SGD(0.5)
    whole = ld.simulate_chain(NOISY, rule, two_groups, [0.0, 1.0, 2.0], **given)
    first = ld.simulate_chain(NOISY, rule, two_groups, [0.0, 1.0], **given)
    for run in (first, ld.to_dataset(first)):
        more = ld.continue_run(run, [1.0, 2.0])
        np.testing.assert_allclose(more.Q_groups[-1], whole.Q_groups[-1], rtol=1e-9)


@pytest.mark.nightly
def test_langevin_of_groups_has_the_spread_of_the_theory(two_groups, spread):
    n, keys = 400.0, jax.random.split(jax.random.key(1), 400)
    runs = jax.vmap(
        lambda key: ld.simulate_langevin(
            NOISY, ld.SGD(0.5), two_groups, [0.0, 3.0], n=n, key=key, dt=0.05
        )
    )(keys)
    found = np.asarray(runs.Q_groups[:, -1]).std(0) * n**0.5
    np.testing.assert_allclose(found, spread.std.Q_groups[-1], rtol=0.15)  # four standard errors
    chains = jax.vmap(
        lambda key: ld.simulate_chain(NOISY, ld.SGD(0.5), two_groups, [0.0, 3.0], n=n, key=key)
    )(keys)
    found = np.asarray(chains.R_groups[:, -1]).std(0) * n**0.5
    np.testing.assert_allclose(found, spread.std.R_groups[-1], rtol=0.15)
