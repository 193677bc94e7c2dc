"""What a new user does wrong first: each mistake gets one sentence with a cure."""

import math
import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import learndyn as ld
from learndyn.asymptotics.fixed_points._flow import fixed_flow, require_regular_relu
from learndyn.cli import main

CHAIN = Path(__file__).parent / "data" / "schema-1" / "chain.nc"

PROBLEM, RULE, TS = ld.Problem(), ld.SGD(lr=0.2), jnp.linspace(0.0, 0.5, 3)
KEY = jax.random.key(1)
WEIGHTS = ld.init_weights(jax.random.key(0), n=20, k=1, m=1)
START = ld.overlaps(WEIGHTS)

OVERLAP_LEVELS = {
    "solve_ode": ld.solve_ode,
    "simulate_chain": lambda *given: ld.simulate_chain(*given, n=20, key=KEY),
    "simulate_langevin": lambda *given: ld.simulate_langevin(*given, n=20, key=KEY, dt=0.25),
    "fluctuations": ld.fluctuations,
    "ode_term": lambda problem, rule, start, ts: ld.ode_term(problem, rule, start),
}
LEVELS = OVERLAP_LEVELS | {"simulate_sgd": lambda *given: ld.simulate_sgd(*given, key=KEY)}


def said(words):
    """A pattern for exactly these words somewhere in a message."""
    return re.escape(words)


class TestArguments:
    @pytest.mark.parametrize("level", ["solve_ode", "simulate_chain", "ode_term"])
    def test_levels_of_overlaps_take_weights(self, level):
        found, expected = (
            OVERLAP_LEVELS[level](PROBLEM, RULE, state, TS) for state in (WEIGHTS, START)
        )
        pairs = zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True)
        for one, other in pairs:
            np.testing.assert_array_equal(one, other)

    @pytest.mark.nightly  # dear to compile, and the same line as above
    @pytest.mark.parametrize("level", ["simulate_langevin", "fluctuations"])
    def test_these_take_them_too(self, level):
        self.test_levels_of_overlaps_take_weights(level)

    def test_the_generalisation_error_takes_weights(self):
        found = ld.generalisation_error(PROBLEM, WEIGHTS)
        assert found == ld.generalisation_error(PROBLEM, START)

    def test_weights_from_overlaps_takes_those_of_weights(self):
        found = ld.weights_from_overlaps(KEY, WEIGHTS, n=5)
        np.testing.assert_allclose(ld.overlaps(found).R, START.R, atol=1e-12)

    @pytest.mark.parametrize("function", [ld.student, ld.teacher])
    def test_networks_need_weights(self, function):
        with pytest.raises(ValueError, match=said("ld.weights_from_overlaps(jax.random.key(0)")):
            function(PROBLEM, START)

    def test_sgd_needs_weights(self):
        with pytest.raises(ValueError, match=r"weights must be Weights; got Overlaps.* Draw"):
            ld.simulate_sgd(PROBLEM, RULE, START, TS, key=KEY)
        with pytest.raises(ValueError, match=said("ld.weights_from_overlaps(")):
            ld.sweep(ld.simulate_sgd, PROBLEM, RULE, START, TS, key=KEY, over={"lr": [0.1]})

    @pytest.mark.parametrize("level", LEVELS)
    def test_exchanged_arguments_are_told_their_order(self, level):
        state = WEIGHTS if level == "simulate_sgd" else START
        name = "weights" if level == "simulate_sgd" else "start"
        order = said(f"in this order: {level}(problem, rule, {name}")
        with pytest.raises(ValueError, match=rf"problem must be a Problem; got SGD.*{order}"):
            LEVELS[level](RULE, PROBLEM, state, TS)
        with pytest.raises(ValueError, match=f"{name} must be"):
            LEVELS[level](PROBLEM, RULE, TS, state)

    @pytest.mark.parametrize(
        ("given", "words"),
        [
            ((PROBLEM, 0.2, START), "rule must be a learning rule; got 0.2. For example rule = ld"),
            ((PROBLEM, ld.SGD, START), "got the class SGD. Did you mean SGD(...)?"),
            ((PROBLEM, [RULE, RULE], START), "For one run for each of them use ld.sweep"),
            ((ld.Erf(), RULE, START), "problem must be a Problem; got Erf(). For example"),
            ((PROBLEM, RULE, np.eye(3)), "got an array of shape (3, 3) and dtype float64"),
            ((PROBLEM, RULE, None), "start must be Overlaps, or Weights; got None"),
        ],
    )
    def test_other_things_in_their_place(self, given, words):
        with pytest.raises(ValueError, match=said(words)):
            ld.solve_ode(*given, TS)

    def test_overlaps_of_something_else(self):
        with pytest.raises(ValueError, match=said("weights must be Weights; got an array of")):
            ld.overlaps(WEIGHTS.w)

    def test_fixed_points_need_overlaps(self):
        with pytest.raises(ValueError, match=said("Write ld.overlaps(weights).")):
            fixed_flow(PROBLEM, RULE, WEIGHTS, function="fixed_point")
        # Units with a kink are looked at before.
        with pytest.raises(ValueError, match=said("Write ld.overlaps(weights).")):
            require_regular_relu(ld.Problem(student=ld.ReLU()), WEIGHTS, "linearise")

    def test_sweeps_check_before_they_run(self):
        with pytest.raises(ValueError, match=said("level must be a function such as ld.solve")):
            ld.sweep(PROBLEM, RULE, START, TS, ld.solve_ode)
        with pytest.raises(ValueError, match="problem must be a Problem; got SGD"):
            ld.sweep(ld.solve_ode, RULE, PROBLEM, START, TS, over={"lr": [0.1]})
        with pytest.raises(ValueError, match="over must be a dict"):
            ld.sweep(ld.solve_ode, PROBLEM, RULE, START, TS, over=[0.1, 0.2])


