"""Faults in the formulas for where learning ends and how it gets there."""

import equinox as eqx
from validation.mutants import mutant, replace

from learndyn import asymptotics

ERROR = "test_asymptotic_error.py::test_final_error"


@mutant("Eq. (10) is 2 % too large", "test_asymptotic_curves.py::test_growth_with_size[erf]")
def eq10_too_large() -> None:
    @replace(asymptotics, "eg_specialised")
    def _(old, *given, **keywords):
        return 1.02 * old(*given, **keywords)


@mutant("Eq. (10) is evaluated with one superfluous unit fewer", f"{ERROR}[specialised]")
def eq10_unit_missing() -> None:
    @replace(asymptotics, "eg_specialised")
    def _(old, m, l, *given, **keywords):
        return old(m, l - 1, *given, **keywords)


@mutant("the denoising error is 2 % too small", "test_asymptotic_networks.py::test_denoising[1]")
def denoising_too_small() -> None:
    @replace(asymptotics, "eg_denoising")
    def _(old, *given, **keywords):
        return 0.98 * old(*given, **keywords)


@mutant("relu: the final error is its first order in lr", f"{ERROR}[relu]")
def relu_first_order() -> None:
    @replace(asymptotics, "eg_relu")
    def _(old, m, lr, *given, **keywords):
        return lr / 1e-3 * old(m, 1e-3, *given, **keywords)


@mutant("critical rates are 3 % too large", "test_stability.py::test_critical_rate[linear]")
def critical_rate_too_large() -> None:
    @replace(asymptotics, "critical_lr")
    def _(old, *given, **keywords):
        return 1.03 * old(*given, **keywords)


@mutant(
    "ridge: the fixed point is that of decay 5 % stronger", "test_errata.py::test_erratum[ridge]"
)
def ridge_decay() -> None:
    @replace(asymptotics, "ridge")
    def _(old, lr, weight_decay, *given, **keywords):
        return old(lr, 1.05 * weight_decay, *given, **keywords)


@mutant("escape times are too long by a factor 1.15", "test_escape.py::test_distribution_of_times")
def escape_too_late() -> None:
    @replace(asymptotics, "escape_time")
    def _(old, *given, **keywords):
        found = old(*given, **keywords)
        return eqx.tree_at(lambda times: times.samples, found, 1.15 * found.samples)


@mutant(
    "small rates: the final error takes 1 + Q_kk in place of 1 + 2 Q_kk",
    "test_specialisation.py::test_error_from_random_starts",
)
def small_rate_norms() -> None:
    @replace(asymptotics, "eg_zero_error_small_lr")
    def _(old, problem, rule, state):
        return old(problem, rule, eqx.tree_at(lambda s: s.Q, state, 0.5 * state.Q))


@mutant("ridge: the label noise counts twice in q*", "test_ridge.py")
def ridge_noise_twice() -> None:
    @replace(asymptotics, "ridge")
    def _(old, lr, weight_decay, noise, **keywords):
        return old(lr, weight_decay, 2**0.5 * noise, **keywords)
