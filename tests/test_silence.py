"""What was once wrong without a word: it is right now, or refused, or told."""

import json
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import learndyn as ld
from learndyn._checks import is_concrete
from learndyn.problems import _problem, _regularity, out_of_range
from learndyn.sweeps import make_plan

RULE = ld.SGD(lr=0.2)
ONE = ld.Overlaps([[1.0]], [[0.1]], [[1.0]])
TWO = ld.Overlaps(np.eye(2), 0.1 * np.eye(2), np.eye(2))
TS = jnp.array([0.0, 1.0])
LINEAR = ld.Problem(ld.Linear(), ld.Linear())


class TestFields:
    """Functions that read fields that are not there, where JAX would read another one."""

    READS: ClassVar = {
        "index": (lambda r: r[5], (5, 2)),
        "negative": (lambda r: r[-3], (-3, 2)),
        "array": (lambda r: r[jnp.array([0, 5])], (5, 2)),
        "negative array": (lambda r: r[jnp.array([0, -3])], (-3, 2)),
        "range": (lambda r: r[jnp.arange(3)], (2, 2)),
        "take": (lambda r: jnp.take(r, 5), (5, 2)),
        "at": (lambda r: r.at[4].get(), (4, 2)),
        "at set": (lambda r: r.at[2].set(0.0).sum(), (2, 2)),
        "axis": (lambda r: r[None, :][0, 3], (3, 2)),
        "inside jit": (jax.jit(lambda r: r[4]), (4, 2)),
        "inside cond": (lambda r: jax.lax.cond(r[0] > 0, lambda: r[4], lambda: r[0]), (4, 2)),
        "where": (lambda r: jnp.where(r[0] > 0, r[4], 0.0), (4, 2)),
        "last ones": (lambda r: r[-1] + r[-2] + r[1] + r[jnp.array([0, -2])].sum(), None),
        "asked for": (lambda r: jnp.take(r, 5, mode="clip"), None),
        "by value": (lambda r: r[jnp.argmax(r)], None),
    }

    @pytest.mark.parametrize("name", READS)
    def test_constant_indices_are_looked_up(self, name):
        read, fault = self.READS[name]
        assert out_of_range(read, (2,)) == fault

    @pytest.mark.parametrize(
        "level",
        [
            lambda p: ld.solve_ode(p, RULE, TWO, TS),
            lambda p: ld.generalisation_error(p, TWO),
            lambda p: ld.simulate_chain(p, RULE, TWO, TS, n=20, key=jax.random.key(0)),
            lambda p: ld.simulate_sgd(
                p, RULE, ld.Weights(np.ones((2, 9)), np.ones((2, 9))), TS, key=jax.random.key(0)
            ),
        ],
        ids=["ode", "eg", "chain", "sgd"],
    )
    def test_a_teacher_is_refused_at_every_level(self, level):
        problem = ld.Problem(teacher=ld.MultiIndex(lambda rho, zeta: rho[5] + zeta))
        with pytest.raises(ValueError, match=r"m = 2 fields.*index 5.*axis of 2"):
            level(problem)

    def test_so_is_a_rule(self):
        def modulation(problem, sample, layers):
            return ld.Modulation(sample.lam - sample.lam[2], sample.lam)

        with pytest.raises(ValueError, match="the rule may read k = 2 fields"):
            ld.solve_ode(ld.Problem(), ld.LocalRule(modulation, lr=0.1), TWO, TS)

    def test_so_is_a_problem_with_its_own_label(self):
        class Own(ld.Problem):
            def label(self, rho, zeta, layers):
                return rho[0] * rho[2]

        with pytest.raises(ValueError, match="Own may read"):
            ld.solve_ode(Own(), RULE, TWO, TS)


