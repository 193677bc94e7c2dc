"""Faults in gradient flow, and in what theory says of it."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from validation.mutants import mutant, replace

from learndyn import flow
from learndyn.flow import _coordinates
from learndyn.flow._objective import Objective
from learndyn.flow.conservation import laws
from learndyn.flow.jumps import _alternating, _linear, _modular
from learndyn.flow.jumps._linear_start import Rates
from learndyn.flow.jumps._signed_least_squares import SignedLeastSquares
from learndyn.flow.neuron import _implicit_bias
from learndyn.flow.neuron._closed_form import Riccati

NEURON, LINEAR = "test_flow_neuron.py", "test_flow_linear.py"
CONSERVED, JUMPS = "test_flow_conservation.py", "test_flow_jumps.py"
MODULAR, LAZY = "test_flow_modular.py", "test_flow_lazy.py"


@mutant("neuron: the closed form has the wrong sign of delta", f"{NEURON}::test_closed_form")
def neuron_wrong_delta() -> None:
    @replace(Riccati, "of")
    def _(old, *given):
        found = old(*given)
        return found._replace(d=-found.d)


@mutant("neuron: the preconditioner forgets the layers' rates", f"{NEURON}::test_kernel")
def preconditioner_without_rates() -> None:
    @replace(flow, "preconditioner")
    def _(old, beta, delta, *rates):
        return old(beta, delta)


@mutant("neuron: a never changes sign, as Theorem 3.1 is printed", f"{NEURON}::test_implicit_bias")
def bias_as_printed() -> None:
    @replace(_implicit_bias, "_sign")
    def _(old, parts):
        return old(parts)[0], jnp.sign(parts.start.a)


@mutant("conserved quantities forget the layers' rates", f"{CONSERVED}::test_identity")
def conserved_without_rates() -> None:
    @replace(laws, "known_quantity")
    def _(old, model, rates):
        return old(model, jax.tree.map(jnp.ones_like, rates))


@mutant(
    "finite steps: what is conserved changes as if it were linear in the weights",
    f"{CONSERVED}::test_finite_steps",
)
def steps_of_degree_one() -> None:
    @replace(laws, "_degree")
    def _(old, *given):
        return 1


@mutant("flow: all layers learn at the rate of the first", f"{CONSERVED}::test_drift")
def flow_with_one_rate() -> None:
    @replace(Objective, "drift")
    def _(old, self, numbers):
        first = jax.tree.leaves(self.rates)[0]
        same = jax.tree.map(lambda _: first, self.rates)
        return old(Objective(self.numbers, self.rest, self.data, same, self.decay), numbers)


@mutant("flow: the mean loss sums over samples", f"{JUMPS}::test_times_of_the_flow")
def loss_summed() -> None:
    @replace(_coordinates, "loss_of")
    def _(old, model, data):
        return old(model, data) / data.weight


@mutant("linear: modes grow as if inputs were white", f"{LINEAR}::test_modes")
def modes_of_white_inputs() -> None:
    @replace(flow, "linear_modes")
    def _(old, start, s, ts, *given):
        return old(start, s, ts)


@mutant("linear: jump times forget that rates differ", f"{LINEAR}::test_jump_times")
def times_of_equal_rates() -> None:
    @replace(Rates, "of")
    def _(old, lr):
        return old(lr)._replace(stretch=1.0)


@mutant("linear: one degree of freedom too many", f"{LINEAR}::test_law_of_times")
def one_degree_too_many() -> None:
    @replace(flow, "linear_jump_times")
    def _(old, *given):
        found = old(*given)
        return found._replace(freedom=found.freedom + 1)


@mutant(
    "linear: blocks that share nothing are not told apart",
    f"{LINEAR}::test_plateaus[blocks]",
    f"{LINEAR}::test_slopes[blocks]",
)
def blocks_forgotten() -> None:
    @replace(_linear, "blocks")
    def _(old, task):
        return [np.eye(len(task.syx))]


@mutant("linear: modes grow only after the one before", f"{LINEAR}::test_slopes[coupled]")
def utility_forgotten() -> None:
    @replace(_linear, "_times")
    def _(old, errors):
        return np.cumsum([1 / np.linalg.norm(e, 2) for e in errors[:-1]])


@mutant(
    "diagonal: coordinates never fall back to 0",
    f"{JUMPS}::test_times_of_the_flow",
    f"{JUMPS}::test_alternating_on_diagonal_networks",
)
def nothing_falls_back() -> None:
    @replace(SignedLeastSquares, "_shrink")
    def _(old, self, signs):
        self.values = self._least_squares()
        return []


@mutant(
    "alternating flows: neurons never fall asleep",
    f"{JUMPS}::test_alternating_on_diagonal_networks",
)
def nothing_falls_asleep() -> None:
    @replace(_alternating, "minimise_cost")
    def _(old, net, theta, floor, scale):
        return old(net, theta, 1e-12 * floor, scale)


@mutant(
    "alternating flows: the jump condition of degree 2 for every degree",
    f"{MODULAR}::test_alternating",
)
def jumps_of_degree_two() -> None:
    @replace(_alternating, "limits")
    def _(old, norms, threshold, degree):
        return old(norms, threshold, 2)


@mutant("linear: hidden units are not rotated", f"{JUMPS}::test_alternating_on_linear_networks")
def units_not_rotated() -> None:
    @replace(flow, "rotated_start")
    def _(old, w1, w2, *given):
        return w1, w2


@mutant(
    "modular addition: the utility is that of neurons of norm √3",
    f"{MODULAR}::test_utility",
    f"{MODULAR}::test_jump_time",
)
def utility_not_normalised() -> None:
    def larger(old, x):
        found = old(x)
        return found._replace(maxima=3**1.5 * found.maxima)

    replace(_modular, "modular_utility")(larger)
    replace(flow, "modular_utility")(larger)


@mutant("modular addition: levels are those of the mean over outputs", f"{MODULAR}::test_levels")
def levels_of_mean_outputs() -> None:
    @replace(flow, "modular_jumps")
    def _(old, x):
        found = old(x)
        loss = found.loss[0] - (found.loss[0] - found.loss) / 2
        return eqx.tree_at(lambda jumps: jumps.loss, found, loss)


@mutant("the sixth neuron of a frequency has the wrong phase", f"{MODULAR}::test_neurons_needed")
def sixth_neuron_turned() -> None:
    @replace(flow, "modular_neurons")
    def _(old, x, frequency):
        u, v, w = old(x, frequency)
        w[-1] *= -1
        return u, v, w


@mutant(
    "kernel distance is not squared",
    f"{LAZY}::test_kernel_distance",
    f"{LAZY}::test_lazy_exponents",
)
def kernel_distance_unsquared() -> None:
    @replace(flow, "kernel_distance")
    def _(old, k0, kt):
        return jnp.sqrt(old(k0, kt))


@mutant("the tangent kernel forgets the layers' rates", f"{LAZY}::test_kernel_distance")
def kernel_without_rates() -> None:
    @replace(flow, "ntk")
    def _(old, model, x, *rates):
        return old(model, x)
