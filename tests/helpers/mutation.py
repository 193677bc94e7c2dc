"""Small faults at random places: which of them would the tests notice? `nox -s mutation`.

cosmic-ray makes the mutants, in a copy of one revision of the repository. A sample, the same for a
seed and spread evenly over six rooms, is tried in random order, so that every beginning of it is a
sample, too. Each mutant meets the tests that reach its line, cheapest first, until one fails. Every
result is kept at once, so a session that was stopped goes on where it was.
"""

import argparse
import ast
import ctypes
import functools
import io
import itertools
import json
import os
import resource
import signal
import subprocess
import sys
import tarfile
import time
import traceback
from pathlib import Path
from typing import NoReturn

import cosmic_ray.plugins
import numpy as np
import pytest
from cosmic_ray.commands.init import init
from cosmic_ray.mutating import mutate_code, use_mutation
from cosmic_ray.work_db import WorkDB, use_db
from cosmic_ray.work_item import MutationSpec
from coverage import CoverageData
from ledger import add, go_on, results
from scipy.stats import binomtest

ROOT = Path(__file__).parent.parent.parent
BUILT = ROOT / "build" / "mutation"
ROOMS = ("integrals", "averages", "dynamics", "asymptotics", "flow", "rules")

LEFT_OUT = (
    *("BitOr", "BitAnd", "BitXor", "LShift", "RShift"),
    *("RemoveDecorator", "ZeroIterationForLoop"),
)
"""Parts of names of operators. Floats refuse those of bits, so whatever test reaches the line would
see them, and `|` stands in annotations; decorators of shapes are checked by type checkers; loops
over nothing stop at once."""

TESTS = {
    "integrals": (
        *("integrals", "relu", "orthants", "piecewise_linear", "leaky_relu", "mixed", "special"),
        *("series", "scaled_erf", "averages", "survivors"),
    ),
    "averages": (
        *("averages", "symmetric_nodes", "one_unit", "smoothness", "mixed", "series"),
        *("piecewise_linear", "leaky_relu", "groups", "jumps", "pairs", "survivors"),
    ),
    "dynamics": (
        *("ode", "chain", "sgd", "langevin", "fluctuations", "trajectory", "grouped_chain"),
        *("groups", "stiff_groups", "initial", "inputs", "states", "tasks", "continue", "random"),
        *("weight_perturbation", "invalid_input", "rates_and_spheres", "pairs", "survivors"),
    ),
    "asymptotics": ("asymptotics", "one_unit", "survivors"),
    "flow": ("flow", "pairs_flow", "survivors"),
    "rules": (
        *("rules", "learning_rules", "local_rules", "weight_perturbation", "rates_and_spheres"),
        *("groups", "pairs", "survivors"),
    ),
}
"""Beginnings of names of test files that each room's mutants meet. The others look at rooms above:
they would reach most lines at a high price."""

LONGEST = 7200
"""Seconds by the clock after which a mutant is taken to wait for ever. What computes for ever is
stopped by its CPU seconds; by the clock, a busy machine may take long over an honest run."""

UNREACHED, TOO_LONG = "no test reaches it", "a file of tests took too long"
"""What is said of a mutant that no test could notice, and of one that is undecided."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mutants", type=int, default=204, help="size of the sample")
    parser.add_argument("--seed", type=int, default=0, help="which sample")
    parser.add_argument("--revision", default="HEAD", help="the code and the tests that are tried")
    parser.add_argument(
        "--seconds", type=float, default=60.0, help="of CPU for each mutant's tests"
    )
    parser.add_argument("--again", action="store_true", help="try those that survived again")
    parser.add_argument("--measure", action="store_true", help="first see what each test reaches")
    parser.add_argument("--control", action="store_true", help="run what killed without a fault")
    parser.add_argument("--report", action="store_true", help="say what is known, and stop")
    options = parser.parse_args()
    folder = BUILT / revision(options.revision)
    found = folder / f"seed-{options.seed}.jsonl"
    if not options.report:
        go_to(copy_of(options.revision, folder))
        load_what_tests_load()
        reached = Reached(folder)
        if options.control:
            return control(results(found), folder)
        if options.measure:
            reached.measure_all()
        by_name = {name_of(x): x for x in sample(folder, options.mutants, options.seed)}
        tried = lambda name: attempt(by_name[name], reached, options.seconds)
        if options.again:
            for name in [x for x, result in results(found).items() if not result["killed"]]:
                add(found, name, tried(name))
        go_on(found, by_name, tried)
    report(results(found))


# A copy of the repository, and pytest in it


def revision(name: str) -> str:
    command = ["git", "rev-parse", "--short=10", name]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()


def copy_of(name: str, folder: Path) -> Path:
    """That revision's files, written again at each start: a fault that a kill left behind goes."""
    tree = folder / "tree"
    is_new = not tree.exists()
    packed = subprocess.run(["git", "archive", name], cwd=ROOT, capture_output=True, check=True)
    with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as archive:
        archive.extractall(tree, filter="data")
    if is_new:
        # Python compares these with the source itself: the time of a file says too little here.
        compiled = ("--invalidation-mode", "checked-hash", "-q", str(tree / "src"))
        subprocess.run([sys.executable, "-m", "compileall", *compiled], check=True)
    return tree