class TestElementwise:
    @pytest.mark.parametrize(
        "mixes",
        [
            jax.nn.softmax,
            lambda x: x - jnp.mean(x),
            lambda x: x / (1e-6 + jnp.max(jnp.abs(x))),
            jnp.cumsum,
            lambda x: x * x[-1],
            lambda x: jnp.sort(x),
            lambda x: x[::-1],
        ],
        ids=["softmax", "mean", "max", "cumsum", "last", "sort", "turned"],
    )
    def test_functions_that_mix_units_are_refused(self, mixes):
        for name in ("student", "teacher"):
            with pytest.raises(ValueError, match=f"{name} must be elementwise"):
                ld.Problem(**{name: mixes})

    def test_also_inside_jit(self):
        with pytest.raises(ValueError, match="mixes units"):
            jax.jit(lambda x: ld.Problem(lambda y: y / jnp.sum(y**2), noise=x).noise)(0.1)

    def test_others_pass(self):
        for g in (jnp.sin, jax.nn.gelu, lambda x: jnp.where(x > 0, jnp.log(x), jnp.nan)):
            assert ld.Problem(g, g).student.fn is g


class TestFreshProcess:
    """Measurements that nothing remembers yet are made while something else is traced."""

    PROBLEMS: ClassVar = {
        "smooth": lambda: ld.Problem(
            ld.Tanh(), ld.MultiIndex(lambda rho, zeta: jnp.tanh(rho[0]) * rho[-1])
        ),
        "perceptron": lambda: ld.Problem(ld.Linear(), jnp.sin, ld.Perceptron()),
        "own label": lambda: type(
            "Own", (ld.Problem,), {"label": lambda self, rho, z, layers: jnp.sin(rho.sum())}
        )(ld.Tanh(), ld.Tanh()),
    }

    @pytest.mark.nightly(by_day=["own label", "perceptron"])
    @pytest.mark.parametrize("name", PROBLEMS)
    def test_every_problem_can_be_jitted(self, name):
        problem = self.PROBLEMS[name]()
        _regularity._remember.cache_clear()
        _problem._CHECKED.clear()
        start = ONE if name == "perceptron" else TWO
        found = jax.eval_shape(lambda s: ld.generalisation_error(problem, s), start)
        assert found.shape == ()

    def test_a_function_alone_is_the_same_one_in_jit(self):
        """Leaky units with the same slope have closed forms also where they are closed over."""
        problem = ld.Problem(ld.LeakyReLU(0.1), ld.LeakyReLU(0.1))

        run = jax.eval_shape(lambda s: ld.solve_ode(problem, RULE, s, TS).stats, ONE)
        assert set(run) == set(ld.solve_ode(problem, RULE, ONE, TS).stats)


class TestEndings:
    def test_a_negative_schedule_is_told(self):
        rule = ld.SGD(lr=lambda alpha: 0.5 - alpha)
        with pytest.warns(RuntimeWarning, match="a schedule gave a learning rate"):
            run = ld.solve_ode(ld.Problem(), rule, ONE, TS)
        assert run.result == ld.Result.BAD_RATE
        assert np.isfinite(run.eg[0])

    def test_a_large_schedule_is_not(self):
        with pytest.warns(RuntimeWarning, match="learning rate is too large"):
            run = ld.solve_ode(LINEAR, ld.SGD(lr=lambda alpha: 40.0), ONE, 10 * TS)
        assert run.result == ld.Result.DIVERGED

    def test_the_first_row_is_the_start(self):
        """A linear ODE that grows so fast that it ends within its first step."""
        with pytest.warns(RuntimeWarning, match="DIVERGED"):
            run = ld.solve_ode(LINEAR, ld.SGD(lr=1e8), ONE, TS)
        np.testing.assert_array_equal(run.Q[0], ONE.Q)
        assert run.eg[0] == pytest.approx(0.5 * (1 - 2 * 0.1 + 1), rel=1e-12)

    def test_steps_that_overflow_are_made_smaller(self):
        """Linear, both layers trained at rates at which the solver's first step overflows: its
        error is NaN, of which Diffrax made further steps of NaN until max_steps."""
        start = ld.Overlaps(np.eye(3), 0.1 * np.ones((3, 2)), np.eye(2))
        rule = ld.SGD(lr=30.0, lr_second=30.0)
        run = jax.jit(lambda s: ld.solve_ode(LINEAR, rule, s, TS, max_steps=3000))(start)
        assert run.result != ld.Result.MAX_STEPS
        assert np.isfinite(run.eg[0])

    def test_max_steps_names_a_stiff_solver(self):
        assert "Kvaerno5" in ld.Result.MAX_STEPS.meaning

    @pytest.mark.parametrize("name", ["noise", "n", "dt", "Q"])
    def test_langevin_with_one_time_invents_no_state(self, name):
        def run(x):
            given = {"noise": 0.0, "n": 50.0, "dt": 0.1, "Q": 1.0} | {name: x}
            start = ld.Overlaps(jnp.reshape(given["Q"], (1, 1)), [[0.0]], [[1.0]])
            problem = ld.Problem(noise=given["noise"])
            sizes = {"n": given["n"], "dt": given["dt"], "key": jax.random.key(0)}
            return ld.simulate_langevin(problem, RULE, start, TS[:1], **sizes)

        run = jax.jit(run)(-1.0)
        assert run.result == ld.Result.INVALID_INPUT
        assert np.isnan(run.Q).all()
        assert np.isnan(run.eg).all()


