"""The linear neuron: closed form, preconditioner and implicit bias, against the flow."""

from types import SimpleNamespace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

from learndyn import flow
from learndyn._results import Result

BETA_STAR = [0.5, 1.0, -0.4]
TIMES = [0.0, 0.5, 1.0, 2.0, 4.0, 8.0]
WHITENED = [  # lr_a, lr_w, a, w, a(8), w(8)
    (
        *(1.0, 1.0, 0.39407427691322977),
        [-1.522555607282412, 0.5075185357608041, 0.761277803641206],
        -0.6269646442827659,
        [-1.0537314135234386, -1.3165183424391684, 0.7412922685120455],
    ),
    (
        *(1.0, 1.0, 0.8366600265340756),
        [-0.7171371656006361, 0.23904572186687872, 0.35856858280031806],
        1.0896943148206668,
        [0.4586785524729726, 0.9178010376327758, -0.36699991903811346],
    ),
    (
        *(1.0, 1.0, 1.7763148751628144),
        [-0.3377779516399112, 0.11259265054663707, 0.1688889758199556],
        1.847461135442593,
        [0.27064168788550835, 0.5412833757723164, -0.21651335030857383],
    ),
    (
        *(0.5, 2.0, 0.8246916171225044),
        [-0.7275446816029325, 0.2425148938676442, 0.36377234080146625],
        0.9456240972689501,
        [0.528750624959155, 1.0575031356283922, -0.42300074241576335],
    ),
]
X0 = [
    [-1.16, 0.29, 0.78, 0.54, -0.96, 1.07],
    [0.7, 0.7, 0.75, 1.1, 2.24, -0.61],
    [0.05, 1.75, -1.34, 0.33, -0.69, -0.02],
]
X1 = [
    [-0.79, -2.03, 0.6, 0.74, -0.31, 0.37],
    [1.71, 1.06, 0.71, 0.69, -0.86, 0.96],
    [-1.65, -0.33, -0.44, -1.73, -0.11, 1.64],
]
X2 = [
    [0.63, 2.16, 0.96, -1.08, -0.59, 0.86],
    [-0.04, 1.19, -1.94, 2.11, 1.88, -1.45],
    [-0.3, -0.6, -0.37, 1.0, -0.49, -0.89],
]
Y0, Y1, Y2 = [0.47, -1.93, -0.99], [-0.34, -1.21, -0.09], [0.76, 1.41, -0.39]
BETA0 = [-0.7, -0.12, -0.34, 0.76, -0.3, 0.86]
BETA1 = [0.43, 0.1, -0.0, -0.7, 0.25, 0.24]
BETA2 = [0.18, -0.69, 0.54, 1.2, 0.34, 0.01]
BIAS = [  # x, y, beta(0), a(0), lr_a, lr_w, sign of a(inf), who decides, beta(inf)
    (
        *(X0, Y0, BETA0, 1.6552598145531485, 1.0, 1.0, 1.0, "invariant"),
        [-0.3232124015923842, -1.007725097359467, -0.4750384274313751]
        + [0.0855368347660729, -0.19521720684354588, 0.48994902471034474],
    ),
    (
        *(X1, Y1, BETA1, 0.9472158794310398, 1.0, 1.0, 1.0, "invariant"),
        [0.21053692781948893, -0.28179924548069873, -0.09535131760846137]
        + [-0.49813147855446166, 0.5368490444777199, -0.41480272125662604],
    ),
    (
        *(X2, Y2, BETA2, 0.9120769023612743, 1.0, 1.0, 1.0, "flow"),
        [0.40624028690491315, 0.3655624100575726, 0.5427989213545346]
        + [0.6948893608286608, 0.546034745552476, 0.3093114634838957],
    ),
    (
        *(X2, Y2, BETA2, 0.37492486332854624, 0.5, 2.7, -1.0, "flow"),
        [-0.1606083581867685, 0.5613724848082018, -0.7079757001432317]
        + [-0.5318966631884862, 0.07829845167352581, -0.2325313245892251],
    ),
    (
        *(X1, Y1, BETA1, 0.40577258553352175, 0.5, 2.7, 1.0, "flow"),
        [0.2166113049577502, -0.2861948527839447, -0.09349130601386542]
        + [-0.5036356755890417, 0.5408377715645205, -0.4146154797447925],
    ),
]


