"""A sweep with a store: nothing finished is lost, and nothing else is taken for it."""

import errno
import functools
import json
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from toy_sweep import CHUNK, GRID, PROBLEM, RULE, START, TS, WIDER, assert_same, sweep

import learndyn as ld
from learndyn.sweeps.store import _drive, _files, _lock, _open, _share

pytest.importorskip("zarr")


@pytest.fixture(scope="module")
def whole():
    """GRID in memory: what every store of it must hold at the end."""
    return sweep()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.zarr"


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """One program in each block, and no waiting for locks."""
    monkeypatch.setattr(_drive, "SECONDS_PER_BLOCK", 0.0)
    monkeypatch.setattr(_lock, "_PATIENCE", 0.05)


@pytest.fixture
def done(monkeypatch):
    """The blocks that are run, in order."""
    blocks, run_block = [], _share.Share.run_block

    def counted(share, runner, block, bar):
        blocks.append(block)
        run_block(share, runner, block, bar)

    monkeypatch.setattr(_share.Share, "run_block", counted)
    return blocks


class TestAStoreHoldsWhatMemoryHolds:
    def test_bit_for_bit_and_again(self, path, whole, done):
        assert_same(sweep(path), whole)
        assert done == list(range(12))
        assert_same(sweep(path), whole)
        assert_same(ld.open_sweep(path), whole)
        assert len(done) == 12

    def test_of_a_level_of_the_library(self, path):
        run = functools.partial(
            ld.sweep, ld.solve_ode, PROBLEM, RULE, START, TS, over={"lr": [0.1, 0.3, 0.2]}, chunk=2
        )
        stored = run(store=path)
        assert_same(stored, run())
        assert stored.T.dims == ("teacher", "teacher_")
        assert stored.attrs["level"] == "ode"
        assert ld.problem_of(stored) == PROBLEM

    def test_of_sizes_that_differ(self, path):
        def level(problem, rule, start, ts, k):
            return {"b": jnp.full((len(ts), k), rule.lr), "count": jnp.asarray(k)}

        run = functools.partial(
            sweep, level=level, seeds=None, key=None, over={"k": [1, 3], "lr": [0.1, 0.2, 0.3]}
        )
        assert_same(run(path), run())

    def test_of_functions_that_cannot_be_traced(self, path):
        def level(problem, rule, start, ts):
            return {"seen": np.float64(float(rule.lr)) ** 2}

        run = functools.partial(sweep, level=level, seeds=None, key=None, over={"lr": [2.0, 3.0]})
        assert_same(run(path), run())

    def test_where_runs_raise_or_diverge(self, path):
        def level(problem, rule, start, ts, n):
            if n == 3:
                raise RuntimeError("three")
            return {"seen": n * rule.lr, "result": jnp.where(rule.lr > 0.5, 1, 0)}

        run = functools.partial(
            sweep, level=level, seeds=None, key=None, over={"n": [2, 3, 4], "lr": [0.5, 1.0]}
        )
        with pytest.warns(RuntimeWarning, match=r"2 of 6 runs.*three"):
            stored = run(path)
        with pytest.warns(RuntimeWarning, match=r"2 of 6 runs.*three"):
            memory = run()
        assert_same(stored, memory)
        assert stored.result.values.tolist() == [[0, 1], [5, 5], [0, 1]]
        assert json.loads(stored.attrs["errors"]) == json.loads(memory.attrs["errors"])
        assert stored.done.all()

    def test_an_error_of_all_runs_is_raised(self, path):
        def level(problem, rule, start, ts):
            raise RuntimeError("always")

        with pytest.raises(RuntimeError, match="always"):
            sweep(path, level=level, seeds=None, key=None)

    def test_without_axes(self, path):
        assert_same(sweep(path, over={}, seeds=None), sweep(over={}, seeds=None))

    def test_other_readers_of_zarr_can_read_it(self, path, whole):
        sweep(path)
        with xr.open_zarr(path, consolidated=False, chunks=None) as raw:
            cells = raw.cell.values
            flat = whole.seen.values.reshape(-1, len(TS))
            np.testing.assert_array_equal(raw.seen.values, flat[cells])
            assert (raw.done == 1).all()


