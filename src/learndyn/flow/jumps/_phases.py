"""The two phases of alternating gradient flows: utility maximisation and cost minimisation."""

import itertools
from typing import NamedTuple

import numpy as np
import scipy.integrate
from jaxtyping import Bool, Float

from learndyn.flow.jumps._events import Event
from learndyn.flow.jumps._network import Network, Thetas

_UTILITY_RTOL = 3e-14
"""The smallest relative tolerance that SciPy takes. A neuron that has nearly reached a maximum of
its utility keeps a small component, of size alpha^2, which decides when it can turn round."""

_UTILITY_ATOL = 3e-16
"""The absolute tolerance of directions: the rounding of their components."""

_COST_RTOL = 1e-8
"""The relative tolerance of the flow to the next plateau. Only its end matters, which Newton's
method then makes exact."""

_FLAT = 1e-7
"""The cost phase ends when the gradient has fallen to this, over its scale; then Newton's method
takes over, which from there converges in two or three steps."""

_EXACT = 1e-13
"""Newton's method ends at this gradient, over its scale: rounding."""

_HORIZON = 1e7
"""The cost phase is given up after this time, in units of one over the gradient's scale. Plateaus
that are only reached at infinity (neurons too few to fit) are left there, flat to 1e-7."""

_PATIENCE = 20.0
"""The utility phase is given up if no neuron has jumped after this many times the time that it
would take with the largest utility seen."""

_STILL = 1e-10
"""Utilities and their slopes below this, over the largest at the start, are rounding."""


_MAX_EVALUATIONS = 40_000
"""Evaluations of the right-hand side in one phase. Smooth neurons take 1e3 to 1e4; a neuron that is
drawn to a kink, as ReLU neurons with negative utility are, chatters there and never ends."""


class Stalled(Exception):
    """A phase used up its evaluations."""


class Sleepers(NamedTuple):
    """The state of the utility phase: unit directions, accumulated utility S, at what S they jump.

    norms: |theta_i(0)|; the norm at S is |theta_i(0)| e^S for degree 2, and above it
    (|theta_i(0)|^(2 - degree) - (degree - 2) S)^(1/(2 - degree)).
    """

    direction: Thetas
    utility: Float[np.ndarray, " neurons"]
    limit: Float[np.ndarray, " neurons"]
    norms: Float[np.ndarray, " neurons"]


def limits(
    norms: Float[np.ndarray, " neurons"], threshold: float, degree: int
) -> Float[np.ndarray, " neurons"]:
    """The accumulated utility at which the norm has grown to `threshold`."""
    if degree == 2:
        return np.log(threshold / norms)
    power = 2.0 - degree
    return (norms**power - threshold**power) / (degree - 2)


