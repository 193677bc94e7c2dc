# /// script
# dependencies = ["nox>=2025.2.9"]
# ///
"""Everything one does with this repository. `nox -l` lists it; `nox -s NAME -- ARGS` runs it.

A session installs all it needs, so `pip install nox` is the only step before it.
"""

import os
import shutil
import subprocess
from pathlib import Path

import nox

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.reuse_venv = "yes"
nox.options.sessions = ["tests"]

ROOT = Path(__file__).parent
PROJECT = nox.project.load_toml(ROOT / "pyproject.toml")
CACHE = ROOT / ".cache"

# uv leaves it to the first import, which every process of a session would then do for itself.
os.environ.setdefault("UV_COMPILE_BYTECODE", "1")


@nox.session
def tests(session: nox.Session) -> None:
    """Lint, then run the tests: does the code compute its formulas? On the CPU, in float64."""
    session.install("-e", ".[sweep,plot,images]", *groups("test", "lint"))
    check_style(session)
    # One file stays in one process, so that its tests share compiled programs. At most four:
    # each process compiles and holds its own programs.
    workers = ("-n", "logical", "--maxprocesses", "4", "--dist", "loadfile")
    session.run("pytest", *workers, *session.posargs, env=cpu() | one_thread() | stored())


@nox.session(default=False)
def nightly(session: nox.Session) -> None:
    """Run the tests that are too dear for every change."""
    session.install("-e", ".[cluster,plot,images]", *groups("test"))
    workers = ("-n", "logical", "--maxprocesses", "4", "--dist", "loadfile")
    session.run("pytest", "--nightly", *workers, *session.posargs, env=cpu() | one_thread())


@nox.session
def validate(session: nox.Session) -> None:
    """Does the theory describe the world? Writes results/validation; uses a GPU if there is one.

    `nox -s validate -- --profile quick --seed 7`; the options are those of validation/conftest.py.
    LEARNDYN_ACCELERATOR=cpu, cuda12 or cuda13 overrides the choice of machine.
    """
    device = accelerator(session)
    extras = "sweep,plot,images,report" if device == "cpu" else f"sweep,plot,images,report,{device}"
    session.install("-e", f".[{extras}]", *groups("validate"))
    env = cpu() | one_thread() if device == "cpu" else gpu() | shared_gpu() | one_thread()
    # Two processes, because a run of SGD keeps one core busy, each with half of the files, whose
    # claims share compiled programs. Beside a GPU up to twelve, for it is what compiles and solves
    # on the CPU that takes the time there. Run-time shape checks are for tests: `addopts` switches
    # them on.
    workers = ("-n", "2") if device == "cpu" else ("-n", "logical", "--maxprocesses", "12")
    workers += ("--dist", "worksteal")
    arguments = ("-o", "addopts=", "--import-mode=importlib", *workers)
    arguments += (*targets("validation", session), *session.posargs)
    session.run("pytest", *arguments, env=env | cached())


@nox.session(default=False)
def mutants(session: nox.Session) -> None:
    """Put deliberate faults into the code: each must make a claim fail. Adds to the report.

    `nox -s mutants -- chain-norm` tries one; without names, all of validation/mutants.
    """
    session.install("-e", ".[sweep,plot,images,report]", *groups("validate"))
    environment = cpu() | one_thread()
    session.run("python", "-m", "validation.mutants", *session.posargs, env=environment)


@nox.session(default=False)
def false_alarms(session: nox.Session) -> None:
    """Run the whole validation with many seeds: do true claims fail as rarely as stated?

    `nox -s false_alarms -- --seeds 50 --profile standard`, for a night.
    """
    session.install("-e", ".[sweep,plot,images,report]", *groups("validate"))
    environment = cpu() | one_thread() | cached()
    session.run("python", "-m", "validation.lab.false_alarms", *session.posargs, env=environment)


