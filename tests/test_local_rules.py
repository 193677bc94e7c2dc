"""The library's own learning rules, against independent solutions and against each other."""

import json
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from rule_table import LINEAR, ONE, OWN, PROBLEM, WEDGE, run, start, weights

import learndyn as ld
from learndyn import asymptotics, rules, testing
from learndyn.averages import QuasiMonteCarlo, choose_averages
from learndyn.averages._samples import modulations
from learndyn.problems import to_json
from learndyn.rules import Modulation

GOLD = json.loads((Path(__file__).parent / "data" / "local_rules.json").read_text())
pytestmark = pytest.mark.filterwarnings(
    "ignore:the error of the Gaussian averages:RuntimeWarning",
    "ignore:the step dt:RuntimeWarning",
    "ignore:the Gaussian averages have not converged:RuntimeWarning",
)


# Against independent solutions: closed forms by DOP853 at 1e-12

FIXTURES = {
    "node_perturbation_normal": (PROBLEM, rules.NodePerturbation(lr=0.3), start()),
    "node_perturbation_sign": (PROBLEM, rules.NodePerturbation(law="sign", lr=0.3), start()),
    "clip_linear": (LINEAR, rules.Clipped(0.5, 0.5), ONE),
    "clip_batch_linear": (
        LINEAR,
        rules.Clipped(0.4, 0.6, per="batch", batch_size=2),
        ONE,
    ),
    "dropout": (PROBLEM, rules.Dropout(0.8, 0.5, lr_second=0.5), start([0.8, 0.6])),
    "input_noise": (PROBLEM, rules.InputNoise(0.5, 0.5), start()),
    "reward": (WEDGE, rules.RewardPerceptron(3, 1.0), ONE),
    "penalty": (WEDGE, rules.RewardPerceptron(3, 1.0, 0.05), ONE),
    "natural_gradient": (PROBLEM, rules.NaturalGradient(lr=0.15), start()),
}
CLEAN = ld.Problem(ld.Linear(), ld.Sign(), ld.Perceptron())


@pytest.mark.nightly(by_day=["node_perturbation_normal", "dropout", "penalty"])
@pytest.mark.parametrize("name", FIXTURES)
def test_against_an_independent_solution(name):
    problem, rule, at = FIXTURES[name]
    problem = CLEAN if problem is WEDGE else problem
    gold = GOLD[name]
    found = ld.solve_ode(problem, rule, at, [0.0, *gold["alpha"]])
    for quantity in {"Q", "R", "v"} & set(gold):
        value = getattr(found, quantity)[1:]
        np.testing.assert_allclose(value, np.array(gold[quantity]).reshape(value.shape), atol=1e-7)


CLASSIFIERS = {"hebb": rules.Hebb, "perceptron": rules.Perceptron, "adatron": rules.AdaTron}


@pytest.mark.nightly(by_day=["perceptron-0.0", "adatron-0.1"])
@pytest.mark.parametrize("flip", [0.0, 0.1])
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_classifiers_against_an_independent_solution(name, flip):
    gold = GOLD["sign_teacher"][f"{name} {flip}"]
    # Whatever the loss is: it only says that labels are signs.
    problem = ld.Problem(ld.Linear(), ld.Sign(flip), ld.Hinge())
    found = ld.solve_ode(problem, CLASSIFIERS[name](1.0), ONE, [0.0, 1.0, 5.0, 20.0])
    for quantity in ("R", "Q"):
        np.testing.assert_allclose(getattr(found, quantity)[1:, 0, 0], gold[quantity], rtol=1e-8)
    np.testing.assert_allclose(found.eg[1:], gold["eg"], atol=1e-8)


