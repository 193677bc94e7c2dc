"""The Langevin level: moments against the fluctuations, steps, save times, and bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import learndyn as ld

LANES, RUNS, N, DT = 64, 512, 1000.0, 0.02
TS = (0.0, 1.0, 2.0)
NOISY = ld.Problem(noise=0.3)
START = ld.Overlaps([[0.5, 0.1], [0.1, 0.3]], [[0.2], [-0.1]], [[1.0]], v=[0.8, 0.6])
"""Both layers, k = 2 and m = 1: 7 coordinates."""

Z = 5.0
"""The largest of some hundred normal numbers lies beyond it with a probability of 6e-5."""


def rule(lr):
    return ld.SGD(lr=lr, lr_second=lr / 2)


@jax.jit
def _lanes(keys, ts, n, dt, lr):
    def run(key, n, dt, lr):
        return ld.simulate_langevin(NOISY, rule(lr), START, ts, n=n, key=key, dt=dt)

    return jax.vmap(run)(keys, n, dt, lr)


def simulate(key, n=N, dt=DT, lr=1.0, ts=TS, lanes=LANES):
    """One program for every test: n, dt and lr are numbers or (lanes,), ts three times."""
    keys = jax.random.split(key, LANES)[:lanes]
    numbers = (jnp.broadcast_to(jnp.asarray(x, float), lanes) for x in (n, dt, lr))
    return _lanes(keys, jnp.asarray(ts), *numbers)


def samples(key, **options):
    """Coordinates of RUNS runs."""
    blocks = jax.random.split(key, RUNS // LANES)
    return np.concatenate([coordinates(simulate(block, **options)) for block in blocks])


@pytest.fixture(scope="module")
def theory():
    return ld.fluctuations(NOISY, rule(1.0), START, TS)


@pytest.fixture(scope="module")
def runs():
    return samples(jax.random.key(0))


def coordinates(run):
    """(..., times, 7) after the start: upper triangle of Q, R, v."""
    i, j = np.triu_indices(2)
    parts = [np.asarray(run.Q)[..., i, j], np.asarray(run.R)[..., 0], np.asarray(run.v)]
    return np.concatenate(parts, axis=-1)[..., 1:, :]


def mean_z(found, expected):
    """Distances of the means from `expected`, in standard errors."""
    error = found.std(axis=0, ddof=1) / np.sqrt(len(found))
    return np.abs((found.mean(axis=0) - expected) / error).max()


def covariance_z(found, covariance):
    """Distances of the sample covariances from `covariance`, in standard errors."""
    centred = found - found.mean(axis=0)
    measured = np.einsum("stp,stq->tpq", centred, centred) / (len(found) - 1)
    variances = np.einsum("tpp->tp", covariance)
    products = variances[:, :, None] * variances[:, None, :]
    error = np.sqrt((products + covariance**2) / len(found))
    return np.abs((measured - covariance) / error).max()


@pytest.mark.nightly
@pytest.mark.slow
def test_mean_is_the_ode(runs, theory):
    assert mean_z(runs, coordinates(theory.mean)) < Z
    faster = ld.solve_ode(NOISY, rule(1.1), START, TS)
    assert mean_z(runs, coordinates(faster)) > Z


@pytest.mark.nightly
@pytest.mark.slow
def test_covariance_is_that_of_the_fluctuations_at_the_same_n(runs, theory):
    covariance = np.asarray(theory.covariance)[1:]
    assert covariance_z(runs, covariance / N) < Z
    assert covariance_z(runs, covariance / (N / 2)) > Z


@pytest.mark.nightly
def test_halving_the_step_changes_nothing_within_error(runs):
    fine = samples(jax.random.key(1), dt=DT / 2)
    assert moments_z(runs, fine) < Z
    assert moments_z(samples(jax.random.key(2), dt=1.0), fine) > 2 * Z


def moments_z(one, other):
    """Between two ensembles of one size: distances of means and variances, in standard errors."""
    spread = np.sqrt((one.var(axis=0, ddof=1) + other.var(axis=0, ddof=1)) / len(one))
    means = (one.mean(axis=0) - other.mean(axis=0)) / spread
    ratios = np.log(one.var(axis=0) / other.var(axis=0)) / np.sqrt(4 / len(one))
    return max(np.abs(means).max(), np.abs(ratios).max())


@pytest.mark.nightly
def test_overlaps_stay_positive_semi_definite_and_corrections_are_counted():
    n = np.where(np.arange(LANES) < 32, 1.5, 1e6)
    run = simulate(jax.random.key(2), n=n, dt=0.05)
    teacher = run.T[0]
    c = jax.vmap(jax.vmap(lambda q, r: jnp.block([[q, r], [r.T, teacher]])))(run.Q, run.R)
    eigenvalues = np.linalg.eigvalsh(c)
    assert np.all(eigenvalues[..., 0] > -1e-12 * eigenvalues[..., -1])
    corrections = run.stats["corrections"]
    assert corrections[:32].sum() > 0
    assert corrections.max() <= 40  # a count for each run: no more than it has steps
    assert np.all(corrections[32:] == 0)


@pytest.mark.nightly
def test_a_run_is_its_key_whatever_runs_beside_it():
    """Nor does a neighbour that diverges do it any harm."""
    many = simulate(jax.random.key(3), n=10.0, dt=0.1)
    two = simulate(jax.random.key(3), n=10.0, dt=0.1, lr=[1.0, 1000.0], lanes=2)
    np.testing.assert_allclose(coordinates(many)[0], coordinates(two)[0], rtol=1e-9)
    assert two.result.tolist() == [ld.Result.SUCCESS, ld.Result.DIVERGED]
    assert np.ptp(many.eg[:, -1]) > 0


@pytest.mark.nightly
def test_a_run_is_its_key_whatever_times_are_kept():
    long, middle, short = (
        simulate(jax.random.key(4), dt=0.1, ts=ts)
        for ts in ((0.0, 0.8, 3.0), (0.0, 1.4, 3.0), (0.0, 0.8, 1.4))
    )
    np.testing.assert_allclose(long.Q[:, 2], middle.Q[:, 2], rtol=1e-9)
    np.testing.assert_allclose(long.v[:, 1], short.v[:, 1], rtol=1e-9)
    np.testing.assert_allclose(middle.R[:, 1], short.R[:, 2], rtol=1e-9)  # ends on the way


def test_times_between_steps_are_interpolated():
    steps = simulate(jax.random.key(5), dt=0.1, ts=(0.0, 0.1, 0.2))
    between = simulate(jax.random.key(5), dt=0.1, ts=(0.0, 0.15, 0.2))
    np.testing.assert_allclose(between.R[:, 1], (steps.R[:, 1] + steps.R[:, 2]) / 2, rtol=1e-9)


def test_divergence_is_a_result_code_and_nan_after_it():
    run = simulate(jax.random.key(6), n=10.0, dt=0.1, lr=1000.0)
    assert np.all(run.result == ld.Result.DIVERGED)
    for field in (run.Q, run.R, run.v, run.eg):
        assert np.all(np.isfinite(field[:, 0]))
        assert np.all(np.isnan(field[:, -1]))


BAD = {"n": (0.5, np.nan, -1.0), "dt": (0.0, -0.1, np.nan), "lr": (-1.0, np.nan)}


def test_bad_traced_values_are_a_result_code_of_their_lane():
    numbers = {name: np.full(LANES, good) for name, good in (("n", N), ("dt", 0.1), ("lr", 1.0))}
    lane = 0
    for name, values in BAD.items():
        for value in values:
            numbers[name][lane] = value
            lane += 1
    run = simulate(jax.random.key(8), **numbers)
    assert np.all(run.result[:lane] == ld.Result.INVALID_INPUT)
    assert np.all(np.isnan(run.Q[:lane]))
    assert np.all(np.isnan(run.eg[:lane]))
    assert np.all(run.result[lane:] == ld.Result.SUCCESS)
    assert np.all(np.isfinite(run.eg[lane:]))


def test_bad_traced_times_are_a_result_code():
    for ts in ((0.0, 2.0, 1.0), (-1.0, 0.0, 1.0), (0.0, np.nan, 1.0)):
        assert np.all(simulate(jax.random.key(9), dt=0.1, ts=ts).result == 3)


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({"n": 0.5}, "n must"),
        ({"n": np.nan}, "n "),
        ({"dt": -0.1}, "dt must"),
        ({"dt": np.nan}, "dt "),
        ({"ts": [0.0, 2.0, 1.0]}, "ts"),
        ({"ts": [-1.0, 1.0]}, "ts"),
    ],
)
def test_bad_values_are_refused(bad, words):
    options = {"ts": TS, "n": 100, "key": jax.random.key(0), "dt": 0.1} | bad
    ts = options.pop("ts")
    with pytest.raises(ValueError, match=words):
        ld.simulate_langevin(NOISY, rule(1.0), START, ts, **options)


def test_slow_momentum_is_refused_with_both_layers():
    slow = ld.SGD(lr=0.2, lr_second=0.2, momentum=ld.SlowMomentum(1.0))
    with pytest.raises(ValueError, match="SlowMomentum"):
        ld.simulate_langevin(NOISY, slow, START, TS, n=100, key=jax.random.key(0), dt=0.1)
