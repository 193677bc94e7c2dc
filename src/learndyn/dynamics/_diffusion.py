"""The noise of learning: how the increments of the overlaps scatter from sample to sample."""

import dataclasses
import warnings

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from learndyn._checks import brief, is_concrete
from learndyn.averages import (
    AbstractNodes,
    GaussHermite,
    NodeAverages,
    choose_nodes,
    has_biases,
    is_linear_in_error,
    reach_of,
    takes_error_signal,
)
from learndyn.dynamics._grouped_flow import GroupedFlow, Matrices
from learndyn.dynamics._overlap_flow import OverlapFlow, on_sphere
from learndyn.dynamics._prepare import require_finite_batch, require_local
from learndyn.problems import Problem, polynomial_degree
from learndyn.rules import AbstractRule, Modulation
from learndyn.states import Overlaps

_RANK = 1e-12
"""Eigenvalues of C below this times the largest are rounding of 0."""

_MAX_EXACT_NODES = 3**9
"""Up to here nodes that integrate polynomial increments exactly are cheap: of linear networks in
nine dimensions, of quadratic ones in five."""

_SAFETY, _STANDARD_ERRORS = 2.0, 6.0
"""Times the difference from finer nodes, which are not exact either; times the standard error of a
few replicates, as for averages."""

_COARSE = 0.5
"""Error of the diffusion matrix, over its largest entry, beyond which a standard deviation may be
off by a quarter."""


def noise_averages(
    problem: Problem,
    rule: AbstractRule,
    start: Overlaps,
    nodes: AbstractNodes | None = None,
    *,
    default: AbstractNodes | None = None,
) -> NodeAverages:
    """Nodes for the diffusion matrix: it has products of up to four gradients, beyond the
    closed forms. Where these are polynomials, few nodes are exact.
    """
    require_finite_batch(rule, "a theory of fluctuations")
    require_local(rule, "a theory of fluctuations")
    sizes = {"rule": rule, "biases": has_biases(start, rule)}
    # The weights move along noisy inputs, whose fields the fields of a sample do not tell.
    sizes |= {"reach": reach_of(start), "more": 0 if rule.input_noise is None else start.m}
    if nodes is None:
        exact = _exact_nodes(problem, rule, start.k + start.m + sizes["more"])
        if exact is not None:
            ready = choose_nodes(problem, start.k, start.m, nodes=exact, **sizes)
            return dataclasses.replace(ready, exact=True)
    if nodes is not None and not isinstance(nodes, AbstractNodes):
        raise ValueError(
            "noise_nodes must be a set of nodes such as ld.averages.QuasiMonteCarlo(), or None; "
            f"got {brief(nodes)}."
        )
    return choose_nodes(problem, start.k, start.m, nodes=nodes or default, **sizes)


def _exact_nodes(problem: Problem, rule: AbstractRule, dims: int) -> GaussHermite | None:
    """Nodes that are exact for the product of two increments; None where these are no polynomials
    of the fields, or the nodes too many."""
    if not (takes_error_signal(problem, None) and is_linear_in_error(problem, rule)):
        return None
    own, taught = (polynomial_degree(g) for g in (problem.student, problem.teacher))
    if own is None or taught is None:
        return None
    output = max(1, own, taught)
    pull = max(0, own - 1) + output
    increment = max(pull + 1, 2 * pull, own + output)  # of R, Q and v
    # Gauss-Hermite with n nodes integrates polynomials up to degree 2 n - 1 exactly.
    order = increment + 1
    return GaussHermite(order) if order**dims <= _MAX_EXACT_NODES else None


@eqx.filter_jit  # traced once, like the flow
def diffusion(
    flow: OverlapFlow, nodes: NodeAverages, t: Float[Array, ""], y: Float[Array, " p"]
) -> Float[Array, "p p"]:
    """D(m) of any flow, in its independent coordinates."""
    if isinstance(flow, GroupedFlow):
        return _of_groups(flow, nodes, t, y)
    return _of_white_inputs(flow, nodes, t, y)