@nox.session(default=False)
def mutation(session: nox.Session) -> None:
    """Put small faults at random places: would the tests notice? Goes on where it was stopped.

    `nox -s mutation -- --mutants 204 --seed 1` takes another sample; hours. Faults are put into a
    copy of one revision, in build/mutation; `-- --report` says what is known.
    """
    session.install("-e", ".[sweep,plot,images]", *groups("mutation"))
    # What a mutant does not change is compiled once for all.
    environment = cpu() | one_thread() | cached()
    session.run("python", "tests/helpers/mutation.py", *session.posargs, env=environment)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, formatting and the ladder of imports. Arguments go to ruff check."""
    session.install(*groups("lint"))
    check_style(session, *session.posargs)


@nox.session(default=False)
def format(session: nox.Session) -> None:
    """Format the code and repair what ruff can repair."""
    session.install(*groups("lint"))
    session.run("ruff", "check", "--fix", *session.posargs, success_codes=[0, 1])
    session.run("ruff", "format", *session.posargs)


@nox.session(default=False)
def typecheck(session: nox.Session) -> None:
    """Check types with pyright."""
    session.install("-e", ".[sweep,plot,images]", *groups("validate", "typecheck"))
    session.run("pyright", *session.posargs)


@nox.session(default=False)
def bench(session: nox.Session) -> None:
    """Measure speed, with the answers asserted. On the default device; not in parallel."""
    device = accelerator(session)
    extras = "sweep" if device == "cpu" else f"sweep,{device}"
    session.install("-e", f".[{extras}]", *groups("bench"))
    env = cpu() if device == "cpu" else gpu()
    # Run-time shape checks are for tests: `addopts` switches them on, so it is emptied here.
    plain = ("-o", "addopts=", "--import-mode=importlib")
    arguments = (*plain, *targets("benchmarks", session), *session.posargs)
    session.run("pytest", *arguments, env=env | {"EQX_ON_ERROR": "nan"})


@nox.session(default=False)
def notebooks(session: nox.Session) -> None:
    """Run the notebooks from top to bottom; what they draw is left in build/notebooks."""
    session.install("-e", ".[notebooks]", *groups("notebooks"))
    built = ROOT / "build" / "notebooks"
    built.mkdir(parents=True, exist_ok=True)
    for script in sorted((ROOT / "notebooks").glob("*.py")):
        output = built / script.with_suffix(".ipynb").name
        session.run("jupytext", "--to", "ipynb", "--output", str(output), str(script), silent=True)
    arguments = ("-o", "addopts=", "--nbmake", "--nbmake-timeout=900", "--overwrite")
    workers = ("-n", "logical", "--maxprocesses", "4", "--dist", "worksteal")
    environment = cpu() | one_thread() | cached()
    session.run("pytest", *arguments, *workers, str(built), *session.posargs, env=environment)


@nox.session(default=False)
def atlas(session: nox.Session) -> None:
    """Make every figure of the atlas again, in build/atlas, and the docs' gallery of them.

    In small sizes, ten minutes on two cores; `nox -s atlas -- --all` takes the published ones, and
    hours. A number that is missed is said, and the page is written all the same.
    """
    session.install("-e", ".[plot]")
    built = ROOT / "build" / "atlas"
    chosen = session.posargs or ("--all", "--quick")
    command = ("learndyn", "reproduce", *chosen, "--force", "-o", str(built))
    session.run(*command, env=cpu() | cached(), success_codes=[0, 1])
    session.run("python", "docs/make_gallery.py", str(built), env=cpu())


@nox.session(default=False)
def docs(session: nox.Session) -> None:
    """Build the documentation in site/ and open it in a browser, where there is a Chromium.

    `-- serve` shows it while it is being written. Notebooks that `nox -s notebooks` has not left
    executed are executed here, two at a time.
    """
    session.install("-e", ".[notebooks]", *groups("docs"))
    env = cpu() | cached() | one_thread()
    if session.posargs == ["serve"]:
        watched = ("--watch", "src", "--watch", "README.md", "--watch", "notebooks")
        options = (*watched, "--ignore", "*/tutorial/*")
        session.run("sphinx-autobuild", *options, "docs", "site", env=env)
        return
    strict = ("--fail-on-warning", "--keep-going", "--doctree-dir", str(CACHE / "docs"))
    session.run("sphinx-build", *strict, "docs", "site", env=env)
    plain = ("-o", "addopts=", "--import-mode=importlib")
    session.run("pytest", *plain, "docs/test_site.py", *session.posargs, env=env)


@nox.session(default=False, venv_backend="uv")
def minimums(session: nox.Session) -> None:
    """Run the tests with the oldest release that each dependency's floor allows. Needs uv."""
    oldest = ("--resolution", "lowest-direct")
    session.install(*oldest, "-e", ".[sweep,plot,images]", *groups("test"))
    session.run("pytest", "-n", "2", "--dist", "loadfile", *session.posargs, env=cpu())


