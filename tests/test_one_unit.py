"""One student unit and one teacher field: classification in closed form, and split quadrature.

Numbers named "gold" come from an independent solution of the closed equations in (R, Q) or (R, S)
by DOP853 at rtol 1e-12.
"""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad, solve_ivp
from scipy.special import ndtri
from scipy.stats import norm

import learndyn as ld
from learndyn.asymptotics import fixed_point, linearise
from learndyn.averages import AbstractOneUnit, choose_averages
from learndyn.averages._places import places
from learndyn.averages._split import SplitQuadrature

LOSSES = {"hebb": ld.Hebb(), "perceptron": ld.Perceptron(), "adatron": ld.AdaTron()}
RULE = ld.SGD(lr=1.0)
FROM_NOTHING = ld.Overlaps(Q=[[1.0]], R=[[0.0]], T=[[1.0]])
START = ld.Overlaps(Q=[[1.0]], R=[[0.2]], T=[[1.0]])
STATE = ld.Overlaps(Q=[[1.3]], R=[[0.8]], T=[[2.0]], v=[-0.7], v_teacher=[-1.3])
PLAIN = ld.Overlaps(Q=[[1.3]], R=[[0.8]], T=[[2.0]], v=[0.7])

GOLD_LATE = {  # eg at alpha = 1, 10, 1e3, 1e4, 1e5, 1e6 from Q = T = 1, R = 0, lr = 1
    "hebb": [0.33649312, 0.12539748, 0.01261536, 0.00398941, 0.00126157, 0.00039894],
    "perceptron": [0.38373379, 0.12528785, 0.02782406, 0.01291046, 0.00599127, 0.00278074],
    "adatron": [
        0.410461479,
        0.129022091,
        1.49822704e-3,
        1.49982321e-4,
        1.49998233e-5,
        1.49999823e-6,
    ],
}
GOLD_FLIPS = {  # R and Q at alpha = 20, eg at 1, 5, 20, from Q = T = 1, R = 0.2, lr = 1
    ("hebb", 0.0): (16.157691216, 282.030985433, [0.302887168, 0.167948489, 0.087887999]),
    ("hebb", 0.1): (12.966152973, 189.081122915, [0.328262208, 0.198595839, 0.108042105]),
    ("perceptron", 0.0): (1.286724123, 1.821094924, [0.338121499, 0.166962706, 0.097455197]),
    ("perceptron", 0.1): (0.726127738, 0.829633765, [0.360109790, 0.232260649, 0.206311177]),
    ("adatron", 0.0): (0.613273321, 0.393733461, [0.360983258, 0.198416737, 0.067867506]),
    ("adatron", 0.1): (0.135841152, 0.029277239, [0.378847885, 0.259296149, 0.208046855]),
}


def own_adatron(phi, y):
    return 0.5 * jax.nn.relu(-y * phi) ** 2


def own_perceptron(phi, y):
    return jax.nn.relu(-y * phi)


own_adatron.classification = own_perceptron.classification = True


def learner(loss, teacher=None, noise=0.0, student=None):
    return ld.Problem(student or ld.Linear(), teacher or ld.Sign(), loss, noise)


def averages_of(problem, state, rule=RULE, split=False):
    """<F f>, Phi, h and eg by the averages that are chosen, or by split quadrature."""
    found = SplitQuadrature(places(problem, rule)) if split else None
    biases = state.b is not None
    found = found or choose_averages(problem, 1, 1, rule=rule, biases=biases)
    assert isinstance(found, AbstractOneUnit)
    averages = found.field_averages(problem, rule, state)
    eg = found.generalisation_error(problem, state)
    return *averages.with_fields(state.covariance)[0], averages.Phi[0, 0], averages.h[0], eg


NIGHTLY = pytest.mark.nightly


@pytest.mark.parametrize(
    ("name", "saved"),
    [
        ("hebb", 0),
        ("perceptron", 0),
        ("adatron", 150),
        pytest.param("hebb", 150, marks=NIGHTLY),
        pytest.param("perceptron", 150, marks=NIGHTLY),
        pytest.param("adatron", 0, marks=NIGHTLY),
    ],
)
def test_classification_to_a_million(name, saved):
    late = np.array([1.0, 10.0, 1e3, 1e4, 1e5, 1e6])
    ts = np.unique(np.r_[0.0, late, np.geomspace(0.1, 9e5, saved)])
    run = ld.solve_ode(learner(LOSSES[name]), RULE, FROM_NOTHING, ts)
    assert run.result == ld.Result.SUCCESS
    # The printed digits of the smallest number hold to 1.3e-5.
    np.testing.assert_allclose(run.eg[np.searchsorted(ts, late)], GOLD_LATE[name], rtol=2e-5)
    last = run.at(-1)
    ld.Overlaps(last.Q, last.R, last.T)  # accepts what the library returns