def _of_groups(
    flow: GroupedFlow, nodes: NodeAverages, t: Float[Array, ""], y: Float[Array, " p"]
) -> Float[Array, "p p"]:
    """D(m) for groups of directions.

    Given the fields f of a sample, those of the groups, f_l, are Gaussian with the means
    s_l C_l C^+ f and the covariances s_l C_l delta_lm - s_l s_m C_l C^+ C_m. xi is linear in them:
    its covariance is that of its mean given f, over nodes, and Phi times those covariances.

    Equation: xi_R_l = -lr F rho_l, xi_Q_l = -lr (F lambda_l + lambda_l F)
      + lr^2 s_l f_l F F / B, with s_l the eigenvalue and f_l the share of group l.
    """
    rule, k, spectrum = flow.rule, flow.groups.k, flow.groups.spectrum
    rates, state, at = rule.effective_rates(t), flow.unpack(y), flow.matrices(y)
    groups = eqx.tree_at(lambda g: (g.Q, g.R), flow.groups, (at.Q, at.R))
    own = spectrum.eigenvalues[:, None, None] * groups.covariances  # s_l C_l
    # Conditioning of Gaussian numbers, at any rank of C
    told = own @ jnp.linalg.pinv(state.covariance, rtol=_RANK, hermitian=True)
    second = spectrum.eigenvalues * spectrum.shares / rule.batch_size

    def pulled(moved: Array, fields: Float[Array, "groups d"]) -> Matrices:
        """What one sample does to the overlaps, to first order in the rate."""
        pull = -moved[:, None] * fields[:, None, :]  # (groups, k, d)
        q = pull[:, :, :k]
        return Matrices(q + jnp.swapaxes(q, 1, 2), pull[:, :, k:])

    def increment(lam: Array, rho: Array, found: Modulation) -> Array:
        moved = rates.w * found.c
        mean = pulled(moved, told @ jnp.concatenate([lam, rho]))
        change = mean._replace(Q=mean.Q + second[:, None, None] * jnp.outer(moved, moved))
        dv = None if rates.v is None else -rates.v * found.dv
        db = None if rates.b is None else -rates.b * found.c
        return flow.flat(flow.on_sphere(at, change), flow.of_vectors(dv, db))

    covariance = nodes.covariance_of(flow.problem, flow.averaged, state, increment)
    covariance = covariance if rule.is_episode else covariance / rule.batch_size

    def scattered(i: Array, j: Array) -> Array:
        """The change of F = e_i where the field of group and unit j is 1."""
        count, d = own.shape[:2]
        moved = jnp.zeros(k).at[i].set(1.0) * rates.w
        fields = jnp.zeros(count * d).at[j].set(1.0).reshape(count, d)
        still = jnp.zeros(k)
        return flow.flat(flow.on_sphere(at, pulled(moved, fields)), flow.of_vectors(still, still))

    count, d = own.shape[:2]
    basis = jax.vmap(jax.vmap(scattered, (None, 0)), (0, None))(
        jnp.arange(k), jnp.arange(count * d)
    )  # (k, groups d, p)
    left = jax.scipy.linalg.block_diag(*own) - jnp.einsum("lab,mcb->lamc", told, own).reshape(
        count * d, count * d
    )
    Phi = flow.averages_of(flow.averages, state).Phi
    rest = jnp.einsum("ij,iap,ab,jbq->pq", Phi, basis, left, basis, optimize=True)
    return covariance + rest / rule.batch_size


def _of_white_inputs(
    flow: OverlapFlow, nodes: NodeAverages, t: Float[Array, ""], y: Float[Array, " p"]
) -> Float[Array, "p p"]:
    """D(m) = Cov(xi) / B in the independent coordinates.

    For episodes it is the covariance of a whole step, the mean of xi over the episode.
    Equation: xi_R = -lr F rho, xi_Q_ii' = -lr (F_i lambda_i' + F_i' lambda_i) + lr^2 F_i F_i' / B,
    xi_v = -lr_second H, xi_b = -lr_bias F: the increment of one sample, times n; where the rule
    is spherical, normalised by `on_sphere`.
    """
    rule, problem = flow.rule, flow.problem
    rates, state = rule.effective_rates(t), flow.unpack(y)
    size = 1.0 if rule.input_noise is None else 1.0 + rule.input_noise**2  # |x|^2/n

    def increment(lam: Array, rho: Array, found: Modulation) -> Array:
        moved = rates.w * found.c
        pull = -jnp.outer(moved, lam)
        dq = pull + pull.T + size * jnp.outer(moved, moved) / rule.batch_size
        dr = -jnp.outer(moved, rho)
        if rule.spherical:
            dq, dr = on_sphere(state, dq, dr)
        dv = None if rates.v is None else -rates.v * found.dv
        db = None if rates.b is None else -rates.b * found.c
        return flow.coordinates(dq, dr, dv, db)

    covariance = nodes.covariance_of(problem, rule, state, increment)
    # That of an episode is the covariance of a whole step already.
    return covariance if rule.is_episode else covariance / rule.batch_size


