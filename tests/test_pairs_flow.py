"""Gradient flow and descent in pairs: models, data, rates, decay, mass and momentum against plain
NumPy, which shares nothing with the library."""

import jax.numpy as jnp
import numpy as np
import plain_flow
import pytest
from allpairspy import AllPairs
from faults import Fault, forget
from plain_flow import LINEAR, Setting

import learndyn as ld
from learndyn import flow
from learndyn.flow import _flow as flow_module
from learndyn.flow import _objective as loss_module
from learndyn.flow._objective import Objective

TWO_LAYERS = ["erf", "tanh biases", "relu", "relu biases"]
FACTORS = {
    "model": [*LINEAR, "modular", *TWO_LAYERS],
    "data": ["mean", "sum", "moments", "moments and labels"],
    "rates": ["one", "by name", "in order", "as a model", "frozen"],
    "way": ["flow", "heavy ball", "descent", "descent with momentum"],
    "decays": [False, True],
    "late": [False, True],
    "small": [False, True],
}


def can_be(row):
    """Whether the library has this combination; of the first few values, whether it can be."""
    of = dict(zip(FACTORS, row, strict=False))
    return not (of.get("data", "").startswith("moments") and of["model"] not in LINEAR)


ROWS = [Setting(*row) for row in AllPairs(list(FACTORS.values()), filter_func=can_be)]
# Three at once: the dual variable, in which a diagonal network moves where nothing decays
ROWS += [
    Setting("diagonal", rates=rates, small=small)
    for rates, small in (("frozen", False), ("in order", True))
]


# One setting, as the library has it


def model_of(setting, layers):
    if setting.model == "neuron":
        return flow.LinearNeuron(**layers)
    if setting.model in ("network", "deep"):
        return flow.LinearNetwork(list(layers.values()))
    if setting.model == "diagonal":
        return flow.DiagonalNetwork(**layers)
    if setting.model == "modular":
        return flow.ModularAddition(**layers)
    units = {"erf": ld.Erf(), "tanh": ld.Tanh(), "relu": ld.ReLU()}
    arrays = {name: jnp.asarray(layers[name]) if name in layers else None for name in "wvb"}
    return ld.TwoLayer(**arrays, activation=units[setting.model.split()[0]])


def layers_of(setting, model):
    if setting.model in ("network", "deep"):
        return {str(i): np.asarray(w) for i, w in enumerate(model.weights)}
    return {name: np.asarray(getattr(model, name)) for name in plain_flow.start_of(setting)}


def data_of(setting):
    samples = plain_flow.samples_of(setting)
    if setting.data.startswith("moments"):
        sxx, syx, syy = plain_flow.moments_of(samples)
        return flow.Moments(sxx, syx, syy if setting.data.endswith("labels") else None)
    return flow.Data(samples.x, samples.y, reduce="sum" if setting.data == "sum" else "mean")


def rates_of(setting):
    rates = setting.rate_of
    if setting.rates == "one":
        return next(iter(rates.values()))
    if setting.rates == "as a model":
        return model_of(setting, rates)
    if setting.rates == "by name" and setting.model not in ("network", "deep"):
        return rates
    return list(rates.values())


def run_of(setting):
    model, data = model_of(setting, plain_flow.start_of(setting)), data_of(setting)
    rates = rates_of(setting)
    if setting.way.startswith("descent"):
        momentum = setting.momentum if setting.way.endswith("momentum") else 0.0
        steps, decay = np.array([0, 0.5, 1]) * setting.steps, setting.decay / 10 * setting.decays
        return flow.gradient_descent(model, data, steps, rates, momentum, decay)
    mass = setting.mass if setting.way == "heavy ball" else None
    ts = np.array([0, 0.5, 1]) * setting.end + (2.0 if setting.late else 0.0)
    decay, rtol = setting.decay * setting.decays, 1e-9 if bends(setting) else None
    return flow.gradient_flow(model, data, ts, rates, rtol, decay=decay, mass=mass)


def bends(setting):
    return setting.model.startswith("relu")


EXACT, KINKED = 1e-8, 1e-5
"""Largest error over the largest number of a layer in a run: a hundred tolerances of the library,
whose global errors are a few times as large; where units bend, both methods lose orders there."""


def worst_of(setting):
    """The largest miss over what it may be, at three times."""
    run, right = run_of(setting), plain_flow.rows_of(setting)
    found = [layers_of(setting, run.at(i)) for i in range(3)]
    found = {name: np.stack([row[name] for row in found]) for name in found[0]}
    wanted = {name: np.stack([row.layers[name] for row in right]) for name in found}
    found |= {"loss": np.asarray(run.loss), "speed": np.asarray(run.speed)}
    wanted |= {name: np.array([getattr(row, name) for row in right]) for name in ("loss", "speed")}
    if right[0].velocity is not None:
        velocity = layers_of(setting, run.velocity)
        found |= {f"velocity {x}": velocity[x] for x in velocity}
        wanted |= {f"velocity {x}": np.stack([row.velocity[x] for row in right]) for x in velocity}
    allowed = KINKED if bends(setting) else EXACT
    # A layer that is frozen has no velocity, and then none may be found.
    size = lambda x: np.abs(wanted[x]).max() or 1.0
    return max(np.abs(found[x] - wanted[x]).max() / size(x) for x in wanted) / allowed


@pytest.mark.nightly
@pytest.mark.parametrize("row", ROWS, ids=map(str, range(len(ROWS))))
def test_flow_and_descent_are_those_of_plain_numpy(row):
    assert worst_of(row) < 1, row


BY_DAY = {
    "dual": Setting("diagonal", "moments and labels", "in order", small=True),
    "heavy ball": Setting("neuron", "sum", "as a model", "heavy ball", decays=True, late=True),
    "descent": Setting("modular", "mean", "by name", "descent with momentum", decays=True),
}


@pytest.mark.parametrize("name", BY_DAY)
def test_rows_that_have_much_at_once(name):
    assert worst_of(BY_DAY[name]) < 1


FAULTS = {
    "decay goes by the layers' rates": (
        "heavy ball",
        Fault(Objective, "drift", "-lr * g - decay * theta", "-lr * (g + decay * theta)"),
    ),
    "a heavy ball's friction forgets the mass": (
        "heavy ball",
        Fault(
            *(flow_module, "heavy_ball", "(plain.drift(y[:count]) - y[count:]) / mass"),
            "plain.drift(y[:count]) / mass - y[count:]",
        ),
    ),
    "the dual variable takes u's pace for v": (
        "dual",
        Fault(flow_module, "dual", "v_per_u * model.u, s)", "u_per_v * model.u, s)"),
    ),
    "the loss of moments leaves out its floor": (
        "dual",
        Fault(loss_module, "prepared", "data.floor)", "0.0 * data.floor)"),
    ),
}
"""What each is seen by."""


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_still_have_their_lines(fault):
    """A line that has been written anew takes its fault away, which only the night would notice."""
    FAULTS[fault][1].faulty()


@pytest.mark.nightly
@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_seen_by_day(fault, monkeypatch):
    name, change = FAULTS[fault]
    try:
        change.put(monkeypatch)
        assert worst_of(BY_DAY[name]) > 1
    finally:
        monkeypatch.undo()
        forget()
