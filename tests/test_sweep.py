"""Sweeps: every cell as if run alone, whatever it shares a program with."""

import functools
import itertools
import json

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

import learndyn as ld
from learndyn.sweeps import assemble, make_plan, run

TS = jnp.linspace(0.0, 3.0, 4)
PROBLEM = ld.Problem(student=ld.Linear(), teacher=ld.Linear(), noise=0.1)
RULE = ld.SGD(lr=0.2)
START = ld.Overlaps(Q=[[0.5]], R=[[0.1]], T=[[1.0]])


def echo(problem, rule, start, ts, *, n=1.0, key=None):
    """A level in a microsecond: what it was given, as numbers."""
    drawn = 0.0 if key is None else jax.random.normal(key)
    return {
        "lr": rule.lr,
        "noise": problem.noise,
        "decay": rule.weight_decay,
        "batch": rule.batch_size,
        "n": n,
        "R": start.R,
        "curve": jnp.exp(-rule.lr * ts),
        "drawn": drawn,
    }


def renamed(level):
    """`level` with names that no dimension has."""

    @functools.wraps(level)
    def wrapper(*args, **keywords):
        return {f"seen_{name}": x for name, x in level(*args, **keywords).items()}

    return wrapper


toy = renamed(echo)


def sweep(over=None, level=toy, problem=PROBLEM, rule=RULE, start=START, ts=TS, **keywords):
    return ld.sweep(level, problem, rule, start, ts, over=over or {}, **keywords)


GRID = {"lr": [0.1, 0.9, 0.3], "noise": [0.0, 0.5]}


@pytest.fixture(scope="module")
def ode_loop():
    """The ODE at every cell of GRID, one call at a time."""
    return {
        (lr, noise): ld.solve_ode(
            ld.Problem(PROBLEM.student, PROBLEM.teacher, noise=noise), ld.SGD(lr=lr), START, TS
        )
        for lr, noise in itertools.product(*GRID.values())
    }


@pytest.mark.parametrize(
    ("chunk", "cost"), [(None, None), (4, None), (4, lambda values: -values["noise"]), (1, None)]
)
def test_a_sweep_is_a_loop_of_single_runs(ode_loop, chunk, cost):
    ds = ld.sweep(ld.solve_ode, PROBLEM, RULE, START, TS, over=GRID, chunk=chunk, cost=cost)
    assert ds.Q.dims == ("lr", "noise", "alpha", "student", "student_")
    for (lr, noise), single in ode_loop.items():
        cell = ds.sel(lr=lr, noise=noise)
        for name in ("Q", "R", "v", "eg", "result", "T", "alpha_actual"):
            expected = single.alpha if name == "alpha_actual" else getattr(single, name)
            np.testing.assert_allclose(cell[name], expected, rtol=1e-12, atol=1e-14)


def test_what_does_not_vary_has_no_swept_dimension():
    ds = ld.sweep(ld.solve_ode, PROBLEM, RULE, START, TS, over=GRID)
    assert ds.T.dims == ("teacher", "teacher_")
    assert ds.v_teacher.dims == ("teacher",)
    assert ds.alpha_actual.dims == ("alpha",)
    assert ds.v.dims == ("lr", "noise", "alpha", "student")


def test_a_diverging_cell_is_alone():
    grid = {"lr": [0.1, 50.0, 0.9]}
    ds = ld.sweep(ld.solve_ode, PROBLEM, RULE, START, jnp.linspace(0.0, 40.0, 5), over=grid)
    assert ds.result.values.tolist() == [0, ld.Result.DIVERGED, 0]
    assert np.isnan(ds.eg.sel(lr=50.0)[-1])
    assert np.isfinite(ds.sel(lr=[0.1, 0.9]).eg).all()
    assert np.isfinite(ds.T).all()


@pytest.mark.nightly
def test_sgd_with_its_own_compiled_sizes():
    make = functools.partial(ld.init_weights, k=1, m=1)
    key = jax.random.key(3)
    ts = jnp.array([0.0, 0.5, 1.0])
    ds = ld.sweep(
        ld.simulate_sgd, PROBLEM, RULE, make, ts, over={"n": [5, 10]}, seeds=2, key=key
    )  # fmt: skip
    np.testing.assert_array_equal(ds.alpha, ts)
    np.testing.assert_array_equal(ds.alpha_actual, [[0.0, 0.4, 1.0], [0.0, 0.5, 1.0]])
    assert ds.T.dims == ("n", "seed", "teacher", "teacher_")
    start_key, run_key = jax.random.split(jax.random.split(key, 2)[1])
    single = ld.simulate_sgd(PROBLEM, RULE, make(start_key, n=10), ts, key=run_key)
    np.testing.assert_allclose(ds.sel(n=10, seed=1).R, single.R, rtol=1e-12)
    assert ds.attrs["level"] == "sgd"
    assert ds.attrs["seed"] == 3