def go_to(tree: Path) -> None:
    os.chdir(tree)
    sys.path.insert(0, str(tree / "src"))
    sys.dont_write_bytecode = True
    os.environ |= {"PYTHONPATH": str(tree / "src"), "PYTHONDONTWRITEBYTECODE": "1"}


def load_what_tests_load() -> None:
    """Seconds of imports that the copies of this process then need not do; nothing that computes,
    since threads do not survive the copying."""
    import diffrax  # noqa: F401
    import hypothesis  # noqa: F401
    import optax  # noqa: F401
    import optimistix  # noqa: F401
    import scipy.integrate  # noqa: F401
    import xarray  # noqa: F401


class Recorder:
    """What a run of pytest says of each test: CPU seconds, and whether it passed."""

    def __init__(self):
        self.seconds, self.outcomes = {}, {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item):
        began = time.process_time()
        result = yield
        self.seconds[item.nodeid] = time.process_time() - began
        return result

    def pytest_runtest_logreport(self, report):
        if report.when == "call" or report.outcome != "passed":
            self.outcomes[report.nodeid] = report.outcome


def run_pytest(folder: Path, arguments: list[str], limit: float) -> tuple[str, dict]:
    """How pytest ended in a copy of this process, and each test's seconds and outcome.

    limit: CPU seconds after which the copy is stopped.
    """
    told = folder / "told.json"
    told.unlink(missing_ok=True)
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        _be_the_copy(folder / "pytest.log", told, arguments, limit)
    _, status = os.waitpid(child, 0)
    if not told.exists():
        return "stopped", {}
    tests = json.loads(told.read_text())
    # A file whose tests all run at night has none to fail.
    fine = (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)
    return ("passed" if os.waitstatus_to_exitcode(status) in fine else "failed"), tests


def _be_the_copy(log: Path, told: Path, arguments: list[str], limit: float) -> NoReturn:
    code = 70
    try:
        # Whoever stops this session stops its copies.
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
        seconds = int(limit)
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 5))
        signal.alarm(LONGEST)
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(output, 1)
        os.dup2(output, 2)
        plain = ("-o", "addopts=", "--import-mode=importlib", "-q", "-p", "no:cacheprovider")
        # Plugins of libraries that this process has loaded
        plain += ("-W", "ignore::pytest.PytestAssertRewriteWarning")
        recorder = Recorder()
        code = int(pytest.main([*plain, *arguments], plugins=[recorder]))
        tests = {x: (s, recorder.outcomes.get(x, "")) for x, s in recorder.seconds.items()}
        told.write_text(json.dumps(tests))
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


# Which tests reach a line, and what they cost


