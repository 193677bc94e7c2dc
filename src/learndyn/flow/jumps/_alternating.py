"""Alternating gradient flows: the general algorithm for sums of homogeneous neurons."""

from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from learndyn._checks import as_count, require_x64
from learndyn._types import CountLike, RealLike
from learndyn.flow.jumps._data import Samples, host, samples
from learndyn.flow.jumps._network import Network, Thetas, network
from learndyn.flow.jumps._phases import (
    Plateau,
    Sleepers,
    Speed,
    Stalled,
    limits,
    maximise_utility,
    minimise_cost,
)
from learndyn.flow.jumps._result import Jumps, unit_of_time

_TOGETHER = 1e-9
"""Neurons whose accumulated utility is this near to their limit, relative, jump together."""

_PARALLEL = 1e-6
"""Neurons whose outputs have a cosine nearer to 1 than this are one cluster."""

_CLUSTER = 0.9
"""A neuron of the cluster jumps along if it has come this far on its way: it would soon follow, in
a direction that the first one has already used up."""

_ROUNDS = 8
"""Cost phases of one jump, in which neurons may wake again. Diagonal networks of five to seven
inputs took one at every jump; where plateaus lie below the norm of falling asleep there is no end.
"""

_DIVERGED = 1e12
"""A parameter beyond this, over the threshold, shows that a plateau lies at infinity."""


Neuron = Any
"""A function of (theta, x) or (theta, x, aux_i), checked where it meets the data."""


def alternating(
    neuron: Neuron,
    degree: CountLike,
    data: Any,
    start: RealLike,
    aux: Any = None,
    threshold: RealLike = 1.0,
    max_jumps: CountLike | None = None,
) -> Jumps:
    """Plateaus and jumps of a sum of homogeneous neurons, f(x) = Σ_i neuron(theta_i, x).

    The algorithm alternates two phases, with U_i(theta) the correlation of neuron i with the
    residual (mean or sum as in data, sum over outputs):

    - Utility maximisation: with the residual frozen, neurons that sleep turn on the unit sphere,
      d theta/dt = |theta|^(degree - 2) (I - theta thetaᵀ) grad U, and accumulate utility,
      dS/dt = degree U, until one reaches S = log(threshold/|theta(0)|) for degree 2, or
      (|theta(0)|^(2 - degree) - threshold^(2 - degree))/(degree - 2).
    - Cost minimisation: gradient flow of those that are awake, from norm `threshold` (less where
      that would raise the loss), takes no time on this scale. A neuron whose norm falls to
      √(threshold |theta(0)|) falls asleep with the direction that it had when it woke.

    Parallel neurons that are near their jump wake together; then `clustered` is True, and later
    times are only rough: a rotation of the start often avoids it (see `rotated_start`).

    Error: 1e-9 in times for norms above 1e-6 of the start; small components below 1e-16 of the
    direction are lost, so a neuron that must turn round needs |theta(0)|² > 1e-14.

    Cost: some seconds for compilation once per neuron, and about one per jump; on the host, not
    traceable. Plateaus that lie at infinity are left when the flow has become flat; a phase that
    stalls, as ReLU neurons do at a kink that attracts them, ends the sequence (`stopped`).

    Args:
        neuron: neuron(theta, x) with theta (p,) and x (d,) -> () or (c,), or neuron(theta, x,
            aux_i); homogeneous in theta of `degree` >= 2, traceable by JAX.
        degree: of homogeneity of the neuron in theta, >= 2.
        data: `flow.Data`, or a pair (x, y).
        start: (neurons, p), whose norms are the small scale.
        aux: pytree of arrays, one entry per neuron (labels or signs).
        threshold: the norm at which a neuron counts as awake.
        max_jumps: None for ten per neuron.

    Returns:
        `flow.Jumps` with parameters (K + 1, neurons, p), active, utility, and alpha, the geometric
        mean of the start's norms, so that `.at(result.alpha)` gives times.

    Raises:
        ValueError: for a neuron that is not homogeneous, degree < 2, shapes, zero or too large
            starts, plateaus below the norm at which neurons fall asleep (a threshold too large for
            the data), complex or infinite input, float32.

    Source:
        Kunin et al., Alternating gradient flows (2025). Conjectured to be the limit of gradient
        flow; exact for diagonal networks. That neurons fall asleep by an event is derived here.

    Example:
        >>> data = flow.Data(x=np.eye(2), y=[2.0, -1.0], reduce="sum")
        >>> start = np.array([[1e-3, 0.0], [1e-3, 1e-9]])
        >>> product = lambda theta, x, axis: theta[0] * theta[1] * x @ axis
        >>> jumps = flow.alternating(product, 2, data, start, aux=np.eye(2))
        >>> np.round(jumps.times, 2), jumps.active
        (array([0.53, 1.05]), array([[False, False],
               [ True, False],
               [ True,  True]]))
    """
    require_x64("flow.alternating")
    degree = as_count(degree, "degree", "the homogeneity of the neuron", 2)
    given = _samples(data)
    start = host(start, "start", "alternating")
    level = float(host(threshold, "threshold", "alternating"))
    norms = _norms(start, level)
    net = network(neuron, degree, given, start, aux)
    limit = 10 * len(start) if max_jumps is None else as_count(max_jumps, "max_jumps", "a count", 0)
    state = Sleepers(
        start / norms[:, None], np.zeros(len(start)), limits(norms, level, degree), norms
    )
    return _Run(net, state, level).run(limit)


