"""The overlap chain for structured inputs, against SGD on weights written here and white inputs."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

import learndyn as ld
from learndyn import plot, testing
from learndyn.dynamics.chain._loop import side_by_side
from learndyn.dynamics.chain._simulate import _prepared
from learndyn.dynamics.chain._step import Draw, chain_step, overlaps_of

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


@pytest.mark.nightly
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


def test_one_step_without_random_numbers():
    """Numbers of an independent program: given fields of two samples in two groups, and the inner
    products of their inputs. Eigenvalues and sizes stand in neither, so they are free here."""
    fields = np.array(
        [
            [[0.3, -0.2, 0.5, 0.1], [0.1, 0.4, -0.3, 0.2]],
            [[-0.2, 0.6, 0.1, -0.4], [0.5, -0.1, 0.2, 0.3]],
        ]
    )
    products = np.array([[[6.0, 0.4], [0.4, 5.0]], [[14.0, -1.0], [-1.0, 18.0]]])
    s, shares = np.array([0.5, 2.0]), np.array([0.6, 0.4])
    of = lambda x: shares[:, None, None] * np.asarray(x)
    q, r = of([[0.3, 0.05], [0.05, 0.25]]), of([[0.12, 0.03], [0.02, 0.1]])
    start = ld.GroupedOverlaps(q, r, of(np.eye(2)), ld.Spectrum(s, shares))
    rule = ld.SGD(0.8, weight_decay=0.1, batch_size=2)
    frames, still = _prepared(NOISY, rule, start, jnp.asarray(20.0), jnp.asarray(True))
    lane = lambda tree: jax.tree.map(lambda x: x[..., None], tree)
    setting, state = side_by_side(lane(frames), lane(still), 1)
    # Coordinates along the frame, teacher first, whose fields are the given ones.
    c = start.covariances[:, [2, 3, 0, 1]][:, :, [2, 3, 0, 1]]
    z = np.linalg.solve(np.linalg.cholesky(c)[:, None], fields[..., [2, 3, 0, 1], None])[..., 0]
    z /= np.sqrt(s)[:, None, None]
    outside = np.linalg.cholesky(products / s[:, None, None] - z @ np.swapaxes(z, 1, 2))
    rho = fields[..., 2:].sum(axis=0)
    y = scipy.special.erf(rho / 2**0.5).sum(axis=1) + 0.1 * np.array([0.5, -1.0])
    last = lambda x: jnp.moveaxis(jnp.asarray(x), 0, -1)
    draw = Draw(last(z), jnp.asarray(y)[:, None], last(outside))
    step = lambda draw: chain_step(setting, state, draw, jnp.asarray(0))
    found = jax.jit(lambda draw: overlaps_of(setting, step(draw)))(draw)
    right_q = [
        [[0.1763351387, 0.0265706386], [0.0265706386, 0.1439549002]],
        [[0.1141842105, 0.0168694268], [0.0168694268, 0.0994765189]],
    ]
    right_r = [
        [[0.0726565401, 0.0164394245], [0.0132479069, 0.0580992398]],
        [[0.0463194245, 0.0108092563], [0.0063072398, 0.038360211]],
    ]
    np.testing.assert_allclose(found.Q, last(right_q), atol=1e-10)
    np.testing.assert_allclose(found.R, last(right_r), atol=1e-10)


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


# Standard deviations of sqrt(n) Q and R at alpha = 3, Q_11, Q_12, Q_22 and R row by row: of an
# independent program, and of its 1200 simulations of weights at n = 400.
PROGRAM = np.array(
    [
        [0.1413222060423508, 0.1123666409199452, 0.13505562220861758, 0.13826413653682066]
        + [0.13883356033815286, 0.13994911956601985, 0.1394622741039187],
        [0.11070978661246732, 0.09972923788211781, 0.10833284956813585, 0.08471237563615021]
        + [0.08639828778789561, 0.08697832748160092, 0.08500514494155756],
    ]
)
SIMULATED = np.array(
    [
        [0.1438331752113828, 0.11477447422204894, 0.13710467329091083, 0.14144267536072264]
        + [0.13910111770341507, 0.14561864398498697, 0.13911854171198607],
        [0.10693041112104017, 0.09664169721226197, 0.10675551115173226, 0.0840215181528941]
        + [0.08782415897093167, 0.0856089552136227, 0.08387606830950978],
    ]
)


def deviations(spread):
    q, r = (np.asarray(x[-1]) for x in (spread.std.Q_groups, spread.std.R_groups))
    upper = np.triu_indices(2)
    return np.concatenate([q[:, upper[0], upper[1]], r.reshape(2, -1)], axis=1)


@pytest.mark.nightly
def test_fluctuations_of_two_groups(spread, two_groups):
    """The program averaged the noise over random nodes, to an error that it did not keep. Here two
    kinds of nodes agree to 2e-4, and both are up to 3.5e-3 from it: that is its error."""
    fine = ld.averages.GaussHermite(16)
    rule, ts = ld.SGD(0.5), [0.0, 3.0]
    better = deviations(ld.fluctuations(NOISY, rule, two_groups, ts, noise_nodes=fine))
    np.testing.assert_allclose(deviations(spread), better, rtol=5e-4)
    np.testing.assert_allclose(better, PROGRAM, rtol=5e-3)
    # Scatter of a standard deviation of 1200 runs, for 14 of them at once
    limit = testing.z_limit(14, 0.01) / (2 * 1200) ** 0.5
    np.testing.assert_allclose(SIMULATED, better, rtol=limit)


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


# SGD on weights in the theory's groups, and what is made of runs


DIGIT_LIKE = ld.Structured(np.repeat([3.0, 1.0, 0.25], [4, 12, 24]))


@pytest.fixture(scope="module")
def recorded():
    """A run of weights in three groups of directions, and the theory's start."""
    weights = ld.init_weights(jax.random.key(0), 40, 2, 2, scale=0.5)
    start = ld.overlaps(weights, DIGIT_LIKE, groups=3)
    key, ts = jax.random.key(1), [0.0, 1.0, 2.0]
    given = {"key": key, "inputs": DIGIT_LIKE, "groups": start}
    return ld.simulate_sgd(NOISY, ld.SGD(0.5), weights, ts, **given), start


