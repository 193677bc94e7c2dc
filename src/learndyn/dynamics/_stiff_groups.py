"""A solver for spectra whose largest eigenvalues would force explicit solvers to small steps."""

from collections.abc import Callable
from typing import Any, ClassVar

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from learndyn._checks import is_concrete
from learndyn._types import Scalar, Times
from learndyn.dynamics._grouped_flow import GroupedFlow
from learndyn.dynamics._overlap_flow import OverlapFlow
from learndyn.dynamics._split_jacobian import SplitJacobian

_REACH = 3.3
"""How far Tsit5 is stable along the negative real axis: its steps are at most this over the largest
rate of decay."""

_MANY = 600.0
"""Explicit steps above which this solver is taken. It needs about 100 of its own for smooth and
stiff spectra alike, each of which costs as much as 5 or 6 of Tsit5's with a thousand groups."""

_ASYMMETRY = 1e-6
"""The largest asymmetry of G_lambda, over its size, that averages over nodes leave of a gradient's
symmetry. With more, the rule is another one, for which the method would lose its order."""

# Rodas5P: Steinebach (2023), BIT Numerical Mathematics 63:27, in the form that needs no product
# with the Jacobian. U_i solves (1/(gamma h) - J) U_i = f(y_i) + sum_j C_ij U_j / h + h d_i df/dt,
# where y_i = y + sum_j A_ij U_j is an estimate for the time c_i h.
_GAMMA = 0.21193756319429014
_A = [
    [],
    [3.0],
    [2.849394379747939, 0.45842242204463923],
    [-6.954028509809101, 2.489845061869568, -10.358996098473584],
    [2.8029986275628964, 0.5072464736228206, -0.3988312541770524, -0.04721187230404641],
    [
        -7.502846399306121,
        2.561846144803919,
        -11.627539656261098,
        -0.18268767659942256,
        0.030198172008377946,
    ],
]
_C = [
    [],
    [-14.155112264123755],
    [-17.97296035885952, -2.859693295451294],
    [147.12150275711716, -1.41221402718213, 71.68940251302358],
    [165.43517024871676, -0.4592823456491126, 42.90938336958603, -5.961986721573306],
    [
        24.854864614690072,
        -3.0009227002832186,
        47.4931110020768,
        5.5814197821558125,
        -0.6610691825249471,
    ],
    [
        30.91273214028599,
        -3.1208243349937974,
        77.79954646070892,
        34.28646028294783,
        -19.097331116725623,
        -28.087943162872662,
    ],
    [
        37.80277123390563,
        -3.2571969029072276,
        112.26918849496327,
        66.9347231244047,
        -40.06618937091002,
        -54.66780262877968,
        -9.48861652309627,
    ],
]
_TIMES = np.array(
    [0.0, 0.6358126895828704, 0.4095798393397535, 0.9769306725060716, 0.4288403609558664, 1, 1, 1]
)
_SLOPES = np.array(
    [_GAMMA, -0.42387512638858027, -0.3384627126235924, 1.8046452872882734, 2.325825639765069]
    + [0.0, 0.0, 0.0]
)
_DENSE = np.array(
    [
        [
            25.948786856663858,
            -2.5579724845846235,
            10.433815404888879,
            -2.3679251022685204,
            0.524948541321073,
            1.1241088310450404,
            0.4272876194431874,
            -0.17202221070155493,
        ],
        [
            -9.91568850695171,
            -0.9689944594115154,
            3.0438037242978453,
            -24.495224566215796,
            20.176138334709044,
            15.98066361424651,
            -6.789040303419874,
            -6.710236069923372,
        ],
        [
            11.419903575922262,
            2.8879645146136994,
            72.92137995996029,
            80.12511834622643,
            -52.072871366152654,
            -59.78993625266729,
            -0.15582684282751913,
            4.883087185713722,
        ],
    ]
)
"""Rodas5P's coefficients of the polynomial between two steps."""


def _padded(rows: list[list[float]]) -> np.ndarray:
    """(8, 8) with zeros behind each row."""
    return np.array([row + [0.0] * (8 - len(row)) for row in rows])