class TestReading:
    def test_touches_only_the_blocks_that_are_asked_for(self, path, whole, monkeypatch):
        from learndyn.sweeps.store._grid import GridArray

        read, block_of = [], GridArray._block
        monkeypatch.setattr(
            GridArray,
            "_block",
            lambda self, array, block: read.append(block) or block_of(self, array, block),
        )
        ds = sweep(path)
        assert read == []
        part = ds.seen.isel(lr=2, noise=[2, 0], alpha=slice(1, None))
        np.testing.assert_array_equal(part, whole.seen[2, [2, 0], :, 1:])
        assert 1 <= len(read) <= 4

    def test_what_is_missing_is_nan_and_says_so(self, path, whole):
        ds = sweep(path, shard=(1, 3))
        lost = ~ds.done.values
        assert lost.sum() == 16
        assert np.isnan(ds.seen.values[lost]).all()
        assert np.isnan(ds.steps.values[lost]).all()
        assert (ds.result.values[lost] == ld.Result.NOT_RUN).all()
        np.testing.assert_array_equal(ds.seen.values[~lost], whole.seen.values[~lost])
        assert (ds.result.values[~lost] == 0).all()

    def test_of_what_is_no_store(self, path, tmp_path):
        with pytest.raises(FileNotFoundError, match="no store"):
            ld.open_sweep(path)
        ld.save(sweep(), path)
        with pytest.raises(ValueError, match="does not describe a sweep"):
            ld.open_sweep(path)
        (tmp_path / "other").mkdir()
        (tmp_path / "other" / "thesis.tex").touch()
        with pytest.raises(ValueError, match=r"thesis\.tex.*no sweep"):
            sweep(tmp_path / "other")


class TestStartingAgain:
    @pytest.mark.parametrize("written", range(1, 20, 3))
    def test_after_a_kill_at_any_write(self, path, whole, done, monkeypatch, written):
        """A block is three arrays and its flag: the kill comes before, between and after them."""
        import zarr

        class Killed(BaseException):
            pass

        count, write = [0], zarr.Array.__setitem__

        def fragile(array, key, value):
            count[0] += 1
            if count[0] == written:
                raise Killed
            write(array, key, value)

        with monkeypatch.context() as patch:
            patch.setattr(zarr.Array, "__setitem__", fragile)
            with pytest.raises(Killed):
                sweep(path)
        flagged = [] if written == 1 else np.flatnonzero(_flags(path)).tolist()
        done.clear()
        assert_same(sweep(path), whole)
        assert sorted([*flagged, *done]) == list(range(12))

    def test_shares_meet_in_one_store(self, path, whole, done):
        for number in (3, 1, 2):  # counted from 1; from 0 is as good
            sweep(path, shard=(number, 3))
        assert sorted(done) == list(range(12))
        assert_same(sweep(path), whole)
        assert len(done) == 12

    def test_ctrl_c_keeps_what_is_finished(self, path, whole, done, monkeypatch):
        def pressed(share, runner, block, bar):
            if block == 5:
                raise KeyboardInterrupt
            run_block(share, runner, block, bar)

        run_block = _share.Share.run_block
        with monkeypatch.context() as patch:
            patch.setattr(_share.Share, "run_block", pressed)
            with pytest.raises(ld.Interrupted, match=r"after 10 of 24 runs.*goes on") as stopped:
                sweep(path)
        assert "\n" not in str(stopped.value)
        assert int(stopped.value.dataset.done.sum()) == 10
        done.clear()
        assert_same(sweep(path), whole)
        assert done == list(range(5, 12))


def _flags(path):
    return _files.blocks_done(path, _files.read_description(path))


