"""Faults in learning rules other than SGD, and in what runs them."""

import equinox as eqx
from validation.mutants import mutant, replace

from learndyn.dynamics import _overlap_flow
from learndyn.rules import (
    Clipped,
    Dropout,
    FeedbackAlignment,
    Hebb,
    NodePerturbation,
    RewardPerceptron,
    _clipped,
)

RULE = "test_rules.py::test_rule"


@mutant("classifiers: closed forms have no label flips", f"{RULE}[hebb]", f"{RULE}[adatron]")
def classifiers_without_flips() -> None:
    @replace(Hebb.__mro__[1], "wedge_averages")
    def _(old, self, problem):
        found = old(self, problem)
        return found and (lambda s, r, t, k: found(s, r, t, 1.0 + 0.0 * k))


@mutant("feedback alignment: the ODE sends the error through v", f"{RULE}[feedback]")
def feedback_theory_by_second_layer() -> None:
    @replace(FeedbackAlignment, "closed_form")
    def _(old, self, signal, layers):
        return signal.weighted(layers.v)


@mutant("node perturbation: the noise that xi adds is left out", f"{RULE}[node-normal]")
def perturbation_without_noise() -> None:
    @replace(NodePerturbation, "closed_form")
    def _(old, self, signal, layers):
        return signal.weighted(layers.v)


@mutant("node perturbation: signs are taken for normal numbers", f"{RULE}[node-sign]")
def perturbation_by_normal_numbers() -> None:
    @replace(NodePerturbation, "closed_form")
    def _(old, self, signal, layers):
        return old(NodePerturbation(lr=self.lr), signal, layers)


@mutant(
    "chain: numbers that a rule draws have a standard deviation of 1.3",
    "test_rules.py::test_exact_mean[normal]",
)
def rule_draws_too_large() -> None:
    @replace(NodePerturbation, "modulation")
    def _(old, self, problem, sample, layers):
        return old(self, problem, sample._replace(draws=1.3 * sample.draws), layers)


@mutant("clipped: <F_i F_k> is that of gradients that are not clipped", f"{RULE}[clipped-batch]")
def clipped_mean_alone() -> None:
    @replace(_clipped, "_clipped_moments")
    def _(old, edge, batch):
        gain, power = old(edge, batch)
        return gain, 1.0 + 0.0 * power


@mutant("chain and SGD: the norm that is clipped is 10 % too large", f"{RULE}[clipped-batch]")
def clipped_too_early() -> None:
    @replace(Clipped, "_factor")
    def _(old, self, square):
        return old(self, 1.21 * square)


@mutant("dropout: masks count once more in <F_i F_k>", f"{RULE}[dropout]")
def dropout_masks_twice() -> None:
    @replace(Dropout, "closed_form_of")
    def _(old, self, signal):
        found = old(self, signal)
        return found._replace(Phi=self.keep * found.Phi)


@mutant("noisy inputs: the lr² term lacks its factor 1 + s²", f"{RULE}[input-noise]")
def input_noise_without_length() -> None:
    @replace(_overlap_flow, "seen_averages")
    def _(old, averages, problem, rule, state):
        found = old(averages, problem, rule, state)
        longer = 1.0 if rule.input_noise is None else 1.0 + rule.input_noise**2
        return found._replace(Phi=found.Phi / longer)


@mutant("rewards: the penalty in the closed form is half of what it is", f"{RULE}[reward]")
def reward_half_penalty() -> None:
    @replace(RewardPerceptron, "_averages")
    def _(old, self, *given):
        return old(eqx.tree_at(lambda rule: rule.penalty, self, 0.5 * self.penalty), *given)


@mutant("sphere: R is not divided by |w_i|", f"{RULE}[spherical]")
def sphere_without_division_of_r() -> None:
    @replace(_overlap_flow, "on_sphere")
    def _(old, state, dq, dr):
        return old(state, dq, dr)[0], dr
