"""The limit n -> infinity: the drift of the overlaps, as a vector field for Diffrax."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from learndyn._numerics.linear_algebra import triu
from learndyn.averages import AbstractAverages, AbstractOneUnit, FieldAverages, seen_averages
from learndyn.problems import Problem, loss_slope_jumps
from learndyn.rules import AbstractRule, Rates
from learndyn.states import Overlaps, tested


class Velocity(NamedTuple):
    """Order parameters of slow momentum: S = w.u/n, U = u.u/n, V = u.w*/n with the scaled
    velocity u of the first layer, and the velocities of v and b."""

    S: Float[Array, "k k"]
    U: Float[Array, "k k"]
    V: Float[Array, "k m"]
    v: Float[Array, " k"]
    b: Float[Array, " k"]


class OverlapFlow(eqx.Module):
    """dy/dalpha = f(alpha, y), with y the independent coordinates of the overlaps.

    y holds the upper triangle of Q row by row, R, then v and b where they are trained, then
    the velocities' order parameters where momentum is slow. `pack` and `unpack` translate.

    Equation: dR = -lr (<F rho> + kappa R),
      dQ_ii' = -lr (<F_i lambda_i'> + <F_i' lambda_i> + 2 kappa Q_ii') + lr^2 <F_i F_i'> / B,
      dv = -lr_second <H>,  db = -lr_bias <F>,
    with (F, H) the rule's modulation; Goldt et al. (2020), Eq. (9), where it is the gradient of
    squared loss. Where each unit has its own rate, the rate of unit i stands with F_i and w_i.
    Constant momentum enters as lr / (1 - beta). A batch of infinite size has no second-order
    term. Spherical rules: see `on_sphere`.
    """

    problem: Problem
    rule: AbstractRule
    averages: AbstractAverages
    start: Overlaps

    def __call__(self, t: Any, y: Any, args: Any) -> Float[Array, " p"]:
        return self._at(jnp.asarray(t, float), y)

    @eqx.filter_jit  # traced once: Diffrax asks for it five times in a solve
    def _at(self, t: Array, y: Any) -> Float[Array, " p"]:
        return self.drift(t, y, self.averages_of(self.averages, self.unpack(y)))

    def averages_of(self, averages: AbstractAverages, state: Overlaps) -> FieldAverages:
        """Averages of the rule's modulation at `state`, by any averages."""
        return seen_averages(averages, self.problem, self.rule, state)

    def error_by(self, averages: AbstractAverages, state: Overlaps) -> Float[Array, ""]:
        """eg at `state`, of the student that is tested, by any averages."""
        return averages.generalisation_error(self.problem, tested(self.rule, state))

    def drift(self, t: Array, y: Any, averages: FieldAverages) -> Float[Array, " p"]:
        """dy/dt, given the averages at y."""
        state, velocity = self._unpack(y)
        rates = self.rule.effective_rates(t)
        if velocity is None:
            return self.coordinates(*self.overlap_drift(rates, state, averages))
        return self._momentum_drift(rates, state, velocity, averages)

    def jacobian(self, t: Float[Array, ""], y: Float[Array, " p"]) -> Float[Array, "p p"]:
        """J = df/dy in the independent coordinates, by the averages' own derivatives.

        Raises: ValueError where they cannot be right: a kinked loss with a trained second
        layer, whose jump moves with v while the derivatives act on the fields' measure.
        """
        splits = isinstance(self.averages, AbstractOneUnit)  # its nodes move with the kinks
        if self._trains_v and not splits and loss_slope_jumps(self.problem.loss):
            raise ValueError(
                "derivatives of averages need a loss without kinks where the second layer is "
                f"trained; got {self.problem.loss}. Choose Squared or Logistic, or set "
                "lr_second=None."
            )
        return jax.jacfwd(lambda y: self(t, y, None))(y)

    def pack(self, state: Overlaps) -> Float[Array, " p"]:
        """The coordinates y of `state`, with velocities at rest."""
        parts = self.coordinates(state.Q, state.R, state.v, state.b)
        if not self.rule.has_slow_momentum:
            return parts
        k, m = state.k, state.m
        # S, the upper triangle of U, V, and the velocities of v and b
        rest = k * k + k * (k + 1) // 2 + k * m + k * self._trains_v + k * self._trains_b
        return jnp.concatenate([parts, jnp.zeros(rest, parts.dtype)])

    def unpack(self, y: Float[Array, " p"]) -> Overlaps:
        """The overlaps at coordinates y."""
        return self._unpack(y)[0]

    @property
    def euclidean(self) -> Overlaps:
        """Overlaps of the weights at the start."""
        return self.start

    @property
    def _trains_v(self) -> bool:
        return self.rule.trains_second

    @property
    def _trains_b(self) -> bool:
        return self.rule.trains_biases

    def overlap_drift(
        self, rates: Rates, state: Overlaps, averages: FieldAverages
    ) -> tuple[Array, Array, Array, Array]:
        """dQ, dR, dv and db at `state`, without momentum."""
        dq, dr = self.free_drift(rates, state, averages)
        if self.rule.spherical:
            dq, dr = on_sphere(state, dq, dr)
        dv = -averages.h * (0.0 if rates.v is None else rates.v)
        db = -averages.f * (0.0 if rates.b is None else rates.b)
        return dq, dr, dv, db

    def free_drift(
        self, rates: Rates, state: Overlaps, averages: FieldAverages
    ) -> tuple[Array, Array]:
        """dQ and dR where no step is followed by a normalisation."""
        kappa, k = self.rule.weight_decay, state.k
        # <F_i lambda_i'> and <F_i rho_j>, by G times the covariance of the fields.
        with_fields = averages.with_fields(state.covariance)
        lr = rates.w[..., None]  # along the rows, where each unit has its own
        pull_q = lr * (with_fields[:, :k] + kappa * state.Q)
        dq = self.second_order(rates, averages) - (pull_q + pull_q.T)
        return dq, -lr * (with_fields[:, k:] + kappa * state.R)

    def second_order(self, rates: Rates, averages: FieldAverages) -> Array:
        """lr^2 <F_i F_i'> / B, what the squares of steps do to Q; 0 for a batch of all samples."""
        if self.rule.has_infinite_batch:
            return jnp.zeros_like(averages.Phi)
        return rates.w[..., None] * rates.w / self.rule.batch_size * averages.Phi

    def _momentum_drift(
        self, rates: Rates, state: Overlaps, velocity: Velocity, averages: FieldAverages
    ) -> Array:
        """The limit of momentum with 1 - beta = gamma/n and rates lr gamma/n."""
        dQ, dR, dS, dU, dV = self.matrix_drift(rates, state, velocity, averages)
        gamma = self.rule.momentum.gamma
        lr_v, lr_b = (0.0 if rate is None else rate for rate in (rates.v, rates.b))
        moved = self.coordinates(dQ, dR, -lr_v * velocity.v, -lr_b * velocity.b)
        pushed = self.coordinates(
            dU, dV, gamma * (averages.h - velocity.v), gamma * (averages.f - velocity.b)
        )
        return jnp.concatenate([moved, dS.ravel(), pushed])

    def matrix_drift(
        self, rates: Rates, state: Overlaps, velocity: Velocity, averages: FieldAverages
    ) -> tuple[Array, Array, Array, Array, Array]:
        """dQ, dR, dS, dU and dV under slow momentum."""
        dQ, dR, dS, dU, dV = self.velocity_drift(rates, state, velocity, averages)
        if self.rule.spherical:
            # Normalising shortens w alone, and so S = w.u/n.
            dS = dS - growth(state.Q, dQ)[:, None] * velocity.S
            dQ, dR = on_sphere(state, dQ, dR)
        return dQ, dR, dS, dU, dV

    def velocity_drift(
        self, rates: Rates, state: Overlaps, velocity: Velocity, averages: FieldAverages
    ) -> tuple[Array, Array, Array, Array, Array]:
        """dQ, dR, dS, dU and dV under slow momentum, where no step is followed by a
        normalisation."""
        gamma, kappa, k = self.rule.momentum.gamma, self.rule.weight_decay, state.k
        S, U, V = velocity.S, velocity.U, velocity.V
        with_fields = averages.with_fields(state.covariance)
        # <F_i mu_i'> with the velocities' fields mu, whose covariances with the fields are S and V.
        with_velocities = averages.G @ jnp.concatenate([S.T, V], axis=1).T
        # The velocity relaxes towards the gradient, decay included, at the rate gamma.
        push = with_velocities + kappa * S
        lr = rates.w[..., None]  # along the rows, where each unit has its own
        dS = gamma * (with_fields[:, :k].T + kappa * state.Q - S) - lr * U
        dU = gamma * (push + push.T - 2 * U)
        if not self.rule.has_infinite_batch:
            dU = dU + gamma**2 / self.rule.batch_size * averages.Phi
        dV = gamma * (with_fields[:, k:] + kappa * state.R - V)
        return -(lr * S.T + S * rates.w), -lr * V, dS, dU, dV

    def coordinates(
        self, q: Array, r: Array, v: Array | None, b: Array | None
    ) -> Float[Array, " p"]:
        """The independent coordinates of a (k, k) symmetric, a (k, m) and two (k,) arrays."""
        parts = [triu(q), r.ravel()]
        if self._trains_v and v is not None:
            parts.append(v)
        if self._trains_b and b is not None:
            parts.append(b)
        return jnp.concatenate(parts)

    def _unpack(self, y: Float[Array, " p"]) -> tuple[Overlaps, Velocity | None]:
        k = self.start.k
        q, r, v, b, y = self._take(y)
        state = _with_state(self.start, q, r, v, b)
        if not self.rule.has_slow_momentum:
            return state, None
        s, y = y[: k * k].reshape(k, k), y[k * k :]
        u, big_v, v, b, y = self._take(y)
        zero = jnp.zeros(k, q.dtype)
        return state, Velocity(s, u, big_v, zero if v is None else v, zero if b is None else b)

    def _take(self, y: Array) -> tuple[Array, Array, Array | None, Array | None, Array]:
        """Split off one (symmetric, k by m, v, b) group from the front of y."""
        k, m = self.start.k, self.start.m
        pairs = k * (k + 1) // 2
        q = y[:pairs][triu_positions(k)]
        r, y = y[pairs : pairs + k * m].reshape(k, m), y[pairs + k * m :]
        v, y = (y[:k], y[k:]) if self._trains_v else (None, y)
        b, y = (y[:k], y[k:]) if self._trains_b else (None, y)
        return q, r, v, b, y


