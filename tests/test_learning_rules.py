"""A learning rule is one file, and the same rule at every level of description."""

import ast
import json
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rule_table import NODES, PROBLEM, TS, Shares, weights
from rule_table import TWO as START

import learndyn as ld
from learndyn import asymptotics
from learndyn.averages import ClosedForm, QuasiMonteCarlo, choose_averages
from learndyn.problems import FieldGradient
from learndyn.rules import FeedbackAlignment, Modulation

FEEDBACK = jnp.array([1.0, -0.7])
GOLD = json.loads((Path(__file__).parent / "data" / "feedback_alignment.json").read_text())
LIBRARY = Path(ld.__file__).parent


class OwnGradient(ld.Problem):
    """Feedback alignment written as a problem's own gradient."""

    def gradient(self, lam, y, layers):
        g, dg, slope = self.signals(lam, y, layers)
        return FieldGradient(FEEDBACK * dg * slope, g * slope)


def by_hand(problem, sample, layers):
    """Feedback alignment as a user would write it."""
    g, dg, slope = problem.signals(sample.lam, sample.y, layers)
    return Modulation(FEEDBACK * dg * slope, g * slope)


RATES = {"lr": 0.5, "lr_second": 0.3}
ALIGNED = FeedbackAlignment(FEEDBACK, **RATES)
WRITINGS = {
    "rule": (PROBLEM, ALIGNED),
    "own gradient": (OwnGradient(noise=0.1), ld.SGD(**RATES)),
    "local rule": (PROBLEM, ld.LocalRule(by_hand, **RATES)),
}
pytestmark = pytest.mark.filterwarnings("ignore:the error of the Gaussian averages:RuntimeWarning")


def run(level, problem, rule):
    key = jax.random.key(3)
    if level == "sgd":
        return ld.simulate_sgd(problem, rule, weights(), TS, key=key)
    if level == "chain":
        return ld.simulate_chain(problem, rule, START, TS, n=40, key=key)
    if level == "ode":
        # All three take the same steps, however coarse.
        return ld.solve_ode(problem, rule, START, TS, averages=NODES, rtol=1e-5, atol=1e-7)
    options = {"averages": NODES, "noise_nodes": NODES}
    return ld.simulate_langevin(problem, rule, START, TS, n=40, key=key, dt=0.05, **options)


@pytest.mark.nightly(by_day=["sgd"])
@pytest.mark.parametrize(
    "level", ["sgd", "chain", "ode", pytest.param("langevin", marks=pytest.mark.slow)]
)
def test_three_writings_of_one_rule_agree_at_every_level(level):
    declared, own, local = (run(level, *writing) for writing in WRITINGS.values())
    # Theories know how label noise enters the first alone, and take nodes for it in the others.
    error = {"rtol": 1e-11} if level in ("sgd", "chain") else {"atol": 0.025}  # 0.012
    for name in ("Q", "R", "v", "eg"):
        # Each is compiled by itself, so the last digit may be rounded in another order.
        np.testing.assert_allclose(getattr(local, name), getattr(own, name), rtol=1e-11)
        np.testing.assert_allclose(getattr(own, name), getattr(declared, name), **error)
    # The control, by the same program: feedback by the second layer as it is at the start.
    other = run(level, PROBLEM, FeedbackAlignment(START.v, **RATES))
    assert np.abs(other.Q - declared.Q).max() > 0.1


@pytest.mark.nightly(by_day=["None"])
@pytest.mark.parametrize("averages", [None, QuasiMonteCarlo(2048)])
def test_feedback_alignment_against_an_independent_solution(averages):
    gold = GOLD["curve"]
    start = ld.Overlaps(**gold["start"])
    rule = FeedbackAlignment(gold["feedback"], lr=0.5, lr_second=0.5)
    found = ld.solve_ode(PROBLEM, rule, start, gold["alpha"], averages=averages)
    error = 1e-8 if averages is None else 2e-3  # 5e-4 was measured
    for name in ("Q", "R", "v", "eg"):
        np.testing.assert_allclose(getattr(found, name), gold[name], atol=error)


@pytest.mark.nightly
def test_fluctuations_of_feedback_alignment():
    gold = GOLD["fluctuations"]
    start = ld.Overlaps(START.Q, START.R, START.T, v=gold["v"])
    rule = FeedbackAlignment(FEEDBACK, lr=0.5, lr_second=0.5)
    found = ld.fluctuations(PROBLEM, rule, start, [0.0, gold["alpha"]])
    std = np.sqrt(np.diagonal(found.covariance[-1]))
    # The noise of both comes from nodes: 1.3e-3 was measured.
    np.testing.assert_allclose(std, gold["std"], rtol=4e-3)


@pytest.mark.nightly
def test_feedback_by_the_second_layer_is_gradient_descent():
    """While v stays where it is: a rate of 0, with which the programs above serve again."""
    resting = {"lr": 0.5, "lr_second": 0.0}
    rule, descent = FeedbackAlignment(START.v, **resting), ld.SGD(**resting)
    for level in ("sgd", "ode"):
        ours, theirs = run(level, PROBLEM, rule), run(level, PROBLEM, descent)
        np.testing.assert_allclose(ours.Q, theirs.Q, rtol=1e-12)


@pytest.mark.nightly
def test_closed_forms_are_those_of_the_rule_or_none():
    def closed(problem, rule):
        return isinstance(choose_averages(problem, 2, 2, rule=rule, biases=False), ClosedForm)

    assert closed(PROBLEM, ALIGNED)
    assert closed(PROBLEM, Shares([1.0, 0.5], **RATES))
    assert closed(OwnGradient(), None)  # eg is as ever
    assert not closed(OwnGradient(), ld.SGD(lr=0.5))
    assert closed(OwnGradient(), ALIGNED)  # which asks for no gradient
    assert not closed(*WRITINGS["local rule"])