class _Run:
    """The state between phases. theta: parameters, 0 asleep; woken: directions when they woke."""

    def __init__(self, net: Network, state: Sleepers, threshold: float) -> None:
        self.net, self.state, self.threshold = net, state, threshold
        self.theta = np.zeros_like(state.direction)
        self.awake = np.zeros(len(state.norms), bool)
        self.norm_floor = np.sqrt(threshold * state.norms)
        self.time, self.clustered = 0.0, False
        slope = net.utility(state.direction, net.data.y)[1]
        self.scale = max(float(np.abs(slope).max()), np.finfo(float).tiny)

    def run(self, max_jumps: int) -> Jumps:
        """Both phases in turn until nothing is left, or until `max_jumps`."""
        self.rows, self.times, self.ties = [self._row()], [], []
        try:
            stopped = self._jump_until(max_jumps)
        except Stalled:
            stopped = "a phase stalled, for example at a kink"
        return self._result(stopped)

    def _jump_until(self, max_jumps: int) -> str:
        """Jump after jump; why there are no more."""
        while len(self.times) < max_jumps:
            wakes = self._utility_phase()
            if wakes is None:
                return "no positive utility"
            time, tied = self.time, wakes.sum() > 1
            before = self.net.loss(self.theta)[0]
            for _ in range(_ROUNDS):
                self._cost_phase(wakes, before)
                wakes = self._overdue()
                if not wakes.any():
                    break
            else:
                raise ValueError(_too_low(wakes, self.norm_floor))
            self.times.append(time)
            self.ties.append(tied)
            self.rows.append(self._row())
            if np.abs(self.theta).max() > _DIVERGED * self.threshold:
                return "the plateau lies at infinity"
        return "max_jumps reached"

    def _row(self) -> tuple[float, Thetas, Any, Any]:
        loss = self.net.loss(self.theta)[0]
        return loss, self.theta.copy(), self.awake.copy(), self.state.utility.copy()

    def _speed(self) -> Speed:
        residual = self.net.residual(self.theta)
        return Speed(self.net, self.state, ~self.awake, residual, self.threshold)

    def _utility_phase(self) -> Bool[np.ndarray, " neurons"] | None:
        """Turn and grow those that sleep; who wakes up."""
        if self.awake.all():
            return None
        speed = self._speed()
        found = maximise_utility(speed, self.scale)
        if found is None:
            return None
        elapsed, z = found
        direction, utility = speed.unpack(z)
        self.time += elapsed
        gap = (self.state.limit - utility) / self.state.limit
        wakes = ~self.awake & (gap <= _TOGETHER) & (speed.slopes(z)[0] > 0)
        wakes[np.argmin(np.where(self.awake, np.inf, gap))] = True
        self.state = self.state._replace(direction=direction, utility=utility)
        return wakes | self._cluster(wakes, gap)

    def _cluster(self, wakes: Any, gap: Any) -> Bool[np.ndarray, " neurons"]:
        """Neurons that are parallel to one that wakes, and nearly as far."""
        outputs = self.net.outputs(self.state.direction).reshape(len(wakes), -1)
        # A neuron without output is parallel to none: 1e-300 only prevents 0 / 0.
        outputs = outputs / np.maximum(np.linalg.norm(outputs, axis=1, keepdims=True), 1e-300)
        parallel = np.any(outputs @ outputs[wakes].T > 1 - _PARALLEL, axis=1)
        joins = parallel & ~wakes & ~self.awake & (gap <= 1 - _CLUSTER)
        self.clustered |= bool(joins.any())
        return joins

    def _overdue(self) -> Bool[np.ndarray, " neurons"]:
        """Neurons at their limit whose utility is positive on the new plateau wake at once."""
        speed = self._speed()
        value = speed.slopes(speed.pack())[0]
        ready = self.state.utility >= self.state.limit * (1 - _TOGETHER)
        # Utilities below 1e-10 of the scale are what rounding leaves of zero.
        return ~self.awake & ready & (value > 1e-10 * self.scale)

    def _cost_phase(self, wakes: Bool[np.ndarray, " neurons"], before: float) -> None:
        """To the next plateau. Neurons that fall asleep leave one by one."""
        self.state.utility[wakes] = self.state.limit[wakes]
        self.awake |= wakes
        self._place(wakes, before)
        while self.awake.any():
            members = np.flatnonzero(self.awake)
            found = self._flow(members)
            self.theta[members] = found.theta
            if found.fallen is None:
                return
            fallen = members[found.fallen]
            self.awake[fallen], self.theta[fallen] = False, 0.0

    def _flow(self, members: Any) -> Plateau:
        part = self.net.only(self.awake)
        return minimise_cost(part, self.theta[members], self.norm_floor[members], self.scale)

    def _place(self, wakes: Bool[np.ndarray, " neurons"], before: float) -> None:
        """At norm `threshold`, or where the loss is not above the plateau's."""
        size = self.threshold
        least = 2 * self.norm_floor[wakes].max()
        while True:
            self.theta[wakes] = size * self.state.direction[wakes]
            if self.net.loss(self.theta)[0] <= before or size / 2 < least:
                return
            size /= 2

    def _result(self, stopped: str) -> Jumps:
        loss, theta, awake, utility = (np.array(column) for column in zip(*self.rows, strict=True))
        alpha = float(np.exp(np.mean(np.log(self.state.norms))))
        return Jumps(
            times=np.array(self.times, float) / unit_of_time(alpha, self.net.degree),
            loss=loss,
            parameters=theta,
            active=awake,
            utility=utility,
            ties=np.array(self.ties, bool),
            clustered=self.clustered,
            degree=self.net.degree,
            alpha=alpha,
            stopped=stopped,
        )