class Reached:
    """Which tests reach a line, by contexts of coverage, of the files that have been measured."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._measured: dict[str, tuple[CoverageData, dict]] = {}

    def files_of(self, mutation: MutationSpec) -> list[str]:
        """Those of the room, first the ones named after words of the module's path."""
        room = Path(mutation.module_path).parts[2]
        found = sorted(str(x) for x in Path("tests").glob("test_*.py"))
        names = [x for x in found if x.removeprefix("tests/test_").startswith(TESTS[room])]
        return sorted(names, key=lambda file: -nearness(mutation, file))

    def tests_of(self, mutation: MutationSpec, file: str) -> tuple[list[str], list[str]]:
        """Those of this file whose own lines they are, then its others, which may live on what the
        first have compiled or prepared; each group by price. Where none reaches it, both are empty.

        The lines of a statement count as one. What runs at the import is that of all tests of its
        module.
        """
        data, prices = self._of(file)
        by_line = _by_line(data, str(Path.cwd() / mutation.module_path))
        run = [by_line[line] for line in lines_of_statement(mutation) if line in by_line]
        found = {name for names in run for name in names} - {""}
        if run and not found:
            found = {name for names in by_line.values() for name in names} - {""}
        reaching = {name.rpartition("|")[0] for name in found} & set(prices)
        order = lambda names: sorted(names, key=lambda name: (prices[name], name))
        return order(reaching), order(set(prices) - reaching) if reaching else []

    def price(self, test: str) -> float:
        return self._of(test.partition("::")[0])[1][test]

    def within(self, tests: list[str], most: float) -> list[str]:
        """The first of them that cost `most` CPU seconds together, and one at least."""
        total = np.cumsum([self.price(name) for name in tests])
        return tests[: max(1, int(np.searchsorted(total, most)))]

    def has(self, file: str) -> bool:
        return self._path(file).exists()

    def _path(self, file: str) -> Path:
        return self.folder / f"coverage-{Path(file).stem}.sqlite"

    def _of(self, file: str) -> tuple[CoverageData, dict[str, float]]:
        """Contexts of a file, and the CPU seconds of its tests that pass."""
        if file not in self._measured:
            path = self._path(file)
            tests = json.loads(path.with_suffix(".json").read_text())
            prices = {name: s for name, (s, outcome) in tests.items() if outcome == "passed"}
            data = CoverageData(str(path))
            data.read()
            self._measured[file] = data, prices
        return self._measured[file]

    def measure_all(self) -> None:
        """A long run, kept file by file."""
        for path in sorted(Path("tests").glob("test_*.py")):
            beginnings = tuple(name for names in TESTS.values() for name in names)
            wanted = path.stem.removeprefix("test_").startswith(beginnings)
            if wanted and not self.has(str(path)):
                self.measure(str(path))

    def measure(self, file: str) -> None:
        path = self._path(file)
        part = path.with_suffix(".part")
        part.unlink(missing_ok=True)
        os.environ["COVERAGE_FILE"] = str(part)
        measured = ["--cov=learndyn", "--cov-context=test", "--cov-report=", file]
        ended, tests = run_pytest(self.folder, measured, limit=3600)
        if ended == "stopped":
            raise RuntimeError(f"{file} must end before it says anything; see pytest.log.")
        path.with_suffix(".json").write_text(json.dumps(tests))
        failed = [name for name, (_, outcome) in tests.items() if outcome == "failed"]
        seconds = sum(seconds for seconds, _ in tests.values())
        print(f"{file}: {ended}, {len(tests)} tests, {seconds:.0f} s, {failed}", flush=True)
        part.rename(path)


@functools.cache
def _by_line(reached: CoverageData, path: str) -> dict[int, list[str]]:
    """Names of tests by line."""
    return reached.contexts_by_lineno(path)


def lines_of_statement(mutation: MutationSpec) -> range:
    """The lines of the innermost statement at a mutant's place: of one that has others within,
    those of its head, with decorators."""
    line, found = mutation.start_pos[0], range(0)
    for node in ast.walk(ast.parse(Path(mutation.module_path).read_text())):
        if isinstance(node, ast.stmt):
            first = min(x.lineno for x in (node, *getattr(node, "decorator_list", ())))
            body = getattr(node, "body", None)
            lines = range(first, body[0].lineno if body else node.end_lineno + 1)
            if line in lines and (not found or len(lines) < len(found)):
                found = lines
    return found or range(line, line + 1)


# Mutants


def sample(folder: Path, size: int, seed: int) -> list[MutationSpec]:
    """As many mutants of each room, at random places, in random order. Of a larger sample a
    smaller one is the beginning."""
    orders = []
    for place, room in enumerate(ROOMS):
        items = mutants_of(folder, room)
        order = np.random.default_rng((seed, place)).permutation(len(items))
        orders.append(filter(is_python, [items[i] for i in order]))
    turns = itertools.chain.from_iterable(zip(*orders, strict=False))
    return list(itertools.islice(turns, size))


def is_python(mutation: MutationSpec) -> bool:
    """False where, say, the `*` of a signature became `**`: every test would notice that."""
    operator = cosmic_ray.plugins.get_operator(mutation.operator_name)()
    code = mutate_code(Path(mutation.module_path).read_text(), operator, mutation.occurrence)
    try:
        compile(code or "", "mutant", "exec")
    except SyntaxError:
        return False
    return True


def mutants_of(folder: Path, room: str) -> list[MutationSpec]:
    """All of them, found once: that takes minutes."""
    path = folder / f"all-{room}.json"
    if not path.exists():
        part, database = path.with_suffix(".part"), folder / "all.sqlite"
        database.unlink(missing_ok=True)
        with use_db(database, WorkDB.Mode.create) as session:
            init(sorted(Path(f"src/learndyn/{room}").rglob("*.py")), session, {})
            items = [item.mutations[0] for item in session.work_items]
        # A hundred times faster to read than the database
        part.write_text(json.dumps([[str(x.module_path), *_place(x)] for x in items]))
        part.rename(path)
    items = [MutationSpec(*row) for row in json.loads(path.read_text())]
    kept = [x for x in items if not any(part in x.operator_name for part in LEFT_OUT)]
    return sorted(kept, key=name_of)


def _place(x: MutationSpec) -> tuple:
    return x.operator_name, x.occurrence, x.start_pos, x.end_pos