def test_label_noise_is_as_flips_of_another_number():
    """y = sign(rho + 0.5 zeta): a Linear teacher with noise."""
    problem = ld.Problem(ld.Linear(), ld.Linear(), ld.Logistic(), noise=0.5)
    found = ld.solve_ode(problem, rules.Perceptron(1.0), ONE, [0.0, 20.0])
    ends = found.R[-1, 0, 0], found.Q[-1, 0, 0]
    np.testing.assert_allclose(ends, [0.9891231234132437, 1.280287576645421], rtol=1e-8)
    quiet = ld.solve_ode(CLEAN, rules.Perceptron(1.0), ONE, [0.0, 20.0])
    assert abs(quiet.R[-1, 0, 0] - 0.9891) > 0.1  # the control


def test_must_fail_forms_fail():
    """The same fixtures by rules that are nearly right."""
    found = ld.solve_ode(PROBLEM, ld.SGD(0.3), start(), [0.0, 10.0])
    np.testing.assert_allclose(found.Q[-1, 0], [0.4213299047, 0.2080782359], atol=1e-7)
    gold = GOLD["node_perturbation_normal"]["Q"][-1]
    assert abs(found.Q[-1, 0, 0] - gold[0][0]) > 0.1
    # Noise of the inputs: without 1 + s^2 in the second-order term Q_11 is .37107
    noisy = GOLD["input_noise"]["Q"][-1][0][0]
    assert abs(0.3710748179 - noisy) > 0.02
    # The limit of small perturbations is no approximation at 0.3
    assert abs(gold[0][0] - 0.7437) > 0.1


@pytest.mark.nightly
def test_node_perturbation_of_finite_size():
    """Against the ODE by Gauss and Hermite's product rule of 16 nodes in the four fields and both
    perturbations, in NumPy: 12 nodes change it by 4e-5. The integrand has heavy tails, so that
    many nodes are needed; fewer say how coarse they are."""
    rule = rules.NodePerturbation(0.3, lr=0.3)
    right = np.array([[0.7437, 0.1664], [0.1664, 0.7137]])
    fine = ld.solve_ode(
        PROBLEM, rule, start(), [0.0, 10.0], averages=QuasiMonteCarlo(2**18), rtol=1e-5
    )
    np.testing.assert_allclose(fine.Q[-1], right, atol=1e-3)
    np.testing.assert_allclose(fine.R[-1], [[0.4933, 0.3911], [0.3803, 0.4805]], atol=1e-3)
    found = ld.solve_ode(PROBLEM, rule, start(), [0.0, 10.0])
    off = np.abs(found.Q[-1] - right).max()
    assert 1e-3 < off < found.stats["averages_error"].max()


@pytest.mark.nightly
def test_clipped_erf_units():
    found = ld.solve_ode(PROBLEM, rules.Clipped(0.2, 1.0), start(), [0.0, 5.0])
    gold = GOLD["clip_erf"]
    np.testing.assert_allclose(found.Q[-1].ravel(), gold[:4], atol=1e-3)
    np.testing.assert_allclose(found.R[-1].ravel(), gold[4:], atol=1e-3)


def test_one_step_of_natural_gradient():
    flow = ld.ode_term(PROBLEM, rules.NaturalGradient(lr=0.5), start()).vector_field
    found = flow(0.0, flow.pack(start()), None)
    gold = [9.5922019531, -9.5181674005, 9.3156160052]
    gold += [0.1488768776, 0.1246302417, 0.1684509225, 0.1970252538]
    np.testing.assert_allclose(found, gold, atol=1e-8)


