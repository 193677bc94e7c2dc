"""Large sweeps: 10^5 ODEs and 10^6 runs of the chain, a store's overhead, processes, a scheduler.

What one core does is told by the CPU time of this process, which neighbours on a busy machine
change less than wall time; the load is printed. LEARNDYN_BENCH_SHARE=0.1 runs a tenth of the large
sweeps.
"""

import os
import resource
import subprocess
import sys
import time

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from benchmarks.numpy_committee import NumpyCommittee

import learndyn as ld
from learndyn.sweeps.store import _drive, _share

pytest.importorskip("zarr")

SHARE = float(os.environ.get("LEARNDYN_BENCH_SHARE", "1"))
"""Part of the sizes to run; the whole takes minutes on one core."""

KEY = jax.random.key(1)
TS = jnp.linspace(0.0, 100.0, 11)
"""With 11 times the overlaps of 10^5 ODEs take 0.1 GiB, a tenth of `MOST_MEMORY`."""

STARTS = 100
"""With SIDE squared, about 1000, settings there are 10^5 ODEs: the size that was aimed at."""

SIDE = max(2, round((1000 * SHARE) ** 0.5))
"""Values along each of two swept numbers."""

GRID = {"lr": np.linspace(0.1, 1.0, SIDE), "noise": np.linspace(0.0, 0.5, SIDE)}
"""Rates below half of 2.3, the critical one of two erf units, so that no cell diverges."""

LEAST_OVER_SCIPY = 20.0
"""Times that a loop of SciPy's solves takes what the sweep does, on one core: the aim."""

MOST_OVER_VMAP = 1.5
"""Time of a run of the sweep over that in one large vmap: a sweep stands beside its speed."""

MOST_MEMORY = 1.0
"""GiB of the whole process with 10^5 ODEs: the aim."""

MOST_OVERHEAD = 0.05
"""Share of the time that a store may take where runs take 2 ms: the aim."""


def start(key):
    return ld.overlaps(ld.init_weights(key, 1000, 2, 2))


def sweep(**keywords):
    """ODEs with erf, K = M = 2, alpha <= 100, over rates, noises and initial states."""
    options = {"over": GRID, "seeds": STARTS, "key": KEY, "workers": 1} | keywords
    return ld.sweep(ld.solve_ode, ld.Problem(), ld.SGD(0.1), start, TS, **options)


@eqx.filter_jit
@eqx.filter_vmap
def solved(lr, noise, key):
    run = ld.solve_ode(ld.Problem(noise=noise), ld.SGD(lr=lr), start(key), TS)
    return run.Q, run.R


def some_runs(count):
    """Runs of the grid drawn at random: where they are in it, and their numbers and keys."""
    where = np.random.default_rng(0).integers((SIDE, SIDE, STARTS), size=(count, 3)).T
    lr, noise = GRID["lr"][where[0]], GRID["noise"][where[1]]
    return where, (lr, noise, jax.random.split(KEY, STARTS)[where[2]])


def load():
    return f"{os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"


def timed(function):
    """CPU seconds of this process and wall seconds of function(), and what it returns."""
    cpu, wall = time.process_time(), time.perf_counter()
    found = jax.block_until_ready(function())
    return time.process_time() - cpu, time.perf_counter() - wall, found


def scipy_loop(runs, rtol):
    """A loop of SciPy's solves, as y = (upper triangle of Q, R) at the last time."""
    found, ts = [], np.asarray(TS)
    for lr, noise, q, r, t in runs:
        found.append(NumpyCommittee(t, lr, noise).solve(q, r, ts, rtol)[-1])
    return np.array(found)


def for_scipy(lr, noise, keys):
    """The same runs as numbers and NumPy's arrays."""
    states = jax.device_get(jax.vmap(start)(keys))
    return list(zip(lr.tolist(), noise.tolist(), states.Q, states.R, states.T, strict=True))


def as_scipy(q, r):
    upper = np.triu_indices(2)
    q, r = np.asarray(q), np.asarray(r)
    return np.concatenate([q[:, -1][:, upper[0], upper[1]], r[:, -1].reshape(len(r), -1)], axis=1)