def simulated(x, y, a, w, ts, lr_a=1.0, lr_w=1.0):
    """(a, w) at `ts` of the parameters' flow; the loss sums over samples."""
    sxx, sxy = np.transpose(x) @ x, np.transpose(x) @ y

    def field(t, z):
        gradient = sxx @ (z[0] * z[1:]) - sxy
        return np.append(-lr_a * z[1:] @ gradient, -lr_w * z[0] * gradient)

    start, options = np.append(a, w), {"method": "LSODA", "rtol": 1e-11, "atol": 1e-13}
    return solve_ivp(field, (0, ts[-1]), start, t_eval=ts, **options).y.T


@pytest.mark.parametrize(("lr_a", "lr_w", "a", "w", "a_end", "w_end"), WHITENED)
def test_closed_form_has_the_published_digits(lr_a, lr_w, a, w, a_end, w_end):
    found_a, found_w = flow.linear_neuron(a, w, BETA_STAR, TIMES, lr_a, lr_w)
    np.testing.assert_allclose(found_a[-1], a_end, rtol=1e-12)
    np.testing.assert_allclose(found_w[-1], w_end, rtol=1e-12)
    np.testing.assert_allclose([found_a[0], *found_w[0]], [a, *w], rtol=1e-14)


@pytest.mark.parametrize("delta", [-6.0, -1.0, -1e-3, 0.0, 1e-3, 1.0, 6.0])
@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_closed_form_is_the_flow(delta, sign):
    lr_a, lr_w, scale, w = 0.3, 2.0, 1.7, np.array([-0.9, 0.3, 0.7])
    # The layer that delta makes larger is stretched to give it.
    a = sign * np.sqrt(max(delta + lr_a * w @ w, 0.1) / lr_w)
    w *= np.sqrt((lr_w * a**2 - delta) / lr_a / (w @ w))
    ts = np.linspace(0, 6, 5)
    found_a, found_w = flow.linear_neuron(a, w, BETA_STAR, ts, lr_a, lr_w, scale)
    x = np.sqrt(scale) * np.eye(3)
    expected = simulated(x, x @ BETA_STAR, a, w, ts, lr_a, lr_w)
    np.testing.assert_allclose(found_a, expected[:, 0], atol=1e-8)
    np.testing.assert_allclose(found_w, expected[:, 1:], atol=1e-8)


@pytest.mark.parametrize(
    ("a", "w", "beta_star"),
    [
        (0.0, [0.3, -0.8], [1.0, 0.5]),
        (0.7, [0.0, 0.0], [1.0, 0.5]),
        (0.7, [0.3, -0.1], [0.0, 0.0]),
        (0.2, [0.3, -1.1], [0.0, 0.0]),
        (0.5, [0.3, -0.4], [0.0, 0.0]),
        (0.5, [0.3, -0.4], [1.0, 0.5]),
    ],
)
def test_closed_form_where_a_part_of_it_vanishes(a, w, beta_star):
    ts = np.linspace(0, 4, 5)
    found = flow.linear_neuron(a, w, beta_star, ts)
    expected = simulated(np.eye(2), np.array(beta_star), a, w, ts)
    np.testing.assert_allclose(np.column_stack(found), expected, atol=1e-9)
    gradient = jax.grad(lambda a, w, b: flow.linear_neuron(a, w, b, ts)[1].sum(), (0, 1, 2))
    parts = gradient(jnp.array(a), jnp.array(w), jnp.array(beta_star))
    assert all(bool(jnp.isfinite(part).all()) for part in parts)


def test_closed_form_ends_in_the_limit_of_infinite_time():
    lr_a, lr_w = 0.4, 1.3
    a, w, beta_star = 1e-4, np.array([3e3, -2e3, 1e3]), np.array([0.3, 0.1, -0.2])
    found_a, found_w = flow.linear_neuron(a, w, beta_star, [1e10], lr_a, lr_w)
    end = flow.implicit_bias(np.eye(3), beta_star, a, w, lr_a, lr_w)
    np.testing.assert_allclose(found_a[0], end.a, rtol=1e-10)
    np.testing.assert_allclose(found_w[0], end.w, rtol=1e-10)