def _samples(data: Any) -> Samples:
    if isinstance(data, tuple | list) and len(data) == 2:
        x, y = data
        return samples(x, y, "mean", "alternating")
    if hasattr(data, "x"):
        return samples(data, None, "mean", "alternating")
    raise ValueError(
        f"alternating needs samples, a flow.Data or a pair (x, y); got {type(data).__name__}. "
        "Moments do not say what a neuron that is not linear in x learns."
    )


def _too_low(wakes: Any, floor: Any) -> str:
    neuron = int(np.flatnonzero(wakes)[0])
    return (
        "On a plateau neurons must have norms above √(threshold |theta(0)|), below which they fall "
        f"asleep; neuron {neuron} falls below {floor[neuron]:.3g} as often as it wakes. Use a "
        "smaller start, or a threshold that is no larger than its norm on the plateau."
    )


def _norms(start: np.ndarray, threshold: float) -> Float[np.ndarray, " neurons"]:
    if start.ndim != 2 or not start.size:
        raise ValueError(f"start must have shape (neurons, p); got {start.shape}.")
    if not threshold > 0 or not np.isfinite(threshold):
        raise ValueError(f"threshold must be a norm > 0; got {threshold:g}.")
    norms = np.linalg.norm(start, axis=1)
    if not (norms > 0).all() or not (norms < threshold).all():
        raise ValueError(
            f"Every start must have a norm between 0 and threshold = {threshold:g}; norms range "
            f"from {norms.min():.3g} to {norms.max():.3g}."
        )
    return norms