class TestNames:
    def test_looked_up_in_rule_problem_keywords(self):
        ds = sweep({"weight_decay": [0.0, 0.5], "noise": [0.1, 0.2], "n": [10, 30]})
        cell = ds.sel(weight_decay=0.5, noise=0.2, n=30)
        assert cell.seen_decay == 0.5
        assert cell.seen_noise == 0.2
        assert cell.seen_n == 30
        assert ds.seen_n.dims == ("weight_decay", "noise", "n")

    def test_a_dot_leads_inside(self):
        rule = ld.SGD(lr=0.1, momentum=ld.SlowMomentum(1.0))

        def level(problem, rule, start, ts):
            return {"seen": rule.momentum.gamma}

        ds = sweep({"momentum.gamma": [0.5, 2.0]}, level, rule=rule)
        np.testing.assert_array_equal(ds.seen, [0.5, 2.0])
        with pytest.raises(ValueError, match="gamma"):
            sweep({"momentum.gamma": [0.5, -1.0]}, level, rule=rule)

    def test_unknown_names_are_told_what_exists(self):
        with pytest.raises(ValueError, match=r"'learning_rate'.*lr.*momentum.*noise.*'n'"):
            sweep({"learning_rate": [0.1]})

    def test_unknown_keywords_are_told_what_exists(self):
        with pytest.raises(ValueError, match=r"\['rtoll'\].*'rtol'"):
            sweep(level=ld.solve_ode, rtoll=1e-3)

    @pytest.mark.parametrize("values", [[], 0.1, "erf"])
    def test_empty_axes_are_refused(self, values):
        with pytest.raises(ValueError, match="at least one value"):
            sweep({"lr": values})

    @pytest.mark.parametrize("name", ["alpha", "seed", "Q", "start"])
    def test_names_of_the_dataset_are_refused(self, name):
        def level(problem, rule, start, ts, **keywords):
            return {}

        with pytest.raises(ValueError, match="uses itself"):
            sweep({name: [1.0]}, level)

    def test_bad_values_are_the_callers(self):
        with pytest.raises(ValueError, match=r"lr must be.*got -0\.1"):
            sweep({"lr": [0.1, -0.1]})

    def test_bad_values_of_rules_that_take_one_number(self):
        class Picky(eqx.Module):
            lr: float

            def __init__(self, lr):
                if not 0 <= lr < 1:
                    raise ValueError(f"lr must be below 1; got {lr}")
                self.lr = lr

        def level(problem, rule, start, ts):
            return {"seen": rule.lr}

        with pytest.raises(ValueError, match=r"got 2\.0"):
            sweep({"lr": [0.1, 2.0]}, level, rule=Picky(0.5))

    def test_bad_times_are_the_callers(self):
        with pytest.raises(ValueError, match="increasing"):
            sweep({"lr": [0.1]}, ts=[1.0, 0.5])