class TestErrorsAreNotNegative:
    """Noise 0 and long times: eg falls to 0 and stays there."""

    @pytest.mark.nightly(by_day=["Linear()", "ReLU()"])
    @pytest.mark.parametrize(
        "unit",
        [ld.Linear(), ld.ReLU(), lambda x: jnp.maximum(x, -0.3 * x)],
        ids=lambda g: getattr(g, "__name__", str(g)),
    )
    def test_in_the_ode(self, unit):
        start = ld.Overlaps(np.eye(2), 0.9 * np.eye(2), np.eye(2))
        ts = jnp.linspace(0.0, 300.0, 61)
        run = ld.solve_ode(ld.Problem(unit, unit), ld.SGD(lr=0.3), start, ts)
        assert (run.eg >= 0).all()
        assert run.eg[-1] < 1e-9

    @pytest.mark.parametrize(
        "unit",
        [ld.Erf(), ld.Linear(), ld.Tanh(), jnp.abs, jax.nn.elu],
        ids=lambda g: getattr(g, "__name__", str(g)),
    )
    def test_of_states(self, unit):
        """Student = teacher, by rounding and by what a solver leaves not quite semi-definite."""
        problem = ld.Problem(unit, unit)
        c = np.array([[1.0, 0.3], [0.3, 0.7]])
        for gap in (0.0, 1e-11, -1e-11):
            start = ld.Overlaps(c - gap * np.eye(2), c, c)
            eg = float(ld.generalisation_error(problem, start))
            assert 0 <= eg < 1e-10

    def test_derivatives_at_zero_are_those_of_the_sum(self):
        def eg(q):
            return ld.generalisation_error(LINEAR, ld.Overlaps(q[None, None], [[1.0]], [[1.0]]))

        assert jax.grad(eg)(jnp.asarray(1.0 - 1e-12)) == pytest.approx(0.5)

    def test_what_rounding_does_not_explain_is_nan(self):
        state = eqx.tree_at(lambda s: s.Q, ONE, jnp.array([[-1.0]]))
        assert np.isnan(ld.generalisation_error(LINEAR, state))

    def test_in_closed_forms(self):
        curve = ld.asymptotics.ridge_curve(np.linspace(0.0, 400.0, 401), 0.3, 0.0)
        assert (curve.eg >= 0).all()
        exact = ld.asymptotics.ridge_finite_n(np.arange(0, 9000, 30), 20, 0.3, 0.0)
        assert (exact.eg >= 0).all()


@pytest.fixture
def single():
    """float32 as JAX has it without x64."""
    with jax.enable_x64(False):
        yield


