"""The network at its start, its data, and what theory says of them, as options ask for."""

import math
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from learndyn import flow
from learndyn.cli.flow.data import data_of, encoding_of, numbers
from learndyn.problems import ReLU
from learndyn.states import TwoLayer

_LAYERS = {"neuron": 2, "diagonal": 2, "relu": 2, "modular": 3}
"""How many layers have a rate of their own, in the order of the model's fields."""

_REST = 1.3
"""The last time over that of the last predicted jump: long enough to see that nothing follows."""

_TURNING = 3.0
"""The same for modular addition, whose units start in random directions and turn first."""

_HIDDEN = 20
"""Units of modular addition where nobody says how many: enough for two or three frequencies."""

_EFOLDS = 10.0
"""How many times the slowest mode of a neuron falls by a factor e, once it has grown."""

_GROWTHS = 3.0
"""The last time of ReLU units, in units of the time in which the fastest one becomes of order 1 at
its first rate: the others follow, and the loss falls to its first plateaus."""


class Problem(NamedTuple):
    """What is run, and what is predicted.

    starts: networks, one for each run; deltas: theirs, where there are several.
    end: the last time that theory suggests. jumps, and times: (jumps,) in the run's unit; None
    where theory has none; note: why there is none, or what it assumes. directions: extremal ones of
    ReLU units, by sign.
    """

    kind: str
    starts: list[Any]
    data: Any
    lr: Float[np.ndarray, " layers"]
    end: float | None = None
    jumps: flow.Jumps | None = None
    times: Float[np.ndarray, " jumps"] | None = None
    deltas: Float[np.ndarray, " runs"] | None = None
    directions: dict[int, np.ndarray] | None = None
    note: str | None = None


def problem_of(options: Any) -> Problem:
    """The network, its data and its theory.

    Raises: ValueError for options that do not go together; OSError where a file cannot be read.
    """
    kind = type(options).__name__.lower()
    if not 0 < options.scale < math.inf:
        raise ValueError(f"--scale must be > 0; got {options.scale:g}.")
    lr = _rates(options, kind)
    # Two generators, so that the start does not depend on the number of samples
    of_data, of_start = (np.random.default_rng([options.seed.seed, i]) for i in range(2))
    return _MAKERS[kind](options, lr, of_data, of_start)


def _rates(options: Any, kind: str) -> Float[np.ndarray, " layers"]:
    lr = numbers("lr", options.flow.lr)
    layers = options.depth if kind == "linear" else _LAYERS[kind]
    if len(lr) not in (1, layers) or not (lr >= 0).all() or not lr.any():
        raise ValueError(
            f"--lr must be one rate, or {layers} of them, >= 0 and not all 0; got "
            f"{options.flow.lr!r}."
        )
    return np.broadcast_to(lr, layers)


def _neuron(options: Any, lr: np.ndarray, of_data: Any, of_start: Any) -> Problem:
    data = data_of("neuron", options, of_data)
    deltas = numbers("delta", options.delta)
    sxx = _second_moments(data)[0]
    direction = _unit(of_start.normal(size=(1, len(sxx))))[0]
    sizes = [_balance(options.scale**2, delta, lr, (0, 1)) for delta in deltas]
    starts = [flow.LinearNeuron(a, w * direction) for a, w in sizes]
    speed = float(np.linalg.norm(_second_moments(data)[1])) * _clock(lr)
    _require_signal(speed)
    end = (max(-2 * math.log(options.scale), 0.0) + _EFOLDS) / speed
    return Problem("neuron", starts, data, lr, end, deltas=deltas if len(deltas) > 1 else None)


