"""Ctrl-C: what is finished is kept, in one sentence."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import learndyn as ld
from learndyn.cli import main

CPU = {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(Path(ld.__file__).parent.parent)}
PROBLEM, RULE, TS = ld.Problem(), ld.SGD(lr=0.2), jnp.linspace(0.0, 0.5, 3)
WEIGHTS = ld.init_weights(jax.random.key(0), n=20, k=1, m=1)
START = ld.overlaps(WEIGHTS)
SMALL = ["--k", "1", "--m", "1", "--n", "20", "--alpha-max", "0.5", "--points", "3", "--no-png"]
_PATIENCE = 120
"""Seconds in which a program must have begun and ended."""


def test_a_sweep_keeps_what_is_finished():
    calls = []

    def level(problem, rule, start, ts):
        calls.append(float(rule.lr))  # not traceable: it is called run by run
        if len(calls) == 3:
            raise KeyboardInterrupt
        return {"seen": np.float64(rule.lr)}

    with pytest.raises(ld.Interrupted, match=r"after 2 of 4 runs.*sys\.last_value") as ended:
        ld.sweep(level, PROBLEM, RULE, START, TS, over={"lr": [0.1, 0.2, 0.3, 0.4]})
    stopped = ended.value
    assert isinstance(stopped, KeyboardInterrupt)
    assert (stopped.finished, stopped.total) == (2, 4)
    np.testing.assert_array_equal(stopped.dataset.seen, [0.1, 0.2, np.nan, np.nan])
    assert stopped.dataset.result.values.tolist() == [0, 0, 6, 6]
    assert ld.Result(6).meaning == "the sweep was interrupted before this run"


def test_before_the_first_run_there_is_no_dataset():
    def level(problem, rule, start, ts):
        raise KeyboardInterrupt

    with pytest.raises(ld.Interrupted, match="after 0 of 1 runs") as ended:
        ld.sweep(level, PROBLEM, RULE, START, TS)
    assert ended.value.dataset is None


@pytest.fixture
def interrupted(tmp_path, monkeypatch, capsys):
    """The command line's answer where the second item of an ensemble is interrupted."""
    from learndyn.cli import _runs

    whole = _runs.run_items

    def stopped(plan, items, *, progress):
        yield from whole(plan, items[:1], progress=progress)
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(_runs, "run_items", stopped)

    def answer(*arguments):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 130
        return capsys.readouterr().err

    return answer


def test_the_command_line_keeps_what_is_finished(interrupted, tmp_path):
    said = interrupted("sgd", *SMALL, "--runs", "20", "--theory", "-o", "x.nc", "--seed", "3")
    assert said.strip() == (
        "learndyn: interrupted: 1 of 20 runs were finished; wrote x.nc, x-ode.nc."
    )
    kept = ld.load("x.nc")
    assert kept.sizes["seed"] == 1
    assert kept.attrs["seed"] == 3
    assert np.isfinite(kept.eg).all()
    np.testing.assert_allclose(kept.eg[:, 0], ld.load("x-ode.nc").eg[0], rtol=1e-12)


def test_the_command_line_with_nothing_finished(monkeypatch, tmp_path, capsys):
    def stopped(*arguments):
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("learndyn.cli._command.run_level", stopped)
    with pytest.raises(SystemExit) as ended:
        main(["ode", *SMALL])
    assert ended.value.code == 130
    assert capsys.readouterr().err.strip() == (
        "learndyn: interrupted: nothing was finished, so nothing is written."
    )
    assert not list(tmp_path.iterdir())


def test_it_is_heard_while_a_compiled_program_runs(tmp_path):
    """Another process runs, which a compiled program keeps busy for minutes."""
    command = "ode --student tanh --k 3 --m 3 --averages qmc --nodes 8192 --alpha-max 1e6"
    given = {"cwd": tmp_path, "stderr": subprocess.PIPE, "text": True}
    given |= {"env": dict(os.environ) | CPU}
    arguments = [sys.executable, "-m", "learndyn", *command.split(), "--progress", "on"]
    # A job in the background inherits that Ctrl-C is ignored.
    heard = "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); "
    heard += "os.execv(sys.argv[1], sys.argv[1:])"
    with subprocess.Popen([sys.executable, "-c", heard, *arguments], **given) as process:
        # Unheard, the program would go on for hours.
        watch = threading.Timer(_PATIENCE, process.kill)
        watch.start()
        told = ""
        while "solving" not in told:
            more = process.stderr.read(1)
            assert more, f"the command ended by itself: {told}"
            told += more
        process.send_signal(signal.SIGINT)
        told = process.stderr.read()
        watch.cancel()
    assert process.returncode == 130
    assert told.endswith("learndyn: interrupted: nothing was finished, so nothing is written.\n")