RANDOM = {
    "init_weights": lambda key: ld.init_weights(key, n=5, k=1, m=1),
    "weights_from_overlaps": lambda key: ld.weights_from_overlaps(key, START, n=5),
    "simulate_sgd": lambda key: ld.simulate_sgd(PROBLEM, RULE, WEIGHTS, TS, key=key),
    "simulate_chain": lambda key: ld.simulate_chain(PROBLEM, RULE, START, TS, n=20, key=key),
    "simulate_langevin": lambda key: ld.simulate_langevin(
        PROBLEM, RULE, START, TS, n=20, key=key, dt=0.25
    ),
    "sweep": lambda key: ld.sweep(
        ld.simulate_chain, PROBLEM, RULE, START, TS, seeds=2, n=20, key=key
    ),
}


class TestKeys:
    @pytest.mark.parametrize("function", RANDOM)
    @pytest.mark.parametrize(
        ("key", "words"),
        [
            (1, "key must be a JAX random key; got 1. Write key=jax.random.key(1)."),
            (np.int64(7), "Write key=jax.random.key(7)."),
            (1.5, "got 1.5. Write key=jax.random.key(0)."),
            ([0, 1], "got [0, 1]"),
            (np.zeros(2), "got an array of shape (2,) and dtype float64"),
            (jax.random.split(KEY, 3), "key must be one random key; got keys of shape (3,)"),
        ],
        ids=["integer", "NumPy integer", "float", "list", "floats", "several"],
    )
    def test_what_is_no_key(self, function, key, words):
        with pytest.raises(ValueError, match=said(words)):
            RANDOM[function](key)

    @pytest.mark.parametrize("function", ["init_weights", "weights_from_overlaps"])
    def test_both_styles_of_keys_give_the_same_numbers(self, function):
        old = jax.random.PRNGKey(1)
        for key in (old, np.asarray(old)):
            np.testing.assert_array_equal(RANDOM[function](key).w, RANDOM[function](KEY).w)

    def test_no_key_at_all(self):
        with pytest.raises(ValueError, match=said("got None. Write key=jax.random.key(0).")):
            RANDOM["simulate_chain"](None)
        with pytest.raises(TypeError, match=r"missing (a )?required.*'key'"):
            ld.simulate_chain(PROBLEM, RULE, START, TS, n=20)


def traced_if(x):
    return 0.1 if x < 5 else 0.2


WITH_IF = {
    "schedule": lambda: ld.solve_ode(PROBLEM, ld.SGD(lr=traced_if), START, TS),
    "schedule of SGD": lambda: ld.simulate_sgd(
        PROBLEM, ld.SGD(lr=traced_if), WEIGHTS, TS, key=KEY
    ),
    "schedule by math": lambda: ld.solve_ode(
        PROBLEM, ld.SGD(lr=lambda alpha: math.exp(-alpha)), START, TS
    ),
    "schedule in a sweep": lambda: ld.sweep(
        ld.solve_ode, PROBLEM, ld.SGD(lr=traced_if), START, TS, over={"noise": [0.1, 0.2]}
    ),
    "student": lambda: ld.Problem(student=lambda x: x if x > 0 else 0.0),
    "student by math": lambda: ld.Problem(student=math.tanh),
    "teacher": lambda: ld.Problem(teacher=lambda x: x if x > 0 else 0.0),
    "loss": lambda: ld.Problem(loss=lambda phi, y: (phi - y) ** 2 if phi > y else 0.0),
    "MultiIndex": lambda: ld.simulate_sgd(
        ld.Problem(teacher=ld.MultiIndex(lambda rho, zeta: 1.0 if rho[0] > 0 else -1.0)),
        RULE, WEIGHTS, TS, key=KEY,
    ),
    "modulation": lambda: ld.simulate_sgd(
        PROBLEM,
        ld.LocalRule(lambda p, one, v: ld.Modulation(one.lam if one.y > 0 else -one.lam, v), 0.1),
        WEIGHTS, TS, key=KEY,
    ),
}  # fmt: skip


