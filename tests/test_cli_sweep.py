"""`learndyn sweep`: a TOML file of plain data becomes a sweep in a store."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

import learndyn as ld
from learndyn.cli import main
from learndyn.cli.sweep.config import read_config
from learndyn.cli.sweep.toml import Toml
from learndyn.sweeps.store import _drive

pytest.importorskip("zarr")

OWN = """\
import jax.numpy as jnp

def level(problem, rule, start, ts, *, key=None, factor=1.0):
    return {"seen": factor * jnp.sin(rule.lr * ts + problem.noise)}

def start(key, k=2):
    import learndyn as ld
    return ld.overlaps(ld.init_weights(key, 20, k, 1))

def unit(x):
    return x / (1.0 + x * x)

def slowing(alpha):
    return 0.3 / (1.0 + alpha)

def cost(values):
    return values["lr"]
"""
SMALL = """\
level = "own_sweep:level"
chunk = 2

[times]
alpha-max = 2
points = 3

[over]
lr = [0.1, 0.2,
      0.3]
noise = {start = 0, stop = 1, points = 2}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "own_sweep.py").write_text(OWN)
    yield tmp_path
    sys.modules.pop("own_sweep", None)


def config(text=SMALL):
    path = Path("sweep.toml")
    path.write_text(text, encoding="utf-8")
    return read_config(path)


class TestTheFileIsTheCall:
    def test_run_and_status(self, capsys):
        config()
        assert main(["sweep", "run", "sweep.toml"]) == 0
        found = ld.open_sweep("sweep.zarr")
        lr, noise, ts = [0.1, 0.2, 0.3], [0.0, 1.0], np.linspace(0.0, 2.0, 3)
        expected = np.sin(np.multiply.outer(lr, ts)[:, None] + np.array(noise)[:, None])
        np.testing.assert_allclose(found.seen, expected, rtol=1e-12)
        assert (found.sizes["lr"], found.sizes["noise"], found.sizes["alpha"]) == (3, 2, 3)
        said = capsys.readouterr().out
        assert "6 of 6 runs are done (100.0 %)" in said
        assert "6 runs: result 0" in said
        assert main(["sweep", "status", "sweep.zarr"]) == 0
        assert said.split("stored")[0] in capsys.readouterr().out

    def test_shares_together_are_the_whole(self, capsys, monkeypatch):
        monkeypatch.setattr(_drive, "SECONDS_PER_BLOCK", 0.0)
        config()
        main(["sweep", "run", "sweep.toml", "--store", "a.zarr", "--shard", "1/2"])
        assert "2 of 6 runs are done (33.3 %)" in capsys.readouterr().out
        main(["sweep", "status", "a.zarr"])
        assert "none was finished in the last ten minutes" in capsys.readouterr().out
        main(["sweep", "run", "sweep.toml", "--store", "a.zarr", "--shard", "2/2"])
        main(["sweep", "run", "sweep.toml", "--store", "b.zarr"])
        one, other = ld.open_sweep("a.zarr"), ld.open_sweep("b.zarr")
        xr.testing.assert_identical(one.drop_attrs(), other.drop_attrs())

    def test_a_level_of_the_library_gets_every_table(self):
        found = config("""\
level = "chain"
seeds = 3
chunk = 8
cost = "own_sweep:cost"
[problem]
student = "own_sweep:unit"
noise = 0.5
[rule]
lr-second = "own_sweep:slowing"
weight_decay = 0.25
[start]
k = 1
m = 1
n = 50
seed = 7
[times]
spacing = "log"
alpha-max = 10
points = 3
[over]
lr = [0.1, 0.2]
n = [50, 60]
momentum = [0.0, 0.5]
""")
        level, problem, rule, start, ts = found.arguments
        own = sys.modules["own_sweep"]
        assert level is ld.simulate_chain
        assert problem == ld.Problem(own.unit, own.unit, noise=0.5)
        assert rule == ld.SGD(lr=0.2, lr_second=own.slowing, weight_decay=0.25)
        np.testing.assert_array_equal(ts, [0.0, 0.1, 10.0])
        key = jax.random.key(7)
        for n in (50, 60):
            weights = ld.init_weights(jax.random.fold_in(key, 0), n, 1, 1, v=1.0, v_teacher=1.0)
            np.testing.assert_allclose(start(n=n).Q, ld.overlaps(weights).Q, rtol=1e-12)
        named = found.keywords
        assert (named["seeds"], named["chunk"], named["cost"]) == (3, 8, own.cost)
        assert named["over"] == {"lr": [0.1, 0.2], "n": [50, 60], "momentum": [0.0, 0.5]}
        assert "n" not in named
        expected = jax.random.key_data(jax.random.fold_in(key, 1))
        np.testing.assert_array_equal(jax.random.key_data(named["key"]), expected)

    def test_starts_of_an_ode_are_drawn_for_each_seed(self):
        start = config('level = "ode"\nseeds = 2\n[start]\nn = 30\nk = 2\nm = 1').arguments[3]
        one, other = (start(jax.random.key(seed)) for seed in range(2))
        assert one.Q.shape == (2, 2)
        assert (one.Q != other.Q).all()
        same = config('level = "chain"\nseeds = 2\n[start]\nn = 30\nk = 2\nm = 1').arguments[3]
        assert isinstance(same, ld.Overlaps)

    def test_activations_by_name_and_starts_by_function(self):
        found = config("""\
level = "ode"
seeds = 2
[start]
function = "own_sweep:start"
[keywords]
k = 3
[over]
student = ["erf", "relu", "own_sweep:unit"]
""")
        own = sys.modules["own_sweep"]
        assert found.arguments[3] is own.start
        assert found.keywords["k"] == 3
        assert found.keywords["over"]["student"] == [ld.Erf(), ld.ReLU(), own.unit]

    def test_values_that_go_together(self):
        text = SMALL.replace("[over]", "[zip]").replace("points = 2", "points = 3")
        found = config(text).keywords
        assert found["zip"] == {"lr": [0.1, 0.2, 0.3], "noise": [0.0, 0.5, 1.0]}
        assert found["over"] is None

    def test_ranges_and_names_inside(self):
        found = config("""\
level = "ode"
[start]
k = 1
m = 1
[rule]
slow-momentum = 2
[over]
momentum.gamma = {start = 0.1, stop = 10, points = 3, spacing = "log"}
""")
        np.testing.assert_allclose(found.keywords["over"]["momentum.gamma"], [0.1, 1.0, 10.0])