CLOSED_FORMS = {
    "eg_linear": lambda a: a.eg_linear(0.1, k=2),
    "eg_linear_small_lr": lambda a: a.eg_linear_small_lr(0.1, k=2),
    "eg_linear_curve": lambda a: a.eg_linear_curve(3.0, 1.0, 0.1, k=2),
    "eg_linear_finite_n": lambda a: a.eg_linear_finite_n(100, 1.0, 50, 0.1, k=2),
    "linear_variance_is_finite": lambda a: a.linear_variance_is_finite(50, 0.1, k=2),
    "ridge": lambda a: a.ridge(0.1, 0.1),
    "ridge_curve": lambda a: a.ridge_curve(1.0, 0.1, 0.1),
    "ridge_finite_n": lambda a: a.ridge_finite_n(100, 50, 0.1, 0.1),
    "critical_lr_ridge": lambda a: a.critical_lr_ridge(0.1),
    "eg_relu": lambda a: a.eg_relu(2, 0.1),
    "critical_lr_relu": lambda a: a.critical_lr_relu(2),
    "eg_specialised": lambda a: a.eg_specialised(2, 1, 0.1),
    "eg_denoising": lambda a: a.eg_denoising(m=2, z=2, v_teacher=1.0, lr=0.1),
}


class TestSinglePrecision:
    @pytest.mark.parametrize("name", CLOSED_FORMS)
    def test_theory_refuses_it(self, name, single):
        with pytest.raises(ValueError, match="needs float64, but JAX runs in float32"):
            CLOSED_FORMS[name](ld.asymptotics)

    def test_sgd_takes_weights_of_any_precision(self):
        with jax.enable_x64(False):
            weights = ld.init_weights(jax.random.key(0), n=30, k=2, m=2)
        run = ld.simulate_sgd(ld.Problem(), RULE, weights, TS, key=jax.random.key(1))
        assert run.Q.dtype == jnp.float64
        assert np.isfinite(run.eg).all()
        theory = ld.solve_ode(ld.Problem(), RULE, ld.overlaps(weights), TS)
        assert run.eg[0] == pytest.approx(float(theory.eg[0]), rel=1e-5)

    def test_overlaps_of_it_are_projected(self, rng):
        """Three units in two dimensions: a singular covariance, rounded to float32."""
        w = rng.normal(size=(6, 2))
        c = (w @ w.T / 2).astype(np.float32)
        c += np.float32(2e-7) * rng.normal(size=c.shape).astype(np.float32)
        assert np.linalg.eigvalsh(0.5 * (c + c.T).astype(float))[0] < -1e-10 * np.trace(c)
        state = ld.Overlaps(c[:3, :3], c[:3, 3:], c[3:, 3:])
        assert state.Q.dtype == jnp.float64
        whole = np.asarray(state.covariance)
        assert np.linalg.eigvalsh(whole)[0] >= -1e-14
        np.testing.assert_allclose(whole, c, atol=2e-6)
        np.testing.assert_allclose(whole, whole.T, atol=1e-15)

        def solved(q):
            start = ld.Overlaps(q, c[:3, 3:], c[3:, 3:])
            return ld.solve_ode(LINEAR, RULE, start, TS)

        run = jax.jit(solved)(jnp.asarray(c[:3, :3]))
        assert run.result == ld.Result.SUCCESS
        np.testing.assert_allclose(run.Q[0], state.Q, atol=1e-12)

    def test_overlaps_made_before_x64_are_converted(self):
        with jax.enable_x64(False):
            start = ld.Overlaps(np.eye(2), 0.1 * np.eye(2), np.eye(2))
        run = ld.solve_ode(LINEAR, RULE, start, TS)
        exact = ld.solve_ode(LINEAR, RULE, TWO, TS)
        np.testing.assert_allclose(run.eg, exact.eg, rtol=1e-6)
        assert ld.generalisation_error(LINEAR, start) == pytest.approx(float(exact.eg[0]), rel=1e-6)

    def test_other_overlaps_are_refused_with_what_may_be_wrong(self):
        c = np.array([[1.0, 1.0 + 1e-6], [1.0 + 1e-6, 1.0]])
        with pytest.raises(ValueError, match="pass float32 arrays"):
            ld.Overlaps(c[:1, :1], c[:1, 1:], c[1:, 1:])
        with pytest.raises(ValueError, match=r"entry by entry\.$"):
            ld.Overlaps([[1.0]], [[1.5]], [[1.0]])


