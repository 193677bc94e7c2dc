"""How often does a true claim fail? The whole suite over many seeds: `nox -s false_alarms`.

At most 1 % of runs of the whole suite may fail by chance. So out of many runs with different
seeds hardly any should: where more do than that rate explains, some claim's statistics are wrong.
Each process takes one seed after the other, whose numbers are data: so it compiles once.
"""

import argparse
import json
import multiprocessing
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest
import xarray as xr
from scipy import stats

from learndyn import claims

ROOT = Path(__file__).parent.parent.parent
STATED = claims.BUDGET
"""The stated probability that at least one true claim of a whole run fails."""
LEVEL = 0.01
"""Level of the test that more runs fail than that: it refutes a true rate once in a hundred."""
NOTICED = 5 * STATED
"""A rate so far above the stated one that it should not go unnoticed; the power of the test is
printed for it."""


INTERRUPTED = 130
"""The exit code after Ctrl-C: 128 + SIGINT, as shells have it."""


class Ended(NamedTuple):
    """How a run ended.

    failed: its claims that do not hold or crashed, and tests without a verdict, by name.
    over_budget: whether true claims were likelier to fail than stated, whatever the verdicts.
    """

    failed: list[str]
    over_budget: bool


def main() -> int:
    """Returns 1 where the stated rate is refuted, 130 after Ctrl-C, else 0."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20, help="how many runs")
    parser.add_argument("--first", type=int, default=1000, help="the first seed")
    parser.add_argument("--profile", default="quick", help="size of the claims")
    parser.add_argument("--jobs", type=int, default=2, help="processes side by side")
    parser.add_argument("--output", type=Path, default=ROOT / "results" / "false_alarms")
    options = parser.parse_args()
    seeds = range(options.first, options.first + options.seeds)
    # Forked processes would hang: JAX has threads.
    pool = ProcessPoolExecutor(options.jobs, multiprocessing.get_context("spawn"))
    try:
        where = [options.output.resolve() / str(seed) for seed in seeds]
        found = pool.map(run, seeds, [options.profile] * len(seeds), where)
        runs = [told(seed, ended) for seed, ended in zip(seeds, found, strict=True)]
        pool.shutdown()
    except KeyboardInterrupt:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in multiprocessing.active_children():  # pytest may hold the interrupt back
            process.kill()
        print(f"interrupted: what is finished is in {options.output}; run it again to go on.")
        return INTERRUPTED
    alarms = sum(bool(one.failed) or one.over_budget for one in runs)
    found = stats.binomtest(alarms, options.seeds, STATED, alternative="greater")
    interval = stats.binomtest(alarms, options.seeds).proportion_ci(0.95)
    print(
        f"{alarms} of {options.seeds} runs failed; 95 % interval of the rate "
        f"{interval.low:.3f} to {interval.high:.3f}, stated {STATED}, p = {found.pvalue:.3g}."
    )
    noticed = stats.binom.sf(_most_by_chance(options.seeds), options.seeds, NOTICED)
    print(f"A rate of {NOTICED:.0%} would be noticed with probability {noticed:.2f}.")
    over = sum(one.over_budget for one in runs)
    if over:
        print(f"{over} of them had true claims that were likelier than {STATED:.0%} to fail.")
    return int(found.pvalue < LEVEL)


def _most_by_chance(seeds: int) -> int:
    """The most failed runs that do not refute the stated rate."""
    return int(stats.binom.isf(LEVEL, seeds, STATED))


def run(seed: int, profile: str, output: Path) -> Ended:
    """The whole suite with this seed, in this process; what was measured before is used again.

    Raises: RuntimeError where the run broke down instead of ending with verdicts.
    """
    output.mkdir(parents=True, exist_ok=True)
    log = output / "pytest.log"
    options = ["-o", "addopts=", "--import-mode=importlib", "-q", "-p", "no:cacheprovider"]
    options += ["--profile", profile, "--seed", str(seed), "--output", str(output)]
    # Of what this process has imported already
    options += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
    os.chdir(ROOT)
    with log.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        code = pytest.main([*options, "validation"])
        sys.stdout.flush()
    if code not in (0, 1):
        raise RuntimeError(f"seed {seed} broke down:\n{log.read_text()[-3000:]}")
    found = read(xr.load_dataset(output / "scorecard.nc", engine="h5netcdf"))
    if code == 1 and not (found.failed or found.over_budget):
        raise RuntimeError(f"seed {seed} failed and does not say why:\n{log.read_text()[-3000:]}")
    return found


def told(seed: int, found: Ended) -> Ended:
    print(f"seed {seed}: {', '.join(found.failed) or 'all claims hold'}", flush=True)
    if found.over_budget:
        print(f"seed {seed}: its true claims were likelier than {STATED:.0%} to fail", flush=True)
    return found


def read(card: xr.Dataset) -> Ended:
    """How the run of a scorecard ended."""
    bad = card.sel(claim=~(card.passed & card.control_rejected))
    failed = [
        f"{name} (crashed)" if crashed else str(name)
        for name, crashed in zip(bad.claim.values, bad.crashed.values, strict=True)
    ]
    failed += [f"{name} (no verdict)" for name in json.loads(card.broken)]
    return Ended(failed, claims.alarm(card) > STATED)


if __name__ == "__main__":
    sys.exit(main())
