"""The one definition of learning: activations, losses, labels, and the gradient of a sample."""

import functools
import gc
import json
import weakref

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import erf

import learndyn as ld
from learndyn.problems import Layers, derivative, describe, to_json
from learndyn.problems._activations import AbstractActivation
from learndyn.problems._losses import AbstractLoss
from learndyn.problems._problem import _require_shapes


class Slope(eqx.Module):
    """A user's activation with a parameter."""

    a: jax.Array

    def __call__(self, x):
        return jnp.where(x > 0, x, self.a * x)


class MyLoss(eqx.Module):
    classification = True

    def __call__(self, phi, y):
        return jnp.exp(-y * phi)


def huber(phi, y):
    d = jnp.abs(phi - y)
    return jnp.where(d < 1, 0.5 * d**2, d - 0.5)


BAD = {
    "negative noise": (lambda: ld.Problem(noise=-0.1), "noise must be finite and >= 0.*-0.1"),
    "NaN noise": (lambda: ld.Problem(noise=float("nan")), "noise must be finite.*nan"),
    "one of many noises": (lambda: ld.Problem(noise=[0.1, -1.0]), "noise must be finite"),
    "noise no number": (lambda: ld.Problem(noise="much"), "noise must be a real number.*much"),
    "complex noise": (lambda: ld.Problem(noise=1j), "noise must be real"),
    "boolean noise": (lambda: ld.Problem(noise=True), "noise must be real"),
    "ragged noise": (lambda: ld.Problem(noise=[[1], [1, 2]]), "noise must be a real number"),
    "sign student": (lambda: ld.Problem(student=ld.Sign()), "differentiable"),
    "class, not object": (lambda: ld.Problem(student=ld.Erf), r"Did you mean Erf\(\)\?"),
    "name, not function": (lambda: ld.Problem(teacher="erf"), "teacher must be callable"),
    "loss no function": (lambda: ld.Problem(loss=3), "loss must be callable"),
    "index of nothing": (lambda: ld.MultiIndex(None), "f must be callable"),
    "flip too large": (lambda: ld.Sign(1.2), r"flip must lie in \[0, 1\].*1.2"),
    "negative flip": (lambda: ld.Sign(-0.1), r"flip must lie in \[0, 1\].*-0.1"),
    "NaN among flips": (lambda: ld.Sign([0.1, float("nan")]), r"flip must lie in \[0, 1\]"),
    "flip of no label": (
        lambda: ld.Problem(teacher=ld.Sign(0.1)),
        "Sign.flip. turns labels that are signs.*Squared",
    ),
    "two noises": (
        lambda: ld.Problem(teacher=ld.MultiIndex(lambda rho, zeta: rho[0]), noise=0.1),
        "makes its own noise",
    ),
    "multi-index student": (
        lambda: ld.Problem(student=ld.MultiIndex(lambda rho, zeta: rho[0])),
        "teachers only",
    ),
    "NumPy function": (lambda: ld.Problem(student=np.tanh), "Write it with jax.numpy"),
    "not elementwise": (lambda: ld.Problem(student=jnp.sum), r"elementwise.*shape \(\)"),
    "no floats": (lambda: ld.Problem(teacher=lambda x: x > 0), "return floats.*bool"),
    "loss of one": (lambda: ld.Problem(loss=lambda phi: phi**2), "phi, y"),
    "loss as student": (lambda: ld.Problem(student=ld.Squared()), "student must be elementwise"),
    "activation as loss": (lambda: ld.Problem(loss=ld.Erf()), "loss must be a function"),
    "loss a vector": (lambda: ld.Problem(loss=lambda phi, y: jnp.ones(2)), r"shape \(2,\)"),
}