class TestSweeps:
    @staticmethod
    def sweep(level, over, ts=TS, **keywords):
        return ld.sweep(level, ld.Problem(), RULE, ONE, ts, over=over, **keywords)

    def test_an_axis_as_long_as_the_times_in_some_runs(self):
        def level(problem, rule, start, ts, size):
            return {"a": jnp.arange(float(size)), "b": 2.0 * jnp.arange(float(size))}

        ds = self.sweep(level, {"size": [1, 2, 3]})
        assert ds.a.dims == ("size", "a_0")
        np.testing.assert_array_equal(ds.a.sel(size=2), [0, 1, np.nan])
        np.testing.assert_array_equal(ds.b.sel(size=3), [0, 2, 4])

    def test_names_of_the_schema_with_other_lengths(self):
        def level(problem, rule, start, ts, size):
            return {"eg": jnp.ones(size), "v": jnp.ones((2, size)), "b": jnp.ones((2, 2))}

        ds = self.sweep(level, {"size": [1, 3]})
        assert ds.eg.dims == ("size", "eg_0")
        assert ds.v.dims == ("size", "alpha", "student")
        assert np.isnan(ds.b.isel(student=2)).all()

    @pytest.mark.parametrize("dim", ["alpha", "lr", "seed"])
    def test_dimensions_that_are_taken(self, dim):
        def level(problem, rule, start, ts, key):
            return {"x": ((dim,), rule.lr * jnp.ones(5)), "alpha": jnp.ones(3)}

        ds = self.sweep(level, {"lr": [0.1, 0.2]}, seeds=2, key=jax.random.key(0))
        np.testing.assert_allclose(ds.x.sel(lr=0.2), 0.2)
        assert ds.x.dims == ("lr", "seed", "x_0")
        assert ds.alpha_used.dims == ("lr", "seed", "alpha_0")

    def test_other_numbers_of_axes(self):
        def level(problem, rule, start, ts, size):
            return {"a": jnp.ones((size,) * (size - 1))}

        with pytest.warns(RuntimeWarning, match="different numbers of axes"):
            ds = self.sweep(level, {"size": [1, 2, 3]})
        np.testing.assert_array_equal(ds.a.sel(size=1), [[1, np.nan, np.nan]] + 2 * [3 * [np.nan]])
        assert (ds.a.sel(size=3) == 1).all()

    def test_results_of_the_users_own(self):
        def level(problem, rule, start, ts):
            return {"result": 1000 * rule.lr}

        ds = self.sweep(level, {"lr": [0.1, 0.5]})
        np.testing.assert_allclose(ds.result, [100, 500])
        assert "flag_values" not in ds.result.attrs

    @pytest.mark.parametrize("values", [[0.5, 300.0], [7, 300], [-1, 2], [True, False], [1.0, 2.0]])
    def test_results_of_the_users_own_in_a_dataset(self, values):
        ds = ld.to_dataset({"result": np.array(values)}, ts=TS)
        np.testing.assert_array_equal(ds.result, values)
        assert ds.result.dtype == np.array(values).dtype
        assert "flag_values" not in ds.result.attrs

    def test_codes_stay_codes(self):
        ds = ld.to_dataset({"result": jnp.asarray(1), "x": np.zeros(2)}, ts=TS)
        assert ds.result.dtype == np.int8
        assert "flag_values" in ds.result.attrs


def test_an_own_loss_says_that_it_is_for_classification():
    def loss(phi, y):
        return jax.nn.softplus(-phi * y)

    loss.classification = True

    class Own(eqx.Module):
        classification: ClassVar[bool] = True

        def __call__(self, phi, y):
            return loss(phi, y)

    for one in (loss, Own()):
        problem = ld.Problem(ld.Linear(), ld.Sign(), one)
        stored = json.loads(ld.to_dataset({"x": 1.0}, problem, RULE, ts=TS).attrs["problem"])
        assert stored["loss"]["classification"] is True
    stored = json.loads(ld.to_dataset({"x": 1.0}, ld.Problem(), RULE, ts=TS).attrs["problem"])
    assert stored["loss"] == {"type": "Squared"}


