"""A process that does its share of a sweep and may be killed at any time.

`python sweep_survivor.py STORE LOG NUMBER COUNT`: COUNT is 1 for a driver of the whole sweep, and 0
for one whose blocks two Dask workers run. LOG gets a line for each block that is begun here, and
says so where its flag was there already.
"""

import contextlib
import sys
from pathlib import Path

import jax
import jax.numpy as jnp

import learndyn as ld
from learndyn.sweeps.store import _drive, _share

OVER = {"lr": [0.01 * i for i in range(1, 31)], "noise": [0.0, 0.1, 0.2, 0.3]}
SEEDS, CHUNK, BLOCKS = 4, 2, 240


def level(problem, rule, start, ts, *, key):
    """A few milliseconds of work."""
    step = lambda _, x: jnp.sin(3.0 * x + rule.lr) + problem.noise
    x = jax.lax.fori_loop(0, 30_000, step, jax.random.normal(key, (4,)))
    return {"seen": x * ts[:, None]}


@contextlib.contextmanager
def two_workers():
    """A client of a cluster that dies with this process."""
    import dask
    import distributed

    # By default a cluster gives up a place whose process is not back after 15 s.
    dask.config.set({"distributed.deploy.lost-worker-timeout": "300s"})
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster) as client:
        yield client


def main(store, log, number, count):
    jax.config.update("jax_enable_x64", True)
    _drive.SECONDS_PER_BLOCK = 0.0  # one program each
    run_block = _share.Share.run_block

    def logged(share, runner, block, bar):
        is_done = (Path(store) / "done" / f"c.{block}").exists()
        with Path(log).open("a", encoding="utf-8") as file:
            file.write(f"{block} {'twice' if is_done else 'once'}\n")
        run_block(share, runner, block, bar)

    _share.Share.run_block = logged
    start = ld.Overlaps(Q=[[0.5]], R=[[0.1]], T=[[1.0]])
    shard = (int(number), int(count)) if int(count) > 1 else None
    with two_workers() if int(count) == 0 else contextlib.nullcontext() as client:
        ld.sweep(
            level,
            ld.Problem(),
            ld.SGD(lr=0.1),
            start,
            jnp.linspace(0.0, 1.0, 5),
            over=OVER,
            seeds=SEEDS,
            key=jax.random.key(1),
            chunk=CHUNK,
            store=store,
            shard=shard,
            client=client,
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
