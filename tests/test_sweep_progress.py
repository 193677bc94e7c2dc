"""The progress of a sweep is true, and what is learned from it changes no number."""

import io
import sys

import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

import learndyn as ld
from learndyn.sweeps import _bar, make_plan
from learndyn.sweeps._outlook import Outlook
from learndyn.sweeps._run import Runner
from learndyn.sweeps.store import _drive, _share
from learndyn.sweeps.store._queue import Queue

COSTS = np.linspace(1.0, 10.0, 10)
ONE_KIND = np.zeros(10, int)


class TestLearning:
    def test_nothing_is_known_before_anything_is_measured(self):
        assert Outlook(COSTS, ONE_KIND).seconds_left() is None

    def test_a_prediction_in_any_unit(self):
        outlook = Outlook(COSTS, ONE_KIND)
        for part in (0, 1, 2):
            outlook.finished(part, 0.5 * COSTS[part])
        np.testing.assert_allclose(outlook.seconds_left(), 0.5 * COSTS[3:].sum())

    def test_any_function_of_the_prediction(self):
        """The dearer a part is thought to be the less it takes."""
        costs = np.linspace(1.0, 10.0, 41)
        outlook, took = Outlook(costs, np.zeros(41, int)), 12.0 - costs
        outlook.finished(40, 99.0)
        for part in range(0, 41, 2):
            outlook.finished(part, took[part])
        np.testing.assert_allclose(outlook.seconds_left(), took[1::2].sum(), rtol=0.01)
        assert outlook.dearest_first([3, 9]) == [3, 9]
        assert Outlook(costs, np.zeros(41, int)).dearest_first([3, 9]) == [9, 3]

    def test_compiling_is_not_taken_for_work(self):
        outlook = Outlook(COSTS, ONE_KIND)
        outlook.finished(0, 60.0, "one")
        np.testing.assert_allclose(outlook.seconds_left(), 60.0 * COSTS[1:].sum())
        outlook.finished(1, 70.0, "another")  # compiles, too
        np.testing.assert_allclose(outlook.seconds_left(), 60.0 * COSTS[2:].sum())
        outlook.finished(2, 3.0, "one")
        np.testing.assert_allclose(outlook.seconds_left(), COSTS[3:].sum())

    def test_kinds_are_apart(self):
        outlook = Outlook(np.ones(9), np.repeat([0, 1, 2], 3))
        for part, seconds in ((0, 1.0), (1, 1.0), (3, 5.0), (4, 5.0)):
            outlook.finished(part, seconds)
        np.testing.assert_allclose(outlook.seconds_left(), 1.0 + 5.0 + 3 * 3.0)
        assert outlook.dearest_first([2, 5, 8]) == [5, 8, 2]

    @pytest.mark.parametrize("odd", [0.0, np.nan, np.inf, -1.0])
    def test_costs_that_are_none_count_as_usual(self, odd):
        outlook = Outlook(np.array([2.0, odd, 2.0]), np.zeros(3, int))
        outlook.finished(0, 1.0)
        outlook.finished(2, 4.0)
        np.testing.assert_allclose(outlook.seconds_left(), 4.0)

    def test_a_queue_puts_what_is_learned_to_use(self):
        outlook = Outlook(np.ones(40), np.repeat([0, 1], 20))
        queue, taken = Queue(outlook, list(range(40))), []
        while queue:
            taken.append(queue.take())
            outlook.finished(taken[-1], 9.0 if taken[-1] >= 20 else 1.0)
            if len(taken) == 1:
                outlook.finished(39, 9.0)
                outlook.finished(38, 9.0)
        assert sorted(taken) == list(range(40))
        assert taken[:3] == [0, 1, 2]
        assert taken[3:23] == list(range(20, 40))
        queue = Queue(outlook, [3, 4])
        queue.again(7)
        assert [queue.take() for _ in range(3)] == [3, 4, 7]


def level(problem, rule, start, ts, k=1):
    return {"seen": jnp.full(k, rule.lr + problem.noise)}


GRID = {"lr": np.linspace(0.1, 1.0, 10).tolist(), "noise": [0.0, 0.1]}
START = ld.Overlaps(Q=[[0.5]], R=[[0.1]], T=[[1.0]])


def sweep(**keywords):
    options = {"over": GRID, "chunk": 2} | keywords
    return ld.sweep(level, ld.Problem(), ld.SGD(0.1), START, jnp.zeros(1), **options)


@pytest.fixture
def clock(monkeypatch):
    """The clock of what is shown, which goes on when a test says so."""
    now = [100.0]
    monkeypatch.setattr(_bar, "_now", lambda: now[0])
    return now