@pytest.mark.parametrize(("make", "words"), BAD.values(), ids=BAD)
def test_bad_problems_say_what_must_hold(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def concrete_classes(parent):
    found = parent.__subclasses__()
    own = [cls for cls in found if cls.__module__ == parent.__module__]
    return [cls for cls in own if not cls.__abstractmethods__]


class TestWhatIsTracedToCheckAProblem:
    """Tracing a function takes milliseconds: once for each function of a user, else never."""

    @pytest.mark.parametrize("cls", concrete_classes(AbstractActivation))
    def test_activations_of_the_library_need_no_check(self, cls):
        _require_shapes(cls(), "activation", "elementwise", (3,))

    @pytest.mark.parametrize("cls", concrete_classes(AbstractLoss))
    def test_losses_of_the_library_need_no_check(self, cls):
        _require_shapes(cls(), "loss", "a function (phi, y) -> number", (), ())

    def test_a_default_problem_traces_nothing(self, monkeypatch):
        monkeypatch.setattr(jax, "eval_shape", None)
        assert ld.Problem(noise=0.1).noise == 0.1

    def test_a_function_is_traced_once(self):
        calls = []

        def g(x):
            calls.append(x)
            return jnp.sin(x)

        for noise in (0.0, 0.1, 0.2):
            ld.Problem(g, g, lambda phi, y: g(phi - y) ** 2, noise)
        # Once as an activation; each loss is another function.
        assert [x.shape for x in calls] == [(3,), (), (), ()]

    def test_a_module_is_traced_once_and_each_of_its_copies(self):
        calls = []

        class Counted(eqx.Module):
            a: jax.Array

            def __call__(self, x):
                calls.append(x)
                return self.a * x

        student = Counted(jnp.array(0.5))
        problems = [ld.Problem(student, noise=noise) for noise in (0.1, 0.2)]
        assert len(calls) == 1
        ld.Problem(jax.tree.map(lambda x: x, problems[0].student))
        assert len(calls) == 2
        with pytest.raises(ValueError, match="elementwise"):
            ld.Problem(Counted(jnp.ones(2)))

    def test_what_cannot_be_hashed_is_asked_each_time(self):
        class Changing:
            __hash__ = None
            shape = (3,)

            def __call__(self, x):
                return jnp.ones(self.shape)

        g = Changing()
        ld.Problem(g)
        g.shape = (2,)
        with pytest.raises(ValueError, match=r"maps shapes \(\(3,\),\) to shape \(2,\)"):
            ld.Problem(g)

    def test_a_wrong_function_is_refused_each_time(self):
        for _ in range(2):
            with pytest.raises(ValueError, match="student must be elementwise and return"):
                ld.Problem(jnp.sum)

    def test_a_function_that_passed_in_one_place_is_asked_in_the_other(self):
        def g(x, y=1.0):
            return y * x if x.ndim else x * jnp.ones(2)

        ld.Problem(student=g)
        with pytest.raises(ValueError, match=r"maps shapes \(\(\), \(\)\) to shape \(2,\)"):
            ld.Problem(loss=g)

    def test_nothing_is_kept_alive(self):
        large = Slope(jnp.ones(()))
        g = functools.partial(jnp.multiply, large.a)
        array, function = weakref.ref(large), weakref.ref(g)
        ld.Problem(large, g)
        del large, g
        gc.collect()
        assert array() is None
        assert function() is None


def test_multi_index_functions_return_one_number():
    label = ld.MultiIndex(lambda rho, zeta: rho)
    with pytest.raises(ValueError, match=r"one number.*shape \(2,\)"):
        label(jnp.ones(2), jnp.array(0.0))
    column = ld.MultiIndex(lambda rho, zeta: (rho[:1] + zeta)[None])
    assert column(jnp.ones(2), jnp.array(0.5)).shape == ()


NUMPY = {
    ld.Erf: (lambda x: erf(x / np.sqrt(2)), lambda x: np.sqrt(2 / np.pi) * np.exp(-(x**2) / 2)),
    ld.ReLU: (lambda x: np.maximum(x, 0), lambda x: (x > 0) * 1.0),
    ld.Linear: (lambda x: x, lambda x: np.ones_like(x)),
    ld.Quadratic: (lambda x: x**2, lambda x: 2 * x),
    ld.Tanh: (np.tanh, lambda x: 1 - np.tanh(x) ** 2),
    ld.Sign: (lambda x: np.where(x >= 0, 1.0, -1.0), lambda x: 0 * x),
}


@pytest.mark.parametrize("activation", NUMPY, ids=lambda cls: cls.__name__)
def test_activations_and_their_derivatives(activation):
    g, (value, slope) = activation(), NUMPY[activation]
    x = jnp.array([-2.3, -0.4, 0.0, 0.1, 5.0])
    np.testing.assert_allclose(g(x), value(np.asarray(x)), atol=1e-15)
    np.testing.assert_allclose(derivative(g, x), slope(np.asarray(x)), atol=1e-15)


LOSSES = {
    ld.Squared(): lambda phi, y: (phi - y) ** 2 / 2,
    ld.Logistic(): lambda phi, y: np.log1p(np.exp(-y * phi)),
    ld.Hinge(): lambda phi, y: np.maximum(0, 1 - y * phi),
    ld.Perceptron(): lambda phi, y: np.maximum(0, -y * phi),
    ld.Hebb(): lambda phi, y: -y * phi,
    ld.AdaTron(): lambda phi, y: np.maximum(0, -y * phi) ** 2 / 2,
}


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)
@pytest.mark.parametrize("y", [-1.0, 1.0])
def test_losses_and_their_slopes(loss, y):
    phi, step = np.array([-1.7, -0.2, 0.3, 2.5]), 1e-6
    value = [loss(jnp.array(p), jnp.array(y)) for p in phi]
    slope = [loss.slope(jnp.array(p), jnp.array(y)) for p in phi]
    np.testing.assert_allclose(value, LOSSES[loss](phi, y), rtol=1e-14)
    expected = (LOSSES[loss](phi + step, y) - LOSSES[loss](phi - step, y)) / (2 * step)
    np.testing.assert_allclose(slope, expected, atol=1e-9)