class TestWhatIsCompiled:
    def test_floats_and_a_traceable_n_share_one_program(self):
        traces = []

        def level(problem, rule, start, ts, n):
            traces.append(n)
            return {"seen": rule.lr * n}

        ds = sweep({"lr": [0.1, 0.2], "n": [10, 20, 30]}, level)
        assert len(traces) == 2  # one to see whether n can be traced
        np.testing.assert_allclose(ds.seen, np.outer([0.1, 0.2], [10, 20, 30]))

    def test_sizes_are_looped_over_and_padded(self):
        def level(problem, rule, start, ts, k):
            return {"b": jnp.full((len(ts), k), rule.lr)}

        ds = sweep({"k": [1, 3], "lr": [0.1, 0.2]}, level)
        assert ds.b.dims == ("k", "lr", "alpha", "student")
        np.testing.assert_allclose(ds.b.sel(k=1, lr=0.2)[0], [0.2, np.nan, np.nan])
        np.testing.assert_allclose(ds.b.sel(k=3, lr=0.1), 0.1)

    def test_static_fields_are_looped_over(self):
        ds = sweep({"batch_size": [4, 1], "lr": [0.1, 0.2]})
        np.testing.assert_array_equal(ds.seen_batch.sel(batch_size=[1, 4]), [[1, 1], [4, 4]])
        np.testing.assert_array_equal(ds.batch_size, [4, 1])

    def test_functions_are_labelled_by_name(self):
        def level(problem, rule, start, ts):
            return {"seen": problem.student(jnp.array(-1.0)) + rule.lr}

        def half(x):
            return x / 2

        ds = sweep({"student": [ld.Linear(), ld.Quadratic(), half], "lr": [0.0, 2.0]}, level)
        assert ds.student_activation.values.tolist() == ["Linear", "Quadratic", "half"]
        np.testing.assert_allclose(ds.seen.sel(lr=0.0), [-1.0, 1.0, -0.5])

    def test_a_function_that_cannot_be_traced_is_called_run_by_run(self):
        def level(problem, rule, start, ts):
            return {"seen": np.float64(float(rule.lr)) ** 2}

        np.testing.assert_allclose(sweep({"lr": [2.0, 3.0]}, level).seen, [4.0, 9.0])

    @pytest.mark.parametrize("values", [[0.5, 1.5], [1, 2], [1, 2.5]])
    def test_numbers_are_promoted_as_in_a_single_run(self, values):
        def level(problem, rule, start, ts, x):
            return {"seen": x * jnp.float32(2)}

        ds = sweep({"x": values}, level)
        assert ds.seen.dtype == np.float32
        np.testing.assert_array_equal(ds.seen, np.multiply(values, 2.0))

    def test_a_second_sweep_compiles_nothing(self):
        traces = []

        def level(problem, rule, start, ts):
            traces.append(1)
            return {"seen": rule.lr}

        sweep({"lr": [0.1, 0.2]}, level)
        sweep({"lr": [0.3, 0.4]}, level)
        assert len(traces) == 1


class TestSeeds:
    key = jax.random.key(7)

    def draws(self, seeds):
        return [jax.random.normal(key) for key in jax.random.split(self.key, seeds)]

    def test_split_the_key_of_the_level(self):
        ds = sweep({"lr": [0.1, 0.2]}, seeds=3, key=self.key, chunk=4)
        assert ds.seen_drawn.dims == ("lr", "seed")
        np.testing.assert_allclose(ds.seen_drawn, [self.draws(3)] * 2)
        np.testing.assert_array_equal(ds.seed, [0, 1, 2])

    def test_more_seeds_change_none(self):
        few, many = (sweep(seeds=s, key=self.key).seen_drawn for s in (2, 5))
        np.testing.assert_array_equal(few, many[:2])

    def test_split_the_key_of_start(self):
        def level(problem, rule, start, ts):
            return {"seen": start}

        ds = sweep({"lr": [0.1]}, level, start=jax.random.normal, seeds=3, key=self.key)
        np.testing.assert_allclose(ds.seen, [self.draws(3)])

    def test_level_and_start_get_independent_halves(self):
        def level(problem, rule, start, ts, *, key):
            return {"state": start, "drawn": jax.random.normal(key)}

        ds = sweep(None, level, start=lambda key: jax.random.normal(key), seeds=2, key=self.key)
        halves = jax.vmap(jax.random.split)(jax.random.split(self.key, 2))
        expected = jax.vmap(jax.vmap(jax.random.normal))(halves)
        np.testing.assert_allclose(ds.state, expected[:, 0])
        np.testing.assert_allclose(ds.drawn, expected[:, 1])

    def test_without_seeds_the_key_goes_as_it_is(self):
        ds = sweep({"lr": [0.1, 0.2]}, key=self.key)
        np.testing.assert_allclose(ds.seen_drawn, [jax.random.normal(self.key)] * 2)

    def test_that_nothing_takes_are_refused(self):
        with pytest.raises(ValueError, match="neither the level nor start takes a key"):
            sweep(level=ld.solve_ode, seeds=3, key=self.key)

    @pytest.mark.parametrize("seeds", [0, -1, True])
    def test_that_are_no_number_of_runs_are_refused(self, seeds):
        with pytest.raises(ValueError, match="seeds must be"):
            sweep(seeds=seeds, key=self.key)

    def test_need_a_key(self):
        with pytest.raises(ValueError, match="give key"):
            sweep(seeds=2)
        with pytest.raises(ValueError, match="give key"):
            sweep(start=lambda key: START)


