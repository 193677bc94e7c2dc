"""Learning rules that cannot be: each gets one sentence, the same at every level."""

import re

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rule_table import ONE, OWN, normalised, perturbed, run

import learndyn as ld
from learndyn import rules


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: rules.Dropout(0.0, 0.1), "must be > 0 and <= 1; got 0"),
        (lambda: rules.Dropout(1.5, 0.1), "must be > 0 and <= 1; got 1.5"),
        (lambda: rules.InputNoise(-1.0, 0.1), "std must be finite and >= 0"),
        (lambda: rules.NodePerturbation(-1.0, lr=0.1), "scale must be finite and >= 0"),
        (lambda: rules.NodePerturbation(law="cauchy", lr=0.1), 'law must be "normal" or "sign"'),
        (lambda: rules.NodePerturbation(), "lr must be a real number"),
        (lambda: rules.Clipped(0.0, 0.1), "limit must be finite and > 0"),
        (lambda: rules.Clipped(1.0, 0.1, per="epoch"), 'per must be "sample" or "batch"'),
        (lambda: rules.Clipped(1.0, rule=OWN["episode"]), "sees one sample at a time"),
        (lambda: rules.Clipped(1.0, 0.1, per="batch", batch_size=np.inf), "sees all samples"),
        (lambda: rules.Clipped(1.0, rule=rules.NaturalGradient(lr=0.1)), "clip another rule"),
        (lambda: rules.RewardPerceptron(0, 1.0), "episode must be a Python integer"),
        (lambda: rules.RewardPerceptron(3, np.nan), "reward must be finite"),
        (lambda: rules.RewardPerceptron(3, 1.0, batch_size=2), "an episode is a batch"),
        (lambda: rules.NaturalGradient(-0.1, lr=0.1), "damping must be finite and >= 0"),
        (lambda: ld.LocalRule(perturbed, 1.0, episode=1), "episode must be True or False"),
        (lambda: ld.LocalRule(perturbed, 1.0, draws=-1), "draws must be a Python integer"),
    ],
)
def test_bad_rules_say_what_must_hold(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def moved(rule, where, value):
    """A rule with a number that its constructor would refuse."""
    return eqx.tree_at(where, rule, jnp.asarray(value))


def own(function, **keywords):
    return ld.LocalRule(function, 0.1, **keywords)


BAD = {
    "shape": (own(lambda p, s, l: (s.lam[0], s.lam)), "c must have shape (2,), one entry for each"),
    "one array": (own(lambda p, s, l: s.lam), "return Modulation(c, dv), two arrays"),
    "text": (own(lambda p, s, l: ("yes", s.lam)), "c must be an array of real numbers; got 'yes'"),
    "complex": (own(lambda p, s, l: (1j * s.lam, s.lam)), "must be real; got numbers of type comp"),
    "arguments": (own(lambda p, s: s), "must be a function (problem, sample, layers)"),
    "field": (own(lambda p, s, l: (s.lam[2] * s.lam, s.lam)), "got the index 2 for an axis of 2"),
    "draws": (own(lambda p, s, l: (s.draws[0] * s.lam, s.lam)), "Give LocalRule(..., draws=1)"),
    "overlaps": (
        own(lambda p, s, l: (s.overlaps.Q[0], s.lam)),
        "Give LocalRule(..., needs_overlaps=True)",
    ),
    "feedback": (rules.FeedbackAlignment([1.0, 2.0, 3.0], 0.1), "feedback must have shape (2,)"),
    "feedbacks": (rules.FeedbackAlignment([[1.0, 2.0]], 0.1), "got shape (1, 2). For a batch"),
    "inner": (
        rules.Clipped(1.0, rule=rules.FeedbackAlignment([1.0], 0.1)),
        "feedback must have shape (2,)",
    ),
    "keeps": (rules.Dropout([0.5, 0.8], 0.1), "keep must have 0 axes; got shape (2,)"),
    "keep": (moved(rules.Dropout(0.5, 0.1), lambda r: r.keep, 1.5), "> 0 and at most 1 (the prob"),
    "std": (
        moved(rules.InputNoise(0.5, 0.1), lambda r: r.std, -1.0),
        "std must be finite and >= 0",
    ),
    "inner std": (
        moved(rules.Clipped(1.0, rule=rules.InputNoise(0.5, 0.1)), lambda r: r.rule.std, np.nan),
        "std must be finite and >= 0 (a standard deviation); got std=nan",
    ),
    "rate": (moved(ld.SGD([0.1, 0.2]), lambda r: r.lr, [0.1, -0.2]), "lr must be finite and >= 0"),
    "sphere": (ld.SGD(0.1, spherical=True), "must have Q_ii = 1; got Q_ii = [0.3"),
}


@pytest.mark.parametrize("name", BAD)
def test_every_level_says_the_same_of_a_rule_that_cannot_be(name):
    rule, words = BAD[name]
    said = set()
    for level in ("sgd", "chain", "ode", "langevin", "fluctuations"):
        with pytest.raises(ValueError, match=re.escape(words)) as caught:
            run(level, rule)
        said.add(str(caught.value).split(" takes one run at a time", 1)[-1])
    assert len(said) == 1


@pytest.mark.nightly
def test_traced_numbers_of_a_rule_out_of_their_bounds_are_nan():
    keeps = jnp.array([0.8, 1.5])
    both = jax.vmap(lambda keep: run("ode", rules.Dropout(keep, 0.5), ts=[0.0, 0.1]))(keeps)
    assert list(both.result) == [ld.Result.SUCCESS.value, ld.Result.INVALID_INPUT.value]


def test_rewards_need_labels_that_are_signs():
    with pytest.raises(ValueError, match="labels that are signs"):
        run("ode", rules.RewardPerceptron(3, 1.0), at=ONE)


@pytest.mark.parametrize("level", ["chain", "langevin", "fluctuations"])
def test_natural_gradient_is_not_local(level):
    with pytest.raises(ValueError, match="no chain"):
        run(level, rules.NaturalGradient(lr=0.1))


def test_natural_gradient_of_other_units():
    tanh = ld.Problem(ld.Tanh(), ld.Tanh())
    with pytest.raises(ValueError, match="NaturalGradient needs the Fisher matrix"):
        run("sgd", rules.NaturalGradient(lr=0.1), tanh)
    with pytest.raises(ValueError, match="no averages over nodes"):
        run("ode", rules.NaturalGradient(lr=0.1), tanh)


def test_an_episode_of_the_wrong_shape():
    wrong = ld.LocalRule(lambda p, s, layers: (s.lam[0], s.lam), 0.1, episode=True, batch_size=3)
    with pytest.raises(ValueError, match=r"c must have shape \(3, 2\).*of each sample"):
        run("sgd", wrong)


def test_overlaps_are_there_for_rules_that_ask():
    silent = ld.LocalRule(normalised, 0.3)
    with pytest.raises((AttributeError, ValueError)):
        run("sgd", silent)
    assert ld.LocalRule(Reader(), 0.3).needs_overlaps


class Reader:
    """A function that says itself what it reads."""

    needs_overlaps = True

    def __call__(self, problem, sample, layers):
        return normalised(problem, sample, layers)