@pytest.mark.parametrize(("name", "flip"), GOLD_FLIPS)
def test_label_flips(name, flip):
    r, q, eg = GOLD_FLIPS[name, flip]
    run = ld.solve_ode(learner(LOSSES[name], ld.Sign(flip)), RULE, START, [0.0, 1.0, 5.0, 20.0])
    np.testing.assert_allclose([run.R[-1, 0, 0], run.Q[-1, 0, 0]], [r, q], rtol=1e-8)
    np.testing.assert_allclose(run.eg[1:], eg, rtol=1e-8)


def test_any_v_teacher_norm_batch_and_decay():
    """Against the equations in (Q, R), solved by SciPy."""
    v, t, lr, kappa, batch, p = -0.7, 2.0, 0.8, 0.3, 3, 0.1
    k = 1 - 2 * p

    def drift(_, y):
        q, r = y
        cos = np.sign(v) * r / np.sqrt(q * t)
        theta = np.arccos(cos)
        own, other = abs(v) / np.sqrt(2 * np.pi * q), -v * k / np.sqrt(2 * np.pi * t)
        phi = v**2 * (p + k * theta / np.pi)
        dq = -2 * lr * (own * q + other * r + kappa * q) + lr**2 / batch * phi
        return dq, -lr * (own * r + other * t + kappa * r)

    start = ld.Overlaps([[1.3]], [[-0.8]], [[t]], v=[v])
    rule = ld.SGD(lr, weight_decay=kappa, batch_size=batch)
    run = ld.solve_ode(learner(LOSSES["perceptron"], ld.Sign(p)), rule, start, [0.0, 4.0])
    truth = solve_ivp(drift, (0, 4), [1.3, -0.8], rtol=1e-11, atol=1e-12).y[:, -1]
    np.testing.assert_allclose([run.Q[-1, 0, 0], run.R[-1, 0, 0]], truth, rtol=1e-8)


CASES = {
    "flips": (ld.Sign(0.2), 0.0),
    "flips and noise": (ld.Sign(0.1), 0.9),
    "a noisy field": (ld.Linear(), 0.6),
    "an odd teacher": (ld.Tanh(), 0.0),
}


@pytest.mark.nightly(by_day=["adatron-flips and noise", "hebb-an odd teacher"])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", LOSSES)
def test_two_ways_agree(name, case):
    problem = learner(LOSSES[name], *CASES[case])
    closed, split = (averages_of(problem, STATE, split=way) for way in (False, True))
    np.testing.assert_allclose(split, closed, rtol=2e-6, atol=2e-7)


def test_split_averages_keep_their_digits_as_the_angle_vanishes():
    problem = learner(LOSSES["adatron"])
    closed = choose_averages(problem, 1, 1, rule=RULE, biases=False)
    split = SplitQuadrature(places(problem, RULE))
    for outside in (1e-4, 1e-12):
        state, s = ld.Overlaps([[0.25 + outside]], [[0.5]], [[1.0]]), jnp.array(outside)
        both = [one.averages_at(problem, RULE, state, s) for one in (closed, split)]
        for name in ("G", "Phi"):
            truth, found = (getattr(one, name) for one in both)
            np.testing.assert_allclose(found, truth, rtol=3e-6)
        errors = [one.error_at(problem, state, s) for one in (closed, split)]
        np.testing.assert_allclose(errors[1], errors[0], rtol=1e-6)


@pytest.mark.nightly
@pytest.mark.parametrize("last", [3, pytest.param(5, marks=NIGHTLY)], ids=["1e4", "1e6"])
def test_a_loss_of_ones_own_until_late(last):
    ts = [0.0, 1.0, 10.0, 1e3, 10.0 ** (last + 1)]
    run = ld.solve_ode(learner(own_adatron), RULE, FROM_NOTHING, ts)
    gold = [GOLD_LATE["adatron"][i] for i in (0, 1, 2, last)]
    np.testing.assert_allclose(run.eg[1:], gold, rtol=1e-6)