class TestFunctions:
    @pytest.mark.parametrize("case", WITH_IF)
    def test_if_and_math_name_what_jax_has_instead(self, case):
        with pytest.raises(ValueError, match=said("jnp.where(x > 0, yes, no)")) as told:
            WITH_IF[case]()
        if "schedule" in case:
            assert "jump_ts=[5.0]" in str(told.value)

    def test_a_schedule_of_other_arguments(self):
        with pytest.raises(ValueError, match=r"of alpha alone; got <lambda>.*argument"):
            ld.solve_ode(PROBLEM, ld.SGD(lr=lambda: 0.1), START, TS)

    @pytest.mark.parametrize("value", [None, "fast", 1j])
    def test_a_schedule_that_returns_no_number(self, value):
        with pytest.raises(ValueError, match=said(f"one real number; got {value!r}")):
            ld.solve_ode(PROBLEM, ld.SGD(lr=lambda alpha: value), START, TS)

    def test_words_in_place_of_functions(self):
        with pytest.raises(ValueError, match=said("got 'relu'. Give a function, or an object")):
            ld.Problem(student="relu")


class TestDerivatives:
    """Simulations have forward ones; reverse ones name them."""

    @staticmethod
    def eg(lr):
        return ld.simulate_sgd(PROBLEM, ld.SGD(lr=lr), WEIGHTS, TS, key=KEY).eg[-1]

    @pytest.mark.parametrize("derivative", [jax.grad, jax.jacrev, lambda f: jax.grad(jax.jit(f))])
    def test_reverse(self, derivative):
        words = "simulate_sgd has forward derivatives only; got a reverse one"
        with pytest.raises(ValueError, match=words):
            derivative(self.eg)(0.2)

    def test_reverse_of_the_chain(self):
        def eg(lr):
            return ld.simulate_chain(PROBLEM, ld.SGD(lr=lr), START, TS, n=20, key=KEY).eg[-1]

        with pytest.raises(ValueError, match="simulate_chain has forward derivatives only"):
            jax.grad(eg)(0.2)

    def test_forward(self):
        step = 1e-5
        expected = (self.eg(0.2 + step) - self.eg(0.2 - step)) / (2 * step)
        np.testing.assert_allclose(jax.jacfwd(self.eg)(0.2), expected, rtol=1e-6)

    @pytest.mark.nightly
    def test_reverse_of_langevin(self):
        def eg(lr):
            rule = ld.SGD(lr=lr)
            return ld.simulate_langevin(PROBLEM, rule, START, TS, n=20, key=KEY, dt=0.25).eg[-1]

        with pytest.raises(ValueError, match="simulate_langevin has forward derivatives only"):
            jax.grad(eg)(0.2)


class TestInputs:
    @pytest.mark.parametrize("table", [np.ones((4, 20)), [[1.0] * 20] * 4])
    def test_a_table_names_its_class(self, table):
        words = said("A table with one input in each row goes into ld.Images(x)")
        with pytest.raises(ValueError, match=words):
            ld.simulate_sgd(PROBLEM, RULE, WEIGHTS, TS, key=KEY, inputs=table)
        with pytest.raises(ValueError, match=words):
            ld.field_overlaps(WEIGHTS, table)
        with pytest.raises(ValueError, match=words):
            ld.TrainingSet(table, 2)

    def test_a_class_and_a_word(self):
        with pytest.raises(ValueError, match=said("Did you mean Gaussian(...)?")):
            ld.simulate_sgd(PROBLEM, RULE, WEIGHTS, TS, key=KEY, inputs=ld.Gaussian)
        with pytest.raises(ValueError, match=said("got 'gaussian'. For example ld.Gaussian()")):
            ld.simulate_sgd(PROBLEM, RULE, WEIGHTS, TS, key=KEY, inputs="gaussian")

    def test_raw_pixels(self, rng):
        pixels = rng.integers(0, 256, (9, 3, 3)).astype(np.uint8)
        with pytest.raises(ValueError, match=r"raw pixels.*ld\.inputs\.standardise\(x\)"):
            ld.Images(pixels)
        with pytest.warns(UserWarning, match=r"mean square of .*standardise\(x\)"):
            ld.Images(pixels.astype(float))
        assert ld.Images(ld.inputs.standardise(pixels)).n == 9
        assert ld.Images(pixels % 2).n == 9  # 0 and 1 are of order 1

    @pytest.mark.parametrize("x", ["pixels", 3.0, np.full((3, 3), np.nan)])
    def test_what_cannot_be_standardised(self, x):
        with pytest.raises(ValueError, match="x must "):
            ld.inputs.standardise(x)