class Forgetful(Shares):
    def closed_form(self, signal, layers):
        return None


def test_a_closed_form_that_is_none():
    with pytest.raises(ValueError, match=r"Forgetful\.closed_form must return averages"):
        ld.solve_ode(PROBLEM, Forgetful([1.0, 0.5], **RATES), START, TS)


@pytest.mark.nightly
def test_a_declared_closed_form_is_the_average_over_nodes():
    rule = Shares([1.0, 0.5], **RATES)
    nodes = choose_averages(PROBLEM, 2, 2, rule=rule, biases=False, averages=QuasiMonteCarlo())
    of = eqx.filter_jit(lambda averages: averages.field_averages(PROBLEM, rule, START))
    exact, sampled = of(ClosedForm()), of(nodes)
    for name in ("G", "Phi", "h"):
        np.testing.assert_allclose(getattr(sampled, name), getattr(exact, name), atol=3e-3)
    slower = ld.solve_ode(PROBLEM, rule, START, TS)
    wrong = ld.solve_ode(PROBLEM, ld.SGD(**RATES), START, TS)
    assert np.abs(slower.Q - wrong.Q).max() > 0.01


@pytest.mark.nightly
def test_eg_is_exact_where_only_the_rule_has_no_closed_form():
    _, rule = WRITINGS["local rule"]
    found = ld.solve_ode(PROBLEM, rule, START, TS[:1])
    assert float(found.eg[0]) == pytest.approx(float(ld.generalisation_error(PROBLEM, START)))
    by_nodes = ld.solve_ode(PROBLEM, rule, START, TS[:1], averages=NODES)
    assert abs(float(by_nodes.eg[0] - found.eg[0])) > 1e-6


def test_a_rule_that_is_not_linear_in_the_error_sees_the_label_noise():
    """Linear unit, F = sign(phi - y): <F a> = sqrt(2/pi) Cov(phi - y, a) / std(phi - y)."""
    problem = ld.Problem(ld.Linear(), ld.Linear(), noise=0.5)

    def signs(problem, sample, layers):
        _, dg, error = problem.signals(sample.lam, sample.y, layers)
        return Modulation(jnp.sign(error) * dg, 0.0 * dg)

    start = ld.Overlaps([[0.8]], [[0.3]], [[1.0]])
    nodes = choose_averages(
        problem, 1, 1, rule=ld.LocalRule(signs, lr=1.0), biases=False, averages=QuasiMonteCarlo()
    )
    assert nodes.score  # F jumps
    found = nodes.field_averages(problem, ld.LocalRule(signs, lr=1.0), start)
    spread = np.sqrt(0.8 - 2 * 0.3 + 1.0 + 0.5**2)
    expected = np.sqrt(2 / np.pi) / spread * np.array([[1.0, -1.0]])
    np.testing.assert_allclose(found.G, expected, atol=2e-3)
    np.testing.assert_allclose(found.Phi, 1.0, rtol=1e-12)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda problem, sample, layers: sample.lam, "must return Modulation"),
        (lambda problem, sample, layers: (sample.lam[:1], sample.lam), r"c must have shape \(2,\)"),
        (lambda problem, sample, layers: (sample.lam, sample.y), r"dv must have shape \(2,\)"),
    ],
)
def test_modulations_of_other_shapes(function, words):
    with pytest.raises(ValueError, match=words):
        ld.solve_ode(PROBLEM, ld.LocalRule(function, lr=0.1), START, TS, averages=NODES)


@pytest.mark.parametrize("level", ["sgd", "chain", "ode", "langevin"])
def test_feedback_for_other_units(level):
    with pytest.raises(ValueError, match=r"feedback must have shape \(2,\)"):
        run(level, PROBLEM, FeedbackAlignment([1.0, 0.5, 0.2], lr=0.5))


def test_bad_feedback():
    with pytest.raises(ValueError, match="finite"):
        FeedbackAlignment([1.0, np.nan], lr=0.5)
    with pytest.raises(ValueError, match="one entry for each"):
        FeedbackAlignment(1.0, lr=0.5)
    with pytest.raises(ValueError, match="modulation must be callable"):
        ld.LocalRule(3, lr=0.5)


@pytest.mark.parametrize("writing", ["rule", "own gradient"])
def test_formulas_for_gradient_descent_refuse_what_is_none(writing):
    problem, rule = WRITINGS[writing]
    state = asymptotics.specialised_state(2)
    with pytest.raises(ValueError, match="formula for gradient descent"):
        asymptotics.eg_zero_error_small_lr(problem, rule, state)
    with pytest.raises(ValueError, match="formula for gradient descent"):
        asymptotics.reduced_flow(problem, rule, asymptotics.SpecialisedOverlaps(2, 0))


def test_no_module_outside_of_rules_names_a_rule():
    """Whoever does would have to change for a new one. The public page and texts may, and
    conventions, each of which says which of our rules somebody else's program is."""
    # Hebb, Perceptron and AdaTron are also names of losses.
    own = {rule.__name__ for rule in ld.rules.OWN} - {"Hebb", "Perceptron", "AdaTron"}
    named = {*own, "LocalRule", "Clipped"}
    may = {LIBRARY / room for room in ("rules", "conventions")}
    files = [file for file in LIBRARY.rglob("*.py") if not may & set(file.parents)]
    assert len(files) > 100
    for file in files:
        tree = ast.parse(file.read_text())
        names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        names |= {
            alias.name
            for node in ast.walk(tree)
            for alias in getattr(node, "names", [])
            if isinstance(alias, ast.alias)
        }
        assert not names & named, f"{file} names {names & named}"