def test_closed_form_from_data_adds_what_no_sample_sees():
    x = np.array([[2.0, 0.0, 0.0], [0.0, 0.0, -2.0]])
    y, w, ts = np.array([1.0, 0.6]), np.array([0.4, -0.7, 0.2]), np.linspace(0, 2, 4)
    expected = simulated(x / np.sqrt(2), y / np.sqrt(2), 0.3, w, ts)
    data = SimpleNamespace(x=x, y=y, reduce="mean")
    found = flow.linear_neuron_data(data, 0.3, w, ts)
    np.testing.assert_allclose(np.column_stack(found), expected, atol=1e-9)
    moments = SimpleNamespace(sxx=x.T @ x / 2, syx=(x.T @ y / 2)[None])
    again = flow.linear_neuron_data(moments, 0.3, w, ts)
    np.testing.assert_allclose(again[1], found[1], atol=1e-14)
    with pytest.raises(ValueError, match="gradient_flow"):
        flow.linear_neuron_data(SimpleNamespace(x=[[1.0, 0.0], [0.0, 2.0]], y=y), 0.3, w[:2], ts)


@pytest.mark.parametrize("delta", [-1e6, -2.0, 0.0, 2.0, 1e6])
def test_preconditioner_is_that_of_the_layers(delta):
    lr_a, lr_w, beta = 0.3, 2.0, jnp.array([0.3, -0.2, 0.6])
    # a² > 0 with lr_w a² - lr_a |beta|² / a² = delta
    square = lr_a * lr_w * float(beta @ beta)
    layer = (abs(delta) + np.sqrt(delta**2 + 4 * square)) / 2
    a2 = (layer if delta >= 0 else square / layer) / lr_w
    expected = lr_w * a2 * np.eye(3) + lr_a * np.outer(beta, beta) / a2
    found = flow.preconditioner(beta, delta, lr_a, lr_w)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(
        found - np.diag(np.diag(found)), expected - np.diag(np.diag(expected)), rtol=1e-9
    )


def test_preconditioner_at_zero():
    np.testing.assert_array_equal(flow.preconditioner([0.0, 0.0], 3.0), 3 * np.eye(2))
    with pytest.raises(ValueError, match="beta = 0"):
        flow.preconditioner([0.0, 0.0], -3.0)
    assert jnp.isnan(jax.jit(flow.preconditioner)(jnp.zeros(2), -3.0)).all()


@pytest.mark.parametrize(("x", "y", "beta0", "a", "lr_a", "lr_w", "sign", "who", "beta"), BIAS)
def test_bias_has_the_published_digits(x, y, beta0, a, lr_a, lr_w, sign, who, beta):
    found = flow.implicit_bias(x, y, a, np.array(beta0) / a, lr_a, lr_w)
    np.testing.assert_allclose(found.beta, beta, atol=1e-11)
    np.testing.assert_allclose(found.a * found.w, found.beta, atol=1e-13)
    assert (found.sign, found.decided_by, bool(found.interpolates)) == (sign, who, True)
    # The theorem as printed has the sign of a(0), which is wrong where a changes sign.
    null = np.eye(6) - np.linalg.pinv(x) @ x
    printed = np.linalg.pinv(x) @ y + np.sign(a) * abs(found.a) * null @ np.array(beta0) / a
    assert (np.abs(printed - np.array(beta)).max() > 0.5) == (sign < 0)


@pytest.mark.parametrize("seed", range(6))
def test_bias_is_the_end_of_the_flow(seed):
    rng = np.random.default_rng(seed)
    d, n = 4, [1, 2, 3, 3, 5, 6][seed]  # the last two are inconsistent
    x, y = rng.standard_normal((n, d)), rng.standard_normal(n)
    x[-1] = x[0] if seed == 3 else x[-1]
    a, w = 0.3 * rng.standard_normal(), 1.5 * rng.standard_normal(d)
    lr_a, lr_w = np.exp(0.7 * rng.standard_normal(2))
    expected = simulated(x, y, a, w, [0, 1e5], lr_a, lr_w)[-1]
    found = flow.implicit_bias(x, y, a, w, lr_a, lr_w)
    np.testing.assert_allclose(np.append(found.a, found.w), expected, atol=1e-8)
    assert bool(found.interpolates) == (seed < 3)


def test_bias_with_unequal_rates_and_a_large_second_layer():
    # delta < 0 < delta_row, for which no change of sign is possible
    a, w = 1.1, np.array([0.5, -0.4, 1.9, 0.3])
    x, y = np.array([[1.0, 0.2, 0.0, 0.1], [0.0, 1.0, 0.0, -0.4]]), np.array([-2.0, 1.5])
    expected = simulated(x, y, a, w, [0, 1e5], 0.7, 0.5)[-1]
    found = flow.implicit_bias(x, y, a, w, 0.7, 0.5)
    assert 0.5 * a**2 - 0.7 * w @ w < 0 < found.delta_row
    assert (found.decided_by, float(found.sign)) == ("invariant", 1.0)
    np.testing.assert_allclose(np.append(found.a, found.w), expected, atol=1e-8)