def no_module(monkeypatch, name):
    for known in [known for known in sys.modules if known.split(".")[0] == name]:
        monkeypatch.delitem(sys.modules, known)
    monkeypatch.setitem(sys.modules, name, None)


@pytest.fixture
def dataset():
    zeros = np.zeros((3, 1, 1))
    return ld.to_dataset({"eg": np.ones(3), "Q": zeros, "R": zeros, "T": zeros[0]}, ts=TS)


def swept(folder, **options):
    return ld.sweep(
        ld.solve_ode,
        PROBLEM,
        RULE,
        START,
        TS,
        over={"lr": [0.1]},
        store=folder / "x.zarr",
        **options,
    )


def commanded(ds, folder, *words):
    ld.save(ds, folder / "x.nc")
    return main([*words, str(folder / "x.nc")])


FIGURES = {
    "learning_curve": lambda draw, ds: draw(ds),
    "overlap_trajectories": lambda draw, ds: draw(ds),
    "overlap_matrices": lambda draw, ds: draw(ds, [0.0]),
    "overview": lambda draw, ds: draw(ds),
    "scaling": lambda draw, ds: draw(ds.isel(alpha=[1, 2]).rename(alpha="n"), "n", "eg"),
    "loss_curve": lambda draw, ds: draw(ds.rename(alpha="t", eg="loss")),
    "save": lambda draw, ds: draw(None, "x.png"),
    "style": lambda draw, ds: draw().__enter__(),
    "animate": lambda draw, ds: draw(ds, "x.gif"),
}
"""Figures, each called as little as it takes to ask for Matplotlib."""

NEEDS = {
    **{
        f"plot.{name}": ("matplotlib", "plot", lambda ds, folder, name=name, use=use: use(
            getattr(ld.plot, name), ds
        ))
        for name, use in FIGURES.items()
    },
    "animate": ("matplotlib", "plot", lambda ds, folder: commanded(ds, folder, "animate")),
    "zarr": ("zarr", "sweep", lambda ds, folder: ld.save(ds, folder / "x.zarr")),
    "store": ("zarr", "sweep", lambda ds, folder: swept(folder)),
    "workers": ("cloudpickle", "sweep", lambda ds, folder: swept(folder, workers=2)),
    "images": ("sklearn", "images", lambda ds, folder: ld.inputs.digits()),
    "report": ("jinja2", "report", lambda ds, folder: main(["report", str(folder)])),
    "schedule": ("optax", "optimise", lambda ds, folder: ld.asymptotics.optimal_schedule(
        PROBLEM, RULE, START, 1.0
    )),
}  # fmt: skip
"""What is used, by name: the module that is missing then, and the extra that brings it."""


class TestExtras:
    @pytest.mark.parametrize("name", NEEDS)
    def test_a_missing_extra_is_named(self, name, dataset, tmp_path, monkeypatch, capsys):
        module, extra, use = NEEDS[name]
        monkeypatch.chdir(tmp_path)
        no_module(monkeypatch, module)
        with pytest.raises((ImportError, SystemExit)) as ended:
            use(dataset, tmp_path)
        words = f'needs {module}, which is not installed: pip install "learndyn[{extra}]".'
        assert words in str(ended.value) + capsys.readouterr().err

    def test_without_extras_the_package_and_its_page_work(self, tmp_path):
        """The package is imported by another process, where no extra has been imported yet."""
        script = f"""
import sys
extras = ["matplotlib", "zarr", "cloudpickle", "dask", "distributed", "sklearn", "jinja2", "optax"]
sys.modules.update(dict.fromkeys(extras))
import learndyn as ld
values = [getattr(ld, name) for name in dir(ld)]
ds = ld.load({str(CHAIN)!r})
ld.plot.explore(ds).save({str(tmp_path / "page.html")!r})
"""
        kept = {name: value for name, value in os.environ.items() if name != "EAGER_IMPORT"}
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, env=kept
        )
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "page.html").stat().st_size > 10_000

    def test_the_command_line_says_so_in_a_line(self, tmp_path, monkeypatch, capsys):
        no_module(monkeypatch, "sklearn")
        monkeypatch.chdir(tmp_path)
        with pytest.raises(SystemExit) as ended:
            main(["sgd", "--inputs", "digits"])
        assert ended.value.code == 2
        assert capsys.readouterr().err == (
            "learndyn: error: the digits of scikit-learn needs sklearn, which is not installed: "
            'pip install "learndyn[images]".\n'
        )