def test_sgd_records_the_overlaps_of_the_theorys_groups(recorded):
    run, start = recorded
    np.testing.assert_allclose(run.Q_groups[0], start.Q, rtol=1e-12)
    np.testing.assert_allclose(run.T_groups, start.T, rtol=1e-12)
    np.testing.assert_allclose(run.R_groups.sum(axis=1), run.R, rtol=1e-12)
    # By the eigenvalue of each direction the fields have the covariances that SGD measures.
    of_fields = np.tensordot(run.Q_groups, start.spectrum.eigenvalues, (1, 0))
    np.testing.assert_allclose(of_fields, run.Q_field, rtol=1e-11)
    end = ld.overlaps(run.weights, DIGIT_LIKE, groups=3)
    np.testing.assert_allclose(run.at(-1).R, end.R, rtol=1e-11)


@pytest.mark.nightly
def test_what_is_made_of_grouped_runs(recorded, tmp_path):
    """Comparison, sweeps over numbers and spectra, curves, an animation, the interactive page."""
    run, start = recorded
    rule, ts = ld.SGD(0.5), [0.0, 1.0, 2.0]
    theory = ld.fluctuations(NOISY, rule, start, ts)
    assert ld.compare(theory, run).verdict == "agree"
    alike = theory.mean
    far = dataclasses.replace(alike, Q=alike.Q + 1.0, level="chain", n=run.n)
    assert ld.compare(theory, far).verdict == "differ"
    flatter = ld.Spectrum(start.spectrum.eigenvalues**0.5, start.spectrum.shares)
    starts = [start, ld.GroupedOverlaps(start.Q, start.R, start.T, flatter)]
    swept = ld.sweep(ld.solve_ode, NOISY, rule, starts, ts, over={"lr": [0.2, 0.5]})
    np.testing.assert_allclose(swept.eg.sel(lr=0.5).isel(start=0), alike.eg, rtol=1e-7)
    assert abs(float(swept.eg.sel(lr=0.5).isel(start=1)[-1] - alike.eg[-1])) > 1e-3
    datasets = [ld.to_dataset(alike), ld.to_dataset(run)]
    axes = plot.learning_curve(*datasets)
    assert axes.lines
    plot.animate(datasets[0], tmp_path / "run.gif")
    plot.explore(*datasets).save(tmp_path / "run.html")
    assert all((tmp_path / name).stat().st_size > 1e4 for name in ("run.gif", "run.html"))


