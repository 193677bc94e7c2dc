"""Faults in the experiments: SGD on weights, the overlap chain, starts, inputs, rules."""

import equinox as eqx
import jax.numpy as jnp
from validation.mutants import mutant, replace

import learndyn
from learndyn import SGD, Gaussian, HiddenManifold
from learndyn.dynamics.chain import _draws as chain_draws
from learndyn.dynamics.chain import _loop as chain_loop
from learndyn.dynamics.chain import _step as chain_step
from learndyn.dynamics.sgd import _step as sgd_step
from learndyn.dynamics.sgd import _stream as sgd_stream
from learndyn.rules import FeedbackAlignment

CONSTANT = "test_concentration.py::test_rate_and_constant[erf]"


@mutant("SGD: fields are divided by sqrt(n - 1)", "test_levels.py::test_law[erf-10]")
def fields_too_large() -> None:
    @replace(sgd_step, "batch_gradient")
    def _(old, problem, rule, parameters, samples, teacher):
        x, *rest = samples
        n = x.shape[1]
        return old(problem, rule, parameters, (x * (n / (n - 1)) ** 0.5, *rest), teacher)


@mutant("SGD: inputs have a variance of 1.03", "test_linear.py")
def inputs_too_wide() -> None:
    @replace(Gaussian, "sample")
    def _(old, self, *given):
        return 1.03**0.5 * old(self, *given)


@mutant("SGD: the label noise has twice its standard deviation", "test_linear.py")
def noise_doubled() -> None:
    @replace(sgd_stream, "_labelled")
    def _(old, problem, *given):
        louder = eqx.tree_at(lambda p: p.noise, problem, 2.0 * problem.noise)
        return old(louder, *given)


@mutant("SGD: biases stay where they are", "test_tanh.py")
def biases_still() -> None:
    @replace(sgd_step, "batch_gradient")
    def _(old, *given):
        gradient = old(*given)
        return gradient._replace(b=None if gradient.b is None else 0.0 * gradient.b)


@mutant(
    "SGD: the second layer's gradient is divided by sqrt n",
    "test_committee.py::test_both_layers[2]",
)
def second_layer_scaled() -> None:
    @replace(sgd_step, "batch_gradient")
    def _(old, *given):
        gradient = old(*given)
        n = gradient.w.shape[1]
        return gradient._replace(v=None if gradient.v is None else gradient.v * n**0.5)


@mutant("starts: weights have R 5 % too small", "test_concentration.py::test_rate_through_weights")
def start_without_exact_overlaps() -> None:
    @replace(learndyn, "weights_from_overlaps")
    def _(old, key, start, n):
        return old(key, eqx.tree_at(lambda s: s.R, start, 0.95 * start.R), n)


@mutant("chain: |x|² is replaced by n", "test_levels.py::test_law[relu-50]")
def chain_norm() -> None:
    @replace(chain_loop, "draw_block")
    def _(old, setting, *given, **keywords):
        draw = old(setting, *given, **keywords)
        length = jnp.sqrt(jnp.maximum(setting.n - (draw.z**2).sum(axis=-2), 0.0))
        outside = draw.outside.at[:, 0, 0].set(length[:, 0])
        return draw._replace(outside=outside)


@mutant(
    "chain: n - k - m degrees of freedom are replaced by n", "test_levels.py::test_law[relu-50]"
)
def chain_degrees_of_freedom() -> None:
    @replace(chain_loop, "draw_block")
    def _(old, setting, *given, rows, **keywords):
        seen = setting.teacher.shape[0] + rows
        more = eqx.tree_at(lambda s: s.sizes, setting, setting.sizes + seen)
        return old(more, *given, rows=rows, **keywords)


@mutant("chain: labels have no noise", "test_levels.py::test_law[relu-50]")
def chain_without_noise() -> None:
    @replace(chain_draws, "lane_labels")
    def _(old, problem, rho, zeta, *given):
        return old(problem, rho, 0.0 * zeta, *given)


@mutant("chain: what lies outside the frame has variance 1.05", CONSTANT)
def chain_outside_too_long() -> None:
    @replace(chain_draws, "wishart_factor")
    def _(old, *given):
        return 1.05**0.5 * old(*given)


@mutant("chain: the sample's direction along the teacher is 2 % too long", CONSTANT)
def chain_teacher_direction() -> None:
    @replace(chain_step, "_one_sample")
    def _(old, setting, state, draw, *given):
        m = state.rows_t.shape[1]
        return old(setting, state, draw._replace(z=draw.z.at[:, :m].multiply(1.02)), *given)


@mutant(
    "chain and SGD: a schedule is read once, at the start",
    "test_algorithms.py::test_variant[schedule]",
)
def schedule_frozen() -> None:
    # The ODE reads effective_rates, made from rates: give it the right one.
    right = SGD.rates

    @replace(SGD, "effective_rates")
    def _(old, self, alpha):
        return right(self, alpha) if self.momentum is None else old(self, alpha)

    @replace(SGD, "rates")
    def _(old, self, alpha):
        return old(self, 0.0 * jnp.asarray(alpha))


@mutant("chain: momentum is forgotten", "test_algorithms.py::test_variant[momentum]")
def chain_forgets_momentum() -> None:
    @replace(chain_step, "_rates")
    def _(old, *given):
        rates, beta = old(*given)
        return rates, None if beta is None else 0.0 * beta


@mutant(
    "chain: a batch's gradient is the mean over one sample fewer",
    "test_algorithms.py::test_variant[batches]",
)
def chain_batch_mean() -> None:
    @replace(chain_step, "_weight_gradient")
    def _(old, c, *given):
        batch = c.shape[0]
        return old(c, *given) * (batch / max(batch - 1, 1))


@mutant(
    "chain: the second layer learns at 0.9 of its rate",
    "test_concentration.py::test_rate_and_constant[both-layers]",
)
def chain_second_layer() -> None:
    @replace(chain_step, "_gradients")
    def _(old, *given):
        c, dv = old(*given)
        return c, 0.9 * dv


@mutant(
    "chain and SGD: feedback alignment sends the error through v, as SGD does",
    "test_algorithms.py::test_variant[feedback]",
)
def feedback_by_second_layer() -> None:
    # The ODE takes the closed form, which has the feedback itself.
    @replace(FeedbackAlignment, "modulation")
    def _(old, self, problem, sample, layers):
        return old(eqx.tree_at(lambda rule: rule.feedback, self, layers.v), problem, sample, layers)


@mutant(
    "hidden manifold: what its inputs do not show of the teacher is left out of the theory",
    "test_real_images.py::test_hidden_manifold[half]",
)
def manifold_shows_all() -> None:
    @replace(HiddenManifold, "T_unseen")
    def _(old, *given):
        return None


@mutant(
    "chain of groups: a small group has directions along all of its frame",
    "test_structured_inputs.py::test_law",
)
def chain_groups_without_edges() -> None:
    @replace(chain_draws, "_existing")
    def _(old, setting, z):
        return z


@mutant(
    "chain of groups: four more directions are outside of a group's frame than there are",
    "test_structured_inputs.py::test_law",
)
def chain_groups_too_large() -> None:
    @replace(chain_draws, "wishart_factor")
    def _(old, random, dof, *given):
        return old(random, dof + 4.0, *given)