def test_derivatives_are_zero_at_kinks():
    one = jnp.array(1.0)
    assert ld.Hinge().slope(one, one) == 0
    assert ld.Perceptron().slope(0 * one, one) == 0
    assert ld.AdaTron().slope(0 * one, one) == 0
    assert ld.ReLU().derivative(0 * one) == 0
    assert derivative(jax.nn.relu, 0 * one) == 0


def test_logistic_loss_neither_overflows_nor_underflows():
    far = jnp.array(800.0)
    assert ld.Logistic()(-far, jnp.array(1.0)) == 800.0
    assert ld.Logistic().slope(-far, jnp.array(1.0)) == -1.0
    assert ld.Logistic().slope(far, jnp.array(1.0)) == 0.0


@functools.cache
def sample():
    rng = np.random.default_rng(5)
    lam, rho, zeta = rng.normal(size=(20, 3)), rng.normal(size=(20, 2)), rng.normal(size=20)
    v, b = rng.normal(size=3), rng.normal(size=3)
    layers = Layers(*map(jnp.asarray, (v, [0.7, -1.2], b, [0.1, 0.4])))
    return jnp.asarray(lam), jnp.asarray(rho), jnp.asarray(zeta), layers


@pytest.mark.parametrize("student", [ld.Erf(), ld.Tanh(), ld.ReLU(), ld.Quadratic(), jnp.sin])
@pytest.mark.parametrize("loss", [ld.Squared(), ld.Logistic(), ld.Hinge(), huber, MyLoss()])
def test_gradient_is_that_of_the_loss(student, loss):
    """c and dv against automatic differentiation of the composed loss."""
    problem = ld.Problem(student, ld.Tanh(), loss, noise=0.3)
    lam, rho, zeta, layers = sample()

    def at(lam, v, rho, zeta):
        layers_with = layers._replace(v=v)
        phi = problem.student_output(lam, layers_with)
        return problem.loss(phi, problem.label(rho, zeta, layers_with))

    @jax.jit
    @functools.partial(jax.vmap, in_axes=(0, 0, 0))
    def both(lam, rho, zeta):
        y = problem.label(rho, zeta, layers)
        return problem.gradient(lam, y, layers), jax.grad(at, (0, 1))(lam, layers.v, rho, zeta)

    found, expected = both(lam, rho, zeta)
    np.testing.assert_allclose(found.c, expected[0], rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(found.dv, expected[1], rtol=1e-12, atol=1e-14)


def test_labels():
    _, rho, zeta, layers = sample()
    clean = np.tanh(np.asarray(rho) + np.array([0.1, 0.4])) @ [0.7, -1.2]
    noisy = clean + 0.3 * np.asarray(zeta)

    def labels(**kwargs):
        return jax.vmap(ld.Problem(teacher=ld.Tanh(), noise=0.3, **kwargs).label, (0, 0, None))

    np.testing.assert_allclose(labels()(rho, zeta, layers), noisy, rtol=1e-14)
    signs = np.where(noisy >= 0, 1.0, -1.0)
    np.testing.assert_array_equal(labels(loss=ld.Hinge())(rho, zeta, layers), signs)
    np.testing.assert_array_equal(labels(loss=MyLoss())(rho, zeta, layers), signs)
    multi = ld.Problem(teacher=ld.MultiIndex(lambda rho, zeta: rho[0] * rho[1] + 0.5 * zeta))
    expected = np.prod(rho, axis=1) + 0.5 * np.asarray(zeta)
    np.testing.assert_allclose(jax.vmap(multi.label, (0, 0, None))(rho, zeta, layers), expected)


def test_a_loss_is_a_classification_loss_only_if_it_says_so():
    def exponential(phi, y):
        return jnp.exp(-y * phi)

    assert not ld.Problem(loss=exponential).is_classification
    exponential.classification = True
    assert ld.Problem(loss=exponential).is_classification
    assert ld.Problem(loss=MyLoss()).is_classification
    assert not ld.Problem().is_classification


def test_floats_are_leaves_and_plain_functions_are_static():
    assert len(jax.tree.leaves(ld.Problem(jnp.sin, jnp.cos, huber, noise=0.1))) == 1
    assert len(jax.tree.leaves(ld.Problem(student=Slope(jnp.array(0.1))))) == 2
    assert hash(jax.tree.structure(ld.Problem(jnp.sin))) is not None


def test_one_program_for_all_noises_and_parameters():
    def label(problem):
        _, rho, zeta, layers = sample()
        return problem.label(rho[0], zeta[0], layers)

    counted = eqx.filter_jit(eqx.debug.assert_max_traces(label, max_traces=1))
    first = counted(ld.Problem(teacher=Slope(jnp.array(0.1)), noise=0.1))
    second = counted(ld.Problem(teacher=Slope(jnp.array(0.2)), noise=0.4))
    assert first != second
    batch = eqx.filter_vmap(lambda noise: label(ld.Problem(noise=noise)))(jnp.array([0.1, 0.2]))
    assert batch.shape == (2,)


def test_description_is_json_and_the_same_in_every_process():
    problem = ld.Problem(jnp.sin, ld.MultiIndex(lambda rho, zeta: rho[0]), huber)
    text = to_json(problem)
    assert json.loads(text) == describe(problem)
    assert "0x" not in text
    found = json.loads(text)
    assert found["type"] == "Problem"
    assert found["loss"]["callable"].endswith("test_problem.huber")
    assert found["teacher"]["type"] == "MultiIndex"
    assert describe(ld.Problem(noise=[0.1, 0.2]))["noise"] == [0.1, 0.2]
    assert describe(Slope(jnp.array(0.25))) == {
        "type": "Slope",
        "module": f"{__name__}.Slope",
        "a": 0.25,
    }
    halved = describe(ld.Problem(student=functools.partial(jnp.multiply, 0.5)))["student"]
    assert "0.5" in halved["repr"]
    assert "0x" not in halved["repr"] + describe(huber)