def _linear(options: Any, lr: np.ndarray, of_data: Any, of_start: Any) -> Problem:
    if options.hidden < 1 or options.depth < 1:
        raise ValueError(
            f"--hidden and --depth must be at least 1; got {options.hidden} and {options.depth}."
        )
    data = data_of("linear", options, of_data)
    sxx, syx = _second_moments(data)
    sizes = [len(sxx), *[options.hidden] * (options.depth - 1), len(syx)]
    shapes = zip(sizes[1:], sizes[:-1], strict=True)
    start = flow.LinearNetwork([options.scale * of_start.normal(size=shape) for shape in shapes])
    jumps = flow.linear_jumps(data)
    _require_signal(len(jumps.times))
    if note := _unpredicted(options.scale, lr):
        return Problem("linear", [start], data, lr, note=note)
    times, note = _linear_times(start, data, jumps, options.scale, lr)
    shown = _first_jumps(jumps, len(times))
    return Problem("linear", [start], data, lr, _REST * times.max(), shown, times, note=note)


def _linear_times(
    start: Any, data: Any, jumps: flow.Jumps, scale: float, lr: np.ndarray
) -> tuple[np.ndarray, str]:
    """Times of the jumps: those of this very start where moments commute, else to leading order."""
    leading = jumps.at(scale) / _clock(lr)
    w1, w2 = start.weights
    try:
        halves = flow.linear_jump_times(w1, w2, data, lr=lr.tolist()).times
    except ValueError:
        note = "times are those of the limit of small starts: inputs and labels do not commute"
        return leading[: len(w1)], note
    # The loss has fallen half of its way when a mode is at 1 - 1/sqrt 2, before its half height.
    growth = 2 * np.linalg.svd(_second_moments(data)[1], compute_uv=False)[: len(halves)]
    times = halves - math.log(1 + math.sqrt(2)) / (growth * _clock(lr))
    if not (np.diff(times, prepend=0.0) > 0).all():
        note = "times are those of the limit of small starts: modes of this start swap their order"
        return leading[: len(halves)], note
    return times, "times are those of this start"


def _diagonal(options: Any, lr: np.ndarray, of_data: Any, of_start: Any) -> Problem:
    data = data_of("diagonal", options, of_data)
    d = len(_second_moments(data)[0])
    start = flow.DiagonalNetwork(np.full(d, options.scale), np.zeros(d))
    jumps = flow.diagonal_jumps(data)
    _require_signal(len(jumps.times))
    if note := _unpredicted(options.scale, lr):
        return Problem("diagonal", [start], data, lr, note=note)
    times = jumps.at(options.scale) / _clock(lr)
    note = "times are those of the limit of small starts"
    return Problem("diagonal", [start], data, lr, _REST * times[-1], jumps, times, note=note)


def _relu(options: Any, lr: np.ndarray, of_data: Any, of_start: Any) -> Problem:
    if options.hidden < 1 or options.inputs < 1:
        raise ValueError(
            f"--hidden and --inputs must be at least 1; got {options.hidden}, {options.inputs}."
        )
    data = data_of("relu", options, of_data)
    d = data.x.shape[1]
    v, w = _balance(options.scale**2, options.delta, lr, (1, 0))
    directions = _unit(of_start.normal(size=(options.hidden, d)))
    signs = of_start.choice([-1.0, 1.0], size=options.hidden)
    start = TwoLayer(jnp.asarray(w * directions), jnp.asarray(v * signs), None, ReLU())
    utility = signs * np.mean(np.maximum(directions @ data.x.T, 0.0) * np.asarray(data.y), axis=1)
    _require_signal(utility.max())
    # Fields are w.x over the root of the number of inputs.
    rate = utility.max() / math.sqrt(d) * _clock(lr)
    end = _GROWTHS * (max(-math.log(options.scale), 0.0) + 1.0) / rate
    extremal = {s: flow.extremal_directions(data, sign=s) for s in (1, -1)} if d == 2 else None
    note = "no plateaus are predicted of ReLU units"
    return Problem("relu", [start], data, lr, end, directions=extremal, note=note)