# The last stages start from the sum of all before them.
_STARTS = _padded([*_A, [*_A[5], 1.0], [*_A[5], 1.0, 1.0]])
_PAST = _padded(_C)


class Dense(diffrax.AbstractLocalInterpolation):
    """The polynomial between two steps."""

    t0: Scalar
    t1: Scalar
    y0: Float[Array, " p"]
    y1: Float[Array, " p"]
    bends: Float[Array, "3 p"]

    def evaluate(self, t0: Any, t1: Any = None, left: bool = True) -> Float[Array, " p"]:
        if t1 is not None:
            return self.evaluate(t1) - self.evaluate(t0)
        part = jnp.where(self.t1 == self.t0, 0.0, (t0 - self.t0) / (self.t1 - self.t0))
        one, two, three = self.bends
        bent = one + part * (two + part * three)
        return (1 - part) * self.y0 + part * (self.y1 + (1 - part) * bent)


class StiffGroups(diffrax.AbstractAdaptiveSolver):
    """Overlaps in groups of directions with any spectrum, in steps that the largest eigenvalue does
    not shorten.

    Rodas5P, a Rosenbrock method of order 5 with dense output of order 4: L-stable, so that groups
    which relax fast need no small steps. Each group is divided by its own part of the Jacobian,
    and what couples them has the rank of the fields' covariances, so that a step costs O(groups).
    `solve_ode` takes it by itself where Tsit5 would need more than 600 steps, by its limit of
    stability 3.3 / (2 lr (s_max g + kappa)) with the largest eigenvalues s_max of the spectrum and
    g of G_lambda at the start; not where the spectrum or the rate is traced (inside jit and vmap):
    there give `solver=ld.StiffGroups()`.

    Raises:
        ValueError: in `solve_ode` for starts that have no groups, slow momentum, spherical rules,
            a rate for each unit, and averages that jump. Rules that follow no gradient make it
            slow.

    Source:
        Steinebach (2023), BIT Numerical Mathematics 63:27; the Jacobian is derived here.

    Example:
        >>> spectrum = ld.Spectrum(eigenvalues=[0.5, 100.5], shares=[0.995, 0.005])
        >>> q, r, t = ([[[0.995 * x]], [[0.005 * x]]] for x in (0.2, 0.1, 1.0))
        >>> start = ld.GroupedOverlaps(q, r, t, spectrum)
        >>> run = ld.solve_ode(
        ...     ld.Problem(), ld.SGD(0.5), start, [0.0, 50.0], solver=ld.StiffGroups()
        ... )
        >>> int(run.stats["steps"]) < 300
        True
    """

    term_structure: ClassVar = diffrax.AbstractTerm
    interpolation_cls: ClassVar[Callable[..., Dense]] = Dense

    def order(self, terms: Any) -> int:
        """5."""
        return 5

    def init(self, terms: Any, t0: Any, t1: Any, y0: Any, args: Any) -> None:
        """Nothing is kept from step to step."""

    def func(self, terms: Any, t0: Any, y0: Any, args: Any) -> Any:
        """The vector field."""
        return terms.vf(t0, y0, args)

    def step(
        self, terms: Any, t0: Any, t1: Any, y0: Any, args: Any, solver_state: Any, made_jump: Any
    ) -> tuple[Any, ...]:
        """One step of Rodas5P."""
        # Under vmap a run that has ended goes on in steps of 0, whose results are dropped; but 1/h
        # would make its derivatives NaN.
        h, flow = jnp.where(t1 > t0, t1 - t0, 1.0), _flow_of(terms)
        divide = _divider(flow, t0, y0, 1 / (_GAMMA * h))
        # 0 without schedules
        drift_in_time = jax.jvp(lambda t: flow(t, y0, args), (t0,), (jnp.ones_like(t0),))[1]

        def stage(found: Float[Array, "8 p"], row: tuple[Array, ...]) -> tuple[Array, None]:
            index, start, past, time, slope = row
            moved, kept = jnp.stack([start, past / h]) @ found
            b = flow(t0 + time * h, y0 + moved, args) + kept + h * slope * drift_in_time
            return found.at[index].set(divide(b)), None

        rows = (jnp.arange(8), *(jnp.asarray(x) for x in (_STARTS, _PAST, _TIMES, _SLOPES)))
        found = jax.lax.scan(stage, jnp.zeros((8, len(y0)), y0.dtype), rows)[0]
        # The last stage is the difference of the two orders.
        error = found[7]
        y1 = y0 + jnp.asarray(_STARTS[7]) @ found + error
        dense = {"y0": y0, "y1": y1, "bends": jnp.asarray(_DENSE) @ found}
        return y1, error, dense, None, diffrax.RESULTS.successful