@pytest.mark.nightly
def test_natural_gradient_on_weights():
    """Against the inverse of the whole Fisher matrix of 2 n weights, in one step."""
    rule, w = rules.NaturalGradient(0.05, lr=0.4), weights()
    n, k = w.n, w.k
    found = run("sgd", rule, ts=[0.0, 1 / n])
    x, y = _first_sample(w)
    lam = w.w @ x / np.sqrt(n)
    c = np.asarray(PROBLEM.gradient(jnp.asarray(lam), jnp.asarray(y), w.layers).c)
    fisher = np.zeros((k * n, k * n))
    q = np.asarray(w.w @ w.w.T / n)
    for i in range(k):
        for j in range(k):
            u = np.asarray(w.w[jnp.array([i, j])]) / np.sqrt(n)
            tilted = np.linalg.inv(np.eye(n) + u.T @ u)
            j2 = 2 / np.pi / np.sqrt((1 + q[i, i]) * (1 + q[j, j]) - q[i, j] ** 2)
            block = float(w.v[i] * w.v[j]) * j2 * tilted
            fisher[i * n : (i + 1) * n, j * n : (j + 1) * n] = block
    step = np.linalg.solve(fisher + 0.05 * np.eye(k * n), np.outer(c, x).ravel()).reshape(k, n)
    moved = np.asarray(w.w) - 0.4 / np.sqrt(n) * step
    np.testing.assert_allclose(found.weights.w, moved, rtol=1e-9, atol=1e-10)


def _first_sample(w):
    from learndyn.dynamics.sgd._stream import make_stream

    key = jax.random.key(3)
    stream = make_stream(PROBLEM, w, ld.Gaussian(), key, 1, w.w.dtype)
    x, y = stream.batch(stream.block(jnp.asarray(0)), jnp.asarray(0))
    return np.asarray(x[0]), float(y[0])


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("rule", "gold"),
    [
        (ld.SGD(0.05), 0.009391),
        (rules.NodePerturbation(lr=0.05), 0.039956),
        (rules.NodePerturbation(law="sign", lr=0.05), 0.019204),
    ],
    ids=["sgd", "normal", "sign"],
)
def test_where_unbiased_rules_end(rule, gold):
    """eg / noise^2 at the fixed point next to the teacher."""
    problem = ld.Problem(noise=0.01)
    point = asymptotics.fixed_point(problem, rule, asymptotics.specialised_state(2))
    assert float(point.eg) / 1e-4 == pytest.approx(gold, abs=1e-6)


# The same rule in two writings


@pytest.mark.nightly(by_day=["chain-adatron"])
@pytest.mark.parametrize("name", CLASSIFIERS)
@pytest.mark.parametrize("level", ["sgd", "chain", "ode", "langevin"])
def test_a_rule_and_the_gradient_of_its_loss_agree_in_every_bit(level, name):
    loss = {"hebb": ld.Hebb(), "perceptron": ld.Perceptron(), "adatron": ld.AdaTron()}[name]
    as_loss = ld.Problem(ld.Linear(), ld.Sign(0.1), loss)
    other = ld.Perceptron() if name == "hebb" else ld.Hebb()
    as_rule = ld.Problem(ld.Linear(), ld.Sign(0.1), other)
    settings = {"lr": 0.8, "lr_second": 0.2}
    by_loss = run(level, ld.SGD(**settings), as_loss, at=ONE)
    by_rule = run(level, CLASSIFIERS[name](**settings), as_rule, at=ONE)
    for quantity in ("Q", "R", "v", "eg"):
        np.testing.assert_array_equal(getattr(by_rule, quantity), getattr(by_loss, quantity))


@pytest.mark.nightly(by_day=["InputNoise", "Clipped"])
@pytest.mark.parametrize(
    "rule",
    [
        rules.Dropout(1.0, 0.5, lr_second=0.3),
        rules.InputNoise(0.0, 0.5, lr_second=0.3),
        rules.Clipped(1e3, 0.5, lr_second=0.3),
    ],
    ids=lambda rule: type(rule).__name__,
)
def test_rules_that_do_nothing_are_gradient_descent(rule):
    # The chain has other random numbers where a rule draws some; the labels and inputs of SGD on
    # weights are the same.
    expected = run("sgd", ld.SGD(0.5, lr_second=0.3))
    np.testing.assert_allclose(run("sgd", rule).Q, expected.Q, rtol=1e-10)


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("rule", "error"),
    [
        (rules.NodePerturbation(lr=0.3), 0.03),
        pytest.param(rules.NodePerturbation(law="sign", lr=0.3), 0.03, marks=pytest.mark.nightly),
        pytest.param(rules.Dropout(0.7, 0.3), 0.01, marks=pytest.mark.nightly),
        pytest.param(rules.InputNoise(0.6, 0.3), 0.003, marks=pytest.mark.nightly),
    ],
    ids=["normal", "sign", "dropout", "noise"],
)
def test_closed_forms_are_averages_over_nodes(rule, error):
    """Averages of the modulation itself, draws included, at a state with v_i that differ."""
    state = start([0.8, -0.6])
    exact, sampled = (
        averages_at(rule, state, averages) for averages in (None, QuasiMonteCarlo(4096))
    )
    for name in ("G", "Phi", "h"):
        np.testing.assert_allclose(getattr(sampled, name), getattr(exact, name), atol=error)
    wrong = averages_at(ld.SGD(0.3), state)
    assert np.abs(wrong.Phi - exact.Phi).max() > 5 * error  # the control


