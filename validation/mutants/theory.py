"""Faults in the prediction: Gaussian averages, the ODE, fluctuations, the Langevin level."""

import jax.numpy as jnp
from validation.mutants import mutant, replace

from learndyn import SGD
from learndyn.averages import ClosedForm, FieldAverages, NodeAverages, SeriesAverages
from learndyn.dynamics import OverlapFlow, _fluctuations, _langevin
from learndyn.integrals import erf, linear
from learndyn.integrals.relu import committee as relu

COMMITTEE = "test_committee.py::test_learning_curve[4]"
BOTH = "test_committee.py::test_both_layers[2]"
VARIANT = "test_algorithms.py::test_variant"
PLATEAU = "test_plateau_without_closed_forms.py"
CONSTANT = "test_concentration.py::test_rate_and_constant[erf]"


def _scaled(found: FieldAverages, **factors: float) -> FieldAverages:
    return found._replace(**{name: getattr(found, name) * f for name, f in factors.items()})


@mutant("erf: the own-field term of <c lambda> is left out", COMMITTEE)
def erf_without_own_field() -> None:
    @replace(erf, "_field_gradient")
    def _(old, c, u, k):
        s = 1 + jnp.diagonal(c)
        return (2 / jnp.pi) * u / jnp.sqrt(s[:k, None] * s - c[:k] ** 2)


@mutant("erf: <c_i c_k> takes 2 + C_aa in place of 1 + C_aa", COMMITTEE)
def erf_i4_denominator() -> None:
    @replace(erf, "_product")
    def _(old, c, u, k, noise_variance):
        return old(c + jnp.diag(jnp.full(len(c), 1.0)), u, k, noise_variance)


@mutant("erf: pairs of a student and a teacher count once in <c_i c_k>, not twice", COMMITTEE)
def erf_mixed_pairs_once() -> None:
    @replace(erf, "_product")
    def _(old, c, u, k, noise_variance):
        # Teachers of the other sign turn the sign of exactly these pairs.
        turned = u * jnp.where(jnp.arange(len(u)) < k, 1.0, -1.0)
        return 0.75 * old(c, u, k, noise_variance) + 0.25 * old(c, turned, k, noise_variance)


@mutant("relu: the own-step term of <c lambda> is left out", "test_relu.py::test_learning_curve[3]")
def relu_without_own_step() -> None:
    @replace(relu, "_field_gradient")
    def _(old, f, u, k):
        from learndyn.integrals.relu.orthants import quadrant

        return f.present[:k, None] * u * quadrant(f.angles[:k].theta)


@mutant("relu: I4 of four different fields is left out", "test_relu.py::test_learning_curve[3]")
def relu_without_quadruples() -> None:
    @replace(relu, "quadruples")
    def _(old, r, fields):
        return 0.0 * old(r, fields)


@mutant("linear: the label noise is missing from the averages", "test_linear.py")
def linear_without_noise() -> None:
    @replace(linear, "first_layer")
    def _(old, c, u, k, noise_variance):
        return old(c, u, k, 0.0 * noise_variance)


@mutant("eg is 2.5 % too large", "test_linear.py")
def eg_too_large() -> None:
    @replace(ClosedForm, "generalisation_error")
    def _(old, self, problem, state):
        return 1.025 * old(self, problem, state)


@mutant("averages over nodes: <c c> is <c><c>", "test_tanh.py")
def nodes_without_variance() -> None:
    @replace(NodeAverages, "field_averages")
    def _(old, self, problem, rule, state):
        found = old(self, problem, rule, state)
        return found._replace(Phi=jnp.outer(found.f, found.f))


@mutant("averages over nodes: <F> is 30 % too large", "test_tanh.py")
def nodes_bias_gradient() -> None:
    @replace(NodeAverages, "field_averages")
    def _(old, self, problem, rule, state):
        return _scaled(old(self, problem, rule, state), f=1.3)


def _drift_with(change) -> None:
    @replace(OverlapFlow, "overlap_drift")
    def _(old, self, rates, state, found):
        return change(old, self, rates, state, found)


@mutant("ODE: the lr² term of dQ is missing", COMMITTEE, CONSTANT)
def ode_without_fluctuation() -> None:
    _drift_with(lambda old, self, *given: old(self, *given[:2], _scaled(given[2], Phi=0.0)))


@mutant("ODE: the lr² term of dQ is 20 % too large", COMMITTEE)
def ode_too_much_fluctuation() -> None:
    _drift_with(lambda old, self, *given: old(self, *given[:2], _scaled(given[2], Phi=1.2)))


@mutant("ODE: R learns 3 % too slowly", COMMITTEE)
def ode_slow_overlap() -> None:
    def change(old, self, *given):
        dq, dr, dv, db = old(self, *given)
        return dq, 0.97 * dr, dv, db

    _drift_with(change)