@eqx.filter_jit
def noise_error(
    flow: OverlapFlow,
    nodes: NodeAverages,
    ts: Float[Array, " times"],
    ys: Float[Array, "times p"],
    finer: NodeAverages | None = None,
) -> Float[Array, ""]:
    """Error of D(m) from its nodes, over its largest entry, the largest of all times; NaN where one
    set of random nodes tells none.

    Replicates: six times their standard error. Product rules: the difference from a coarser one.
    finer: nodes with which these are compared, where they are too few to tell their own error:
    twice the difference.
    """
    if nodes.exact:
        return jnp.zeros(())
    neighbours, by_replicates = nodes.neighbours(), False
    if finer is not None:
        compared = [nodes, finer]
    elif neighbours is not None:
        compared = [neighbours[0], nodes]
    elif nodes.replicates < 2:
        return jnp.full((), jnp.nan)
    else:
        compared = [nodes.replicate(jnp.asarray(i)) for i in range(nodes.replicates)]
        by_replicates = True
    sets = [_joined(one) for one in compared]
    longest = max(len(weight) for _, weight in sets)
    fill = lambda x: jnp.pad(x, [(0, longest - len(x)), *[(0, 0)] * (x.ndim - 1)])
    # As many nodes in each, so that D, which is dear to compile, is compiled once for all:
    # `estimated`, which judges averages, would compile it up to four times.
    stacked = [jnp.stack([fill(one) for one in parts]) for parts in zip(*sets, strict=True)]

    def at(row: tuple[Array, Array]) -> Array:
        of = lambda one: diffusion(flow, nodes.over((one[0][None], one[1])), *row)
        each = jax.lax.map(of, tuple(stacked))
        if by_replicates:
            size = jnp.max(jnp.abs(jnp.mean(each, axis=0)))
            scatter = jnp.max(jnp.std(each, axis=0, ddof=1))
            error = _STANDARD_ERRORS * scatter / len(sets) ** 0.5
        else:
            size = jnp.max(jnp.abs(each[1]))
            error = jnp.max(jnp.abs(each[0] - each[1])) * (1.0 if finer is None else _SAFETY)
        return jnp.where(error == 0, 0.0, error / jnp.where(size > 0, size, 1e-300))

    return jnp.max(jax.lax.map(at, (ts, ys)))


def _joined(nodes: NodeAverages) -> tuple[Array, Array]:
    """The nodes of all replicates, and their weights."""
    count, points, dims = nodes.z.shape
    weight = jnp.broadcast_to(nodes.weight / count, (count, points))
    return nodes.z.reshape(-1, dims), weight.ravel()


def warn_of_noise(error: Array) -> None:
    """A warning where nodes are too coarse for the noise. Inside jit there is none."""
    if is_concrete(error) and np.any(np.asarray(error) > _COARSE):
        warnings.warn(
            f"the error of the noise's covariance from its nodes is {float(np.max(error)):.2g} of "
            "its largest entry: standard deviations may be off by half of that. Give noise_nodes=, "
            "for example ld.averages.QuasiMonteCarlo(2**15, symmetric=True), and compare.",
            RuntimeWarning,
            stacklevel=3,
        )


def require_no_slow_momentum(rule: AbstractRule, function: str) -> None:
    """Raises: ValueError for `SlowMomentum`, whose velocities fluctuate too, which no theory here
    describes."""
    if rule.has_slow_momentum:
        raise ValueError(
            f"{function} needs no momentum or constant momentum (a number beta); got SlowMomentum. "
            "For its spread at finite n use an ensemble of simulate_chain."
        )