@pytest.mark.nightly
def test_ensembles_of_grouped_chains_are_tested_as_others_are(two_groups):
    given = {"key": jax.random.key(0), "n": 200, "runs": 256}
    problem, rule, ts = NOISY, ld.SGD(0.5), [0.0, 1.0]
    testing.assert_matches_ode(problem, rule, two_groups, ts, **given)
    wrong = ld.solve_ode(problem, ld.SGD(0.3), two_groups, ts)
    with pytest.raises(AssertionError):
        testing.assert_matches_ode(problem, rule, two_groups, ts, theory=wrong, **given)
    with pytest.raises(ValueError, match=r"start with 2 groups.*level='chain'"):
        testing.assert_matches_ode(problem, rule, two_groups, ts, level="sgd", **given)


@pytest.mark.parametrize(
    ("groups", "inputs", "message"),
    [
        (3, DIGIT_LIKE, "groups must be the theory's start"),
        ("start", ld.Gaussian(), "groups must have the spectrum"),
        ("start", ld.Structured(np.repeat([2.0, 1.0], 20)), "groups must have the spectrum"),
        ("other", DIGIT_LIKE, r"whole number share \* n >= 1"),
    ],
)
def test_groups_that_are_not_those_of_the_inputs_are_told(groups, inputs, message):
    weights = ld.init_weights(jax.random.key(0), 40, 2, 2, scale=0.5)
    start = ld.overlaps(weights, DIGIT_LIKE, groups=3)
    if groups == "start":
        groups = start
    elif groups == "other":
        uneven = ld.Spectrum(start.spectrum.eigenvalues, [0.61, 0.29, 0.1])
        groups = ld.GroupedOverlaps(start.Q, start.R, start.T, uneven)
    with pytest.raises(ValueError, match=message):
        ld.simulate_sgd(
            NOISY, ld.SGD(0.1), weights, [0.0, 1.0], key=jax.random.key(0), inputs=inputs,
            groups=groups,
        )  # fmt: skip


def at_level(level, start):
    given = {"n": 50, "key": jax.random.key(0)}
    if level == "ode":
        return ld.solve_ode(NOISY, ld.SGD(0.5), start, [0.0, 0.5])
    if level == "chain":
        return ld.simulate_chain(NOISY, ld.SGD(0.5), start, [0.0, 0.5], **given)
    return ld.simulate_langevin(NOISY, ld.SGD(0.5), start, [0.0, 0.5], dt=0.25, **given)


@pytest.mark.nightly
@pytest.mark.parametrize("level", ["ode", "chain", "langevin"])
def test_traced_groups_that_cannot_be_give_nan_and_a_code(level):
    """Shares that do not sum to 1, a negative eigenvalue, overlaps and an unseen teacher that are
    not positive, and a sound start beside them."""
    q, r, t = ([[[0.5 * x]], [[0.5 * x]]] for x in (0.3, 0.1, 1.0))
    good = (np.array([0.5, 1.5]), np.array([0.5, 0.5]), np.array(r), np.zeros((1, 1)))
    bad = [
        (good[0], np.array([0.5, 0.4]), *good[2:]),
        (np.array([-0.5, 2.5]), *good[1:]),
        (*good[:2], 9.0 * good[2], good[3]),
        (*good[:3], np.array([[-0.2]])),
    ]

    def one(s, f, r, unseen):
        run = at_level(level, ld.GroupedOverlaps(q, r, t, ld.Spectrum(s, f), unseen))
        return run.eg, run.result

    stacked = [jnp.asarray(np.stack(parts)) for parts in zip(good, *bad, strict=True)]
    eg, result = jax.jit(jax.vmap(one))(*stacked)
    assert np.isfinite(eg[0]).all()
    assert np.isnan(eg[1:]).all()
    assert list(result) == [ld.Result.SUCCESS.value] + 4 * [ld.Result.INVALID_INPUT.value]
