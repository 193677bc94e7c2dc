"""Parts of flow, called by themselves, against numbers by hand and a few lines of SciPy."""

import types

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.optimize

import learndyn as ld
from learndyn import flow
from learndyn.flow import _flow, _solve
from learndyn.flow._coordinates import parameters
from learndyn.flow._objective import objective_of
from learndyn.flow._parameters import as_model, rate_tree, trained
from learndyn.flow.conservation import laws
from learndyn.flow.conservation.known import homogeneity
from learndyn.flow.jumps import _alternating
from learndyn.flow.jumps._alternating import _samples
from learndyn.flow.jumps._data import samples
from learndyn.flow.jumps._diagonal import _from_moments
from learndyn.flow.neuron._closed_form import second_moments

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(5, 3)), RNG.normal(size=5)
NEURON = flow.LinearNeuron(0.7, [0.4, -0.3])
POPULATION = flow.Moments(sxx=[[1.3, 0.2], [0.2, 0.8]], syx=[0.9, -0.5])


def close(found, wanted, rel=1e-12, abs=0.0):
    np.testing.assert_allclose(found, wanted, rtol=rel, atol=abs)


# Events


def test_events_are_distances_to_a_level_and_a_speed():
    assert float(flow.AtLoss(0.25)(None, jnp.asarray(0.4), jnp.asarray(9.0))) == pytest.approx(0.15)
    for event in (flow.AtPlateau(0.25), flow.LeavesPlateau(0.25)):
        assert float(event(None, jnp.asarray(9.0), jnp.asarray(0.4))) == pytest.approx(0.15)
    for make, bad in ((flow.AtLoss, np.nan), (flow.AtPlateau, 0.0), (flow.AtPlateau, -1.0)):
        with pytest.raises(ValueError, match=r"level|speed"):
            make(bad)


def test_an_event_sees_the_model_its_loss_and_its_speed():
    objective = objective_of(NEURON, POPULATION, [0.5, 2.0])
    coordinates = parameters(objective)
    both = lambda model, loss, speed: model.a + 10 * loss + 100 * speed
    asked = _flow._event(both, objective, coordinates)
    beta, sxx, syx = (
        0.7 * np.array([0.4, -0.3]),
        *(np.asarray(POPULATION.sxx), np.array([0.9, -0.5])),
    )
    slope = sxx @ beta - syx
    # Of a Moments' loss the constant is that of labels that are explained.
    loss = 0.5 * slope @ np.linalg.solve(sxx, slope)
    moves = [0.5 * slope @ [0.4, -0.3], *(2.0 * 0.7 * slope)]
    found = jax.jit(asked)(coordinates.start)
    close(found, 0.7 + 10 * loss + 100 * np.linalg.norm(moves), rel=1e-10)
    rtol, atol = (jnp.asarray(x) for x in (1e-3, 1e-5))
    assert _flow._checked_tolerances(1e-3, 1e-5) == (1e-3, 1e-5)
    close(_flow._tolerances(coordinates, rtol, atol)[1], np.full(3, 1e-5))
    close(_flow._tolerances(coordinates, rtol, None)[1], 1e-3 * np.asarray(coordinates.sizes))


def test_a_run_ends_by_divergence_or_by_its_event():
    event = _solve._events(lambda y: y[0] - 0.3, rising=False)
    diverged, asked = event.cond_fn
    bound = _solve.DIVERGENCE_LIMIT
    looks = [diverged(0.0, jnp.array([0.5, x]), None) for x in (0.9 * bound, -1.1 * bound, jnp.nan)]
    assert [bool(x) for x in looks] == [False, True, True]
    assert float(asked(0.0, jnp.array([0.5, 2.0]), None)) == pytest.approx(0.2)
    assert event.direction == [None, False]
    assert len(_solve._events(None, None).cond_fn) == 1