class TestRefusals:
    @pytest.mark.parametrize(
        ("old", "new", "line", "told"),
        [
            ("chunk = 2", "chunks = 2", 2, r"the file has no 'chunks'.*Is 'chunk' meant\?"),
            ("chunk = 2", 'chunk = "2"', 2, "chunk must be an integer; got '2'"),
            ("chunk = 2", "chunk = 0", None, "chunk must be an integer >= 1"),
            ("chunk = 2", "seeds = true", 2, "seeds must be an integer; got True"),
            ("[times]", "[time]", 4, r"has no 'time'.*Is 'times' meant\?"),
            ("alpha-max", "alpha_mx", 5, r"\[times\] has no 'alpha_mx'.*Is 'alpha_max' meant\?"),
            ("points = 3\n", "points = 3.5\n", 6, "points must be an integer; got 3.5"),
            ("points = 3\n", "points = 1\n", 4, "points must be at least 2"),
            ("points = 3\n", 'spacing = "cube"\n', 6, "must be one of 'linear', 'log'; got 'cube'"),
            ("0.2,", '"a",', 9, "lr must be a list of numbers; got 'a'"),
            ("0.2,", "-0.2,", 9, "lr"),
            ("lr =", "rate =", 9, "there is no 'rate' to sweep over"),
            ("noise = {", "noise = {size = 1, ", 11, r"\[over.noise\] has no 'size'"),
            ("start = 0, ", "", 11, r"\['start'\] is missing"),
            ("points = 2}", "points = 0}", 11, "must have points >= 1"),
            ("points = 2}", 'points = 2, spacing = "log"}', 11, "numbers of one sign"),
            ("{start = 0, stop = 1, points = 2}", "0.5", 11, "must be a list of values"),
            ('"own_sweep:level"', '"odd"', 1, "level must be one of"),
            ('"own_sweep:level"', '"own_sweep:nothing"', 1, "cannot be imported.*AttributeError"),
            ('"own_sweep:level"', '"no_such:thing"', 1, "cannot be imported.*ModuleNotFound"),
            ("[over]", "[zip]", 8, r"equally many; got \{'lr': 3, 'noise': 2\}"),
            ("[over]", '[problem]\nstudent = "erff"\n[over]', 9, "must be one of 'erf'"),
            ("[over]", "[problem]\nnoise = -1.0\n[over]", 8, "noise"),
            ("[over]", '[rule]\nschedule = "power"\n[over]', 10, 'sweep over "lr.rate"'),
            ("[over]", '[rule]\nrule = "feedback-alignment"\n[over]', 8, "needs feedback"),
        ],
    )
    def test_they_name_the_line(self, old, new, line, told):
        assert old in SMALL
        where = "'sweep.toml'" if line is None else f"'sweep.toml', line {line}:"
        with pytest.raises(ValueError, match=rf"^{where}.*{told}"):
            config(SMALL.replace(old, new, 1))

    def test_what_is_no_toml(self):
        with pytest.raises(ValueError, match=r"no TOML file.*line 2"):
            config('level = "ode"\nchunk 2\n')

    def test_expressions_are_not_evaluated(self):
        with pytest.raises(ValueError, match=r"line 2: chunk must be an integer"):
            config(SMALL.replace("chunk = 2", 'chunk = "1 + 1"'))

    def test_of_options(self, capsys):
        config()
        for shard in ("0/2", "3/2", "1", "a/b", "1/2/3"):
            with pytest.raises(SystemExit) as stopped:
                main(["sweep", "run", "sweep.toml", "--shard", shard])
            assert stopped.value.code == 2
            assert "--shard must be i/n" in capsys.readouterr().err
        with pytest.raises(SystemExit):
            main(["sweep", "status", "nothing.zarr"])
        assert "no store of a sweep" in capsys.readouterr().err
        with pytest.raises(SystemExit):
            main(["sweep", "script", "sweep.toml", "--shards", "0"])
        assert "at least 1" in capsys.readouterr().err

    def test_another_sweep_in_one_line(self, capsys):
        config()
        main(["sweep", "run", "sweep.toml"])
        config(SMALL.replace("0.2,", "0.25,"))
        with pytest.raises(SystemExit):
            main(["sweep", "run", "sweep.toml"])
        assert "lr: [0.1, 0.2, 0.3] stored, [0.1, 0.25, 0.3] asked" in capsys.readouterr().err