def test_a_reversed_wedge():
    """Against integrals over rho alone: lambda given rho is Gaussian."""
    a, q, r, t = 0.6, 1.3, 0.8, 2.0
    s = np.sqrt(q - r**2 / t)
    state = ld.Overlaps([[q]], [[r]], [[t]])

    def label(rho):
        return np.sign((rho - a) * rho * (rho + a))

    def average(fn):
        ends = [-12.0, -a, 0.0, a, 12.0]
        density = lambda rho: norm.pdf(rho, scale=np.sqrt(t))
        parts = (
            quad(lambda rho: fn(rho, label(rho), r * rho / t) * density(rho), *ends[i : i + 2])[0]
            for i in range(4)
        )
        return sum(parts)

    wrong = lambda y, mean: norm.cdf(-y * mean / s)
    with_lam = average(lambda rho, y, mean: s * norm.pdf(mean / s) - y * mean * wrong(y, mean))
    with_rho = average(lambda rho, y, mean: -y * rho * wrong(y, mean))
    error = average(lambda rho, y, mean: wrong(y, mean))
    wedge = ld.MultiIndex(lambda rho, zeta: (rho[0] - a) * rho[0] * (rho[0] + a))
    found = averages_of(learner(own_perceptron, wedge), state)
    truth = [with_lam, with_rho, error, with_lam, error]
    np.testing.assert_allclose(found, truth, rtol=1e-6)


NOISES = {
    "flips": (lambda rho, zeta: jnp.where(zeta < ndtri(0.2), -rho[0], rho[0]), ld.Sign(0.2), 0.0),
    "a noisy field": (lambda rho, zeta: rho[0] + 0.3 * zeta, ld.Linear(), 0.3),
}


@pytest.mark.nightly
@pytest.mark.parametrize("case", NOISES)
def test_noise_of_a_multi_index_teacher(case):
    function, teacher, noise = NOISES[case]
    found = averages_of(learner(LOSSES["adatron"], ld.MultiIndex(function)), PLAIN)
    truth = averages_of(learner(LOSSES["adatron"], teacher, noise), PLAIN)
    np.testing.assert_allclose(found, truth, rtol=2e-6)


@pytest.mark.nightly
def test_a_local_rule_and_a_noisy_kinked_regression():
    def modulation(problem, sample, layers):
        c = -sample.y * jnp.where(sample.y * sample.lam < 0, 1.0, 0.0)
        return ld.Modulation(c, jnp.zeros_like(c))

    state = ld.Overlaps([[1.3]], [[0.8]], [[2.0]])
    problem = learner(LOSSES["perceptron"], ld.Sign(0.1))
    local, sgd = (
        averages_of(problem, state, rule) for rule in (ld.LocalRule(modulation, 1.0), RULE)
    )
    np.testing.assert_allclose(np.delete(local, 3), np.delete(sgd, 3), rtol=2e-6)

    def huber(phi, y):
        d = jnp.abs(phi - y)
        return jnp.where(d < 1, 0.5 * d**2, d - 0.5)

    # Given the label y = +-1, F = clip(lambda - y, -1, 1) and lambda is skew normal.
    found = averages_of(learner(huber), ld.Overlaps([[1.3]], [[0.8]], [[1.0]]))
    slant = 0.8 / np.sqrt(1.3 * (1.3 - 0.64))
    density = lambda x: 2 * norm.pdf(x, scale=1.3**0.5) * norm.cdf(slant * x)
    clipped = lambda x: np.clip(x - 1, -1, 1)
    over = lambda fn: quad(lambda x: fn(x) * density(x), -10, 10, points=[0, 2], epsabs=1e-12)[0]
    truth = [over(lambda x: clipped(x) * x), over(lambda x: clipped(x) ** 2)]
    np.testing.assert_allclose([found[0], found[2]], truth, rtol=1e-6)