def name_of(mutation: MutationSpec) -> str:
    line, operator = mutation.start_pos[0], mutation.operator_name.removeprefix("core/")
    return f"{mutation.module_path}:{line} {operator} {mutation.occurrence}"


def attempt(mutation: MutationSpec, reached: Reached, dearest: float) -> dict:
    """Run the tests that reach the mutant's line, until one fails; without any, it survives.

    dearest: CPU seconds for all of them.
    """
    operator = cosmic_ray.plugins.get_operator(mutation.operator_name)()
    path, began, spent, tried = Path(mutation.module_path), time.time(), 0.0, 0
    by, change, too_long = None, [], False
    for tests in turns_of(mutation, reached):
        if spent >= dearest:
            break
        known = "::" in tests[0]
        tests = reached.within(tests, dearest - spent) if known else tests
        price = sum(map(reached.price, tests)) if known else dearest - spent
        limit = 60 + 3 * price if known else price
        with use_mutation(path, operator, mutation.occurrence) as texts:
            ended, seen = run_pytest(reached.folder, ["-x", *tests], limit)
            change = changed_lines(*texts)
        seconds = sum(seconds for seconds, _ in seen.values())
        spent, tried = spent + (seconds if seen else dearest), tried + len(seen)
        by = [name for name, (_, outcome) in seen.items() if outcome == "failed"]
        # What was stopped may be an endless loop, but also a file that takes long.
        if by or (ended == "failed") or (ended == "stopped" and known):
            by = by or [f"{tests[0]} {ended}"]
            break
        by, too_long = None, ended == "stopped"
    result = {
        "killed": by is not None,
        "by": by,
        "change": change,
        "tests": TOO_LONG if too_long else tried or ("none was collected" if by else UNREACHED),
        "seconds": round(time.time() - began),
        "cpu": round(spent, 1),
    }
    print(name_of(mutation), json.dumps(result), flush=True)
    return result


def turns_of(mutation: MutationSpec, reached: Reached) -> list[list[str]]:
    """What to run, one after the other: the tests that reach the line, of all files together, for
    each start of pytest takes seconds; then the other tests of these files. Files that are not
    measured are run, as a whole, in between where they are named after the module, and all of them
    where no test of the others reaches the line."""
    files = reached.files_of(mutation)
    pairs = {file: reached.tests_of(mutation, file) for file in files if reached.has(file)}
    cost = lambda file: sum(map(reached.price, pairs[file][0]))
    order = sorted(pairs, key=lambda file: (-nearness(mutation, file), cost(file)))
    reaching = [name for file in order for name in pairs[file][0]]
    whole = [file for file in files if file not in pairs]
    if reaching:
        whole = [file for file in whole if nearness(mutation, file)]
    others = [pairs[file][1] for file in order]
    return [tests for tests in [reaching, *([file] for file in whole), *others] if tests]


def nearness(mutation: MutationSpec, file: str) -> int:
    """How many words of the module's path are in the name of a file of tests."""
    parts = Path(mutation.module_path).with_suffix("").parts[2:]
    words = {word for part in parts for word in part.strip("_").split("_")}
    return len(words & set(Path(file).stem.split("_")))


def control(found: dict[str, dict], folder: Path) -> None:
    """Run the tests that killed mutants, without a fault: whichever fails then proves nothing."""
    killers = {name for result in found.values() for name in result["by"] or () if "::" in name}
    ended, seen = run_pytest(folder, sorted(killers), limit=3600)
    wrong = [name for name in killers if seen.get(name, (0, ""))[1] != "passed"]
    print(
        f"control: {ended}; of {len(killers)} tests that killed, these fail by themselves: {wrong}"
    )


def changed_lines(before: str, after: str) -> list[str]:
    pairs = zip(before.splitlines(), after.splitlines(), strict=False)
    return [x.strip() for pair in pairs if pair[0] != pair[1] for x in pair]


def report(found: dict[str, dict]) -> None:
    """The rate of killed mutants with Wilson's interval, by room, and the survivors."""
    groups = {room: [x for x in found if f"learndyn/{room}/" in x] for room in ROOMS}
    groups["together"] = list(found)
    groups["where a test reaches"] = [x for x in found if found[x]["tests"] != UNREACHED]
    for group, names in groups.items():
        if names:
            count, size = sum(found[name]["killed"] for name in names), len(names)
            low, high = binomtest(count, size).proportion_ci(method="wilson")
            print(f"{group}: {count} of {size} killed, 95 % interval {low:.0%} to {high:.0%}")
    for name, result in found.items():
        if not result["killed"]:
            print(f"\nsurvived {result['tests']}: {name}", *result["change"], sep="\n    ")


if __name__ == "__main__":
    main()
