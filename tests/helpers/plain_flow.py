"""Gradient flow and descent once more, in plain NumPy, with gradients written by hand: they share
nothing with the library."""

import dataclasses
from collections.abc import Callable

import numpy as np
from scipy.special import erf

Layers = dict[str, np.ndarray]

UNITS = {
    "erf": (lambda x: erf(x / 2**0.5), lambda x: (2 / np.pi) ** 0.5 * np.exp(-(x**2) / 2)),
    "tanh": (np.tanh, lambda x: 1 / np.cosh(x) ** 2),
    "relu": (lambda x: np.maximum(x, 0.0), lambda x: 1.0 * (x > 0)),
}
"""Each unit's output and its derivative."""

LINEAR = ("neuron", "network", "deep", "diagonal")
"""Models that have an end-to-end matrix."""

SAMPLES, INPUTS, OUTPUTS, HIDDEN, SHIFTS = 5, 3, 2, 2, 3


@dataclasses.dataclass(frozen=True)
class Setting:
    """What is run, by names; numbers of what is switched on."""

    model: str = "neuron"
    data: str = "mean"
    rates: str = "one"
    way: str = "flow"
    decays: bool = False
    late: bool = False
    small: bool = False

    decay: float = 0.3
    mass: float = 0.4
    momentum: float = 0.6
    end: float = 1.2
    steps: int = 12

    @property
    def rate_of(self) -> dict[str, float]:
        """The rate of each layer."""
        names, size = list(start_of(self)), 0.7
        if self.way.startswith("descent"):
            size = 0.15
        factors = [1.0, 1.0, 1.0] if self.rates == "one" else [0.5, 1.0, 0.8]
        if self.rates == "frozen":
            factors[0] = 0.0
        return {name: size * factor for name, factor in zip(names, factors, strict=False)}


def start_of(setting: Setting) -> Layers:
    """Layers without symmetry, by the names that the library has for them."""
    rng, size = np.random.default_rng(5), 1e-3 if setting.small else 0.6
    if setting.model == "modular" and not setting.small:
        size = 0.3  # cubic outputs: descent would diverge from larger ones
    shapes = {
        "neuron": {"a": (), "w": (INPUTS,)},
        "network": {"0": (HIDDEN, INPUTS), "1": (OUTPUTS, HIDDEN)},
        "deep": {"0": (HIDDEN, INPUTS), "1": (HIDDEN, HIDDEN), "2": (OUTPUTS, HIDDEN)},
        "diagonal": {"u": (INPUTS,), "v": (INPUTS,)},
        "modular": dict.fromkeys(("u", "v", "w"), (HIDDEN, SHIFTS)),
    }
    two = {"w": (HIDDEN, INPUTS), "v": (HIDDEN,)}
    if setting.model.endswith("biases"):
        two["b"] = (HIDDEN,)
    return {
        name: size * rng.normal(size=shape)
        for name, shape in shapes.get(setting.model, two).items()
    }


@dataclasses.dataclass
class Samples:
    """Inputs and labels, and the factor of the sum over them in twice the loss."""

    x: np.ndarray
    y: np.ndarray
    weight: float


def samples_of(setting: Setting) -> Samples:
    rng = np.random.default_rng(6)
    weight = 1.0 / SAMPLES if setting.data != "sum" else 1.0
    inputs, scalar = INPUTS, setting.model not in ("network", "deep", "modular")
    if setting.model == "modular":
        x, y = rng.normal(size=(SAMPLES, 2 * SHIFTS)), rng.normal(size=(SAMPLES, SHIFTS))
        return Samples(x, y, weight)
    x, y = rng.normal(size=(SAMPLES, inputs)), rng.normal(size=(SAMPLES, OUTPUTS))
    return Samples(x, y[:, 0] if scalar else y, weight)


def moments_of(samples: Samples) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """E[x x^T], E[y x^T] and E[y y^T]."""
    x, y = samples.x, samples.y.reshape(len(samples.x), -1)
    return x.T @ x / len(x), y.T @ x / len(x), y.T @ y / len(x)


def loss_and_gradient(setting: Setting, layers: Layers, data: Samples) -> tuple[float, Layers]:
    model = setting.model
    if model in LINEAR:
        loss, gradient = _linear(model, layers, data)
        if setting.data == "moments":
            loss -= _least(data)
        return loss, gradient
    if model == "modular":
        return _modular(layers, data)
    return _two_layers(UNITS[model.split()[0]], layers, data)


def _linear(model: str, layers: Layers, data: Samples) -> tuple[float, Layers]:
    parts = list(layers.values())
    if model in ("neuron", "diagonal"):
        matrix = (parts[0] * parts[1])[None]
    else:
        matrix = np.linalg.multi_dot(parts[::-1])
    y = data.y.reshape(len(data.x), -1)
    miss = data.x @ matrix.T - y
    g = data.weight * miss.T @ data.x
    loss = data.weight * (miss**2).sum() / 2
    if model == "neuron":
        return loss, {"a": g[0] @ parts[1], "w": parts[0] * g[0]}
    if model == "diagonal":
        return loss, {"u": g[0] * parts[1], "v": g[0] * parts[0]}
    gradient = {}
    for i, name in enumerate(layers):
        above = np.eye(len(matrix))
        for part in parts[:i:-1]:
            above = above @ part
        below = np.eye(data.x.shape[1])
        for part in parts[:i]:
            below = part @ below
        gradient[name] = above.T @ g @ below.T
    return loss, gradient