@nox.session(default=False)
def build(session: nox.Session) -> None:
    """Build the source archive and the wheel, and import the library from the wheel alone."""
    session.install("build")
    shutil.rmtree(ROOT / "dist", ignore_errors=True)
    session.run("python", "-m", "build", *session.posargs)
    (wheel,) = (ROOT / "dist").glob("*.whl")
    session.install("--force-reinstall", "--no-deps", str(wheel))
    session.install(str(wheel))
    session.chdir(session.create_tmp())
    # The archives must hold the stub `__init__.pyi`, from which the package takes its names.
    session.run("python", "-c", "import learndyn; print(dir(learndyn))", env=eagerly())
    session.run("learndyn", "--help", silent=True)
    session.run("python", "-m", "learndyn", "--help", silent=True)


def groups(*names: str) -> list[str]:
    """The requirements of these dependency groups of pyproject.toml."""
    return list(nox.project.dependency_groups(PROJECT, *names))


def check_style(session: nox.Session, *arguments: str) -> None:
    """Run the three linters, the fastest first."""
    session.run("ruff", "check", *arguments)
    session.run("ruff", "format", "--check", "--diff", *arguments)
    session.run("lint-imports", "--no-cache", env={"PYTHONPATH": "src"})


def targets(folder: str, session: nox.Session) -> list[str]:
    """`folder`, unless the arguments name files or folders in it themselves (--output has one
    elsewhere)."""
    paths = [ROOT / argument.split("::")[0] for argument in session.posargs]
    named = any(path.exists() and path.is_relative_to(ROOT / folder) for path in paths)
    return [] if named else [folder]


def accelerator(session: nox.Session) -> str:
    """Which build of JAX this machine needs: cpu, cuda12 or cuda13."""
    chosen = os.environ.get("LEARNDYN_ACCELERATOR", "auto")
    if chosen in ("cpu", "cuda12", "cuda13"):
        return chosen
    if chosen != "auto":
        session.error(f"LEARNDYN_ACCELERATOR is cpu, cuda12, cuda13 or auto; got {chosen!r}")
    query = ("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=60, check=True)
        driver = int(answer.stdout.split(".")[0])
    except (OSError, subprocess.SubprocessError, ValueError):
        return "cpu"
    # The oldest drivers that NVIDIA supports for CUDA 13 and 12.
    found = "cuda13" if driver >= 580 else "cuda12" if driver >= 525 else "cpu"
    session.log(f"NVIDIA driver {driver}: using {found}")
    return found


def cpu() -> dict[str, str]:
    """float64 on the CPU, unless the environment says otherwise."""
    return defaults(JAX_ENABLE_X64="1", JAX_PLATFORMS="cpu")


def eagerly() -> dict[str, str]:
    """Import every public name with the package, so that one that is absent fails (SPEC 1)."""
    return cpu() | {"EAGER_IMPORT": "1"}


def gpu() -> dict[str, str]:
    """float64 on the GPU. Naming cuda first makes a GPU that fails to start an error."""
    return defaults(JAX_ENABLE_X64="1", JAX_PLATFORMS="cuda,cpu")


def shared_gpu() -> dict[str, str]:
    """For several processes on one GPU: none takes its memory for itself."""
    return defaults(XLA_PYTHON_CLIENT_PREALLOCATE="false")


def one_thread() -> dict[str, str]:
    """For several processes side by side: their arrays are small, and threads of both would take
    a fifth more time on the same cores. NPROC is what XLA takes the number of cores to be."""
    return defaults(NPROC="1") | without_lines()


def without_lines() -> dict[str, str]:
    """Programs do not carry the lines of Python that each operation comes from, which only dumps
    of XLA show: writing them takes a tenth of the time of the tests."""
    return defaults(
        JAX_TRACEBACK_IN_LOCATIONS_LIMIT="0", JAX_INCLUDE_FULL_TRACEBACKS_IN_LOCATIONS="0"
    )


def stored() -> dict[str, str]:
    """Keep compiled programs between runs, but for those with run-time checks."""
    return defaults(
        JAX_COMPILATION_CACHE_DIR=str(CACHE / "jax"),
        # All of them: a thousand small ones take a minute together.
        JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="0",
    )


def cached() -> dict[str, str]:
    """Keep all compiled programs between runs; run-time checks would keep JAX from doing so."""
    return stored() | defaults(EQX_ON_ERROR="nan")


def defaults(**values: str) -> dict[str, str]:
    """These environment variables, where the environment does not set them already."""
    return {name: os.environ.get(name, value) for name, value in values.items()}