class TestWhatIsShown:
    def shown(self, clock, monkeypatch, stream, seconds=20.0):
        monkeypatch.setattr(sys, "stderr", stream)
        outlook = Outlook(np.ones(4), np.zeros(4, int))
        with _bar.sweep_bar(True, 8, 0, outlook) as bar:
            for part in range(3):
                clock[0] += seconds
                outlook.finished(part, seconds)
                bar.update(2)
            clock[0] += 5.0
        return stream.getvalue()

    def test_lines_of_a_log_file(self, clock, monkeypatch):
        lines = self.shown(clock, monkeypatch, io.StringIO()).splitlines()
        assert lines == [
            "sweep: 4 of 8 runs (50%), 0.1 runs/s, 00:40 so far, 00:40 left",
            "sweep: 6 of 8 runs (75%), 0.0923 runs/s, 01:05 so far, 00:20 left",
        ]

    def test_a_bar_in_a_terminal(self, clock, monkeypatch):
        class Terminal(io.StringIO):
            def isatty(self):
                return True

        shown = self.shown(clock, monkeypatch, Terminal()).split("\r")
        assert shown[-1].startswith("sweep:  75%|")
        assert "6/8 [00:00, 00:20 left," in shown[-1]
        assert "? left" in shown[1]

    def test_what_was_there_before_is_done_and_does_not_count_for_the_pace(self, capsys, clock):
        outlook = Outlook(np.ones(2), np.zeros(2, int))
        outlook.left[0] = False
        with _bar.sweep_bar(True, 100, 50, outlook) as bar:
            clock[0] += 10.0
            bar.update(25)
        assert "75 of 100 runs (75%), 2.5 runs/s" in capsys.readouterr().err

    def test_two_processes_take_half_the_time(self, clock):
        outlook = Outlook(np.ones(9), np.zeros(9, int))
        outlook.finished(0, 8.0)
        outlook.at_once = 2
        left = _bar._Left(outlook)
        assert str(left) == "00:32"
        clock[0] += 2.0
        assert str(left) == "00:30"
        clock[0] += 200.0
        assert str(left) == "00:00"

    def test_a_notebook_shows_a_bar_unasked(self, monkeypatch):
        from learndyn._progress import is_shown

        class OutStream(io.StringIO):
            pass

        assert not is_shown(None)
        OutStream.__module__ = "ipykernel.iostream"
        monkeypatch.setattr(sys, "stderr", OutStream())
        monkeypatch.setitem(sys.modules, "ipykernel", sys)
        assert is_shown(None)
        sweep(progress=None)
        assert "20/20" in sys.stderr.getvalue()

    def test_of_a_sweep_with_a_store(self, tmp_path, monkeypatch, capsys):
        pytest.importorskip("zarr")
        sweep(store=tmp_path / "run.zarr", progress=True)
        assert "20 of 20 runs (100%)" in capsys.readouterr().err


def test_blocks_have_the_costs_of_their_dearest_runs(tmp_path, monkeypatch):
    pytest.importorskip("zarr")
    monkeypatch.setattr(_drive, "SECONDS_PER_BLOCK", 0.0)
    shares, run = [], _share.Share.run

    def kept(share, *arguments):
        shares.append(share)
        run(share, *arguments)

    monkeypatch.setattr(_share.Share, "run", kept)
    over = {"k": [1, 2], "lr": [0.1, 0.2, 0.4, 0.8]}
    sweep(over=over, store=tmp_path / "run.zarr")
    np.testing.assert_allclose(shares[0].outlook.costs, [0.2, 0.8, 0.2, 0.8], rtol=1e-5)
    np.testing.assert_array_equal(shares[0].outlook.kinds, [0, 0, 1, 1])
    assert not shares[0].outlook.left.any()


def test_items_have_the_cost_of_their_dearest_run():
    options = {"seeds": None, "key": None, "chunk": 2, "keywords": {}}
    cost = lambda values: 10 * values["lr"] + values["noise"]
    plan = make_plan(
        level, ld.Problem(), ld.SGD(0.1), START, jnp.zeros(1), over=GRID, cost=cost, **options
    )  # fmt: skip
    np.testing.assert_allclose([item.cost for item in plan.items], np.arange(1, 11) + 0.1)


def test_an_order_that_is_learned_changes_no_number(tmp_path, monkeypatch):
    """Blocks of one store in any order: its numbers are those of the sweep in memory."""
    pytest.importorskip("zarr")
    monkeypatch.setattr(_drive, "SECONDS_PER_BLOCK", 0.0)

    def shuffled(share, *arguments):
        runner = Runner(share.plan)
        for block in np.random.default_rng(0).permutation(share.blocks).tolist():
            share.run_block(runner, block, _bar.Silent())

    monkeypatch.setattr(_share.Share, "run", shuffled)
    found = sweep(store=tmp_path / "run.zarr")
    xr.testing.assert_identical(found.drop_vars("done").drop_attrs(), sweep().drop_attrs())