def test_when_a_polygon_jumps_and_how_long_it_rests():
    """A loss of 4 falls to 1 within [1, 3], rises to 1.3 and comes back, and falls to 0 within
    [5, 6]; then the run stops. Drops of 3 and 1 have widths of 0.3 and 0.1 at a share of 0.1."""
    run = flow.gradient_flow(NEURON, POPULATION, [0.0])
    t = jnp.array([0.0, 1.0, 3.0, 4.0, 5.0, 6.0, 7.0, 9.0])
    loss = jnp.array([4.0, 4.0, 1.0, 1.3, 1.0, 0.0, 0.0, jnp.nan])
    run = eqx.tree_at(lambda run: (run.t, run.loss), run, (t, loss))
    levels = [4.0, 1.0, 0.0]
    close(flow.jump_times(run, levels), [2.0, 5.5])
    close(flow.jump_times(run, levels, done=0.75), [2.5, 5.75])
    # Near 4: 1 and a tenth of the fall; near 1 from above and below: 1/15, 1/3 twice, 1/10.
    near = [1.0 + 0.2, 2 * 0.1 / 3 + 2 * 0.1 / 0.3 + 0.1, 0.1 + 1.0]
    close(jax.jit(lambda run: flow.dwell_times(run, levels, share=0.1))(run), near)
    assert np.isnan(flow.jump_times(run, [9.0, 5.0])[0])
    # Raising one loss moves times, by a finite amount next to flat pieces, too.
    moved = lambda x: eqx.tree_at(lambda run: run.loss, run, loss.at[1].add(x))
    slope = jax.grad(lambda x: flow.dwell_times(moved(x), levels, share=0.1)[1])(0.0)
    step = lambda x: flow.dwell_times(moved(x), levels, share=0.1)[1]
    close(slope, (step(1e-5) - step(-1e-5)) / 2e-5, rel=1e-6)
    for bad, message in (([0.5, 2.5], "decrease"), ([0.5], "jumps >= 1"), ([[2.0]], "jumps >= 1")):
        for find in (flow.jump_times, flow.dwell_times):
            with pytest.raises(ValueError, match=message):
                find(run, bad)
    for done in (0.0, 1.0, 75, [0.5, 0.6]):
        with pytest.raises(ValueError, match="done is a share"):
            flow.jump_times(run, levels, done=done)


def test_what_a_run_says_of_itself():
    """It ended before the last of its three times."""
    run = flow.gradient_flow(NEURON, POPULATION, [0.0])
    arrays = [jnp.stack([x[0], 2 * x[0], jnp.nan * x[0]]) for x in run.arrays]
    t, loss = jnp.array([0.0, 0.5, 2.0]), jnp.array([0.8, 0.3, jnp.nan])
    run = eqx.tree_at(lambda run: (run.t, run.loss, run.arrays), run, (t, loss, arrays))
    close(run.at(1).w, 2 * NEURON.w)
    with pytest.raises(ValueError, match="no model at saved time number 2: the run ended before"):
        run.at(2)
    batch = jax.tree.map(lambda x: jnp.stack([x, 2 * x]), run)
    with pytest.raises(ValueError, match="batch of runs: take one out of it first"):
        batch.at(0)
    close(batch[1].loss[:2], [1.6, 0.6])
    with pytest.raises(ValueError, match="one run at a time"):
        flow.dwell_times(batch, [0.5, 0.0])
    close(flow.jump_times(run, [0.8, 0.4], done=0.25), [0.1])
    for done in (0.0, 1.0, [0.3]):
        with pytest.raises(ValueError, match=r"must be in \(0, 1\)"):
            flow.jump_times(run, [0.8, 0.4], done=done)
    told = []
    jax.jit(lambda run: told.append((repr(run), run._facts())) or run.t)(run)
    assert told == [("Run(flow, traced)", None)]


OUTCOMES = diffrax.RESULTS


@pytest.mark.parametrize(
    ("outcome", "events", "found", "code"),
    [
        (OUTCOMES.successful, (False, False), False, ld.Result.SUCCESS),
        (OUTCOMES.event_occurred, (True, False), False, ld.Result.DIVERGED),
        (OUTCOMES.event_occurred, (False, True), False, ld.Result.SUCCESS),
        (OUTCOMES.nonlinear_max_steps_reached, (False, True), True, ld.Result.SUCCESS),
        (OUTCOMES.nonlinear_max_steps_reached, (False, True), False, ld.Result.SOLVER_FAILED),
        (OUTCOMES.nonlinear_max_steps_reached, (False, False), True, ld.Result.SOLVER_FAILED),
        (OUTCOMES.max_steps_reached, (False, False), False, ld.Result.MAX_STEPS),
        (OUTCOMES.dt_min_reached, (False, False), False, ld.Result.DIVERGED),
    ],
)
def test_what_the_end_of_a_solve_means(outcome, events, found, code):
    names = ("t0", "t1", "ts", "ys", "interpolation", "stats", "solver_state", "controller_state")
    solution = diffrax.Solution(
        **dict.fromkeys(names), made_jump=None, result=outcome,
        event_mask=tuple(jnp.asarray(x) for x in events),
    )  # fmt: skip
    given = solution, True, jnp.asarray(found)
    assert int(_solve._code(*given, jnp.asarray(True))) == code.value
    assert int(_solve._code(*given, jnp.asarray(False))) == ld.Result.INVALID_INPUT.value


