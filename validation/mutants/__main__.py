"""Run the mutants, two at a time, and write the table: `python -m validation.mutants`."""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import xarray as xr
from validation.lab.sources import shared_sources
from validation.mutants import Mutant, load

from learndyn import claims
from learndyn._progress import progress_bar

ROOT = Path(__file__).parent.parent.parent
SOURCES = shared_sources()
"""Digest of the code that faults are put into: attempts on other code say nothing about this."""


INTERRUPTED = 130
"""The exit code after Ctrl-C: 128 + SIGINT, as shells have it."""


def main() -> int:
    """Returns 0; 1 where a mutant got away; 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="only these")
    parser.add_argument("--profile", default="standard", help="size of the claims")
    parser.add_argument("--jobs", type=int, default=2, help="processes side by side")
    parser.add_argument("--output", type=Path, default=ROOT / "results" / "validation")
    options = parser.parse_args()
    mutants = load()
    unknown = set(options.names) - set(mutants)
    if unknown:
        parser.error(f"unknown mutants {sorted(unknown)}; there are {sorted(mutants)}")
    chosen = [mutants[name] for name in options.names or mutants]
    rows = finished(chosen, lambda one: attempt(one, options.output, options.profile), options.jobs)
    interrupted = len(rows) < len(chosen)
    path = options.output / "mutants.nc"
    # tried earlier on the same code
    before = _stored(path) if options.names or interrupted else {}
    found = before | {row["mutant"]: row for row in rows}
    if not found:
        print("interrupted: no mutant was tried to its end, so nothing is written.")
        return INTERRUPTED
    to_dataset([found[name] for name in mutants if name in found]).to_netcdf(
        path, engine="h5netcdf"
    )
    claims.build(options.output)
    caught = sum(row["caught"] for row in rows)
    stopped = f"interrupted: {len(rows)} of {len(chosen)} mutants were tried; " * interrupted
    print(f"{stopped}{caught} of {len(rows)} mutants caught.")
    return INTERRUPTED if interrupted else min(len(rows) - caught, 1)


def finished(chosen: list[Mutant], attempt: Callable[[Mutant], dict], jobs: int) -> list[dict]:
    """The rows of all mutants; where Ctrl-C comes in between, of those that were finished.

    Its processes hear Ctrl-C as well and end; no further one is started.
    """
    rows = []
    pool = ThreadPoolExecutor(jobs)
    try:
        tried = [pool.submit(attempt, one) for one in chosen]
        with progress_bar(None, total=len(chosen), unit="mutant", title="mutants") as bar:
            for one in as_completed(tried):
                rows.append(one.result())
                bar.update(1)
    except KeyboardInterrupt:
        pass
    finally:
        pool.shutdown(cancel_futures=True)
    return rows


def attempt(mutant: Mutant, output: Path, profile: str) -> dict:
    """Run the mutant's claims in a separate process, until one of them fails."""
    folder = output / "mutants" / mutant.name
    shutil.rmtree(folder, ignore_errors=True)  # what an earlier attempt found is no verdict
    folder.mkdir(parents=True)
    arguments = [word for claim in mutant.claims for word in claim.split()]
    options = ["-o", "addopts=", "--import-mode=importlib", "-q", "-x", "--fresh"]
    options += ["--profile", profile, "--output", str(folder), "--mutant", mutant.name]
    started = time.perf_counter()
    run = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *arguments],
        cwd=ROOT,
        env=os.environ | {"JAX_ENABLE_COMPILATION_CACHE": "false"},
        capture_output=True,
        text=True,
        check=False,
    )
    (folder / "output.txt").write_text(run.stdout + run.stderr)
    failed = _failed(folder)
    row = {
        "mutant": mutant.name,
        "fault": mutant.fault,
        "caught": run.returncode == 1 and bool(failed),
        "by": ", ".join(failed),
        "seconds": time.perf_counter() - started,
        "sources": SOURCES,
    }
    word = f"caught by {row['by']}" if row["caught"] else "GOT AWAY"
    word = "interrupted" if run.returncode in (INTERRUPTED, -signal.SIGINT) else word
    print(f"{mutant.name}: {word} ({row['seconds']:.0f} s)", flush=True)
    return row


def _failed(folder: Path) -> list[str]:
    """Claims that were measured and do not hold: a crash is not a verdict."""
    failed = []
    for path in sorted((folder / "data").glob("*.nc")):
        with xr.open_dataset(path, engine="h5netcdf") as dataset:
            if "verdict" in dataset.attrs:
                claim, verdict = claims.from_attributes(dataset.attrs)
                if not verdict.passed:
                    failed.append(claim.id)
    return failed


def _stored(path: Path) -> dict[str, dict]:
    """The rows of an earlier table that are of this code, by name."""
    if not path.exists():
        return {}
    with xr.open_dataset(path, engine="h5netcdf") as table:
        columns = {str(name): table[name].values.tolist() for name in table}
        names = table.mutant.values.tolist()
    rows = [
        {"mutant": name} | {key: values[i] for key, values in columns.items()}
        for i, name in enumerate(names)
    ]
    return {row["mutant"]: row for row in rows if row.get("sources") == SOURCES}


def to_dataset(rows: list[dict]) -> xr.Dataset:
    """The table: dimension `mutant`; variables fault, caught, by, seconds."""
    columns = {name: ("mutant", [row[name] for row in rows]) for name in rows[0]}
    names = columns.pop("mutant")
    return xr.Dataset(columns, coords={"mutant": names})


if __name__ == "__main__":
    sys.exit(main())