def averages_at(rule, state, averages=None, problem=PROBLEM):
    flow = ld.ode_term(problem, rule, state, averages=averages).vector_field
    return eqx.filter_jit(flow.averages_of)(flow.averages, state)


@pytest.mark.nightly
def test_dropout_of_three_units():
    """Against the sum over all masks."""
    q = jnp.array([[0.5, 0.1, 0.0], [0.1, 0.4, 0.1], [0.0, 0.1, 0.6]])
    state = ld.Overlaps(q, 0.2 * np.eye(3, 2), np.eye(2), v=[0.8, -0.6, 0.5])
    keep, rule = 0.7, ld.SGD(0.1)
    averages = choose_averages(PROBLEM, 3, 2, rule=rule, biases=False)
    of = jax.jit(lambda v: averages.field_averages(PROBLEM, rule, _with(state, v)))
    G = Phi = h = 0.0
    for bits in np.ndindex(2, 2, 2):
        mask = np.array(bits, float)
        weight = keep ** mask.sum() * (1 - keep) ** (3 - mask.sum())
        one = of(mask * state.v)
        G, Phi, h = G + weight * one.G, Phi + weight * one.Phi, h + weight * mask * one.h
    found = averages_at(rules.Dropout(keep, 0.1), state)
    np.testing.assert_allclose(found.G, G, atol=1e-12)
    np.testing.assert_allclose(found.Phi, Phi, atol=1e-12)
    np.testing.assert_allclose(found.h, h, atol=1e-12)


def _with(state, v):
    return ld.Overlaps(state.Q, state.R, state.T, v=v)


@pytest.mark.nightly
def test_dropout_is_tested_with_all_units():
    rule, at = rules.Dropout(0.7, 0.0), start([0.8, 0.6])
    whole = ld.generalisation_error(PROBLEM, start([0.7 * 0.8, 0.7 * 0.6]))
    for level in ("sgd", "chain", "ode"):
        found = run(level, rule, ts=[0.0, 0.1])
        np.testing.assert_allclose(found.eg, float(whole), rtol=1e-9)
    assert abs(float(ld.generalisation_error(PROBLEM, at) - whole)) > 0.01


LEARNED = ld.Overlaps(0.95 * np.eye(2) + 0.02, 0.95 * np.eye(2), np.eye(2))
ENDS = {
    "feedback": (PROBLEM, rules.FeedbackAlignment([1.0, 0.7], 0.1), LEARNED),
    "node": (PROBLEM, rules.NodePerturbation(lr=0.1), LEARNED),
    "dropout": (PROBLEM, rules.Dropout(0.9, 0.1), LEARNED),
    "clipped": (LINEAR, rules.Clipped(0.5, 0.1), ONE),
    "rates": (PROBLEM, ld.SGD([0.1, 0.2]), LEARNED),
}