def _least(data: Samples) -> float:
    """The loss of least squares."""
    y = data.y.reshape(len(data.x), -1)
    miss = data.x @ np.linalg.lstsq(data.x, y, rcond=None)[0] - y
    return data.weight * (miss**2).sum() / 2


def _modular(layers: Layers, data: Samples) -> tuple[float, Layers]:
    first, second = data.x[:, :SHIFTS], data.x[:, SHIFTS:]
    h = first @ layers["u"].T + second @ layers["v"].T
    miss = h**2 @ layers["w"] - data.y
    slope = 2 * h * (miss @ layers["w"].T)
    gradient = {"u": slope.T @ first, "v": slope.T @ second, "w": (h**2).T @ miss}
    return data.weight * (miss**2).sum() / 2, {x: data.weight * g for x, g in gradient.items()}


def _two_layers(unit: tuple, layers: Layers, data: Samples) -> tuple[float, Layers]:
    g, dg = unit
    fields = data.x @ layers["w"].T / INPUTS**0.5 + layers.get("b", 0.0)
    miss = g(fields) @ layers["v"] - data.y
    slope = miss[:, None] * dg(fields) * layers["v"]
    gradient = {"w": slope.T @ data.x / INPUTS**0.5, "v": g(fields).T @ miss, "b": slope.sum(0)}
    loss = data.weight * (miss**2).sum() / 2
    return loss, {name: data.weight * gradient[name] for name in layers}


# Runs


@dataclasses.dataclass
class Row:
    """What is to be found at one saved time. velocity: None where there is none."""

    layers: Layers
    velocity: Layers | None
    loss: float
    speed: float


def rows_of(setting: Setting) -> list[Row]:
    """At the start, the middle and the end."""
    data, layers = samples_of(setting), start_of(setting)
    still = {name: 0.0 * x for name, x in layers.items()}
    advance = _descend if setting.way.startswith("descent") else _flow
    middle = advance(setting, data, (layers, still))
    states = [(layers, still), middle, advance(setting, data, middle)]
    moves = setting.way in ("heavy ball", "descent with momentum")
    return [_row(setting, data, x, u if moves else None) for x, u in states]


def _row(setting: Setting, data: Samples, layers: Layers, velocity: Layers | None) -> Row:
    loss, gradient = loss_and_gradient(setting, layers, data)
    drift = _drift(setting, layers, gradient)
    speed = np.sqrt(sum((x**2).sum() for x in drift.values()))
    return Row(layers, velocity, loss, speed)


def _drift(setting: Setting, layers: Layers, gradient: Layers) -> Layers:
    decay = setting.decay * setting.decays
    if setting.way.startswith("descent"):
        decay /= 10
    rates = setting.rate_of
    return {x: -rates[x] * gradient[x] - decay * layers[x] for x in layers}


def _descend(setting: Setting, data: Samples, state: tuple[Layers, Layers]):
    """Half of all steps of descent."""
    layers, u = state
    beta = setting.momentum if setting.way.endswith("momentum") else 0.0
    decay = setting.decay / 10 * setting.decays
    for _ in range(setting.steps // 2):
        gradient = loss_and_gradient(setting, layers, data)[1]
        u = {x: beta * u[x] + gradient[x] for x in u}
        layers = {x: (1 - decay) * layers[x] - setting.rate_of[x] * u[x] for x in layers}
    return layers, u


FINE = {"smooth": 600, "bends": 2400}
"""Steps of Runge and Kutta's method for half of a flow: their error is below 1e-11; at each bend it
is of the order of a step's square."""


def _flow(setting: Setting, data: Samples, state: tuple[Layers, Layers]):
    """Half of a flow, by the classical method of Runge and Kutta."""
    fine = FINE["bends" if setting.model.startswith("relu") else "smooth"]
    h = setting.end / 2 / fine
    slope = lambda at: _slope(setting, data, at)
    for _ in range(fine):
        a = slope(state)
        b = slope(_ahead(state, a, h / 2))
        c = slope(_ahead(state, b, h / 2))
        d = slope(_ahead(state, c, h))
        for way, factor in ((a, 1), (b, 2), (c, 2), (d, 1)):
            state = _ahead(state, way, factor * h / 6)
    return state


def _slope(setting: Setting, data: Samples, state: tuple[Layers, Layers]):
    layers, velocity = state
    drift = _drift(setting, layers, loss_and_gradient(setting, layers, data)[1])
    if setting.way == "flow":
        return drift, velocity
    push = {x: (drift[x] - velocity[x]) / setting.mass for x in drift}
    return velocity, push


def _ahead(state: tuple[Layers, Layers], way: tuple[Layers, Layers], h: float):
    move: Callable = lambda at, by: {x: at[x] + h * by[x] for x in at}
    return move(state[0], way[0]), move(state[1], way[1])