def test_many_odes(say, tmp_path):
    """10^5 solves in one call, next to one large vmap and a loop of SciPy's."""
    sweep(over={name: values[:2] for name, values in GRID.items()}, chunk=64)  # compile
    count = SIDE**2 * STARTS
    cpu, wall, found = timed(lambda: sweep(store=tmp_path / "run.zarr", chunk=64))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    where, runs = some_runs(4096)
    solved(*runs)
    vmap_cpu, vmap_wall, together = timed(lambda: solved(*runs))
    few = for_scipy(*(x[:32] for x in runs))
    exact = scipy_loop(few, 1e-12)
    ours = np.abs(as_scipy(*(x[:32] for x in together)) - exact).max()
    for rtol in (1e-6, 1e-7, 1e-8, 1e-9, 1e-10):
        error = np.abs(scipy_loop(few, rtol) - exact).max()
        if error <= max(ours, 1e-9):
            break
    scipy_cpu, scipy_wall, _ = timed(lambda: scipy_loop(few, rtol))
    ratio = (scipy_cpu / 32) / (cpu / count)
    say(
        f"{count} ODEs, erf, K = M = 2, alpha <= 100, with a store, load {load()}: "
        f"{1e3 * cpu / count:.3f} ms of CPU each (wall {wall:.0f} s, {count / wall:.0f} runs/s); "
        f"one vmap of 4096: {1e3 * vmap_cpu / 4096:.3f} ms (wall {1e3 * vmap_wall / 4096:.3f}); "
        f"SciPy DOP853 at rtol {rtol:.0e}, error {error:.0e} where ours is {ours:.0e}: "
        f"{1e3 * scipy_cpu / 32:.1f} ms (wall {1e3 * scipy_wall / 32:.1f}), ratio {ratio:.1f}; "
        f"peak {peak:.2f} GiB"
    )
    np.testing.assert_allclose(
        found.R.values[where[0], where[1], where[2]], together[1], rtol=1e-5, atol=1e-7
    )
    assert found.done.all()
    assert ratio > LEAST_OVER_SCIPY
    assert cpu / count < MOST_OVER_VMAP * vmap_cpu / 4096
    assert peak < MOST_MEMORY