def chosen_solver(flow: OverlapFlow, ts: Times) -> diffrax.AbstractAdaptiveSolver:
    """Tsit5, or `StiffGroups` where the flow is known and stiff."""
    if not isinstance(flow, GroupedFlow) or not is_concrete(flow, ts) or misfit(flow) is not None:
        return diffrax.Tsit5()
    return StiffGroups() if _is_stiff(flow, ts) else diffrax.Tsit5()


def misfit(flow: OverlapFlow) -> str | None:
    """Why the Jacobian of a flow does not split as `StiffGroups` needs it; None where it does."""
    rate = jax.eval_shape(lambda: flow.rule.effective_rates(jnp.zeros(())).w)
    reasons = {
        "a start without groups": not isinstance(flow, GroupedFlow),
        "slow momentum": flow.rule.has_slow_momentum,
        "a spherical rule": flow.rule.spherical,
        "a rate for each unit": bool(rate.shape),
        "averages that jump": flow.averages.is_stepwise,
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def _is_stiff(flow: GroupedFlow, ts: Times) -> bool:
    """Whether an explicit solver would need many steps, of a rule that follows a gradient."""
    with jax.ensure_compile_time_eval():  # so that it is known inside jit as well
        first, last = (flow.rule.effective_rates(t).w for t in (ts[0], ts[-1]))
        span = 2 * float(jnp.maximum(first, last) * (ts[-1] - ts[0])) / _REACH
        largest, decay = float(flow.groups.spectrum.eigenvalues.max()), flow.rule.weight_decay
        # G is about |v|**2 or less; that spares most runs the averages.
        if span * (largest * max(1.0, float(jnp.sum(flow.start.v**2))) + decay) < _MANY:
            return False
        g = np.asarray(_push(flow))
        if np.abs(g - g.T).max() > _ASYMMETRY * np.abs(g).max():
            return False
        return bool(span * (largest * np.linalg.eigvalsh(g)[-1] + decay) > _MANY)


@eqx.filter_jit
def _push(flow: GroupedFlow) -> Float[Array, "k k"]:
    """G_lambda at the start."""
    return flow.averages_of(flow.averages, flow.start).G[:, : flow.groups.k]


def _divider(
    flow: GroupedFlow, t: Scalar, y: Float[Array, " p"], c: Scalar
) -> Callable[[Array], Array]:
    """b -> (c - J)**-1 b, whose derivatives need none of an eigenbasis, which may not exist."""
    still = lambda tree: jax.tree.map(
        lambda x: jax.lax.stop_gradient(x) if eqx.is_array(x) else x, tree
    )
    solve = SplitJacobian(*still((flow, t, y))).divider(still(c))
    product = lambda x: c * x - jax.jvp(lambda y: flow(t, y, None), (y,), (x,))[1]

    def divide(b: Array) -> Array:
        return jax.lax.custom_linear_solve(
            product,
            b,
            lambda _, b: solve(b),
            transpose_solve=lambda _, b: jax.linear_transpose(solve, b)(b)[0],
        )

    return divide


def _flow_of(term: Any) -> GroupedFlow:
    """The flow behind a term, which Diffrax wraps."""
    while not isinstance(term, diffrax.ODETerm):
        term = term.term
    flow: Any = term.vector_field
    return flow