@pytest.mark.nightly
def test_basin_alone_decides_between_two_solutions():
    # Both starts share x, a, delta and the components that the flow conserves.
    x, y = np.diag([1.0, 0.4, 0.0])[:2], np.array([0.4, 0.3])
    ends = []
    for angle in np.linspace(1.0, 3.2, 12):
        w = np.array([np.cos(angle), np.sin(angle), 0.5])
        found = flow.implicit_bias(x, y, 0.5, w)
        expected = simulated(x, y, 0.5, w, [0, 1e4])[-1]
        np.testing.assert_allclose(np.append(found.a, found.w), expected, atol=1e-7)
        ends.append(float(found.a))
    np.testing.assert_allclose(np.abs(ends), np.abs(ends[0]), rtol=1e-10)
    assert min(ends) < 0 < max(ends)


@pytest.mark.nightly
def test_a_batch_of_starts_and_derivatives():
    w = np.linspace(-1, 1, 18).reshape(3, 6)
    a = np.array([0.4, -0.5, 0.01])
    batch = eqx.filter_vmap(lambda a, w: flow.implicit_bias(X2, Y2, a, w))(a, w)
    for i in range(3):
        one = flow.implicit_bias(X2, Y2, a[i], w[i])
        np.testing.assert_allclose(batch.beta[i], one.beta, atol=1e-13)
        assert batch.decided_by[i] == one.decided_by
    slope = jax.grad(lambda a: flow.implicit_bias(X2, Y2, a, w[0]).beta.sum())(0.4)
    near = [flow.implicit_bias(X2, Y2, 0.4 + h, w[0]).beta.sum() for h in (-1e-5, 1e-5)]
    np.testing.assert_allclose(slope, (near[1] - near[0]) / 2e-5, rtol=1e-6)


def test_starts_that_end_at_a_saddle_have_no_answer():
    # w·b = -a (D + kappa)/2 with D = -3, |b| = 1, hence kappa = sqrt(13); then D = 0 at the origin
    a = 1.0
    along = -a * 2 / (np.sqrt(13) + 3)
    unbalanced = flow.implicit_bias(np.eye(2), [1.0, 0.0], a, [along, np.sqrt(4 - along**2)])
    balanced = flow.implicit_bias([[1.0]], [1.0], 1.0, [-1.0])
    for found in (unbalanced, balanced):
        assert found.result == Result.SOLVER_FAILED
        assert jnp.isnan(found.beta).all()


def test_a_row_space_without_signal():
    x, y, w = np.array([[1.0, 0.0], [0.0, 0.0]]), np.array([0.0, 1.0]), np.array([0.3, 0.7])
    found = flow.implicit_bias(x, y, -1.0, w)
    np.testing.assert_allclose(found.beta, [0.0, -np.sqrt(1 - 0.09) * 0.7], atol=1e-14)
    np.testing.assert_allclose(found.w, [0.0, 0.7], atol=1e-14)
    assert not found.interpolates
    shrunk = flow.implicit_bias(x, y, 0.1, w)
    np.testing.assert_array_equal(shrunk.beta, 0.0)
    assert jnp.isnan(shrunk.w[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"a": 0.0, "w": [0.0, 1.0]}, "critical point"),
        ({"lr_a": 0.0}, "lr_a"),
        ({"y": [1.0 + 1j]}, "real"),
        ({"x": [[np.nan, 0.0]]}, "x must be finite"),
        ({"w": [[1.0, 0.0]]}, "w must have"),
        ({"x": np.zeros((0, 2)), "y": []}, "at least one"),
    ],
)
def test_bad_input_is_refused(change, message):
    good = {"x": [[1.0, 0.0]], "y": [1.0], "a": 1.0, "w": [0.5, 1.0]}
    with pytest.raises(ValueError, match=message):
        flow.implicit_bias(**(good | change))


def test_traced_bad_input_gives_nan():
    bad = jax.jit(lambda lr: flow.linear_neuron(1.0, [0.5], [1.0], [0.0, 1.0], lr))(-1.0)
    assert jnp.isnan(bad[0]).all()
    end = eqx.filter_jit(lambda a: flow.implicit_bias([[1.0]], [1.0], a, [0.0]))(jnp.array(0.0))
    assert end.result == Result.INVALID_INPUT
    with pytest.raises(ValueError, match="lr_w"):
        flow.linear_neuron(1.0, [0.5], [1.0], [0.0], lr_w=0.0)