@pytest.mark.nightly
@pytest.mark.parametrize("name", ENDS)
def test_fixed_points_of_rules_without_a_potential(name):
    problem, rule, near = ENDS[name]
    point = asymptotics.fixed_point(problem, rule, near)
    assert point.result == ld.Result.SUCCESS.value
    # The slowest of them, dropout, approaches its end as exp(-0.0024 alpha).
    last = ld.solve_ode(problem, rule, near, [0.0, 10_000.0]).eg[-1]
    np.testing.assert_allclose(point.eg, last, rtol=1e-6)
    assert asymptotics.stability(problem, rule, point.state).stable


@pytest.mark.nightly
def test_rates_and_responses_of_rules_without_a_potential():
    """Nothing is clipped at zero error, where a linear unit is stable for lr < 2 and its error is
    lr / (2 (2 - lr)) times the label noise; node perturbation of one unit of a linear network has
    three times its second moment."""
    clean, rest = ld.Problem(ld.Linear(), ld.Linear()), ld.Overlaps([[1.0]], [[1.0]], [[1.0]])
    for rule, moment in ((rules.Clipped(0.5, 0.1), 1.0), (rules.NodePerturbation(lr=0.1), 3.0)):
        critical = asymptotics.critical_lr(clean, rule, rest)
        np.testing.assert_allclose(critical, 2.0 / moment, rtol=1e-9)
        response = asymptotics.eg_response(clean, rule, rest)
        np.testing.assert_allclose(response, 0.1 * moment / (4.0 - 0.2 * moment), rtol=1e-9)
    noisy = ld.Problem(noise=0.01)
    rule = rules.FeedbackAlignment([1.0, 0.7], 0.1)
    point = asymptotics.fixed_point(noisy, rule, asymptotics.specialised_state(2))
    response = asymptotics.eg_response(ld.Problem(), rule, asymptotics.specialised_state(2))
    np.testing.assert_allclose(point.eg, 1e-4 * response, rtol=1e-3)


def test_a_critical_rate_is_one_number():
    state = asymptotics.specialised_state(2)
    with pytest.raises(ValueError, match="looks for one rate of the first layer"):
        asymptotics.critical_lr(ld.Problem(), ld.SGD([0.1, 0.2]), state)


# Rules that the user writes, with all that a sample has


@pytest.mark.nightly(by_day=["sgd-episode"])
@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("level", ["sgd", "chain"])
def test_more_save_times_change_no_bit(level, name):
    few, many = (run(level, OWN[name], ts=ts) for ts in ([0.0, 2.0], [0.0, 0.5, 1.3, 2.0]))
    for quantity in ("Q", "R", "v"):
        last = getattr(few, quantity)[-1]
        np.testing.assert_array_equal(getattr(many, quantity)[-1], last)
    assert np.abs(few.Q[-1] - few.Q[0]).max() > 0.01


@pytest.mark.nightly
@pytest.mark.parametrize("name", OWN)
def test_levels_agree_on_rules_of_the_user(name):
    """Means and spread of chains at n = 60 against the ODE with its fluctuations."""
    rule, runs, n, ts = OWN[name], 400, 60, [0.0, 2.0]
    keys = jax.random.split(jax.random.key(2), runs)
    chain = jax.vmap(lambda key: ld.simulate_chain(PROBLEM, rule, start(), ts, n=n, key=key))(keys)
    theory = ld.fluctuations(PROBLEM, rule, start(), ts, rtol=1e-4)
    sampled = np.asarray(chain.R[:, -1]).reshape(runs, -1)
    mean, std = (np.asarray(x.R[-1]).ravel() for x in (theory.mean, theory.std))
    # 400 runs know a standard deviation to 3.5 %; the theory is right to 1/n, and its nodes to 1 %.
    np.testing.assert_allclose(sampled.std(0) * n**0.5, std, rtol=0.16)
    assert np.abs(sampled.mean(0) - mean).max() < 4.5 * std.max() / (n * runs) ** 0.5 + 2e-3
    plain = ld.solve_ode(PROBLEM, ld.SGD(float(rule.lr)), start(), ts)  # the control
    assert np.abs(plain.R[-1].ravel() - mean).max() > 0.02