class TestAnExtension:
    def test_does_only_what_is_new(self, path, done):
        sweep(path)
        sweep(path, over=WIDER, seeds=3)
        assert done == list(range(12 + (5 * 4 * 3 - 24) // 2))
        assert_same(ld.open_sweep(path), sweep(over=WIDER, seeds=3))

    def test_of_an_unfinished_sweep_finishes_it(self, path, done):
        sweep(path, shard=(0, 2))
        assert_same(sweep(path, over=WIDER, seeds=3), sweep(over=WIDER, seeds=3))
        assert sorted(done) == list(range(30))

    def test_by_larger_sizes(self, path):
        def level(problem, rule, start, ts, k):
            return {"b": jnp.full((k,), rule.lr)}

        run = functools.partial(sweep, level=level, seeds=None, key=None)
        run(path, over={"k": [1, 2], "lr": [0.1]})
        over = {"k": [1, 3, 2], "lr": [0.1, 0.2]}
        assert_same(run(path, over=over), run(over=over))

    def test_keeps_the_chunk_of_the_store(self, path):
        sweep(path)
        ds = sweep(path, over=WIDER, chunk=None)
        assert ds.attrs["chunk"] == CHUNK

    def test_that_was_cut_before_it_was_written_down(self, path, done, monkeypatch):
        sweep(path)
        with monkeypatch.context() as patch:
            patch.setattr(_drive, "write_description", lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                sweep(path, over=WIDER)
        assert_same(ld.open_sweep(path), sweep())
        assert_same(sweep(path, over=WIDER), sweep(over=WIDER))


class TestAnEarlierSchema:
    def test_goes_on_and_has_its_units_numbered(self, path):
        def level(problem, rule, start, ts, k):
            return {"b": (("student",), jnp.full((k,), rule.lr))}

        over = {"k": [1, 2], "lr": [0.1]}
        run = functools.partial(sweep, path, over, seeds=None, key=None, level=level)
        run(shard=(0, 2))
        _with_schema(path, 1)
        assert ld.open_sweep(path).attrs["schema"] == 2
        done = run()
        assert done.student.values.tolist() == [1, 2]
        np.testing.assert_array_equal(done.b[:, 0], [[0.1, np.nan], [0.1, 0.1]])


def _with_schema(path, schema):
    description = _files.read_description(path)
    attributes = description.attributes | {"schema": schema}
    _files.write_description(path, description._replace(attributes=attributes))


def shifted(by):
    def level(problem, rule, start, ts, *, key):
        return {"seen": rule.lr + by + 0 * jax.random.normal(key)}

    return level


class TestAnotherSweepIsRefused:
    """Each message is one line that names what differs."""

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (
                {"over": GRID | {"noise": [0.0, 0.1, 0.3]}},
                r"noise: \[0, 0.1, 0.2\] stored, \[0, 0.1, 0.3\] asked",
            ),
            ({"over": {"lr": GRID["lr"]}}, r"axes: \[lr, noise\] stored, \[lr\] asked"),
            ({"seeds": 1}, "seeds: 2 stored, 1 asked"),
            ({"key": jax.random.key(6)}, r"key: \[0, 5\] stored, \[0, 6\] asked"),
            ({"chunk": 3}, "chunk: 2 stored, 3 asked"),
            ({"ts": TS * 2}, r"ts: \[0, 0.5, 1\] stored, \[0, 1, 2\] asked"),
            (
                {"rule": ld.SGD(lr=0.2, weight_decay=0.5)},
                "rule.weight_decay: 0 stored, 0.5 asked",
            ),
            ({"problem": ld.Problem(ld.Linear())}, r"problem\.student.*Erf.* stored.*Linear"),
            (
                {"start": ld.Overlaps(Q=[[0.6]], R=[[0.1]], T=[[1.0]])},
                r"start\.Q: \[\[0.5\]\] stored, \[\[0.6\]\] asked",
            ),
        ],
    )
    def test_and_told_the_difference(self, path, change, message):
        sweep(path, shard=(0, 12))
        with pytest.raises(ValueError, match=message) as refusal:
            sweep(path, **change)
        assert "\n" not in str(refusal.value)

    def test_where_a_function_has_changed(self, path):
        sweep(path, level=shifted(1.0), shard=(0, 12))
        sweep(path, level=shifted(1.0), shard=(0, 12))
        with pytest.raises(ValueError, match=r"level: .* stored"):
            sweep(path, level=shifted(2.0))

    def test_all_differences_are_named(self, path):
        sweep(path, shard=(0, 12))
        with pytest.raises(ValueError, match=r"lr: .*; seeds: .*; chunk: "):
            sweep(path, over=GRID | {"lr": [0.1]}, seeds=1, chunk=5)

    def test_of_another_version(self, path, monkeypatch):
        sweep(path, shard=(0, 12))
        monkeypatch.setattr("learndyn._version.__version__", "9.9")
        with pytest.raises(ValueError, match=r"learndyn: .* stored, 9\.9 asked"):
            sweep(path)


class TestFaults:
    def test_two_drivers_at_once(self, path, whole):
        sweep(path, shard=(0, 2))
        with _lock.driving(path / "done", (0, 1)):
            with pytest.raises(ValueError, match=r"process .* runs this sweep on"):
                sweep(path)
            with pytest.raises(ValueError, match="process"):
                sweep(path, shard=(1, 2))
        with _lock.driving(path / "done", (1, 2)):
            sweep(path, shard=(0, 2))
            for other in (None, (1, 2), (0, 3)):
                with pytest.raises(ValueError, match="in 2 shares"):
                    sweep(path, shard=other)
        assert_same(sweep(path), whole)

    @pytest.mark.parametrize("damage", ["cut", "lost"])
    def test_a_file_that_is_cut_or_lost_is_made_again(self, path, whole, done, damage):
        sweep(path)
        file = path / "seen" / "c.3.0"
        if damage == "cut":
            file.write_bytes(file.read_bytes()[:10])
            with pytest.warns(RuntimeWarning, match="block 3 of seen"):
                read = ld.open_sweep(path).seen.values
            assert np.isnan(read).sum() == 2 * len(TS)
            np.testing.assert_array_equal(read[~np.isnan(read)], whole.seen.values[~np.isnan(read)])
        else:
            file.unlink()
        done.clear()
        with pytest.warns(RuntimeWarning, match=r"1 blocks are done again.*c\.3"):
            assert_same(sweep(path), whole)
        assert done == [3]

    def test_a_file_whose_bits_have_changed(self, path):
        sweep(path)
        file = path / "seen" / "c.3.0"
        file.write_bytes(b"x" + file.read_bytes()[1:])
        with pytest.warns(RuntimeWarning, match=r"block 3 of seen.*checksum.*Remove"):
            assert np.isnan(ld.open_sweep(path).seen.values).sum() == 2 * len(TS)

    def test_a_flag_that_is_cut_does_not_count(self, path, whole, done):
        sweep(path)
        (path / "done" / "c.4").write_bytes(b"")
        done.clear()
        assert not ld.open_sweep(path).done.all()
        assert_same(sweep(path), whole)
        assert done == [4]

    @pytest.mark.parametrize("text", ["", "{", '{"attributes": 3}', '{"attributes": {}}'])
    def test_damaged_metadata(self, path, text):
        sweep(path)
        (path / "zarr.json").write_text(text)
        for use in (ld.open_sweep, sweep):
            with pytest.raises(ValueError, match=r"zarr\.json.*does not describe a sweep"):
                use(path)

    def test_damaged_metadata_of_an_array(self, path):
        sweep(path)
        (path / "seen" / "zarr.json").write_text("{")
        with pytest.raises(ValueError, match=r"seen/zarr\.json' cannot be read"):
            sweep(path)
        ds = ld.open_sweep(path)
        np.testing.assert_array_equal(ds.steps, sweep().steps)

    def test_a_later_format(self, path):
        sweep(path)
        text = (path / "zarr.json").read_text().replace('"format": 1', '"format": 2')
        (path / "zarr.json").write_text(text)
        with pytest.raises(ValueError, match="Install a newer learndyn"):
            ld.open_sweep(path)

    def test_a_later_schema(self, path):
        sweep(path, shard=(0, 12))
        _with_schema(path, 99)
        with pytest.raises(ValueError, match=r"run\.zarr has schema 99 .* Install a newer"):
            ld.open_sweep(path)

    def test_a_full_disk(self, path, whole, done, monkeypatch):
        import zarr

        write, room = zarr.Array.__setitem__, [20]

        def full(array, key, value):
            room[0] -= 1
            if room[0] < 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            write(array, key, value)

        with monkeypatch.context() as patch:
            patch.setattr(zarr.Array, "__setitem__", full)
            with pytest.raises(OSError, match=r"No space left.*block 4.*8 of 24.*start again"):
                sweep(path)
        done.clear()
        assert_same(sweep(path), whole)
        assert done == list(range(4, 12))

    def test_a_disk_that_is_full_from_the_beginning(self, path, whole, monkeypatch):
        import zarr

        def full(array, key, value):
            raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(zarr.Array, "__setitem__", full)
            with pytest.raises(
                OSError, match=r"No space left.*has not begun; make room.*run\.zarr"
            ):
                sweep(path)
        assert_same(sweep(path), whole)

    def test_a_clock_that_jumps_back(self, path, whole, monkeypatch):
        now = [2e9]

        def earlier():
            now[0] -= 3600.0
            return now[0]

        sweep(path, shard=(0, 2))
        monkeypatch.setattr(time, "time", earlier)
        assert_same(sweep(path), whole)

    @pytest.mark.parametrize("shard", [(4, 3), (-1, 3), (0, 0), 3, (1.0, 3)])
    def test_bad_shares(self, path, shard):
        with pytest.raises(ValueError, match="shard"):
            sweep(path, shard=shard)

    def test_shares_need_a_store(self):
        with pytest.raises(ValueError, match="needs a store"):
            sweep(shard=(0, 2))


def test_places_of_a_cell_are_found_by_value():
    """The order of values may change, and 0 is 0.0."""
    first = _files.Grid({"lr": [0.1, 1], "f": ["a@1"]}, (2, 1, 2), 0, 4)
    last = _files.Grid({"lr": [1.0, 0.3, 0.1], "f": ["b@2", "a@1"]}, (3, 2, 3), 4, 0)
    assert _open.cells_in(first, last).tolist() == [15, 16, 3, 4]
