#!/usr/bin/env python3
"""Set up everything the project needs in a virtual environment; a second call finds it done at once.

Used by the Makefile. Each step leaves a stamp with the hash of its inputs, so that an interrupted run
continues where it stopped and a changed input redoes its own step only. Standard library only: this runs
before anything is installed.

A sourced ROS 2 installation wins: then no ROS wheels are installed and the environment sees the
system's packages.
"""

from __future__ import annotations

import argparse
import ctypes.util
import hashlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OLDEST, NEWEST = (3, 10), (3, 13)
# Installed before the rest and pinned, so that the other packages cannot pull another build of it.
TORCH = "torch==2.13.0"
EXTRAS = {
    "demo": ["rooms", "bags", "viewer"],
    "test": ["dev", "train", "captions"],
    "bench": ["dev", "train"],
    "train": ["train"],
    "captions": ["train", "captions"],
    "clip": ["clip"],
}
# System libraries by apt package; Open3D (generated rooms) loads them.
OPEN3D_LIBRARIES = {
    "libusb-1.0-0": "usb-1.0",
    "libgl1": "GL",
    "libgomp1": "gomp",
    "libegl1": "EGL",
    "libx11-6": "X11",
}
# Drives the test of the 3D view, which is skipped where there is none.
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
HEARTBEAT_S = 15.0


class SetupError(Exception):
    """A step failed; the text says what a person can do."""


def say(text: str) -> None:
    """Print one progress line at once."""
    print(f"[setup] {text}", flush=True)


def digest(*parts: str | Path) -> str:
    """Hash strings and the contents of files (folders: all files below) into one short key."""
    key = hashlib.sha256()
    for part in parts:
        if isinstance(part, Path):
            files = sorted(p for p in part.rglob("*") if p.is_file()) if part.is_dir() else [part]
            for file in files:
                key.update(str(file.relative_to(ROOT)).encode() + file.read_bytes())
        else:
            key.update(part.encode())
        key.update(b"\0")
    return key.hexdigest()[:16]


def clean_environment() -> dict[str, str]:
    """This process's environment without the marks that ROS wheels of another environment leave in it."""
    environment = dict(os.environ)
    if environment.pop("_ROS_WHEELS_BOOTSTRAP_COMPLETE", None):
        environment.pop("LD_LIBRARY_PATH", None)
    for name in ("PYTHONHOME", "VIRTUAL_ENV"):
        environment.pop(name, None)
    return environment


def ros_is_sourced() -> bool:
    """True where a ROS 2 installation's setup script was sourced in this shell."""
    return bool(os.environ.get("ROS_DISTRO")) and bool(os.environ.get("AMENT_PREFIX_PATH"))


class Environment:
    """The virtual environment and the record of what has been done to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.python = folder / "bin" / "python"
        self.records = folder / ".setup"
        self.log = self.records / "setup.log"

    def is_done(self, step: str, key: str) -> bool:
        """Whether ``step`` was finished with exactly these inputs."""
        stamp = self.records / f"{step}.stamp"
        return stamp.is_file() and stamp.read_text(encoding="utf-8") == key

    def mark_done(self, step: str, key: str) -> None:
        """Record ``step`` as finished; written beside and renamed, so a half-written stamp cannot exist."""
        self.records.mkdir(parents=True, exist_ok=True)
        beside = self.records / f"{step}.tmp"
        beside.write_text(key, encoding="utf-8")
        beside.replace(self.records / f"{step}.stamp")

    def run(self, command: list[str], what: str, tries: int = 1, environment: dict[str, str] | None = None) -> None:
        """Run ``command`` with its output in the log; show a line now and then; try again after a failure.

        Raises:
            SetupError: When the last try failed, with the end of the output.
        """
        self.records.mkdir(parents=True, exist_ok=True)
        for attempt in range(1, tries + 1):
            with self.log.open("ab") as log:
                log.write(f"\n$ {' '.join(command)}\n".encode())
                log.flush()
                start = log.tell()
                process = subprocess.Popen(
                    command,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    cwd=ROOT,
                    env=environment or clean_environment(),
                )
                code = self._wait(process, what)
            if code == 0:
                return
            tail = self.log.read_bytes()[start:].decode(errors="replace").strip().splitlines()[-12:]
            if attempt < tries:
                say(f"{what}: try {attempt} failed ({tail[-1] if tail else 'no output'}), once more")
                time.sleep(2.0 * attempt)
        lines = "\n  ".join(tail)
        raise SetupError(f"{what} failed (exit code {code}). Its last lines:\n  {lines}\nWhole output: {self.log}")

    @staticmethod
    def _wait(process: subprocess.Popen[bytes], what: str) -> int:
        began = time.monotonic()
        try:
            while True:
                try:
                    return process.wait(timeout=HEARTBEAT_S)
                except subprocess.TimeoutExpired:
                    say(f"{what} ... {time.monotonic() - began:.0f} s")
        except KeyboardInterrupt:
            process.terminate()
            process.wait()
            raise

    def pip(self, arguments: list[str], what: str) -> None:
        """``pip install`` with retries against a shaky network."""
        command = [
            str(self.python),
            "-m",
            "pip",
            "install",
            "--retries",
            "5",
            "--timeout",
            "60",
            "--progress-bar",
            "off",
        ]
        self.run([*command, "--disable-pip-version-check", *arguments], what, tries=3)

    def ask(self, code: str) -> str:
        """Evaluate a print in the environment's Python and return what it printed."""
        done = subprocess.run(
            [str(self.python), "-c", code],
            capture_output=True,
            text=True,
            env=clean_environment(),
            check=True,
        )
        return done.stdout.strip()