@pytest.mark.nightly
@pytest.mark.parametrize("name", ["draws", "overlaps"])
def test_weights_and_chain_have_one_law(name):
    rule, runs = OWN[name], 400
    keys = jax.random.split(jax.random.key(7), 2 * runs)
    ts, w = [0.0, 1.0], ld.weights_from_overlaps(jax.random.key(5), start(), 12)
    chain = jax.vmap(lambda key: ld.simulate_chain(PROBLEM, rule, start(), ts, n=12, key=key))
    sgd = jax.vmap(lambda key: ld.simulate_sgd(PROBLEM, rule, w, ts, key=key))
    one, two = chain(keys[:runs]), sgd(keys[runs:])
    for quantity in ("Q", "R"):
        a, b = (np.asarray(getattr(x, quantity)[:, -1]).reshape(runs, -1) for x in (one, two))
        z = (a.mean(0) - b.mean(0)) / np.sqrt((a.var(0) + b.var(0)) / runs)
        assert np.abs(z).max() < 4.0
        np.testing.assert_allclose(a.std(0), b.std(0), rtol=0.2)


@pytest.mark.nightly
def test_the_size_of_an_input_has_its_law():
    """c = size in place of a gradient: Q_11 grows by |x|^2 size^2 lr^2/n a step, exactly."""
    rule = ld.LocalRule(lambda p, s, layers: Modulation(0 * s.lam + s.size, 0 * s.lam), 1.0)
    n, runs, state = 5, 4000, ld.Overlaps([[0.0]], [[0.0]], [[1.0]])
    keys = jax.random.split(jax.random.key(0), runs)
    at = lambda key: ld.simulate_chain(LINEAR, rule, state, [0.0, 1 / n], n=n, key=key)
    # w moves by size x / sqrt n, so Q_11 = size^3 / n with size = chi^2_5 / 5
    found = np.asarray(jax.vmap(at)(keys).Q[:, -1, 0, 0]) * n
    third = 5 * 7 * 9 / 5**3
    assert abs(found.mean() - third) < 4 * found.std() / runs**0.5
    assert found.mean() > 1.5  # the control: 7/5, with 1 in place of size


class Length(rules.AbstractRule):
    """The length of the noisy input in place of a gradient."""

    input_noise = 0.5

    def modulation(self, problem, sample, layers):
        return Modulation(0 * sample.lam + sample.size, 0 * sample.lam)


def test_the_size_of_a_noisy_input_is_that_which_the_student_sees():
    found = modulations(PROBLEM, Length(1.0), jnp.ones((3, 2)), jnp.ones(3), start().layers)
    np.testing.assert_allclose(found.c, 1.25, rtol=1e-12)


@pytest.mark.nightly
def test_clipping_at_the_length_of_noisy_inputs():
    """The ODE against chains, n = 400, where |x|**2/n is 1.25: its neglect is seen."""
    rule, ts = rules.Clipped(0.3, rule=rules.InputNoise(0.5, 0.5)), [0.0, 4.0]
    keys = jax.random.split(jax.random.key(2), 200)
    one = lambda key: ld.simulate_chain(PROBLEM, rule, start(), ts, n=400, key=key)
    found = np.asarray(jax.vmap(one)(keys).Q[:, -1]).reshape(200, -1)
    error = found.std(0) / 200**0.5
    z = lambda rule: (
        (found.mean(0) - ld.solve_ode(PROBLEM, rule, start(), ts).Q[-1].ravel()) / error
    )
    assert np.abs(z(rule)).max() < 4.0
    # As if the norm of the gradient were |F| alone
    shorter = rules.Clipped(0.3 * 1.25**0.5, rule=rules.InputNoise(0.5, 0.5))
    assert np.abs(z(shorter)).max() > 8.0