class TestStart:
    @staticmethod
    def level(problem, rule, start, ts):
        return {"seen": start.R[0, 0] * rule.lr}

    def test_a_list_becomes_a_dimension(self):
        other = ld.Overlaps(Q=[[0.5]], R=[[0.2]], T=[[1.0]])
        ds = sweep({"lr": [1.0, 2.0]}, self.level, start=[START, other])
        assert ds.seen.dims == ("lr", "start")
        np.testing.assert_allclose(ds.seen, [[0.1, 0.2], [0.2, 0.4]])
        ds = sweep(None, self.level, start={"cold": START, "warm": other})
        np.testing.assert_allclose(ds.seen.sel(start="warm"), 0.2 * RULE.lr)

    def test_states_of_different_sizes(self):
        bigger = ld.Overlaps(jnp.eye(2), jnp.full((2, 1), 0.3), [[1.0]])
        ds = sweep({"lr": [1.0, 2.0]}, self.level, start=[START, bigger])
        np.testing.assert_allclose(ds.seen, [[0.1, 0.3], [0.2, 0.6]])

    def test_a_function_takes_swept_names_and_keywords(self):
        def make(k, r=0.1, *, scale):
            return ld.Overlaps(jnp.eye(k), jnp.full((k, 1), r * scale), [[1.0]])

        def level(problem, rule, start, ts):
            return {"seen": start.R.sum()}

        ds = sweep({"k": [1, 2], "r": [0.1, 0.2]}, level, start=make, scale=2.0)
        np.testing.assert_allclose(ds.seen, [[0.2, 0.4], [0.4, 0.8]])

    def test_a_function_with_open_parameters_is_refused(self):
        with pytest.raises(ValueError, match=r"\['k'\]"):
            sweep(start=lambda key, k: START, key=jax.random.key(0))

    def test_an_empty_list_is_refused(self):
        with pytest.raises(ValueError, match="start is empty"):
            sweep(start=[])


class TestErrors:
    @staticmethod
    def fails_at_3(problem, rule, start, ts, n):
        if n == 3:
            raise RuntimeError("three")
        return {"seen": n * rule.lr}

    def test_a_run_that_raises_loses_no_other(self):
        with pytest.warns(RuntimeWarning, match=r"2 of 6 runs.*three"):
            ds = sweep({"n": [2, 3, 4], "lr": [0.5, 1.0]}, self.fails_at_3)
        np.testing.assert_allclose(ds.seen, [[1.0, 2.0], [np.nan] * 2, [2.0, 4.0]])
        assert ds.result.values.tolist() == [[0, 0], [ld.Result.ERROR] * 2, [0, 0]]
        told = json.loads(ds.attrs["errors"])
        assert [entry["cell"] for entry in told] == [{"n": 3, "lr": 0.5}, {"n": 3, "lr": 1.0}]
        assert "three" in told[0]["error"]

    def test_a_program_that_raises_is_repeated_run_by_run(self):
        sizes = []

        def level(problem, rule, start, ts):
            traced = isinstance(rule.lr, jax.core.Tracer)
            sizes.append(traced)
            if traced:
                raise MemoryError("too large together")
            return {"seen": rule.lr}

        np.testing.assert_allclose(sweep({"lr": [1.0, 2.0]}, level).seen, [1.0, 2.0])
        assert sizes == [True, True, False, False]  # the second look tells that no run is at fault

    def test_an_error_of_all_runs_is_raised(self):
        with pytest.raises(RuntimeError, match="three"):
            sweep({"lr": [0.1, 0.2]}, self.fails_at_3, n=3)

    def test_results_that_are_no_arrays_are_refused(self):
        with pytest.raises(ValueError, match="Trajectory or a dict"):
            sweep({"lr": [0.1, 0.2]}, lambda problem, rule, start, ts: 3.0)

    @pytest.mark.parametrize("chunk", [0, True])
    def test_bad_chunks_are_refused(self, chunk):
        with pytest.raises(ValueError, match="chunk"):
            sweep({"lr": [0.1]}, chunk=chunk)