def test_lines_of_keys_in_values_of_several_lines(tmp_path):
    path = tmp_path / "a.toml"
    path.write_text('# b = 1\na = """\nb = 2\n"""\n\nb = [\n 1,\n]\n[c]\n"d.e" = 1\nf.g = 2\n')
    toml = Toml(path)
    lines = [toml.line_of(keys) for keys in (("a",), ("b",), ("c",), ("c", "d.e"), ("c", "f", "g"))]
    assert lines == [2, 6, 9, 10, 11]
    assert toml.line_of(("d",)) is None


def test_the_script_is_one_for_bash_and_runs_a_share(folder, capsys):
    config()
    arguments = ["--shards", "3", "--store", "with space.zarr", "--time", "1:00:00", "--cpus", "2"]
    main(["sweep", "script", "sweep.toml", *arguments])
    script = capsys.readouterr().out
    assert "#SBATCH --array=1-3\n" in script
    assert "#SBATCH --time=1:00:00\n" in script
    assert "# 6 runs in 3 shares" in script
    *_, last = script.splitlines()
    shown = last.replace(sys.executable, "echo")
    settings = {**os.environ, "SLURM_ARRAY_TASK_ID": "2"}
    said = subprocess.run(["bash", "-ec", shown], env=settings, capture_output=True, check=True)
    words = said.stdout.decode().split()
    assert words[-4:] == ["--progress", "on", "--shard", "2/3"]
    assert f"--store {folder}/with space.zarr --workers 2" in said.stdout.decode()


@pytest.mark.nightly
def test_the_script_runs(folder, capsys):
    config()
    main(["sweep", "script", "sweep.toml", "--shards", "2"])
    script = capsys.readouterr().out
    for number in ("1", "2"):
        settings = {**os.environ, "SLURM_ARRAY_TASK_ID": number}
        done = subprocess.run(["bash"], input=script.encode(), env=settings, capture_output=True)
        assert done.returncode == 0, done.stderr.decode()
    found = ld.open_sweep("sweep.zarr")
    assert found.done.all()
    assert jnp.isfinite(found.seen.values).all()