@pytest.mark.nightly
def test_draws_are_new_for_every_sample_and_step():
    own = ld.LocalRule(
        lambda p, s, layers: Modulation(0 * s.lam, s.draws), lr=0.0, lr_second=1.0, draws=2
    )
    for level in ("sgd", "chain"):
        found = run(level, own, ts=jnp.arange(81) / 40)
        steps = 40 * np.diff(np.asarray(found.v), axis=0)
        assert np.unique(steps).size == steps.size
        assert abs(steps.std() - 1.0) < 0.25


GIVEN = {"key": jax.random.key(0), "n": 200, "runs": 256}


@pytest.mark.nightly
@pytest.mark.parametrize("name", OWN)
def test_a_rule_of_the_user_is_held_to_its_theory(name):
    """`learndyn.testing` confirms a rule in five lines, and catches the theory of gradient descent
    at its rate, which knows neither its draws, nor its episodes, overlaps or jumps."""
    rule, ts = OWN[name], [0.0, 1.0, 2.0]
    testing.assert_matches_ode(PROBLEM, rule, start(), ts, **GIVEN)
    wrong = ld.solve_ode(PROBLEM, ld.SGD(float(rule.lr)), start(), ts)
    with pytest.raises(AssertionError, match="does not follow the theory"):
        testing.assert_matches_ode(PROBLEM, rule, start(), ts, theory=wrong, **GIVEN)


@pytest.mark.nightly
def test_a_wrong_closed_form_is_caught():
    with pytest.raises(AssertionError, match="does not follow the theory"):
        testing.assert_matches_ode(PROBLEM, Wrong(0.5), start(), [0.0, 1.0, 2.0], **GIVEN)


@pytest.mark.nightly
@pytest.mark.parametrize("name", ["draws", "overlaps"])
def test_runs_of_a_rule_of_the_user_are_compared_with_its_theory(name):
    rule, ts = OWN[name], [0.0, 1.0, 2.0]
    runs = [
        ld.simulate_chain(PROBLEM, r, start(), ts, n=400, key=jax.random.key(4))
        for r in (rule, ld.SGD(float(rule.lr)))
    ]
    theory = ld.fluctuations(PROBLEM, rule, start(), ts)
    verdicts = [ld.compare(theory, run).attrs["verdict"] for run in runs]
    assert verdicts == ["agree", "differ"]


class Wrong(rules.AbstractRule):
    """A closed form that is that of SGD, and a modulation that is not."""

    propagates_error = True

    def modulation(self, problem, sample, layers):
        c, dv = problem.gradient(sample.lam, sample.y, layers)
        return Modulation(1.2 * c, dv)

    def closed_form(self, signal, layers):
        return signal.weighted(layers.v)


@pytest.mark.parametrize("name", FIXTURES)
def test_rules_are_read_back_from_datasets(name):
    rule = FIXTURES[name][1]
    assert ld.rule_of(xr.Dataset(attrs={"rule": to_json(rule)})) == rule


def test_a_rule_around_a_rule_is_read_from_older_files():
    """Files from before the rule inside was the first of the fields."""
    stored = (
        '{"type": "Clipped", "lr": 0.5, "lr_second": null, "lr_bias": null, "weight_decay": 0.0, '
        '"batch_size": 1, "momentum": null, "spherical": false, "limit": 0.3, "rule": {"type": '
        '"InputNoise", "lr": 0.5, "lr_second": null, "lr_bias": null, "weight_decay": 0.0, '
        '"batch_size": 1, "momentum": null, "spherical": false, "std": 0.5}, "per": "sample"}'
    )
    clipped = rules.Clipped(0.3, rule=rules.InputNoise(0.5, 0.5))
    assert ld.rule_of(xr.Dataset(attrs={"rule": stored})) == clipped


def test_rules_of_older_files_are_read():
    """Files from before `spherical` do not have it."""
    stored = json.loads(to_json(ld.SGD(0.3)))
    del stored["spherical"]
    assert ld.rule_of(xr.Dataset(attrs={"rule": json.dumps(stored)})) == ld.SGD(0.3)