@pytest.mark.nightly
def test_what_pieces_cannot_follow_goes_to_other_nodes():
    """Jumps that move with a label of any size, or in zeta under a regression loss."""

    def sign_of_error(problem, sample, layers):
        g, dg, error = problem.signals(sample.lam, sample.y, layers)
        return ld.Modulation(layers.v * dg * jnp.sign(error), g * jnp.sign(error))

    jumps_in_zeta = ld.MultiIndex(lambda rho, zeta: jnp.sign(rho[0]) * jnp.sign(zeta + 1.0))
    for problem, rule in (
        (ld.Problem(noise=0.1), ld.LocalRule(sign_of_error, 1.0)),
        (ld.Problem(loss=lambda phi, y: jnp.abs(phi**2 - y)), RULE),
        (ld.Problem(ld.Linear(), jumps_in_zeta), RULE),
    ):
        found = choose_averages(problem, 1, 1, rule=rule, biases=False)
        assert not isinstance(found, AbstractOneUnit)


def test_finer_averages_have_twice_the_nodes_in_a_piece():
    problem = ld.Problem(ld.Linear(), ld.Sign(), ld.Hinge())
    found = choose_averages(problem, 1, 1, rule=RULE, biases=False)
    orders = []
    while found is not None:
        orders.append(found.order)
        found = found.finer(1, 1)
    assert orders == [12, 24, 48]


@pytest.mark.nightly
def test_finer_and_coarser_averages_say_the_error():
    problem = learner(own_adatron, ld.Sign(0.2))
    found = choose_averages(problem, 1, 1, rule=RULE, biases=False)
    coarser, finer = found.neighbours()
    truth = averages_of(learner(LOSSES["adatron"], ld.Sign(0.2)), PLAIN)[2]
    phi = [one.field_averages(problem, RULE, PLAIN).Phi[0, 0] for one in (coarser, found, finer)]
    errors = np.abs(np.array(phi) - truth)
    assert errors[0] > 3 * errors[1] > 9 * errors[2]
    assert errors[1] <= 2 * abs(phi[1] - phi[2])


@pytest.mark.parametrize("noise", [0.0, 0.9])
def test_flips_are_independent_of_noise_and_none_changes_nothing(noise):
    zeta = jnp.asarray(ndtri((np.arange(100_000) + 0.5) / 100_000))

    def labels(flip, rho):
        problem = learner(LOSSES["hebb"], ld.Sign(flip), noise)
        return jax.vmap(lambda z: problem.label(jnp.array([rho]), z, PLAIN.layers))(zeta)

    clean = labels(0.0, 0.4)
    np.testing.assert_array_equal(clean, np.where(1.0 + noise * zeta >= 0, 1.0, -1.0))
    turned = float(0.3 + 0.4 * jnp.mean(clean > 0))
    assert jnp.mean(labels(0.3, 0.4) > 0) == pytest.approx(turned, abs=2e-5)
    assert jnp.mean(labels(0.3, -0.4) < 0) == pytest.approx(turned, abs=2e-5)


def test_flips_on_weights_in_the_chain_and_in_datasets(key):
    problem = learner(LOSSES["hebb"], ld.Sign(0.3))
    start = ld.Overlaps([[0.0]], [[0.0]], [[1.0]])
    weights = ld.Weights(np.zeros((1, 400)), np.ones((1, 400)))
    # R(alpha) = lr (1 - 2 flip) sqrt(2/pi) alpha; its variance over runs is about alpha / n.
    expected, spread = 0.4 * np.sqrt(2 / np.pi) * 4.0, np.sqrt(4.0 / 400)
    ts = [0.0, 4.0]
    chain = ld.simulate_chain(problem, RULE, start, ts, n=400, key=key)
    sgd = ld.simulate_sgd(problem, RULE, weights, ts, key=key)
    for run in (chain, sgd):
        assert abs(run.R[-1, 0, 0] - expected) < 4 * spread
        assert run.eg[-1] == pytest.approx(
            np.arccos(run.R[-1, 0, 0] / np.sqrt(run.Q[-1, 0, 0])) / np.pi, abs=1e-9
        )
    assert '"flip": 0.3' in str(ld.to_dataset(sgd).attrs)