def on_sphere(
    state: Overlaps, dq: Float[Array, "k k"], dr: Float[Array, "k m"]
) -> tuple[Float[Array, "k k"], Float[Array, "k m"]]:
    """Small changes of Q and R, where each w_i is then brought back to its length.

    Equation: dQ_ii' - Q_ii' (h_i + h_i') and dR_ij - R_ij h_i with h_i = dQ_ii / (2 Q_ii).
    """
    h = growth(state.Q, dq)
    return dq - state.Q * (h[:, None] + h), dr - h[:, None] * state.R


def growth(q: Float[Array, "k k"], dq: Float[Array, "k k"]) -> Float[Array, " k"]:
    """h_i, the relative change of |w_i|."""
    return jnp.diagonal(dq) / (2 * jnp.diagonal(q))


def _with_state(start: Overlaps, q: Array, r: Array, v: Array | None, b: Array | None) -> Overlaps:
    v = start.v if v is None else v
    b = start.b if b is None else b
    # Overlaps(...) would check again what is known; a vector field runs thousands of times.
    return eqx.tree_at(
        lambda s: (s.Q, s.R, s.v, s.b), start, (q, r, v, b), is_leaf=lambda leaf: leaf is None
    )


def triu_positions(size: int) -> np.ndarray:
    """Where each entry of a symmetric matrix stands in its upper triangle, row by row."""
    positions = np.zeros((size, size), int)
    rows, cols = np.triu_indices(size)
    positions[rows, cols] = positions[cols, rows] = np.arange(len(rows))
    return positions