class TestItems:
    def plan(self, **keywords):
        options = {"seeds": 2, "key": jax.random.key(0), "chunk": 3, "cost": None, "keywords": {}}
        over = {"lr": [0.1, 0.9, 0.3], "batch_size": [1, 2], "n": [30.0, 10.0]}
        return make_plan(toy, PROBLEM, RULE, START, TS, **({"over": over} | options | keywords))

    def test_hold_every_cell_once(self):
        plan = self.plan()
        cells = np.concatenate([item.cells for item in plan.items])
        np.testing.assert_array_equal(np.sort(cells), np.arange(24))
        assert all(len(item.cells) == 3 for item in plan.items)
        assert all(item.lanes == 8 for item in plan.items)
        assert all(set(item.static) == {"batch_size"} for item in plan.items)

    def test_put_runs_of_similar_cost_together(self):
        plan = self.plan()
        costs = [plan.values(c)["n"] * plan.values(c)["lr"] for c in plan.items[0].cells.tolist()]
        assert max(costs) <= 3.0
        asked = self.plan(cost=lambda values: values["seed"])
        seeds = [[asked.values(c)["seed"] for c in item.cells.tolist()] for item in asked.items[:4]]
        assert seeds == [[0] * 3, [0] * 3, [1] * 3, [1] * 3]

    def test_are_ordered_by_n_and_effective_rates(self, rng):
        over = {name: rng.random(4) for name in ("lr", "lr_second", "lr_bias")}
        over |= {"momentum": [0.0, 0.9, 0.5], "batch_size": [1, 2], "n": [30, 10]}
        plan = self.plan(over=over, chunk=50)
        for batch in (1, 2):
            cells = [item.cells for item in plan.items if item.static["batch_size"] == batch]
            cells = np.concatenate(cells).tolist()
            assert len(cells) == 4**3 * 3 * 2 * 2
            values = [plan.values(cell) for cell in cells]
            rates = [v["lr"] + v["lr_second"] + v["lr_bias"] for v in values]
            costs = [
                v["n"] * (1e-6 + rate / (1 - v["momentum"]))
                for v, rate in zip(values, rates, strict=True)
            ]
            # Those that cost the same (seeds) stay in the order of the grid.
            keys = list(zip(costs, cells, strict=True))
            assert keys == sorted(keys)

    def test_of_schedules_are_ordered_by_n_alone(self):
        def level(problem, rule, start, ts, n):
            return {"seen": n}

        over = {"lr": [lambda alpha: 1 / (1 + alpha), 0.1], "n": [30, 10]}
        options = {"seeds": None, "key": None, "chunk": 1, "cost": None, "keywords": {}}
        plan = make_plan(level, PROBLEM, RULE, START, TS, over=over, **options)
        assert [item.cells.tolist() for item in plan.items] == [[1], [0], [3], [2]]

    def test_may_be_run_in_any_order_and_place(self):
        plan = self.plan()
        whole = assemble(plan, run(plan, plan.items))
        parts = [outcome for item in plan.items[::-1] for outcome in run(plan, [item])]
        xr.testing.assert_identical(assemble(plan, parts).drop_attrs(), whole.drop_attrs())

    def test_that_are_missing_leave_nan(self):
        plan = self.plan()
        ds = assemble(plan, run(plan, plan.items[1:]))
        lost = np.isnan(ds.seen_lr.values)
        assert lost.sum() == 3
        assert (ds.result.values[lost] == ld.Result.NOT_RUN).all()
        assert (ds.result.values[~lost] == 0).all()


def test_the_dataset_says_where_it_comes_from():
    ds = sweep({"lr": [0.1, 0.2]}, seeds=2, key=jax.random.key(5), n=3)
    assert json.loads(ds.attrs["problem"])["noise"] == 0.1
    assert ds.attrs["swept"] == "lr seed"
    assert ds.attrs["seed"] == 5
    assert json.loads(ds.attrs["keywords"]) == {"n": 3}
    assert ds.lr.attrs == {"long_name": "learning rate of the first layer"}


def test_progress_is_shown_when_asked(capsys):
    sweep({"lr": [0.1, 0.2]}, progress=True)
    assert "2 of 2 runs (100%)" in capsys.readouterr().err
    sweep({"lr": [0.1, 0.2]})
    assert capsys.readouterr().err == ""


def test_a_sweep_without_axes_is_one_run():
    ds = sweep()
    assert ds.seen_lr.dims == ()
    assert ds.seen_curve.dims == ("alpha",)


def test_results_of_modules_with_other_fields(tmp_path):
    """A level's optional fields, such as those of structured inputs, reach the dataset."""
    ds = ld.sweep(ld.solve_ode, PROBLEM, RULE, START, TS, over={"lr": [0.1]}, rtol=1e-4)
    assert "steps" in ds
    assert ds.rtol == 1e-4
    swept = ld.sweep(ld.solve_ode, PROBLEM, RULE, START, TS, over={"rtol": [1e-4, 1e-6]})
    np.testing.assert_allclose(swept.rtol_used, [1e-4, 1e-6])
    path = ld.save(swept, tmp_path / "sweep.nc")
    xr.testing.assert_identical(ld.load(path), swept)


def test_plain_functions_survive_partial():
    level = eqx.Partial(toy, n=4.0)
    assert (sweep({"lr": [0.1, 0.2]}, level).seen_n == 4.0).all()