class TestFiles:
    @pytest.fixture
    def in_the_way(self, tmp_path):
        """A file where a folder is wanted, and folders where files are."""
        (tmp_path / "file").write_text("")
        for name in ("folder.nc", "folder.npz", "folder.csv"):
            (tmp_path / name).mkdir()
        return tmp_path

    @pytest.mark.parametrize("name", ["file/x.nc", "folder.nc", f"{'x' * 300}.nc"])
    def test_what_cannot_be_written(self, name, dataset, in_the_way, capsys, monkeypatch):
        path = in_the_way / name
        with pytest.raises(OSError, match=said(f"cannot write {str(path)!r}: ")):
            ld.save(dataset, path)
        monkeypatch.setattr("learndyn.cli._command.run_level", never)
        with pytest.raises(SystemExit) as ended:
            main(["ode", "-o", str(path)])
        assert ended.value.code == 2
        assert f"error: cannot write {str(path)!r}: " in capsys.readouterr().err

    def test_a_figure_that_cannot_be_written(self, in_the_way, monkeypatch, capsys):
        (in_the_way / "x.png").mkdir()
        monkeypatch.setattr("learndyn.cli._command.run_level", never)
        with pytest.raises(SystemExit):
            main(["ode", "-o", str(in_the_way / "x.nc")])
        assert "x.png': a folder of this name is in the way" in capsys.readouterr().err

    def test_nothing_is_left_of_the_question(self, dataset, tmp_path):
        ld.save(dataset, tmp_path / "new" / "x.nc")
        assert [path.name for path in (tmp_path / "new").iterdir()] == ["x.nc"]

    @pytest.mark.parametrize("read", [ld.load, ld.read_state])
    def test_what_is_not_there(self, read, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"cannot read '.*x.nc': there is no such"):
            read(tmp_path / "x.nc")

    @pytest.mark.parametrize("ending", ["nc", "npz", "csv"])
    def test_a_folder_is_no_file(self, ending, in_the_way):
        with pytest.raises(OSError, match=rf"cannot read '.*folder.{ending}': Is a directory"):
            ld.read_state(in_the_way / f"folder.{ending}")

    @pytest.mark.parametrize(
        ("ending", "what"), [("nc", "NetCDF"), ("npz", "NumPy"), ("csv", "table")]
    )
    def test_contents_of_another_kind(self, ending, what, tmp_path):
        path = tmp_path / f"x.{ending}"
        path.write_bytes(b"\xff\xfe\x00hello")
        with pytest.raises(ValueError, match=rf"cannot read '.*x.{ending}': it is no {what}"):
            ld.read_state(path)

    def test_pickled_objects_are_not_read(self, tmp_path):
        np.savez(tmp_path / "x.npz", Q=np.array([None, 1], object))
        with pytest.raises(ValueError, match=r"x.npz': it is no NumPy archive of numbers"):
            ld.read_state(tmp_path / "x.npz")

    def test_a_zarr_store_that_is_none(self, tmp_path):
        (tmp_path / "x.zarr").mkdir()
        with pytest.raises((ValueError, OSError), match=r"cannot read '.*x.zarr': "):
            ld.load(tmp_path / "x.zarr")

    def test_what_cannot_be_saved(self, dataset, tmp_path):
        with pytest.raises(ValueError, match=said("in this order: save(dataset, path).")):
            ld.save(str(tmp_path / "x.nc"), dataset)
        with pytest.raises(ValueError, match="must be a dataset, a trajectory or a state; got Pro"):
            ld.save(PROBLEM, tmp_path / "x.nc")
        with pytest.raises(ValueError, match="trajectory must be a Trajectory"):
            ld.to_dataset(PROBLEM)


def never(*arguments):
    raise AssertionError("this must not run")