# Models and data


class Named(eqx.Module):
    """Layers by name, written in another order than that of the alphabet."""

    parts: dict

    def __call__(self, x):
        return self.parts["second"] @ (self.parts["first"] @ x)


def test_rates_of_layers_that_have_names():
    model = as_model(Named({"second": jnp.ones((1, 2)), "first": jnp.ones((2, 3))}))
    rates = rate_tree({"parts": {"first": 0.2, "second": 0.3}}, trained(model))
    assert {name: float(rate) for name, rate in rates.parts.items()} == {
        "first": 0.2,
        "second": 0.3,
    }
    in_turn = rate_tree([[0.2, 0.3]], trained(model))
    assert float(in_turn.parts["first"]) == pytest.approx(0.2)  # in the order of the alphabet
    assert rate_tree(0.4, None) is None
    with pytest.raises(ValueError, match="must be real; got complex ones"):
        as_model(Named({"second": jnp.ones((1, 2)) * 1j, "first": jnp.ones((2, 3))}))


class Answer(eqx.Module):
    """A model whose output has the type of `kind`, or that takes nothing."""

    w: jax.Array
    kind: object = eqx.field(static=True)

    def __call__(self, x):
        return (self.w @ x).astype(self.kind)


def test_models_and_data_that_do_not_match():
    data = flow.Data(X, Y)
    with pytest.raises(ValueError, match="output must be real; it has dtype complex128"):
        flow.loss(Answer(jnp.ones(3), complex), data)
    for wrong in (
        eqx.tree_at(lambda d: d.x, data, data.x[None]),
        eqx.tree_at(lambda d: d.y, data, data.y[:, None, None]),
    ):
        with pytest.raises(ValueError, match="one data set at a time: x must have 2 axes"):
            flow.loss(Answer(jnp.ones(3), float), wrong)
    with pytest.raises(ValueError, match="steps must be known when the program is compiled"):
        jax.jit(lambda steps: flow.gradient_descent(NEURON, POPULATION, steps, lr=0.1).t)(3)
    # Traced moments are not looked at.
    assert jax.jit(lambda s: flow.Moments(sxx=s, syx=[0.9, -0.5]).sxx)(-np.eye(2))[0, 0] == -1.0
    with pytest.raises(ValueError, match=r"reduce must be \"mean\" or \"sum\"; got 'max'"):
        samples(X, Y, "max", "this")
    with pytest.raises(ValueError, match="has one output; syx has 2"):
        _from_moments(flow.Moments(sxx=np.eye(2), syx=np.ones((2, 2))))
    with pytest.raises(ValueError, match=r"one output; the data have outputs of shape \(2,\)"):
        second_moments(flow.Moments(sxx=np.eye(2), syx=np.ones((2, 2))))
    with pytest.raises(ValueError, match=r"pair \(x, y\); got Moments"):
        _samples(POPULATION)


def test_data_are_two_arrays_for_jax():
    leaves = jax.tree.leaves(flow.Data(X, Y, reduce="sum"))
    assert [leaf.shape for leaf in leaves] == [(5, 3), (5,)]


def test_a_neuron_that_sees_one_of_two_directions():
    """Against SciPy; the other component stays."""
    data = flow.Moments(sxx=[[1.7, 0.0], [0.0, 0.0]], syx=[0.9, 0.0])

    def drift(t, z):
        error = 1.7 * z[0] * z[1] - 0.9
        return [-0.5 * error * z[1], -2.0 * error * z[0]]

    ts = np.array([0.0, 0.4, 1.5])
    right = scipy.integrate.solve_ivp(
        drift, (0, 1.5), [0.7, 0.4], t_eval=ts, rtol=1e-10, atol=1e-12
    )
    a, w = flow.linear_neuron_data(data, 0.7, [0.4, -0.3], ts, lr_a=0.5, lr_w=2.0)
    close(a, right.y[0], rel=1e-8)
    close(w[:, 0], right.y[1], rel=1e-8)
    close(w[:, 1], np.full(3, -0.3))


