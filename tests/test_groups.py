"""Structured inputs: the ODE of one set of overlaps for each group of directions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import learndyn as ld

Q0, R0, T0 = np.array([[0.3, 0.05], [0.05, 0.25]]), np.array([[0.12, 0.03], [0.02, 0.1]]), np.eye(2)
S, F = np.array([0.4, 1.0, 2.5]), np.array([0.5, 0.3, 0.2])
NOISY = ld.Problem(noise=0.1)


def of_shares(shares, r_factors=1.0):
    """Q0, R0 and T0 split by shares, R0 further by factors."""
    split = lambda x, by: np.asarray(by)[:, None, None] * x
    return split(Q0, shares), split(R0, np.asarray(shares) * r_factors), split(T0, shares)


def three_groups(**keywords):
    return ld.GroupedOverlaps(*of_shares(F, [1.0, 0.5, 1.5]), ld.Spectrum(S, F), **keywords)


def power_law(a, bins=1024):
    """1024 directions with eigenvalues j**-a, in bins of eigenvalues apart by equal factors."""
    s = np.arange(1, 1025.0) ** -a
    s /= s.mean()
    width = np.log(s[0] / s[-1]) * (1 + 1e-12) / bins
    place = np.arange(1024) if bins == 1024 else (np.log(s[0] / s) // width).astype(int)
    place = np.unique(place, return_inverse=True)[1]
    counts = np.bincount(place)
    spectrum = ld.Spectrum(np.bincount(place, s) / counts, counts / 1024)
    return ld.GroupedOverlaps(*of_shares(counts / 1024), spectrum)


# Against numbers of an independent program


def test_three_groups_with_decay_and_batches():
    rule = ld.SGD(0.5, weight_decay=0.05, batch_size=2)
    run = ld.solve_ode(NOISY, rule, three_groups(), [0.0, 1.0, 4.0, 10.0])
    np.testing.assert_allclose(run.eg, [0.378141, 0.142818, 0.038969, 0.017853], atol=5e-7)
    right = [
        [[0.1347974913, 0.0158699242], [0.0158699242, 0.1126004454]],
        [[0.0789216269, 0.0082212629], [0.0082212629, 0.0683488168]],
        [[0.0725103413, 0.0235549717], [0.0235549717, 0.0643980526]],
    ]
    np.testing.assert_allclose(run.Q_groups[1], right, atol=1e-9)
    right = [[0.0883575023, 0.0444386548], [0.0396594103, 0.0793884329]]
    np.testing.assert_allclose(run.R_groups[1, 0], right, atol=1e-9)
    np.testing.assert_allclose(run.Q, run.Q_groups.sum(axis=1), rtol=1e-14)
    np.testing.assert_allclose(run.Q_field, np.tensordot(run.Q_groups, S, (1, 0)), rtol=1e-13)


def test_theories_that_must_fail_at_three_groups():
    """White inputs with the same fields; the noise term without its eigenvalue."""
    rule, ts = ld.SGD(0.5, weight_decay=0.05, batch_size=2), [0.0, 1.0, 4.0, 10.0]
    white = ld.solve_ode(NOISY, rule, three_groups().fields, ts)
    np.testing.assert_allclose(white.eg[1:], [0.1666, 0.0292, 0.0153], atol=5e-5)
    assert abs(white.eg[1] - 0.142818) > 0.02


@pytest.mark.nightly
def test_what_the_inputs_do_not_show_of_the_teacher():
    start = three_groups(T_unseen=[[0.3, 0.1], [0.1, 0.2]])
    run = ld.solve_ode(NOISY, ld.SGD(0.5), start, [0.0, 1.0, 4.0, 10.0])
    np.testing.assert_allclose(run.eg[:2], [0.4547677556, 0.282056654], atol=1e-9)
    assert float(run.eg[2]) == pytest.approx(0.183999, abs=1e-6)
    right = [[0.0937890623, 0.0172164757], [0.0172164757, 0.0827765227]]
    np.testing.assert_allclose(run.Q_groups[1, 1], right, atol=1e-9)


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("a", "right"),
    [
        (0.5, [0.38891858387625826, 0.21381032, 0.05368670, 0.01372015, 0.00794982]),
        (1.0, [0.38891858387625826, 0.13171833, 0.05765494, 0.01647477, 0.00364947]),
    ],
    ids=["0.5", "1.0"],
)
def test_a_group_for_each_of_a_thousand_directions(a, right):
    run = ld.solve_ode(ld.Problem(), ld.SGD(0.3), power_law(a), [0.0, 1.0, 5.0, 20.0, 100.0])
    np.testing.assert_allclose(run.eg, right, atol=1e-6)


@pytest.mark.nightly
def test_bins_are_of_second_order():
    ts = [0.0, 1.0, 5.0, 20.0, 100.0]
    runs = [ld.solve_ode(ld.Problem(), ld.SGD(0.3), power_law(0.5, b), ts) for b in (16, 32)]
    errors = [abs(float(run.eg[1]) / 0.21381032131161054 - 1) for run in runs]
    assert errors[0] / errors[1] == pytest.approx(4.0, rel=0.1)


# One group, and several that are alike, are today's ODE


RULES = {
    "decay, batches, both layers": ld.SGD(0.5, 0.3, weight_decay=0.05, batch_size=2),
    "momentum": ld.SGD(0.2, momentum=0.6),
    "slow momentum": ld.SGD(0.4, 0.2, momentum=ld.SlowMomentum(2.0)),
    "spherical": ld.SGD(0.4, spherical=True),
    "biases": ld.SGD(0.4, lr_bias=0.3),
}


@pytest.mark.nightly
@pytest.mark.parametrize("name", RULES)
def test_groups_of_equal_eigenvalues_add_up_to_white_inputs(name):
    rule, ts = RULES[name], jnp.array([0.0, 1.0, 5.0])
    q, r, t = of_shares(F)
    if name == "spherical":
        length = np.sqrt(np.diag(Q0))
        q, r = q / np.outer(length, length), r / length[:, None]
    layers = {"v": [1.0, 0.8]} | ({"b": [0.1, -0.2]} if name == "biases" else {})
    white = ld.Overlaps(q.sum(0), r.sum(0), t.sum(0), **layers)
    right = ld.solve_ode(NOISY, rule, white, ts)
    for groups in (F, np.array([1.0])):
        whole = lambda x: x if len(groups) > 1 else x.sum(0)[None]  # noqa: B023
        spectrum = ld.Spectrum(np.ones(len(groups)), groups)
        start = ld.GroupedOverlaps(whole(q), whole(r), whole(t), spectrum, **layers)
        run = ld.solve_ode(NOISY, rule, start, ts)
        tolerance = 1e-13 if len(groups) == 1 else 1e-9
        for name in ("Q", "R", "v", "eg"):
            np.testing.assert_allclose(getattr(run, name), getattr(right, name), atol=tolerance)


# Overlaps of weights


def test_groups_of_weights_are_in_the_eigenbasis():
    omega = np.array([[2.0, 0.5, 0.0], [0.5, 1.0, 0.0], [0.0, 0.0, 0.3]])
    weights = ld.init_weights(jax.random.key(0), n=3, k=2, m=1)
    inputs = ld.Structured(omega)
    start = ld.overlaps(weights, inputs)
    right = ld.field_overlaps(weights, inputs)
    np.testing.assert_allclose(start.fields.covariance, right.covariance, rtol=1e-12)
    np.testing.assert_allclose(
        start.euclidean.covariance, ld.overlaps(weights).covariance, rtol=1e-12
    )
    np.testing.assert_allclose(start.spectrum.eigenvalues, np.linalg.eigvalsh(omega), rtol=1e-12)
    two = ld.overlaps(weights, inputs, groups=2)
    assert two.groups == 2
    np.testing.assert_allclose(two.spectrum.mean, omega.trace() / 3, rtol=1e-12)
    np.testing.assert_allclose(two.euclidean.Q, start.euclidean.Q, rtol=1e-12)


def test_directions_without_variance_have_a_bin_of_their_own():
    weights = ld.init_weights(jax.random.key(0), n=5, k=1, m=1)
    start = ld.overlaps(weights, ld.Structured([0.0, 0.0, 1.0, 1.1, 4.0]), groups=2)
    np.testing.assert_allclose(start.spectrum.eigenvalues, [0.0, 1.05, 4.0], rtol=1e-12)
    np.testing.assert_allclose(start.spectrum.shares, [0.4, 0.4, 0.2], rtol=1e-12)


def test_runs_know_their_groups_and_go_under_jit_and_vmap():
    start, rule = three_groups(), ld.SGD(0.5)
    ts = jnp.array([0.0, 1.0])
    run = ld.solve_ode(NOISY, rule, start, ts)
    assert run.at(0).groups == 3
    np.testing.assert_allclose(run.at(-1).Q, run.Q_groups[-1])
    assert ld.generalisation_error(NOISY, start) == pytest.approx(float(run.eg[0]), rel=1e-12)
    runs = jax.jit(jax.vmap(lambda lr: ld.solve_ode(NOISY, ld.SGD(lr), start, ts)))(
        jnp.array([0.2, 0.5])
    )
    np.testing.assert_allclose(runs.eg[1], run.eg, rtol=1e-9)
    term = ld.ode_term(NOISY, rule, start)
    assert term.vector_field(0.0, term.vector_field.pack(start), None).shape == (3 * 7,)


@pytest.mark.nightly
def test_a_rule_that_reads_the_length_of_inputs_meets_their_mean_eigenvalue():
    """Clipping at theta/sqrt(mean) where |x|**2/n tends to the mean."""
    start = three_groups()
    long = ld.GroupedOverlaps(start.Q, start.R, start.T, ld.Spectrum(4.0 * S, F))
    scale = float(long.spectrum.mean) ** 0.5
    nodes = ld.averages.QuasiMonteCarlo(points=256, replicates=2)
    rule = ld.rules.Clipped(0.3, lr=0.2)
    right = ld.ode_term(NOISY, ld.LocalRule(rescaled(scale), lr=0.2), long, averages=nodes)
    found = ld.ode_term(NOISY, rule, long, averages=nodes)
    y = found.vector_field.pack(long)
    np.testing.assert_allclose(
        found.vector_field(0.0, y, None), right.vector_field(0.0, y, None), rtol=1e-9
    )


def rescaled(scale):
    """Clipping of F at 0.3 over the scale, whatever the length of the input."""

    def modulation(problem, sample, layers):
        c, dv, _ = ld.SGD(0.1).modulation(problem, sample, layers)
        norm = jnp.sqrt(jnp.sum(c**2))
        return ld.Modulation(c * jnp.minimum(1.0, 0.3 / (scale * norm)), dv)

    return modulation


# Mistakes


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ld.Spectrum([1.0, 2.0], [0.5, 0.4]), "must sum to 1.*got a sum of"),
        (lambda: ld.Spectrum([1.0, -2.0], [0.5, 0.5]), "eigenvalues must be"),
        (lambda: ld.Spectrum([1.0, 2.0], [1.0]), "one for each eigenvalue"),
        (lambda: ld.Spectrum([1.0, 2.0], [1.0, 0.0]), "shares must be"),
        (lambda: three_groups(T_unseen=[[-0.1, 0.0], [0.0, 0.1]]), "T_unseen must be a covariance"),
        (lambda: three_groups(T_unseen=[[1.0]]), "T_unseen must have shape"),
        (lambda: ld.GroupedOverlaps(*of_shares(F), [1.0, 2.0, 3.0]), "must be a Spectrum"),
        (
            lambda: ld.GroupedOverlaps(*of_shares(F[:2]), ld.Spectrum(S, F)),
            r"Q must have shape \(3, 2, 2\)",
        ),
        (
            lambda: ld.GroupedOverlaps(*of_shares(F, 9.0), ld.Spectrum(S, F)),
            "positive semi-definite",
        ),
        (
            lambda: ld.overlaps(ld.init_weights(jax.random.key(0), 4, 1, 1), groups=2),
            "white inputs have one group",
        ),
        (
            lambda: ld.overlaps(ld.init_weights(jax.random.key(0), 4, 1, 1), np.eye(4)),
            "inputs must be a distribution",
        ),
        (
            lambda: ld.overlaps(ld.init_weights(jax.random.key(0), 4, 1, 1), ld.Structured([1.0])),
            "same dimension",
        ),
        (
            lambda: ld.simulate_chain(
                NOISY, ld.SGD(0.1), three_groups(), [0.0, 1.0], n=55, key=jax.random.key(0)
            ),
            r"whole number share \* n >= 1.*got 27.5 in group 1",
        ),
        (
            lambda: ld.simulate_chain(
                NOISY, ld.SGD(0.1), three_groups(), [0.0, 1.0], n=2, key=jax.random.key(0)
            ),
            "n must be a whole number >= 3",
        ),
        (
            lambda: ld.simulate_chain(
                NOISY, ld.SGD(0.1), three_groups(), [0.0, 1.0], n=10, key=jax.random.key(0)
            ),
            "of rank at most",
        ),
        (
            lambda: ld.simulate_chain(
                NOISY,
                ld.rules.InputNoise(0.5, lr=0.1),
                three_groups(),
                [0.0, 1.0],
                n=50,
                key=jax.random.key(0),
            ),
            "adds white noise.*no theory",
        ),
        (
            lambda: ld.solve_ode(
                NOISY,
                ld.LocalRule(lambda *given: None, lr=0.1, needs_overlaps=True),
                three_groups(),
                [0.0, 1.0],
            ),
            "LocalRule reads the overlaps.*3 groups",
        ),
        (
            lambda: ld.solve_ode(
                NOISY, ld.rules.InputNoise(0.5, lr=0.1), three_groups(), [0.0, 1.0]
            ),
            "InputNoise adds white noise.*3 groups",
        ),
        (
            lambda: ld.solve_ode(NOISY, ld.SGD(0.1, spherical=True), three_groups(), [0.0, 1.0]),
            "on the sphere",
        ),
        (
            lambda: ld.solve_ode(NOISY, ld.rules.NaturalGradient(lr=0.1), three_groups(), [0.0]),
            "NaturalGradient reads the overlaps.*3 groups",
        ),
    ],
)
def test_mistakes_are_told(make, message):
    with pytest.raises(ValueError, match=message):
        make()