def test_many_chains(say, tmp_path):
    """10^6 runs of the chain, K = M = 2, n = 20, alpha <= 2."""
    side, seeds = max(2, round(1000 * SHARE**0.5)), 100
    over = {"lr": np.linspace(0.1, 1.0, side // 10), "noise": np.linspace(0.0, 0.5, side // 10)}

    def run(over, **keywords):
        return ld.sweep(
            ld.simulate_chain, ld.Problem(), ld.SGD(0.1), start(KEY), jnp.array([0.0, 2.0]),
            over=over, seeds=seeds, key=KEY, n=20, **keywords,
        )  # fmt: skip

    run({name: values[:1] for name, values in over.items()}, chunk=64)
    cpu, wall, found = timed(lambda: run(over, store=tmp_path / "run.zarr", chunk=64))
    count = found.done.size
    say(
        f"{count} chains, K = M = 2, n = 20, 40 steps, with a store: {1e6 * cpu / count:.0f} µs of "
        f"CPU each, wall {wall:.0f} s, load {load()}"
    )
    assert found.done.all()
    assert (found.result == 0).all()


def made(steps):
    """A level whose runs take a time that `steps` says."""

    def level(problem, rule, start, ts, *, key):
        step = lambda _, x: jnp.sin(3.0 * x + rule.lr) + problem.noise
        x = jax.lax.fori_loop(0, steps, step, jax.random.normal(key, ()))
        return {"eg": x * jnp.ones(101), "Q": x * jnp.ones((101, 2, 2)), "R": jnp.ones((101, 2, 2))}

    return level


def toy(level, seeds, **keywords):
    over = {"lr": np.linspace(0.1, 1.0, 16).tolist()}
    return ld.sweep(
        level, ld.Problem(), ld.SGD(0.1), None, jnp.linspace(0.0, 1.0, 101),
        over=over, seeds=seeds, key=KEY, chunk=64, **{"workers": 1, **keywords},
    )  # fmt: skip


def seconds_of_a_run(level):
    toy(level, 4)
    return timed(lambda: toy(level, 4))[0] / 64


def steps_for(seconds):
    """How many steps of `made` take so long."""
    few, many = (seconds_of_a_run(made(steps)) for steps in (20_000, 100_000))
    return round(seconds / (many - few) * 80_000)


def test_what_a_store_costs(say, tmp_path):
    """Runs of 2 ms with 900 numbers each: in memory and in a store, in turns."""
    level = made(steps_for(2e-3))
    each, memory, stored = seconds_of_a_run(level), [], []
    for number in range(3):
        memory.append(timed(lambda: toy(level, 256))[0])
        stored.append(timed(lambda: toy(level, 256, store=tmp_path / f"{number}.zarr"))[0])  # noqa: B023
    # A store runs one program twice before it begins, to learn how much goes into a block.
    extra = (min(stored) - 128 * each - min(memory)) / min(memory)
    say(
        f"store, 4096 runs of {1e3 * each:.2f} ms: {100 * extra:.1f} % more CPU than in memory "
        f"({', '.join(f'{x:.2f}' for x in stored)} s after "
        f"{', '.join(f'{x:.2f}' for x in memory)} s), load {load()}"
    )
    assert extra < MOST_OVERHEAD


def test_two_processes(say, tmp_path):
    """A sweep of a minute in one process and in two."""
    level = made(steps_for(3e-3))
    seeds, steady = max(8, round(1250 * SHARE)), {}
    for workers in (1, 2):
        path, began = tmp_path / f"{workers}.zarr", time.time()
        toy(level, seeds, store=path, workers=workers)
        ends = sorted(flag.stat().st_mtime for flag in (path / "done").glob("c.[0-9]*"))
        first, last = ends[workers - 1], ends[-1]
        steady[workers] = (len(ends) - workers) / (last - first)
        say(
            f"{workers} processes: {last - began:.1f} s in all, {first - began:.1f} s until each "
            f"had its first block; then {steady[workers]:.2f} blocks/s, load {load()}"
        )
    say(f"two processes over one, once they run: {steady[2] / steady[1]:.2f}")
    if os.getloadavg()[0] < os.cpu_count() + 0.5:  # nobody else is there
        assert steady[2] > 1.7 * steady[1]


@pytest.mark.filterwarnings("ignore")  # Dask leaves sockets open
def test_a_scheduler_whose_blocks_sleep(say, tmp_path, monkeypatch):
    """How many blocks per second Dask's scheduler, the driver and the file system can do."""
    distributed = pytest.importorskip("distributed")
    monkeypatch.setattr(_drive, "SECONDS_PER_BLOCK", 0.0)
    level = made(1)
    spent = []

    def asleep(share, runner, block, progress):
        time.sleep(0.2)
        began = time.thread_time()
        empty = share._empty()
        share._write(block, empty, np.ones(share.description.block, bool), {})
        spent.append(time.thread_time() - began)

    monkeypatch.setattr(_share.Share, "run_block", asleep)
    for threads in (16, 64, 256):
        cluster = distributed.LocalCluster(
            n_workers=1, threads_per_worker=threads, processes=False, dashboard_address=None
        )
        with cluster, distributed.Client(cluster) as client:
            path = tmp_path / f"{threads}.zarr"
            seeds = 4 * max(200, 8 * threads)
            cpu, wall, _ = timed(lambda: toy(level, seeds, store=path, client=client))  # noqa: B023
        blocks = seeds * 16 // 64
        say(
            f"Dask, {threads} threads that sleep 0.2 s in each of {blocks} blocks: "
            f"{blocks / wall:.0f} blocks/s (at most {threads / 0.2:.0f}), CPU "
            f"{1e3 * cpu / blocks:.1f} ms a block, of which {1e3 * np.mean(spent):.1f} ms to write "
            f"its five files; load {load()}"
        )
        assert len(spent) >= blocks


READ = """
import resource, sys, time
began = time.perf_counter()
import learndyn as ld
ds = ld.open_sweep(sys.argv[1])
opened = time.perf_counter()
import matplotlib
matplotlib.use("agg")
ds.seen.isel(seed=0, noise=3, lr=slice(0, 5)).plot.line(x="alpha")
matplotlib.pyplot.savefig(sys.argv[1] + ".png")
print(opened - began, time.perf_counter() - opened, ds.seen.nbytes / 1e9)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
"""


def test_opening_ten_gigabytes(say, tmp_path):
    """One block that was run, linked to as all others: 10 GB by name, 30 MB on disk."""
    pytest.importorskip("matplotlib")

    def level(problem, rule, start, ts, *, key):
        return {"seen": rule.lr * ts + problem.noise + jax.random.normal(key)}

    over = {"lr": np.linspace(0.1, 1.0, 125), "noise": np.linspace(0.0, 0.5, 100)}
    path = tmp_path / "run.zarr"
    ds = ld.sweep(
        level, ld.Problem(), ld.SGD(0.1), None, jnp.linspace(0.0, 1.0, 1000),
        over=over, seeds=100, key=KEY, chunk=64, store=path, shard=(0, 10**6),
    )  # fmt: skip
    blocks = -(-ds.done.size // int(ds.done.sum()))
    for name, end in (("seen", ".0"), ("result", ""), ("done", "")):
        for block in range(1, blocks):
            os.link(path / name / f"c.0{end}", path / name / f"c.{block}{end}")
    arguments = [sys.executable, "-c", READ, str(path)]
    said = subprocess.run(arguments, capture_output=True, text=True, check=True).stdout.split()
    opened, drawn, size, peak = map(float, said)
    say(
        f"a store of {size:.0f} GB ({ds.done.size} runs x 1000 times, {blocks} blocks): opened "
        f"in {opened:.1f} s with imports, a slice of 5 curves drawn in {drawn:.1f} s, peak "
        f"{peak:.2f} GiB, load {load()}"
    )
    assert size >= 10
    assert peak < MOST_MEMORY