@pytest.mark.nightly
def test_flip_as_data():
    def late(flip):
        problem = learner(LOSSES["perceptron"], ld.Sign(flip))
        adjoint = diffrax.ForwardMode()
        return ld.solve_ode(problem, RULE, START, jnp.array([0.0, 5.0]), adjoint=adjoint)

    runs = jax.vmap(late)(jnp.array([0.0, 0.1, 1.4]))
    np.testing.assert_allclose(runs.eg[:2, -1], [0.166962706, 0.232260649], rtol=1e-8)
    assert runs.result[2] == ld.Result.INVALID_INPUT
    _, slope = jax.jvp(lambda flip: late(flip).eg[-1], (0.1,), (1.0,))
    near = [late(0.1 + step).eg[-1] for step in (-1e-4, 1e-4)]
    assert float(slope) == pytest.approx(float(near[1] - near[0]) / 2e-4, rel=1e-5)


JACOBIANS = {
    "closed, v trained": (learner(LOSSES["adatron"], ld.Sign(0.1)), ld.SGD(0.7, lr_second=0.2)),
    "split, v trained": (learner(own_adatron, ld.Sign(0.1)), ld.SGD(0.7, lr_second=0.2)),
    "split, curved": (
        learner(ld.Hinge(), ld.Sign(0.1), 0.4, student=ld.Erf()),
        ld.SGD(0.7, lr_second=0.2),
    ),
}


@pytest.mark.nightly
@pytest.mark.parametrize("case", JACOBIANS)
def test_derivatives(case):
    problem, rule = JACOBIANS[case]
    found = linearise(problem, rule, PLAIN)
    flow, y, step = found.flow, found.flow.pack(PLAIN), 1e-5
    ends = [flow.pack(PLAIN) + sign * step * jnp.eye(len(y)) for sign in (1, -1)]
    up, down = (jnp.stack([flow(0.0, one, None) for one in end]) for end in ends)
    np.testing.assert_allclose(found.jacobian, (up - down).T / (2 * step), atol=1e-8)


def test_the_perceptron_ends_at_the_reliability_of_its_labels():
    """cos theta = 1 - 2 flip at every rate, Q in closed form."""
    start = ld.Overlaps([[0.8]], [[0.7]], [[1.0]])
    found = fixed_point(learner(LOSSES["perceptron"], ld.Sign(0.1)), RULE, start)
    assert found.result == ld.Result.SUCCESS
    norm_of = float(jnp.sqrt(found.state.Q[0, 0]))
    assert float(found.state.R[0, 0]) / norm_of == pytest.approx(0.8, abs=1e-9)
    assert norm_of == pytest.approx(0.9186312598828464, abs=1e-9)


@pytest.mark.nightly
def test_fluctuations_and_slow_momentum():
    problem = learner(LOSSES["perceptron"], ld.Sign(0.1))
    found = ld.fluctuations(problem, RULE, START, [0.0, 5.0])
    # 4000 runs of SGD at n = 100: 0.553, 0.758 (1.1 %)
    spread = [found.std.R[-1, 0, 0], found.std.Q[-1, 0, 0]]
    np.testing.assert_allclose(spread, [0.553, 0.758], rtol=0.025)
    slow = ld.SGD(1.0, momentum=ld.SlowMomentum(2000.0))
    run = ld.solve_ode(problem, slow, START, [0.0, 1.0], solver=diffrax.Kvaerno5())
    assert run.eg[-1] == pytest.approx(0.360109790, abs=1e-3)


def test_derivatives_where_student_and_teacher_coincide_are_refused():
    """They would be 0 where those of nearby states are not."""
    problem = ld.Problem(ld.Tanh(), ld.Sign())
    start = ld.Overlaps([[1.0]], [[1.0]], [[1.0]])
    with pytest.raises(ValueError, match="derivatives at singular overlaps"):
        ld.asymptotics.linearise(problem, ld.SGD(lr=0.5), start)


def test_a_student_that_shrinks_beyond_all_numbers_is_told():
    """AdaTron with wrong labels keeps its angle while Q falls to 1e-240, and then has none."""
    problem = ld.Problem(ld.Linear(), ld.Sign(flip=0.05), ld.AdaTron())
    start = ld.Overlaps([[1.0]], [[0.2]], [[1.0]])
    with pytest.warns(RuntimeWarning, match="gave up"):
        run = ld.solve_ode(problem, ld.SGD(lr=1.0), start, [0.0, 2000.0, 6000.0, 2e4])
    assert run.result == ld.Result.SOLVER_FAILED
    np.testing.assert_allclose(run.eg[1:3], 0.159953, rtol=1e-5)
    assert np.isnan(run.eg[3])
    assert np.isnan(run.Q[3]).all()