def test_second_moments_in_the_datas_own_normalisation():
    for data, weight in ((flow.Data(X, Y), 0.2), (flow.Data(X, Y, reduce="sum"), 1.0)):
        sxx, syx = second_moments(data)
        close(sxx, weight * X.T @ X)
        close(syx, weight * X.T @ Y)
    for data, weight in (((X, Y), 0.2), (flow.Data(X, Y, reduce="sum"), 1.0)):
        x, y, found = _samples(data)
        close(x, X)
        close(y, Y[:, None])
        assert found == pytest.approx(weight)


# Conserved quantities


def test_functions_without_degree_and_degrees_that_cannot_be_seen():
    assert homogeneity(lambda x: 0 * x + 1.5) is None
    assert homogeneity(lambda x: 1 / jnp.abs(x)) is None
    assert homogeneity(jnp.cos) is None
    assert homogeneity(lambda x: jnp.where(x > 0, 0.3, 2.0) * jnp.abs(x) ** 1.5) == 1.5
    square = lambda numbers: jnp.sum(numbers**2)
    assert laws._degree(lambda x: jnp.sum(x), jnp.ones(3)) == 1
    assert laws._degree(square, jnp.ones(3)) == 2
    told = []
    jax.jit(lambda s: told.append(laws._degree(lambda x: s * jnp.sum(x), jnp.ones(3))) or s)(1.0)
    assert told == [2]  # where nothing is known, the law that holds for both


RATES = [0.5, 2.0]


def heavy_ball():
    """Three states and velocities, by hand, as if at uneven times."""
    run = flow.gradient_flow(NEURON, POPULATION, [0.0], lr=RATES, mass=0.6)
    a, w = np.array([0.7, 0.9, 1.2]), np.array([[0.4, -0.3], [0.5, -0.2], [0.7, 0.1]])
    da, dw = np.array([0.1, 0.3, -0.2]), np.array([[0.2, 0.1], [0.3, -0.1], [-0.4, 0.5]])
    t = np.array([0.0, 0.3, 1.0])
    arrays, velocity = [jnp.asarray(x) for x in (a, w)], flow.LinearNeuron(da, dw)
    places = lambda run: (run.t, run.loss, run.arrays, run.velocity)
    return (t, a, w, da, dw), eqx.tree_at(
        places, run, (jnp.asarray(t), jnp.asarray(t), arrays, velocity)
    )


def drift_of(a, w):
    """-lr dL/d(a, w) of the population's loss."""
    slope = np.asarray(POPULATION.sxx) @ (a * w) - [0.9, -0.5]
    return -0.5 * slope @ w, -2.0 * a * slope


def test_charges_of_a_heavy_ball_by_hand(monkeypatch):
    (t, a, w, da, dw), run = heavy_ball()
    rescale = flow.Rescale(lambda model: model.a, lambda model: model.w)
    # h is a quadratic form, of which B(x, y) is the bilinear one.
    form = lambda a, w, b, v: 0.5 * (a * b / 0.5 - np.sum(w * v, axis=-1) / 2.0)
    push = [drift_of(*both) for both in zip(a, w, strict=True)]
    fa, fw = (np.array(x) for x in zip(*push, strict=True))
    kept = form(da, dw, da, dw)
    slope = 2 * form(da, dw, (fa - da) / 0.6, (fw - dw) / 0.6)
    # Hermite's rule from each time to the next
    dt = np.diff(t)
    areas = dt * (kept[1:] + kept[:-1]) / 2 + dt**2 / 12 * (slope[:-1] - slope[1:])
    integral = np.append(0.0, np.cumsum(areas))
    charge = form(a, w, a, w) + 0.6 * 2 * form(a, w, da, dw) - 2 * 0.6 * integral
    of = eqx.filter_jit(lambda run, law: flow.inertial_charge(run, POPULATION, 0.6, law, RATES))
    close(of(run, rescale), charge, rel=1e-11)

    shift = flow.Translation(lambda model: model.w, direction=[1.0, 3.0])
    moved = w @ [1.0, 3.0] / 2.0, dw @ [1.0, 3.0] / 2.0
    monkeypatch.setattr(laws, "_degree", lambda quantity, numbers: 1)  # which jit does not see
    close(of(run, shift), moved[0] + 0.6 * moved[1])
    with pytest.raises(ValueError, match="must be one run of gradient_flow"):
        flow.inertial_charge(jax.tree.map(lambda x: x[None], run), POPULATION, 0.6)