class TestSteps:
    """Langevin runs at n so large that their eg is that of the ODE, but for the step."""

    problem, rule = ld.Problem(noise=0.3), ld.SGD(lr=1.0)
    ts = jnp.linspace(0.0, 20.0, 5)

    def run(self, ts=ts, **keywords):
        key = jax.random.key(0)
        return ld.simulate_langevin(self.problem, self.rule, ONE, ts, n=1e12, key=key, **keywords)

    @pytest.mark.nightly
    def test_a_step_that_is_too_long_is_told_with_its_error(self):
        with pytest.warns(RuntimeWarning, match=r"dt = 1 changes eg by .* % at alpha = 5"):
            run = self.run(dt=1.0)
        exact = ld.solve_ode(self.problem, self.rule, ONE, self.ts)
        true = np.abs(run.eg - exact.eg)[1:]
        told = np.asarray(run.stats["step_error"])[1:]
        assert true[0] > 0.3 * exact.eg[1]
        assert (told > 0.5 * true).all()
        assert (told < 5 * true).all()

    @pytest.mark.nightly
    def test_by_default_it_is_short_enough(self):
        run = self.run()
        exact = ld.solve_ode(self.problem, self.rule, ONE, self.ts)
        np.testing.assert_allclose(run.eg, exact.eg, rtol=0.012)
        assert run.stats["dt"] > 1e-3
        assert np.max(run.stats["step_error_relative"]) < 0.011
        fewer = self.run(self.ts[jnp.array([0, 2, 4])])
        assert fewer.stats["dt"] == run.stats["dt"]
        np.testing.assert_allclose(fewer.eg, run.eg[jnp.array([0, 2, 4])], rtol=1e-12)


class TestAsIfRunAlone:
    """Which values a sweep compiles for, and which are data of one program."""

    @pytest.mark.parametrize(
        ("problem", "over", "together"),
        [
            (ld.Problem(), {"noise": [0.1, 0.2]}, True),
            (ld.Problem(ld.LeakyReLU(0.1), ld.LeakyReLU(0.1)), {"noise": [0.1, 0.2]}, True),
            (ld.Problem(ld.LeakyReLU(0.1), ld.ReLU()), {"student.slope": [0.0, 0.3]}, False),
            (
                ld.Problem(ld.LeakyReLU(0.1), ld.LeakyReLU(0.1)),
                {"teacher.slope": [0.2, 0.1]},
                False,
            ),
            (
                ld.Problem(ld.Linear(), ld.Sign(0.1), ld.Perceptron()),
                {"teacher.flip": [0, 0.2]},
                True,
            ),
            (ld.Problem(ld.Linear(), ld.Tanh(), ld.Perceptron()), {"noise": [0.0, 0.1]}, False),
        ],
        ids=["erf", "leaky", "student", "teacher", "flip", "perceptron"],
    )
    def test_numbers_that_decide_about_averages_are_compiled(self, problem, over, together):
        plan = make_plan(
            ld.solve_ode, problem, RULE, ONE, TS,
            over=over, seeds=None, key=None, chunk=None, cost=None, keywords={},
        )  # fmt: skip
        assert len({item.program for item in plan.items}) == (1 if together else 2)

    @pytest.mark.nightly
    def test_a_parameter_of_ones_own(self):
        """Piecewise linear units are known by value, so a swept slope must be one."""

        class Leaky(eqx.Module):
            a: jax.Array

            def __call__(self, x):
                return jnp.maximum(x, self.a * x)

        problem = ld.Problem(Leaky(jnp.asarray(0.1)), ld.ReLU())
        ds = ld.sweep(ld.solve_ode, problem, RULE, ONE, TS, over={"student.a": [0.1, 0.2]})
        for a in (0.1, 0.2):
            one = ld.solve_ode(ld.Problem(Leaky(jnp.asarray(a)), ld.ReLU()), RULE, ONE, TS)
            found = ds.sel({"student.a": a})
            np.testing.assert_allclose(found.eg, one.eg, rtol=1e-12)
            assert (found.averages_error == 0).all()

    def test_numbers_stay_numbers_inside_jit(self):
        def known(x):
            problem, rule = ld.Problem(noise=0.1), ld.SGD(lr=0.2)
            assert is_concrete(problem, rule)
            return x

        jax.jit(known)(1.0)
