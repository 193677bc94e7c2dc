"""How often does a true claim fail? The whole suite over many seeds: `nox -s false_alarms`.

At most 1 % of runs of the whole suite may fail by chance. So out of many runs with different
seeds hardly any should: where more do than that rate explains, some claim's statistics are wrong.
"""

import argparse
import subprocess
import sys
from pathlib import Path

import xarray as xr
from scipy import stats

ROOT = Path(__file__).parent.parent
STATED = 0.01
"""Probability that at least one true claim of a whole run fails."""
LEVEL = 0.01
"""Of the test that more runs fail than that."""


def main() -> int:
    """Returns 1 where the stated rate is refuted, else 0."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20, help="how many runs")
    parser.add_argument("--first", type=int, default=1000, help="the first seed")
    parser.add_argument("--profile", default="quick", help="size of the claims")
    parser.add_argument("--output", type=Path, default=ROOT / "results" / "false_alarms")
    options = parser.parse_args()
    seeds = range(options.first, options.first + options.seeds)
    failures = {seed: run(seed, options.profile, options.output / str(seed)) for seed in seeds}
    alarms = sum(bool(names) for names in failures.values())
    found = stats.binomtest(alarms, options.seeds, STATED, alternative="greater")
    interval = stats.binomtest(alarms, options.seeds).proportion_ci(0.95)
    print(
        f"{alarms} of {options.seeds} runs had a failing claim; 95 % interval of the rate "
        f"{interval.low:.3f} to {interval.high:.3f}, stated {STATED}, p = {found.pvalue:.3g}."
    )
    return int(found.pvalue < LEVEL)


def run(seed: int, profile: str, output: Path) -> list[str]:
    """The claims that fail with this seed; what was measured before is used again.

    Raises: RuntimeError where the run broke down instead of ending with verdicts.
    """
    options = ["-o", "addopts=", "--import-mode=importlib", "-q", "-n", "2", "--dist", "worksteal"]
    options += ["--profile", profile, "--seed", str(seed), "--output", str(output)]
    command = [sys.executable, "-m", "pytest", *options, "validation"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if ended.returncode not in (0, 1):
        raise RuntimeError(f"seed {seed} broke down:\n{ended.stdout[-2000:]}{ended.stderr[-2000:]}")
    card = xr.load_dataset(output / "scorecard.nc", engine="h5netcdf")
    failed = [str(name) for name in card.claim.values[~(card.passed & card.control_rejected)]]
    if ended.returncode == 1 and not failed:
        raise RuntimeError(f"seed {seed}: a test failed without a verdict:\n{ended.stdout[-3000:]}")
    print(f"seed {seed}: {', '.join(failed) or 'all claims hold'}", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())