def use_a_suitable_python() -> None:
    """Continue in another interpreter when this one is too old or too new.

    Raises:
        SetupError: If no Python 3.10-3.13 is on the PATH.
    """
    if OLDEST <= sys.version_info[:2] <= NEWEST:
        return
    for minor in range(NEWEST[1], OLDEST[1] - 1, -1):
        found = shutil.which(f"python3.{minor}")
        if found:
            say(f"python3 is {sys.version_info[0]}.{sys.version_info[1]}; going on with {found}")
            os.execv(found, [found, *sys.argv])
    raise SetupError(
        f"Python {sys.version_info[0]}.{sys.version_info[1]} is not supported: install Python 3.10, 3.11,"
        " 3.12 or 3.13 (for example: apt-get install python3.12 python3.12-venv python3.12-dev) and run this"
        " again."
    )


def has_library(name: str) -> bool:
    """Whether the loader finds a shared library."""
    if ctypes.util.find_library(name):
        return True
    folders = ("/usr/lib", "/lib", "/usr/local/lib")
    return any(next(Path(folder).glob(f"**/lib{name}.so*"), None) for folder in folders if Path(folder).is_dir())


def missing_system_packages(wants_open3d: bool, builds_messages: bool) -> list[str]:
    """Names of the apt packages that are needed and not there."""
    missing = []
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    try:
        import ensurepip  # noqa: F401
    except ImportError:
        missing.append(f"{version}-venv")
    if builds_messages:
        if not Path(sysconfig.get_paths()["include"], "Python.h").is_file():
            missing.append(f"{version}-dev")
        missing += [package for package, tool in (("cmake", "cmake"), ("make", "make"), ("g++", "c++")) if not shutil.which(tool)]
    if wants_open3d:
        missing += [package for package, library in OPEN3D_LIBRARIES.items() if not has_library(library)]
    return missing


def install_system_packages(environment: Environment, packages: list[str]) -> None:
    """Install by apt-get where that is allowed.

    Raises:
        SetupError: One line that names the packages, where it is not allowed or failed.
    """
    if not packages:
        return
    plea = f"Please install these system packages and run this again: apt-get install {' '.join(packages)}"
    prefix: list[str] = []
    if os.geteuid() != 0:
        prefix = ["sudo", "-n"]
        allowed = shutil.which("sudo") and subprocess.run(["sudo", "-n", "true"], capture_output=True).returncode == 0
        if not allowed:
            raise SetupError(plea)
    if not shutil.which("apt-get"):
        raise SetupError(plea)
    say(f"system packages: {' '.join(packages)}")
    noninteractive = {**clean_environment(), "DEBIAN_FRONTEND": "noninteractive"}
    apt = [*prefix, "apt-get", "-y", "-q"]
    try:
        environment.run([*apt, "update"], "apt-get update", tries=2, environment=noninteractive)
        environment.run([*apt, "install", "--no-install-recommends", *packages], "apt-get install", 2, noninteractive)
    except SetupError as error:
        raise SetupError(f"{plea}\n({error})") from error


