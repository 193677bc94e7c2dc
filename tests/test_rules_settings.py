"""Rates, settings and bounds of rules, what their functions may read and return, and which closed
forms are theirs."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import learndyn as ld
from learndyn import rules
from learndyn.problems import Layers
from learndyn.rules import Modulation, Sample, Seen

PROBLEM = ld.Problem(ld.Quadratic(), ld.Linear())
LAYERS = Layers(jnp.array([0.8, -0.5, 1.3]), jnp.zeros(0), None, None)
SAMPLE = Sample(jnp.array([0.4, -0.7, 1.1]), jnp.asarray(0.6), size=jnp.asarray(1.5))


def same(found, wanted, rtol=1e-12):
    np.testing.assert_allclose(found, wanted, rtol=rtol, atol=1e-14)


def test_rates_of_a_step_with_slow_momentum():
    """lr gamma / n, and beta = 1 - gamma / n."""
    rule = ld.SGD(0.6, lr_second=0.3, momentum=ld.SlowMomentum(1.5))
    rates, beta = rule.step_rates(0.0, 5)
    same([rates.w, rates.v, beta], [0.18, 0.09, 0.7])
    assert rule.steps_per_time(7) == 7
    plain, none = ld.SGD(0.6).step_rates(0.0, 5)
    assert (float(plain.w), plain.v, plain.b, none) == (0.6, None, None, None)
    constant = ld.SGD(0.6, momentum=0.4)
    same([constant.step_rates(0.0, 5)[0].w, constant.step_rates(0.0, 5)[1]], [0.6, 0.4])
    same(constant.effective_rates(0.0).w, 1.0)


def test_schedules_between_and_outside_their_knots():
    """Logarithms are linear between knots: exp(-2.5) at alpha = 3."""
    rate = rules.PiecewiseRate([1.0, 5.0], [math.exp(-2.0), math.exp(-3.0)])
    same([rate(x) for x in (0.0, 3.0, 9.0)], np.exp([-2.0, -2.5, -3.0]))
    same(rules.ConstantRate(0.7)(3.0), 0.7)
    rule = ld.SGD(rate, lr_second=0.2, lr_bias=rules.ConstantRate(0.7))
    assert rule.schedules == [rule.lr, rule.lr_bias]
    same([rule.rates(3.0).w, rule.rates(3.0).v, rule.rates(3.0).b], [np.exp(-2.5), 0.2, 0.7])
    assert rule.trains_second
    assert rule.trains_biases
    assert not ld.SGD(0.1).trains_second
    assert not ld.SGD(0.1).trains_biases
    for alpha, lr, words in (
        ([1.0, 1.0], [0.1, 0.2], "strictly increasing"),
        ([1.0, 2.0], [0.1], "as many rates as times"),
        ([[1.0, 2.0]], [[0.1, 0.2]], "as many rates as times"),
        ([1.0, 2.0], [0.1, 0.0], "lr must be finite and > 0"),
        ([1.0, np.inf], [0.1, 0.2], "alpha must be finite"),
    ):
        with pytest.raises(ValueError, match=words):
            rules.PiecewiseRate(alpha, lr)


def test_a_schedule_that_returns_no_number():
    with pytest.raises(ValueError, match="must return one real number; got 'fast'"):
        ld.SGD(lambda alpha: "fast").rates(0.0)


BAD = {
    "limit": lambda x: rules.Clipped(x, 0.1),
    "gamma": ld.SlowMomentum,
    "lr": rules.ConstantRate,
    "keep": lambda x: rules.Dropout(x, 0.1),
    "std": lambda x: rules.InputNoise(x, 0.1),
    "damping": lambda x: rules.NaturalGradient(x, lr=0.1),
    "scale": lambda x: rules.NodePerturbation(x, lr=0.1),
    "weight_decay": lambda x: ld.SGD(0.1, weight_decay=x),
    "momentum": lambda x: ld.SGD(0.1, momentum=x),
    "rate": ld.SGD,
}
STRICT = ("limit", "gamma", "lr", "keep")


@pytest.mark.parametrize("name", BAD)
def test_numbers_of_rules_have_bounds(name):
    """Small ones are allowed, 0 unless it is excluded, and no negative ones."""
    BAD[name](1e-3)
    with pytest.raises(ValueError, match="> 0" if name in STRICT else ">= 0"):
        BAD[name](-1e-3)
    if name in STRICT:
        with pytest.raises(ValueError, match="> 0"):
            BAD[name](0.0)
    else:
        BAD[name](0.0)
    if name in ("keep", "momentum"):
        BAD[name](0.999)
        with pytest.raises(ValueError, match="1"):
            BAD[name](1.001)


def test_bounds_that_every_level_checks():
    found = {
        name: (bounds.least, bounds.strict, bounds.most)
        for rule in (rules.Clipped(0.3, rule=rules.Dropout(0.5, 0.1)), rules.InputNoise(0.4, 0.1))
        for name, _, bounds in rule.own_numbers
    }
    everything = math.inf
    assert found == {
        "limit": (0.0, True, everything),
        "keep": (0.0, True, 1.0),
        "std": (0.0, False, everything),
    }
    others = rules.NodePerturbation(0.3, lr=0.1), rules.NaturalGradient(0.2, lr=0.1)
    for rule in others:
        [(_, _, bounds)] = rule.own_numbers
        assert (bounds.least, bounds.strict, bounds.most) == (0.0, False, everything)
    assert rules.NodePerturbation(lr=0.1).own_numbers == []  # the limit has no scale
    rewards = rules.RewardPerceptron(2).own_numbers
    assert [bounds.least for _, _, bounds in rewards] == [-everything, -everything]


def test_a_batch_of_all_samples():
    assert ld.SGD(0.1, batch_size=math.inf).has_infinite_batch
    assert not ld.SGD(0.1, batch_size=3).has_infinite_batch
    assert ld.SGD(0.1).batch_size == 1
    with pytest.raises(ValueError, match="sees all samples of a batch at once"):
        ld.LocalRule(lambda p, s, layers: s, 0.1, episode=True, batch_size=math.inf)
    rules.Clipped(0.1, 0.1, batch_size=math.inf)  # each sample for itself


def test_flags_of_rules():
    for rule in rules.NAMED.values():
        told = rule.is_gradient, rule.is_unbiased if rule is not rules.NodePerturbation else None
        told = (*told, rule.propagates_error, rule.moves_along_weights, rule.perturbs_weights)
        wanted = {
            rules.SGD: (True, True, True, False, False),
            rules.FeedbackAlignment: (False, False, True, False, False),
            rules.InputNoise: (False, False, True, False, False),
            rules.NodePerturbation: (False, None, False, False, False),
            rules.WeightPerturbation: (False, True, False, False, True),
            rules.NaturalGradient: (False, False, False, True, False),
        }
        assert told == wanted.get(rule, (False, False, False, False, False)), rule


@pytest.mark.parametrize(
    ("function", "wanted"),
    [
        (lambda p, s, layers: (s.lam * s.size, s.lam), True),
        (lambda p, s, layers: (s.lam, s.lam + s.size), True),
        (lambda p, s, layers: (s.lam * s.draws, s.lam + 0 * s.overlaps.R[:, 0]), False),
    ],
    ids=["c", "dv", "neither"],
)
def test_what_a_function_reads_of_an_input_s_length(function, wanted):
    rule = ld.LocalRule(function, 0.1, draws=3, needs_overlaps=True)
    assert rules.reads_size(PROBLEM, rule, 3, 2) is wanted


def test_shapes_of_what_a_rule_is_given():
    shapes = lambda sample: [x.shape for x in (*sample[:4], *(sample.overlaps or ()))]
    one = ld.LocalRule(lambda p, s, layers: s, 0.1, draws=4, needs_overlaps=True)
    assert shapes(rules.blank_sample(one, 3, 2)) == [(3,), (), (4,), (), (3, 3), (3, 2)]
    many = rules.RewardPerceptron(5)
    assert shapes(rules.blank_sample(many, 3, 2)) == [(5, 3), (5,), (5, 0), (5,)]


def test_functions_that_read_what_they_did_not_ask_for():
    """Another fault of theirs is raised as it is."""
    lost = ld.LocalRule(lambda p, s, layers: (s.lamb, s.lam), 0.1)
    with pytest.raises(ValueError, match=r"needs_overlaps=True"):
        lost.modulation(PROBLEM, SAMPLE, LAYERS)
    given = SAMPLE._replace(overlaps=Seen(jnp.eye(3), jnp.zeros((3, 1))))
    with pytest.raises((AttributeError, ValueError)) as caught:
        lost.modulation(PROBLEM, given, LAYERS)
    assert "needs_overlaps" not in str(caught.value)
    for draws in (0, 1):
        beyond = ld.LocalRule(lambda p, s, layers: ((1.0, 2.0)[3], s.lam), 0.1, draws=draws)
        with pytest.raises((IndexError, ValueError)) as caught:
            beyond.modulation(PROBLEM, SAMPLE, LAYERS)
        assert ("Give LocalRule(..., draws=1)" in str(caught.value)) == (draws == 0)


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (lambda lam: (lam, lam, lam), "must return Modulation"),
        (lambda lam: lam, "got one array"),
        (lambda lam: None, "got None"),
        (
            lambda lam: (lam[:2], lam),
            r"c must have shape \(3,\), one entry for each student unit; ",
        ),
        (lambda lam: (lam, 1j * lam), "dv must be real"),
        (lambda lam: (lam, "much"), "dv must be an array of real numbers; got 'much'"),
    ],
    ids=["three", "one", "none", "two units", "complex", "text"],
)
def test_what_a_function_may_not_return(result, words):
    rule = ld.LocalRule(lambda p, s, layers: result(s.lam), 0.1)
    with pytest.raises(ValueError, match=words):
        rule.modulation(PROBLEM, SAMPLE, LAYERS)


def test_what_a_function_may_return():
    """Whole numbers become floats; a third entry, which would move along weights, is left out."""
    whole = lambda p, s, layers: Modulation(jnp.array([1, 2, 3]), s.lam, jnp.eye(3))
    found = ld.LocalRule(whole, 0.1).modulation(PROBLEM, SAMPLE, LAYERS)
    same(found.c, [1, 2, 3])
    assert found.c.dtype == SAMPLE.lam.dtype
    assert found.dw is None
    assert ld.LocalRule(whole, 0.1).draws == 0
    assert not ld.LocalRule(whole, 0.1).is_episode


class Halved(ld.Problem):
    """A problem with its own gradient."""

    def gradient(self, lam, y, layers):
        c, dv = super().gradient(lam, y, layers)
        return c / 2, dv


def test_formulas_for_the_gradient_alone():
    require = rules.require_gradient
    require(PROBLEM, ld.SGD(0.1), "f")
    require(PROBLEM, rules.WeightPerturbation(0.1), "f", in_the_mean=True)
    with pytest.raises(ValueError, match=r"f: this is .* got the rule WeightPerturbation"):
        require(PROBLEM, rules.WeightPerturbation(0.1), "f")
    with pytest.raises(ValueError, match="got Halved, a problem with its own gradient or label"):
        require(Halved(), ld.SGD(0.1), "f")


def test_a_subclass_that_overrides_what_a_rule_reads():
    perceptron = ld.Problem(ld.Linear(), ld.Sign(), ld.Perceptron())
    own = Halved(ld.Linear(), ld.Sign(), ld.Perceptron())
    assert not ld.SGD(0.1).follows(own)
    assert ld.SGD(0.1).wedge_averages(own) is None
    assert ld.SGD(0.1).wedge_averages(perceptron) is perceptron.loss.wedge_averages
    for rule in (rules.AdaTron(0.1), rules.RewardPerceptron(2)):  # which read no gradient
        assert rule.wedge_averages(own) is not None
    assert rules.FeedbackAlignment([0.5], 0.1).follows(own)


def test_momentum_may_be_traced_and_batched():
    rate = jax.jit(lambda beta: ld.SGD(0.2, momentum=beta).effective_rates(0.0).w)
    same(rate(0.75), 0.8)
    keeps = eqx.filter_vmap(lambda x: rules.Dropout(x, 0.1).tested_layer(LAYERS.v))
    same(keeps(jnp.array([0.5, 0.25])), np.outer([0.5, 0.25], [0.8, -0.5, 1.3]))


def test_a_schedule_has_a_time_for_each_rate():
    for alpha, lr in ((0.0, 1.0), ([0.0, 1.0], [0.1]), ([[0.0]], [[0.1]])):
        with pytest.raises(ValueError, match="as many rates as times"):
            rules.PiecewiseRate(alpha, lr)


RULES = {
    "SGD": ld.SGD(0.1, 0.2, weight_decay=0.1),
    "NodePerturbation": rules.NodePerturbation(lr=0.1, law="sign"),
    "WeightPerturbation": rules.WeightPerturbation(lr=0.1),
    "Dropout": rules.Dropout(0.7, 0.3),
    "InputNoise": rules.InputNoise(0.6, 0.3),
    "Clipped": rules.Clipped(0.5, lr=0.1),
    "FeedbackAlignment": rules.FeedbackAlignment([0.4, 1.0, 2.0], lr=0.1),
}


@pytest.mark.parametrize("name", RULES)
def test_a_rule_is_numbers_and_goes_through_jit(name):
    """Whatever else it has is known when a program is compiled."""
    rule = RULES[name]
    twice = jax.jit(lambda rule: jax.tree.map(lambda x: 2 * x, rule))(rule)
    same(twice.lr, 2 * np.asarray(rule.lr))
    assert jax.tree.structure(twice) == jax.tree.structure(rule)


def test_a_clipped_gradient_that_vanishes_has_derivatives():
    problem, rule = ld.Problem(ld.Linear(), ld.Linear()), rules.Clipped(0.5, lr=0.1)

    def signal(lam):
        sample = SAMPLE._replace(lam=lam, y=jnp.asarray(0.0))
        return rule.modulation(problem, sample, LAYERS).c

    slope = jax.jacrev(signal)(jnp.zeros(3))
    v = np.asarray(LAYERS.v)
    same(np.abs(slope), np.abs(np.outer(v, v)))
