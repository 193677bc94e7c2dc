"""What can go wrong with an ODE: runs that stop, and calls that cannot be answered."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import learndyn as ld

TS = np.array([0.0, 0.5, 2.0, 5.0])
START = ld.Overlaps([[0.9, 0.2], [0.2, 0.6]], [[0.3, -0.1], [0.1, 0.4]], [[1.0, 0.1], [0.1, 0.8]])
LINEAR = ld.Problem(ld.Linear(), ld.Linear(), noise=0.3)


FATES = {
    "fine": ({}, ld.Result.SUCCESS),
    "too fast": ({"lr": 1.3}, ld.Result.DIVERGED),
    "too exact": ({"rtol": 1e-13, "atol": 1e-15}, ld.Result.MAX_STEPS),
    "negative noise": ({"noise": -0.1}, ld.Result.INVALID_INPUT),
    "negative rate": ({"lr": -0.1}, ld.Result.INVALID_INPUT),
    "NaN rate": ({"lr": np.nan}, ld.Result.INVALID_INPUT),
    "negative decay": ({"decay": -0.1}, ld.Result.INVALID_INPUT),
    "no tolerance": ({"rtol": 0.0}, ld.Result.INVALID_INPUT),
    "not semi-definite": ({"r": 5.0}, ld.Result.INVALID_INPUT),
    "NaN overlaps": ({"r": np.nan}, ld.Result.INVALID_INPUT),
    "asymmetric": ({"skew": 0.1}, ld.Result.INVALID_INPUT),
    "backwards": ({"pace": -1.0}, ld.Result.INVALID_INPUT),
    "before the beginning": ({"begin": -3.0}, ld.Result.INVALID_INPUT),
    "NaN time": ({"pace": np.nan}, ld.Result.INVALID_INPUT),
}


def test_every_fate_in_one_batch():
    """Linear, k = 2: unstable for lr > 1. One bad lane is NaN with its reason, the rest go on."""
    usual = {"lr": 0.3, "noise": 0.1, "decay": 0.0, "rtol": 1e-8, "atol": 1e-10}
    usual |= {"r": 1.0, "skew": 0.0, "pace": 1.0, "begin": 0.0}
    lanes = [usual | change for change, _ in FATES.values()]
    batch = {name: jnp.array([lane[name] for lane in lanes]) for name in usual}

    def run(lane):
        q = START.Q + lane["skew"] * jnp.array([[0.0, 1.0], [0.0, 0.0]])
        start = ld.Overlaps(q, lane["r"] * START.R, START.T)
        problem = ld.Problem(ld.Linear(), ld.Linear(), noise=lane["noise"])
        rule = ld.SGD(lr=lane["lr"], weight_decay=lane["decay"])
        tolerances = {name: lane[name] for name in ("rtol", "atol")}
        ts = lane["begin"] + lane["pace"] * jnp.array([0.0, 1.0, 40.0])
        return ld.solve_ode(problem, rule, start, ts, max_steps=400, **tolerances)

    runs = jax.jit(jax.vmap(run))(batch)
    for index, (name, (_, result)) in enumerate(FATES.items()):
        assert ld.Result(int(runs.result[index])) == result, name
        state = np.concatenate([np.ravel(x[index, -1]) for x in (runs.Q, runs.R, runs.v, runs.eg)])
        assert np.isfinite(state).all() == (result == ld.Result.SUCCESS), name
        assert np.isnan(state).all() == (result != ld.Result.SUCCESS), name
        if result == ld.Result.INVALID_INPUT:
            assert np.isnan(runs.Q[index]).all(), name
    fast = list(FATES).index("too fast")
    assert np.isfinite(runs.Q[fast, :2]).all()  # NaN only after it happened
    alone = run(usual)
    np.testing.assert_allclose(runs.Q[0], alone.Q, atol=1e-12)


def test_rates_that_become_invalid_stop_at_once():
    rule = ld.SGD(lr=lambda alpha: 1.0 - alpha)
    run = ld.solve_ode(ld.Problem(), rule, START, TS)
    assert run.result == ld.Result.BAD_RATE
    assert np.isfinite(run.Q[:2]).all()
    assert np.isnan(run.Q[2:]).all()
    assert run.stats["steps"] < 500
    never = ld.solve_ode(ld.Problem(), ld.SGD(lr=lambda alpha: jnp.nan), START, TS)
    assert never.result == ld.Result.BAD_RATE
    assert never.stats["steps"] < 100


def test_blow_up_in_finite_time():
    start = ld.Overlaps([[1.0]], [[0.1]], [[1.0]])
    problem = ld.Problem(ld.Quadratic(), ld.Quadratic())
    run = ld.solve_ode(problem, ld.SGD(lr=1.0), start, TS)
    assert run.result == ld.Result.DIVERGED
    assert np.isnan(run.eg[-1])
    assert run.stats["steps"] < 5000


BAD = {
    "times fall": ({"ts": [1.0, 0.5]}, "strictly increasing.*numpy.unique"),
    "times repeat": ({"ts": [0.0, 0.0]}, "strictly increasing"),
    "negative time": ({"ts": [-1.0, 0.0]}, ">= 0"),
    "NaN time": ({"ts": [0.0, np.nan]}, "finite"),
    "no times": ({"ts": []}, "at least one time"),
    "one number": ({"ts": 1.0}, "one-dimensional"),
    "grid of times": ({"ts": [[0.0, 1.0]]}, "one-dimensional"),
    "word for times": ({"ts": "soon"}, "ts must be a real number"),
    "batch of states": ({"start": ld.Overlaps([START.Q] * 2, START.R, START.T)}, "one run.*Q must"),
    "batch of rates": ({"rule": ld.SGD(lr=[0.1, 0.2, 0.3])}, "lr must be one number, or.*vmap"),
    "batch of decays": ({"rule": ld.SGD(0.1, weight_decay=[0, 1])}, "weight_decay must"),
    "batch of momenta": ({"rule": ld.SGD(0.1, momentum=[0, 0.5])}, "momentum must"),
    "batch of noises": ({"problem": ld.Problem(noise=[0.1, 0.2])}, "noise must have 0 axes"),
    "biases missing": ({"rule": ld.SGD(0.1, lr_bias=0.1)}, "the state has none"),
    "negative rtol": ({"rtol": -1.0}, "rtol must be finite and > 0"),
    "zero rtol": ({"rtol": 0.0}, "rtol must be finite and > 0"),
    "word for rtol": ({"rtol": "fine"}, "rtol must be a real number"),
    "many rtol": ({"rtol": [1e-6, 1e-7]}, "rtol must be one number"),
    "NaN atol": ({"atol": np.nan}, "atol must be finite"),
    "no steps": ({"max_steps": 0}, "max_steps must be a Python integer >= 1"),
    "half a step": ({"max_steps": 2.5}, "max_steps must be a Python integer"),
    "any steps": ({"max_steps": None}, "max_steps must be a Python integer"),
    "solver by name": ({"solver": "tsit5"}, "solver must be a Diffrax solver.*Tsit5"),
    "fixed steps": ({"solver": diffrax.Euler()}, "error estimate.*ode_term"),
    "averages by name": ({"averages": "exact"}, "averages must be None"),
    "averages a number": ({"averages": 3}, "averages must be None"),
    "no closed form": (
        {"problem": ld.Problem(ld.Tanh()), "averages": "closed"},
        "closed-form averages exist for",
    ),
    "jump at NaN": ({"jump_ts": [np.nan]}, "jump_ts must be finite"),
    "jumps in a grid": ({"jump_ts": [[1.0]]}, "jump_ts must be a list"),
    "teacher's biases": (
        {
            "problem": ld.Problem(teacher=ld.MultiIndex(lambda rho, zeta: rho[0])),
            "start": ld.Overlaps(START.Q, START.R, START.T, b_teacher=[0.1, 0.2]),
        },
        "no biases",
    ),
}


@pytest.mark.parametrize(("change", "words"), BAD.values(), ids=BAD)
def test_bad_calls_say_what_must_hold(change, words):
    usual = {"problem": ld.Problem(), "rule": ld.SGD(lr=0.1), "start": START, "ts": TS}
    with pytest.raises(ValueError, match=words):
        ld.solve_ode(**(usual | change))


def test_no_state_after_a_run_stopped():
    run = ld.solve_ode(LINEAR, ld.SGD(lr=2.0), START, np.array([0.0, 1.0, 50.0]))
    assert run.result == ld.Result.DIVERGED
    with pytest.raises(ValueError, match="the run stopped before"):
        run.at(-1)


def test_generalisation_error_refuses_batches():
    with pytest.raises(ValueError, match="one run at a time"):
        ld.generalisation_error(ld.Problem(), ld.Overlaps([START.Q] * 2, START.R, START.T))