def install_a_browser(environment: Environment) -> None:
    """Install Chromium for the tests where Debian has it as a package and that is allowed; else say what is skipped."""
    if any(shutil.which(name) for name in BROWSERS):
        return
    release = Path("/etc/os-release")
    system = re.findall(r'^ID="?(\w+)', release.read_text(encoding="utf-8"), re.MULTILINE) if release.is_file() else []
    if system != ["debian"]:  # Ubuntu's package is a snap, which containers cannot run
        say("no Chromium here: the browser test of the 3D view will be skipped")
        return
    try:
        install_system_packages(environment, ["chromium"])
    except SetupError as error:
        say(f"the browser test of the 3D view will be skipped. {error}".splitlines()[0])


def make_virtual_environment(environment: Environment, sourced: bool) -> None:
    """Create the environment, or take over one that works."""
    works = (
        environment.python.exists()
        and subprocess.run(
            [
                str(environment.python),
                "-c",
                "import pip, sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))",
            ],
            capture_output=True,
            env=clean_environment(),
        ).returncode
        == 0
    )
    if works:
        return
    say(f"virtual environment in {environment.folder.name} (Python {sys.version_info[0]}.{sys.version_info[1]})")
    options = ["--clear"] + (["--system-site-packages"] if sourced else [])
    subprocess.run([sys.executable, "-m", "venv", *options, str(environment.folder)], check=True, env=clean_environment())


def repair_cmake_exports(environment: Environment) -> None:
    """Point the ROS wheels' CMake files at this environment.

    They carry the paths of the machine that built them.
    """
    include, numpy_include, site = environment.ask(
        "import sysconfig, numpy; p = sysconfig.get_paths(); print(p['include'], numpy.get_include(), p['purelib'], sep='\\n')"
    ).splitlines()
    python = r"/opt/python/cp3\d+-cp3\d+/"
    swaps = [
        (re.compile(python + r"lib/python3\.\d+/site-packages/numpy/(_core|core)/include"), numpy_include),
        (re.compile(python + r"lib/python3\.\d+/site-packages"), site),
        (re.compile(python + r"include/python3\.\d+"), include),
    ]
    for file in environment.folder.glob("share/*/cmake/*.cmake"):
        text = old = file.read_text(encoding="utf-8")
        for pattern, path in swaps:
            text = pattern.sub(lambda _match, path=path: path, text)
        if text != old:
            beside = file.with_suffix(".tmp")
            beside.write_text(text, encoding="utf-8")
            beside.replace(file)


def build_messages(environment: Environment, source: Path) -> None:
    """Build a message package with plain CMake into the environment."""
    build = environment.records / f"build_{source.name}"
    shutil.rmtree(build, ignore_errors=True)
    prefixes = [str(environment.folder)]
    variables = clean_environment()
    for name in ("AMENT_PREFIX_PATH", "CMAKE_PREFIX_PATH"):
        variables[name] = os.pathsep.join([*prefixes, variables[name]] if variables.get(name) else prefixes)
    variables["PATH"] = os.pathsep.join([str(environment.folder / "bin"), variables.get("PATH", "")])
    site = environment.ask("import sysconfig; print(sysconfig.get_paths()['purelib'])")
    jobs = str(max(1, min(4, os.cpu_count() or 1)))
    configure = [
        "cmake",
        "-S",
        str(source),
        "-B",
        str(build),
        f"-DCMAKE_INSTALL_PREFIX={environment.folder}",
        f"-DPython3_EXECUTABLE={environment.python}",
        f"-DPYTHON_INSTALL_DIR={Path(site).relative_to(environment.folder)}",
        "-DCMAKE_BUILD_TYPE=Release",
        "-DBUILD_TESTING=OFF",
    ]
    what = f"building {source.name}"
    environment.run(configure, what, environment=variables)
    environment.run(["cmake", "--build", str(build), "--target", "install", "-j", jobs], what, environment=variables)
    shutil.rmtree(build, ignore_errors=True)