@mutant("ODE: the second layer learns at half its rate", BOTH)
def ode_slow_second_layer() -> None:
    _drift_with(lambda old, self, *given: old(self, *given[:2], _scaled(given[2], h=0.5)))


@mutant("ODE: the sign of the pull between different students is wrong", COMMITTEE)
def ode_wrong_sign() -> None:
    def change(old, self, rates, state, found):
        k = state.k
        fields = found.with_fields(state.covariance)
        pull = fields[:, :k]
        own = jnp.diag(jnp.diagonal(pull))
        return old(self, rates, state, found._replace(fields=fields.at[:, :k].set(2 * own - pull)))

    _drift_with(change)


@mutant("fluctuations: the noise of an increment is 10 % too large", CONSTANT)
def noise_too_large() -> None:
    @replace(_fluctuations, "diffusion")
    def _(old, *given):
        return 1.1 * old(*given)


@mutant("fluctuations: the Lyapunov equation lacks J Sigma + Sigma J^T", CONSTANT)
def fluctuations_without_jacobian() -> None:
    @replace(OverlapFlow, "jacobian")
    def _(old, self, t, y):
        return 0.0 * old(self, t, y)


@mutant("fluctuations: off-diagonal entries of Q count once in the norm", CONSTANT)
def norm_of_upper_triangle() -> None:
    @replace(_fluctuations, "_full_weights")
    def _(old, flow, sigma):
        return sigma


@mutant(
    "momentum acts as lr (1 + beta) in place of lr / (1 - beta)",
    "test_algorithms.py::test_variant[momentum]",
)
def momentum_to_first_order() -> None:
    @replace(SGD, "effective_rates")
    def _(old, self, alpha):
        rates = self.rates(alpha)
        if self.momentum is None or self.has_slow_momentum:
            return rates
        return rates._replace(w=rates.w * (1 + self.momentum))


@mutant("ODE: weight decay acts once on Q, not twice", "test_algorithms.py::test_variant[decay]")
def decay_once() -> None:
    def change(old, self, rates, state, found):
        dq, dr, dv, db = old(self, rates, state, found)
        return dq + rates.w * self.rule.weight_decay * state.Q, dr, dv, db

    _drift_with(change)


@mutant("ODE: batches divide the lr² term by sqrt B", "test_algorithms.py::test_variant[batches]")
def batch_root() -> None:
    def change(old, self, rates, state, found):
        root = self.rule.batch_size**0.5
        return old(self, rates, state, _scaled(found, Phi=root))

    _drift_with(change)


@mutant("Langevin: the noise of a step is 15 % too strong", "test_langevin.py")
def langevin_noise_too_strong() -> None:
    @replace(_langevin, "diffusion")
    def _(old, *given):
        return 1.15**2 * old(*given)


@mutant("averages over nodes: eg is 3 % too large", "test_error.py")
def nodes_error_too_large() -> None:
    @replace(NodeAverages, "generalisation_error")
    def _(old, self, problem, state):
        return 1.03 * old(self, problem, state)


@mutant(
    "averages by series: <c rho> of one student and one teacher is 1e-4 too large",
    f"{PLATEAU}::test_symmetric_start[erf]",
    f"{PLATEAU}::test_end[erf]",
)
def series_not_symmetric() -> None:
    @replace(SeriesAverages, "field_averages")
    def _(old, self, *given):
        found = old(self, *given)
        return found._replace(G=found.G.at[0, -1].multiply(1.0001))


@mutant("averages by series: <F> is 30 % too large", f"{VARIANT}[biases]")
def series_bias_gradient() -> None:
    @replace(SeriesAverages, "field_averages")
    def _(old, self, *given):
        return _scaled(old(self, *given), f=1.3)


@mutant("averages by series: <c c> is 3 % too large", f"{PLATEAU}::test_end[erf]")
def series_product_too_large() -> None:
    @replace(SeriesAverages, "field_averages")
    def _(old, self, *given):
        return _scaled(old(self, *given), Phi=1.03)


@mutant(
    "ODE of groups: the root of the eigenvalue sets the pace of a direction",
    "test_real_images.py::test_digits",
)
def groups_paced_by_roots() -> None:
    @replace(FieldAverages, "of_group")
    def _(old, self, eigenvalue, *given):
        return old(self, eigenvalue**0.5, *given)


@mutant(
    "ODE of groups: the noise of a group lacks its eigenvalue",
    "test_structured_inputs.py::test_ode",
)
def groups_noise_without_eigenvalue() -> None:
    @replace(FieldAverages, "of_group")
    def _(old, self, eigenvalue, share, covariance):
        return _scaled(old(self, eigenvalue, share, covariance), Phi=1.0 / eigenvalue)