class Differences(eqx.Module):
    """A shift of all z changes nothing."""

    z: jax.Array

    def __call__(self, x):
        return jnp.diff(self.z) @ x[:2]


def test_a_step_along_a_translation():
    """Degree 1: the sum of z is only damped, and moved on by the velocity."""
    model, velocity = (
        Differences(jnp.array([0.3, -0.8, 0.9])),
        Differences(jnp.array([0.2, 0.5, 0.1])),
    )
    shift = flow.Translation(lambda model: model.z)
    options = {"momentum": 0.8, "decay": 0.02, "velocity": velocity}
    found = flow.after_step(model, flow.Data(X, Y), shift, 0.7, **options)
    close(found, 0.98 * 0.4 / 0.7 - 0.8 * 0.8)


# Observables


def test_a_sector_in_which_no_sample_is_active():
    close(flow.extremal_directions([[-1.0, 0.0]], [1.0]), [[-1.0, 0.0]], abs=1e-15)


def test_neurons_of_each_model_by_hand():
    close(flow.neurons(NEURON), [[0.28, -0.21]], rel=1e-11)
    close(flow.neuron_masses(NEURON), [0.35])
    close(flow.alignment(NEURON, [[3.0, 4.0], [0.0, -2.0]]), [[0.0, 0.6]], abs=1e-15)
    diagonal = flow.DiagonalNetwork([1.0, -2.0], [0.5, 0.3])
    close(flow.neurons(diagonal), [[1.0, 0.5], [-2.0, 0.3]])
    close(flow.neuron_masses(diagonal), [0.5, 0.6])
    u, v, w = [[3.0, 1.0]], [[2.0, -1.0]], [[4.0, 3.0]]
    modular = flow.ModularAddition(u, v, w)
    close(flow.neurons(modular), [[3.0, 1.0, 2.0, -1.0, 4.0, 3.0]])
    close(flow.neuron_masses(modular), [15.0 * 5.0])
    close(flow.alignment(modular, [[1.0, 1.0, 1.0, 1.0]]), [[5.0 / (2 * 15**0.5)]])
    biased = ld.TwoLayer(jnp.array([[3.0, 1.0]]), jnp.array([2.0]), jnp.array([-1.0]), ld.ReLU())
    close(flow.neurons(biased), [[3.0, 1.0, -1.0, 2.0]])
    close(flow.neuron_masses(biased), [2 * 11**0.5])
    plain = ld.TwoLayer(biased.w, biased.v, None, ld.ReLU())
    close(flow.alignment(plain, [[1.0, 1.0]]), [[4 / 20**0.5]])
    two = flow.LinearNetwork([[[3.0, 4.0]], [[2.0], [1.0]]])
    close(flow.neurons(two), [[3.0, 4.0, 2.0, 1.0]])
    close(flow.neuron_masses(two), [5 * 5**0.5])
    close(flow.alignment(two, [[3.0, -4.0]]), [[-7 / 25]])
    with pytest.raises(
        ValueError, match=r"input weights are known of TwoLayer.*got DiagonalNetwork"
    ):
        flow.alignment(diagonal, [[1.0, 1.0]])
    with pytest.raises(ValueError, match="neurons are known of LinearNeuron"):
        flow.neurons(flow.LinearNetwork([np.eye(2)] * 3))


@pytest.mark.parametrize(("lowest", "size"), [(0.0, 1.0), (2.3, 4.0)])
def test_neurons_wake_at_the_largest_norm_that_costs_no_more(lowest, size):
    """From 8 down by halves while the loss is above; never below twice the floor of their norms."""
    awake, loss = np.array([True, False]), lambda theta: [100.0 if theta[0, 0] > lowest else 0.0]
    run = types.SimpleNamespace(
        threshold=8.0,
        norm_floor=np.array([0.3, 9.0]),
        theta=np.zeros((2, 1)),
        state=types.SimpleNamespace(direction=np.array([[1.0], [5.0]])),
        net=types.SimpleNamespace(loss=loss),
    )
    _alternating._Run._place(run, awake, 1.0 if lowest == 0.0 else 100.0)
    np.testing.assert_array_equal(run.theta, [[1.0 if lowest == 0.0 else 8.0], [0.0]])
    if lowest > 0:
        run.net.loss = lambda theta: [2.0 if theta[0, 0] > 5.0 else 0.0]
        _alternating._Run._place(run, awake, 1.0)
        assert run.theta[0, 0] == size