def _modular(options: Any, lr: np.ndarray, of_data: Any, of_start: Any) -> Problem:
    x = encoding_of(options, of_data)
    jumps = flow.modular_jumps(x)
    units = options.scale * _unit(_units(options, x, jumps.frequencies, of_start))
    start, data = flow.ModularAddition(*np.split(units, 3, axis=1)), flow.modular_data(x)
    if note := _unpredicted(options.scale, lr, layers=3):
        return Problem("modular", [start], data, lr, note=note)
    times = jumps.at(options.scale) / lr[0]
    others = "" if options.aligned else "; others turn first, and jump later"
    end = (_REST if options.aligned else _TURNING) * times[-1]
    note = f"times are those of units that start aligned{others}"
    return Problem("modular", [start], data, lr, end, jumps, times, note=note)


def _units(options: Any, x: np.ndarray, frequencies: Any, of_start: Any) -> np.ndarray:
    """Directions (hidden, 3 p) of units that learn modular addition."""
    if options.aligned:
        if options.hidden is not None:
            raise ValueError(
                "--hidden would be ignored next to --aligned, which has six units each."
            )
        layers = [np.hstack(flow.modular_neurons(x, int(k))) for k in frequencies]
        return np.concatenate(layers)
    hidden = _HIDDEN if options.hidden is None else options.hidden
    if hidden < 1:
        raise ValueError(f"--hidden must be at least 1; got {hidden}.")
    return of_start.normal(size=(hidden, 3 * len(x)))


_MAKERS = {
    "neuron": _neuron,
    "linear": _linear,
    "diagonal": _diagonal,
    "relu": _relu,
    "modular": _modular,
}


def _balance(
    product: float, delta: float, lr: np.ndarray, order: tuple[int, int]
) -> tuple[float, float]:
    """a > 0 and |w| with a |w| = product and lr_w a**2 - lr_a |w|**2 = delta.

    order: places of lr_a and lr_w among the rates.
    """
    lr_a, lr_w = (lr[i] for i in order)
    if not (lr_a > 0 and lr_w > 0):
        raise ValueError("--lr must be > 0 for both layers, because delta sets their balance.")
    kappa = math.hypot(delta, 2 * math.sqrt(lr_a * lr_w) * product)
    if delta >= 0:
        a = math.sqrt((kappa + delta) / (2 * lr_w))
        return a, product / a
    w = math.sqrt((kappa - delta) / (2 * lr_a))
    return product / w, w


def _unpredicted(scale: float, lr: np.ndarray, layers: int = 2) -> str | None:
    """Why theory predicts no jumps; None where it does. layers: of the networks that it knows."""
    if len(lr) != layers or not lr.all():
        return f"jumps are predicted of {layers} layers that all learn"
    if layers > 2 and not (lr == lr[0]).all():
        return "jumps are predicted of equal rates"
    return None if scale < 1 else "jumps are predicted of starts of a scale below 1"


def _first_jumps(jumps: flow.Jumps, count: int) -> flow.Jumps:
    """The first jumps of a linear network, which has as many as hidden units at most."""
    if count == len(jumps.times):
        return jumps
    kept = {name: getattr(jumps, name) for name in ("loss", "maps")}
    cut = {name: array[: count + 1] for name, array in kept.items()}
    return flow.Jumps(
        jumps.times[:count], floor=jumps.floor, stopped="all hidden units are used", **cut
    )


def _second_moments(data: Any) -> tuple[np.ndarray, np.ndarray]:
    """sxx (d, d) and syx (c, d)."""
    if isinstance(data, flow.Moments):
        return np.asarray(data.sxx), np.asarray(data.syx)
    x, y = np.asarray(data.x), np.asarray(data.y).reshape(len(data.x), -1)
    return x.T @ x / len(x), y.T @ x / len(x)


def _clock(lr: np.ndarray) -> float:
    """The rate of two layers that learn at the rates lr: their geometric mean."""
    return float(np.exp(np.mean(np.log(lr)))) if lr.all() else 0.0


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _require_signal(size: Any) -> None:
    if not size > 0:
        raise ValueError(
            "there is nothing to learn: labels are not correlated with what the network can say at "
            "its start. Choose another --teacher, --data or --seed."
        )