class Speed:
    """Directions and accumulated utilities of neurons that sleep, with a frozen residual.

    Equation: d theta/dt = |theta|^(degree - 2) (I - theta thetaᵀ) grad U, dS/dt = degree U, at the
    unit vector theta. States are flat: turns, then accumulated utilities. Their annotations
    name no shapes, because checks of shapes would take longer than the numbers.
    """

    def __init__(
        self,
        net: Network,
        state: Sleepers,
        asleep: Bool[np.ndarray, " neurons"],
        residual: Float[np.ndarray, "samples c"],
        threshold: float,
    ) -> None:
        self.net, self.state, self.asleep, self.residual = net, state, asleep, residual
        self.shape = state.direction.shape
        self.evaluations = 0
        # Trial steps of the solver may go beyond the jump.
        self.least = 0.5 * threshold ** (2.0 - net.degree)

    def pack(self) -> np.ndarray:
        # Differences to the start of the phase: a neuron that hardly turns loses no digits.
        return np.append(np.zeros(self.state.direction.size), self.state.utility)

    def unpack(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        theta = self.state.direction + z[: -len(self.asleep)].reshape(self.shape)
        return theta / np.linalg.norm(theta, axis=1, keepdims=True), z[-len(self.asleep) :]

    def slopes(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """U and its gradient on the sphere, zero for neurons that are awake."""
        theta, _ = self.unpack(z)
        value, slope = self.net.utility(theta, self.residual)
        across = slope - np.sum(slope * theta, 1, keepdims=True) * theta
        return value * self.asleep, across * self.asleep[:, None]

    def __call__(self, t: float, z: np.ndarray) -> np.ndarray:
        self.evaluations += 1
        if self.evaluations > _MAX_EVALUATIONS:
            raise Stalled
        value, across = self.slopes(z)
        degree = self.net.degree
        if degree > 2:
            inverse = self.state.norms ** (2.0 - degree) - (degree - 2) * self.unpack(z)[1]
            across = across / np.maximum(inverse, self.least)[:, None]
        return np.append(across.ravel(), degree * value)

    def ahead(self, z: np.ndarray) -> np.ndarray:
        """Accumulated utility beyond the limit: the first jump is where one of them crosses 0."""
        beyond = z[-len(self.asleep) :] - self.state.limit
        return np.where(self.asleep, beyond, -np.inf)


def maximise_utility(speed: Speed, scale: float) -> tuple[float, np.ndarray] | None:
    """Time until the first jump and the state there; None if no neuron ever jumps.

    scale: of utilities at the start.
    """

    crossing = Event(lambda t, z: float(np.max(speed.ahead(z))), direction=1.0)
    z, elapsed, best = speed.pack(), 0.0, 0.0
    # A neuron that fell asleep at its limit may have to shrink to its start's norm and grow again.
    gap = -speed.ahead(z)[speed.asleep].min() + 2 * speed.state.limit.max()
    while True:
        value, across = speed.slopes(z)
        best = max(best, value.max())
        # A neuron at the minimum of its utility has a slope of rounding only, but turns round.
        largest = max(np.abs(value).max(), np.abs(across).max())
        if max(best, largest) <= _STILL * scale:
            return None
        rate = best if best > _STILL * scale else largest
        until = _PATIENCE * gap / (speed.net.degree * rate)
        if elapsed >= until:
            return None
        options = {"method": "DOP853", "rtol": _UTILITY_RTOL, "atol": _UTILITY_ATOL}
        run = scipy.integrate.solve_ivp(speed, (elapsed, until), z, events=crossing, **options)
        if len(run.t_events[0]):
            return _land(speed, z, elapsed, float(run.t_events[0][0]))
        elapsed, z = until, run.y[:, -1]


def _land(speed: Speed, z: np.ndarray, begun: float, end: float) -> tuple[float, np.ndarray]:
    """The state at the jump by full steps: the solver's interpolation is less exact."""
    if end > begun:
        options = {"method": "DOP853", "rtol": _UTILITY_RTOL, "atol": _UTILITY_ATOL}
        z = scipy.integrate.solve_ivp(speed, (begun, end), z, **options).y[:, -1]
    # One step of Newton's method for the time
    leader = int(np.argmax(speed.ahead(z)))
    velocity = speed(end, z)
    growth = velocity[-len(speed.asleep) :][leader]
    wait = -speed.ahead(z)[leader] / growth if growth > 0 else 0.0
    return end + wait, z + wait * velocity


class Plateau(NamedTuple):
    """Where the cost phase ends. fallen: the neuron that fell asleep on the way, if one did."""

    theta: Thetas
    fallen: int | None


def minimise_cost(
    net: Network, theta: Thetas, floor: Float[np.ndarray, " neurons"], scale: float
) -> Plateau:
    """Gradient flow of the neurons that are awake, to the plateau, or until one of them falls.

    theta: of those neurons alone. floor: norms at which they fall asleep.
    """
    shape, evaluations = theta.shape, itertools.count()

    def field(t: float, z: np.ndarray) -> np.ndarray:
        if next(evaluations) > _MAX_EVALUATIONS:
            raise Stalled
        return -net.loss(z.reshape(shape))[1].ravel()

    def jacobian(t: float, z: np.ndarray) -> np.ndarray:
        return -net.hessian(z.reshape(shape))

    norms = lambda z: np.linalg.norm(z.reshape(shape), axis=1)
    flat = Event(lambda t, z: float(np.abs(field(t, z)).max() - _FLAT * scale), direction=-1.0)
    falls = Event(lambda t, z: float(np.min(norms(z) / floor - 1)), direction=-1.0)
    options = {"method": "Radau", "jac": jacobian, "rtol": _COST_RTOL, "atol": _COST_RTOL * 1e-3}
    run = scipy.integrate.solve_ivp(
        field, (0.0, _HORIZON / scale), theta.ravel(), events=[flat, falls], **options
    )
    end = run.y[:, -1].reshape(shape)
    if len(run.t_events[1]):
        return Plateau(end, int(np.argmin(np.linalg.norm(end, axis=1) / floor)))
    return Plateau(_polish(net, end, scale), None)


def _polish(net: Network, theta: Thetas, scale: float) -> Thetas:
    """Newton's method with the pseudo-inverse: directions along a valley are left alone."""
    slope = net.loss(theta)[1]
    # Eight steps double the digits more often than there are any.
    for _ in range(8):
        if np.abs(slope).max() <= _EXACT * scale:
            break
        step = np.linalg.pinv(net.hessian(theta), rcond=1e-10, hermitian=True) @ slope.ravel()
        trial = theta - step.reshape(theta.shape)
        following = net.loss(trial)[1]
        # Where Newton's method does not converge at once the valley has no bottom.
        if np.abs(following).max() > np.abs(slope).max() or np.abs(step).max() > 1e-2:
            break
        theta, slope = trial, following
    return theta
