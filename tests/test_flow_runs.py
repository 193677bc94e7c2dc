"""Gradient flow and gradient descent against closed forms, and against each other."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import learndyn as ld
from learndyn import flow

# One linear neuron on whitened data, X^T X = 1: starts, rates and ends at t = 8, from an
# integrator of other authors at 1e-12.
NEURONS = [
    # a0, w0, (lr_a, lr_w), a(8), w(8)
    (
        0.39407427691322977,
        [-1.522555607282412, 0.5075185357608041, 0.761277803641206],
        (1.0, 1.0),
        -0.6269646442827659,
        [-1.0537314135234386, -1.3165183424391684, 0.7412922685120455],
    ),
    (
        0.8246916171225044,
        [-0.7275446816029325, 0.2425148938676442, 0.36377234080146625],
        (0.5, 2.0),
        0.9456240972689501,
        [0.528750624959155, 1.0575031356283922, -0.42300074241576335],
    ),
]
BETA_STAR = np.array([0.5, 1.0, -0.4])
WHITE = flow.Moments(np.eye(3), BETA_STAR)


@pytest.mark.parametrize(("a0", "w0", "lr", "a", "w"), NEURONS)
def test_a_linear_neuron_ends_where_the_closed_form_says(a0, w0, lr, a, w):
    run = flow.gradient_flow(
        flow.LinearNeuron(a0, w0), WHITE, [0.0, 8.0], lr={"a": lr[0], "w": lr[1]}
    )
    end = run.raise_if_failed().at(-1)
    np.testing.assert_allclose(end.a, a, rtol=1e-8)
    np.testing.assert_allclose(end.w, w, rtol=1e-8)


@pytest.mark.nightly
def test_samples_and_their_moments_give_the_same_flow(rng):
    x, y = rng.normal(size=(9, 3)), rng.normal(size=9)
    start = flow.LinearNeuron(0.3, rng.normal(size=3))
    moments = flow.Moments(x.T @ x / 9, y @ x / 9, y @ y / 9)
    runs = [flow.gradient_flow(start, data, [0.0, 1.0, 5.0]) for data in (flow.Data(x, y), moments)]
    np.testing.assert_allclose(runs[0].loss, runs[1].loss, rtol=1e-9)
    np.testing.assert_allclose(runs[0].model.w, runs[1].model.w, rtol=1e-8)
    # Without syy the loss is the excess over least squares.
    excess = flow.gradient_flow(start, flow.Moments(x.T @ x / 9, y @ x / 9), [0.0, 1.0, 5.0])
    np.testing.assert_allclose(runs[0].loss - excess.loss, moments.floor, rtol=1e-9)
    # The sum over samples runs as many times as fast as there are samples.
    faster = flow.gradient_flow(start, flow.Data(x, y, reduce="sum"), np.array([0.0, 1.0, 5.0]) / 9)
    np.testing.assert_allclose(faster.model.w, runs[0].model.w, rtol=1e-8)


# Jump times of a linear network with modes 3, 2 and 1 from a start of 1e-4.
Z0 = np.array(
    [
        [-0.8, -1.32, -0.25, 0.42],
        [1.14, 0.11, -0.55, -0.78],
        [0.75, 1.63, 0.27, -1.23],
        [-0.96, 1.6, 0.2, -1.73],
        [-0.08, -1.16, -0.63, -0.49],
        [-0.71, 0.55, -0.06, -0.59],
    ]
)
MODES = np.array([3.0, 2.0, 1.0])
R_KK = np.array([1.5643848631331103, 1.611273035762386, 1.7853379335617483])


def linear_start(alpha):
    return flow.LinearNetwork([alpha * Z0[:3].T, alpha * Z0[3:]])


def half_heights(alpha, t):
    """When the modes reach half height, from their values at the times t near by."""
    run = flow.gradient_flow(linear_start(alpha), MODAL, np.concatenate([[0.0], t]))
    maps = jax.vmap(lambda model: model.end_to_end())(run.model)[1:]
    u = np.diagonal(np.diagonal(maps, axis1=1, axis2=2))
    return t + np.log(MODES / u - 1) / (2 * MODES)


MODAL = flow.Moments(np.eye(3), np.diag(MODES))


def test_modes_of_a_linear_network_jump_when_they_should_from_a_start_of_1e_8():
    # The asymptotic formula (Gram-Schmidt in the space of neurons) errs by powers of the scale.
    for alpha, error in ((1e-4, 1e-5), (1e-8, 1e-8)):
        predicted = np.log(2 * MODES / (alpha**2 * R_KK**2)) / (2 * MODES)
        np.testing.assert_allclose(half_heights(alpha, predicted), predicted, atol=error)


@pytest.mark.nightly
def test_loss_events_give_the_slopes_of_non_commuting_jumps():
    """Jump times over log(1/alpha) follow the recursion of accumulated utility."""
    sxx = [
        [0.4136012472952317, 0.20483544376248475, -0.0790341098819002, -0.2845369282107613],
        [0.20483544376248475, 1.053767782374756, -0.21355290315628567, -0.28796265227728157],
        [-0.0790341098819002, -0.21355290315628567, 0.9216784184302282, 0.664838140029133],
        [-0.2845369282107613, -0.28796265227728157, 0.664838140029133, 2.1855368656183622],
    ]
    syx = [
        [0.8536873665071318, 0.9878768709285974, 0.539766305508138, -1.0956877949957413],
        [-0.24539643132179012, -1.1086463046053827, -2.0606047394790865, 0.1539151786145979],
        [-0.13698280836935492, -0.32984667478177875, 1.771722694497384, -0.16665988195384024],
    ]
    levels = np.array([8.233032284959515, 1.2276960605733416, 0.24122389078909282, 0.0])
    data = flow.Moments(sxx, syx)
    generator = np.random.default_rng(5)
    w, a = generator.normal(size=(5, 4)), generator.normal(size=(3, 5))

    def jumps(alpha):
        start = flow.LinearNetwork([alpha * w, alpha * a])
        until = lambda level: flow.gradient_flow(start, data, [0.0, 60.0], until=flow.AtLoss(level))
        return eqx.filter_jit(jax.vmap(lambda level: until(level).end))(
            (levels[1:] + levels[:-1]) / 2
        )

    slopes = (jumps(1e-8) - jumps(1e-6)) / np.log(100)
    np.testing.assert_allclose(slopes, [1 / 3, 0.6247142144741789, 1.4187245883010435], rtol=2e-3)


X = np.array(
    [
        [0.0, 0.3, -0.3, -0.9, -0.5, -1.0],
        [0.1, 1.3, -0.5, -0.6, 0.5, 0.4],
        [0.1, -0.9, -0.0, 0.7, -1.3, -0.5],
        [-1.9, -1.3, -1.8, -0.2, -1.3, 0.3],
        [0.2, -0.2, -2.5, -0.5, -0.0, 0.1],
        [-1.5, -0.5, -1.0, -0.8, 1.1, -0.8],
        [-0.0, 0.9, -0.6, -0.1, 0.1, 0.1],
    ]
)
Y = np.array([-1.2, 0.1, 1.4, -1.5, 0.9, 0.1, -0.6])
DIAGONAL = flow.Data(X, Y)


def diagonal_start(alpha):
    return flow.DiagonalNetwork(np.full(6, alpha), np.zeros(6))


@pytest.mark.nightly
def test_the_dual_variable_gives_the_parameters_own_flow():
    """Unequal rates, a frozen layer and starts on either side of |u| = |v|."""
    start = flow.DiagonalNetwork([0.3, 0.2, -0.1, 0.4, 0.5, 0.0], [0.1, -0.2, 0.1, 0.4, -0.9, 0.2])
    direct = start_in_parameters(start)
    for lr in ([1.0, 1.0], [0.3, 2.0], [1.0, 0.0]):
        dual = flow.gradient_flow(start, DIAGONAL, TIMES, lr=lr)
        plain = flow.gradient_flow(direct, DIAGONAL, TIMES, lr=lr)
        assert (dual.kind, plain.kind) == ("dual", "flow")
        np.testing.assert_allclose(dual.model.u, plain.model.u, atol=1e-8)
        np.testing.assert_allclose(dual.model.v, plain.model.v, atol=1e-8)


TIMES = np.array([0.0, 0.5, 3.0, 10.0])


class Plain(eqx.Module):
    """A diagonal network of which the library knows nothing."""

    u: jax.Array
    v: jax.Array

    def __call__(self, x):
        return (self.u * self.v) @ x


def start_in_parameters(model):
    return Plain(model.u, model.v)


@pytest.mark.nightly
def test_a_diagonal_network_from_1e_128_jumps_as_pesme_and_flammarion_say():
    """Slopes of jump times between 1e-64 and 1e-128 are their times T, and so are the levels."""
    expected = np.array([2.31023102310231, 4.907499723053064, 6.012057624982976])
    beta = [0.39108253175320185, 0.0, 0.0, 0.47972577987989584, 0.0, 0.0]
    loss = lambda b: np.sum((X @ b - Y) ** 2) / 14
    after = [0.5118243243243242, 0, 0, 0, 0, 0]
    third = [0.7713326675760317, -0.507104128222897, 0.0, 0.0648227522333026, 0.0, 0.0]
    levels = np.array([loss(b) for b in (np.zeros(6), after, beta, third)])
    middles = jnp.asarray(0.5 * (levels[1:] + levels[:-1]))

    @eqx.filter_jit
    def jumps(alpha):
        start = flow.DiagonalNetwork(jnp.full(6, alpha), jnp.zeros(6))
        until = lambda level: flow.gradient_flow(start, DIAGONAL, LONG, until=flow.AtLoss(level))
        return jax.vmap(lambda level: until(level).end)(middles)

    slopes = (jumps(1e-128) - jumps(1e-64)) / (64 * np.log(10))
    np.testing.assert_allclose(slopes, expected, rtol=1e-6)
    # Halfway between two jumps the solution has the level's coefficients.
    middle = 0.5 * (expected[1] + expected[2]) * 128 * np.log(10)
    run = flow.gradient_flow(diagonal_start(1e-128), DIAGONAL, [0.0, middle])
    np.testing.assert_allclose(run.at(-1).end_to_end()[0], beta, atol=1e-6)


LONG = np.array([0.0, 2500.0])


def test_descent_with_small_steps_follows_the_flow(rng):
    start = flow.LinearNeuron(0.3, [0.2, -0.5, 0.1])
    ends = []
    for lr in (0.02, 0.01):
        descent = flow.gradient_descent(start, WHITE, [0, round(2.0 / lr)], lr=lr)
        ends.append(descent.at(-1).w)
    exact = flow.gradient_flow(start, WHITE, [0.0, 2.0]).at(-1).w
    errors = [np.abs(end - exact).max() for end in ends]
    assert errors[1] < 5e-3
    assert errors[0] / errors[1] == pytest.approx(2.0, rel=0.05)


def test_descent_takes_the_steps_that_its_formula_says():
    start = flow.LinearNeuron(0.3, [0.2, -0.5, 0.1])
    run = flow.gradient_descent(start, WHITE, 3, lr=[0.1, 0.2], momentum=0.9, decay=0.01)
    a, w, u_a, u_w = 0.3, np.array([0.2, -0.5, 0.1]), 0.0, np.zeros(3)
    for step in range(1, 4):
        residual = a * w - BETA_STAR
        u_a, u_w = 0.9 * u_a + w @ residual, 0.9 * u_w + a * residual
        a, w = 0.99 * a - 0.1 * u_a, 0.99 * w - 0.2 * u_w
        np.testing.assert_allclose(run.model.a[step], a, rtol=1e-13)
        np.testing.assert_allclose(run.model.w[step], w, rtol=1e-13)
    np.testing.assert_allclose(run.velocity.w[3], u_w, rtol=1e-13)
    seldom = flow.gradient_descent(start, WHITE, [0, 3], lr=[0.1, 0.2], momentum=0.9, decay=0.01)
    np.testing.assert_array_equal(seldom.model.w[1], run.model.w[3])


@pytest.mark.nightly
def test_events_end_a_run_on_a_plateau_and_where_it_is_left():
    start = linear_start(1e-8)
    first = flow.gradient_flow(start, MODAL, [0.0, 30.0], until=flow.AtPlateau(0.1))
    assert first.ok
    on_plateau = first.last
    again = flow.gradient_flow(start, MODAL, jnp.array([0.0, 1.0]) * first.end)
    np.testing.assert_allclose(on_plateau.end_to_end(), again.last.end_to_end(), atol=1e-9)
    np.testing.assert_array_equal(again.last.weights[0], again.at(-1).weights[0])
    # The first mode is learned: its level is (4 + 1)/2.
    np.testing.assert_allclose(flow.loss(on_plateau, MODAL), 2.5, atol=1e-3)
    second = flow.gradient_flow(on_plateau, MODAL, [0.0, 30.0], until=flow.LeavesPlateau(0.1))
    assert np.isnan(second.loss[-1])
    with pytest.raises(ValueError, match=r"run\.last"):
        second.at(-1)
    # The second mode begins to grow, and is still far from learned.
    assert 2.4 < flow.loss(second.last, MODAL) < 2.5


@pytest.mark.nightly
def test_a_flow_that_fails_has_the_model_where_it_stopped():
    start = linear_start(1e-3)
    short = flow.gradient_flow(start, MODAL, [0.0, 1.0, 30.0], max_steps=40)
    assert short.result == ld.Result.MAX_STEPS
    reached = flow.gradient_flow(
        start, MODAL, jnp.stack([jnp.zeros(()), 0.5 * short.end, short.end])
    )
    np.testing.assert_allclose(short.last.end_to_end(), reached.last.end_to_end(), atol=1e-8)


def test_a_descent_that_fails_has_the_model_where_it_stopped():
    beyond = flow.gradient_descent(flow.LinearNeuron(1.0, np.ones(3)), WHITE, [0, 1, 2000], lr=50.0)
    assert beyond.result == ld.Result.DIVERGED
    np.testing.assert_array_equal(beyond.last.w, beyond.model.w[1])


@pytest.mark.nightly(by_day=["ReLU"])
@pytest.mark.parametrize("activation", [ld.ReLU(), ld.Erf()], ids=["ReLU", "erf"])
def test_networks_of_the_library_learn_as_modules(activation, rng):
    x = rng.normal(size=(6, 3))
    w, v = jnp.asarray(rng.normal(size=(4, 3))), jnp.asarray(rng.normal(size=4))
    net = ld.TwoLayer(w, v, None, activation)
    run = flow.gradient_flow(net, flow.Data(x, np.sin(x[:, 0])), [0.0, 1.0])
    assert run.ok
    # Where an activation bends, small tolerances would only make small steps.
    assert run.stats["rtol"] == (1e-6 if isinstance(activation, ld.ReLU) else 1e-10)
    assert run.loss[1] < run.loss[0]


def test_any_equinox_module_learns(rng):
    """A network of Equinox, with functions as leaves."""
    x = rng.normal(size=(6, 3))
    data = flow.Data(x, np.sin(x[:, 0]))
    mlp = eqx.nn.MLP(3, "scalar", 4, 1, activation=jnp.tanh, key=jax.random.key(0))
    run = flow.gradient_flow(mlp, data, [0.0, 1.0], lr=[1.0, 0.0], rtol=1e-6)
    assert run.loss[1] < run.loss[0]
    np.testing.assert_array_equal(run.at(-1).layers[1].weight, mlp.layers[1].weight)
    assert not np.allclose(run.at(-1).layers[0].weight, mlp.layers[0].weight)


def test_slopes_of_activations_are_not_trained(rng):
    net = ld.TwoLayer(jnp.eye(2, 3), jnp.ones(2), None, ld.LeakyReLU(0.3))
    run = flow.gradient_flow(net, flow.Data(rng.normal(size=(5, 3)), np.ones(5)), [0.0, 0.1])
    np.testing.assert_array_equal(run.model.activation.slope, [0.3, 0.3])


def test_a_batch_of_flows_is_the_flows_one_by_one():
    starts = jnp.array([0.1, 0.3, 0.7])
    one = lambda a: flow.gradient_flow(flow.LinearNeuron(a, jnp.full(3, a)), WHITE, TIMES)
    batch = jax.vmap(one)(starts)
    for i, a in enumerate(starts):
        np.testing.assert_allclose(batch[i].loss, one(a).loss, rtol=1e-12)
        np.testing.assert_allclose(batch[i].at(-1).w, one(a).at(-1).w, rtol=1e-12)
    assert "3 runs" in repr(batch)
    assert "LinearNeuron" in repr(batch[0])


@pytest.mark.nightly
def test_derivatives_pass_through_a_flow():
    def loss(a):
        return flow.gradient_flow(flow.LinearNeuron(a, jnp.full(3, 0.2)), WHITE, [0.0, 1.0]).loss[
            -1
        ]

    numeric = (loss(0.3 + 1e-5) - loss(0.3 - 1e-5)) / 2e-5
    np.testing.assert_allclose(jax.grad(loss)(0.3), numeric, rtol=1e-5)


@pytest.mark.nightly
def test_three_layers_from_1e_8_wait_for_one_over_their_scale():
    """Modes that start at alpha I are w**3, w' = w**2 (s - w**3), and jump at 1/(alpha s)."""
    alpha, s = 1e-8, np.array([3.0, 2.0])
    times = np.sort(np.append(0.999, 1.001) / (alpha * s[:, None]), axis=None)
    start = flow.LinearNetwork([alpha * np.eye(2)] * 3)
    data = flow.Moments(np.eye(2), np.diag(s))
    # Explicit steps would be 1e-8 of the wait.
    options = {"solver": diffrax.Kvaerno5(), "rtol": 1e-6, "atol": 1e-13}
    run = flow.gradient_flow(start, data, np.append(0.0, times), **options).raise_if_failed()
    modes = jax.vmap(lambda model: jnp.diagonal(model.end_to_end()))(run.model)[1:]
    expected = [[0.0, 0.0], [3.0, 0.0], [3.0, 0.0], [3.0, 2.0]]
    np.testing.assert_allclose(modes, expected, atol=1e-6)
    # The jump is too short for its late time to be resolved by Newton's method.
    half_way = flow.gradient_flow(start, data, [0.0, 1e8], until=flow.AtLoss(4.0), **options)
    assert half_way.ok
    np.testing.assert_allclose(half_way.end, times[:2].mean(), rtol=2e-4)
    np.testing.assert_allclose(flow.loss(half_way.last, data), 4.0, atol=1e-6)


@pytest.mark.nightly
@pytest.mark.parametrize("solver", [diffrax.Tsit5(), diffrax.Kvaerno5()])
def test_other_solvers_give_the_same_numbers(solver):
    run = flow.gradient_flow(linear_start(1e-4), MODAL, [0.0, 5.0], solver=solver)
    default = flow.gradient_flow(linear_start(1e-4), MODAL, [0.0, 5.0])
    np.testing.assert_allclose(run.loss, default.loss, rtol=1e-6)