def can_import(environment: Environment, module: str) -> bool:
    """Whether the environment's Python finds a module."""
    code = f"import importlib.util as u, sys; sys.exit(u.find_spec({module!r}) is None)"
    return subprocess.run([str(environment.python), "-c", code], env=clean_environment()).returncode == 0


def plan(environment: Environment, groups: list[str], sourced: bool) -> list[tuple[str, str, str]]:
    """The steps as (name, key of the inputs, what a person reads)."""
    manifest = [ROOT / "pyproject.toml", ROOT / "setup.py", ROOT / "package.xml"]
    base = digest(f"{sys.version_info[:2]} {sourced} {os.environ.get('ROS_DISTRO', '') if sourced else ''}", str(ROOT))
    extras = sorted({extra for group in groups for extra in EXTRAS[group]})
    steps = [
        ("venv", base, "virtual environment"),
        ("torch", digest(base, TORCH), "PyTorch (the largest download)"),
        ("packages", digest(base, *manifest), "Python packages"),
    ]
    steps += [(f"extra_{extra}", digest(base, *manifest), f"packages for {extra}") for extra in extras]
    messages = ROOT / "mosaic3d_msgs"
    tf2 = ROOT / "scripts" / "tf2_msgs"
    steps.append(("tf2_msgs", digest(base, tf2), "tf2_msgs"))
    steps.append(("mosaic3d_msgs", digest(base, messages), "mosaic3d_msgs"))
    return steps


def perform(environment: Environment, step: str, what: str, sourced: bool) -> None:
    """Carry out one step."""
    if step == "venv":
        make_virtual_environment(environment, sourced)
    elif step == "torch":
        environment.pip(["setuptools>=64", "wheel"], "installing build tools")
        if not (sourced and can_import(environment, "torch")):
            environment.pip([TORCH], f"installing {what}")
    elif step == "packages":
        extra = "" if sourced else "[ros]"
        environment.pip(["--no-build-isolation", "-e", f"{ROOT}{extra}"], f"installing {what}")
        if not sourced:
            repair_cmake_exports(environment)
    elif step.startswith("extra_"):
        extra = step.removeprefix("extra_")
        environment.pip(["--no-build-isolation", "-e", f"{ROOT}[{extra}]"], f"installing {what}")
    elif step == "tf2_msgs":
        if not can_import(environment, "tf2_msgs"):
            build_messages(environment, ROOT / "scripts" / "tf2_msgs")
    else:
        build_messages(environment, ROOT / step)


def set_up(folder: Path, groups: list[str]) -> None:
    """Do what is not done yet.

    Args:
        folder: The virtual environment.
        groups: Names from ``EXTRAS``.

    Raises:
        SetupError: A step failed.
    """
    use_a_suitable_python()
    environment = Environment(folder)
    sourced = ros_is_sourced()
    todo = [step for step in plan(environment, groups, sourced) if not environment.is_done(*step[:2])]
    if not todo:
        return
    began = time.monotonic()
    say(f"{len(todo)} steps, once. " + (f"Using the sourced ROS 2 {os.environ['ROS_DISTRO']}." if sourced else ""))
    names = {step for step, _, _ in todo}
    builds = bool(names & {"tf2_msgs", "mosaic3d_msgs"})
    install_system_packages(environment, missing_system_packages(bool(names & {"extra_dev", "extra_rooms"}), builds))
    if "extra_dev" in names:
        install_a_browser(environment)
    for number, (step, key, what) in enumerate(todo, 1):
        say(f"{number}/{len(todo)} {what}")
        perform(environment, step, what, sourced)
        environment.mark_done(step, key)
    say(f"ready after {time.monotonic() - began:.0f} s")


def main() -> int:
    """Command line: exit code 0 when all is set up, 1 with a message when not, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--venv", type=Path, default=Path(".venv"), help="folder of the virtual environment")
    parser.add_argument(
        "--with",
        dest="groups",
        action="append",
        default=[],
        choices=sorted(EXTRAS),
        help="what to set up besides the nodes (may be given several times)",
    )
    arguments = parser.parse_args()
    folder = arguments.venv if arguments.venv.is_absolute() else ROOT / arguments.venv
    try:
        set_up(folder, ["demo", *arguments.groups])
    except SetupError as error:
        print(f"[setup] {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\n[setup] interrupted; the same command continues where this stopped.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
