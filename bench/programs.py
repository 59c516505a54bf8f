"""The bench programs: building them, and running one row of one of them."""

import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "bench"
PROGRAMS = BUILD / "bench"
READ_FILE = BUILD / "read-rows.data"

TIMEOUT_SECONDS = 120


class Failure(Exception):
    """A program did not deliver its figure; the text is a sentence that says why."""


def build():
    """Configures and builds everything; what was printed is shown only when it fails."""
    configure = ["cmake", "-S", str(ROOT), "-B", str(BUILD), "-DCMAKE_BUILD_TYPE=Release", "-DWEFT_BENCH=ON",
                 "-DWEFT_TESTS=OFF", "-DWEFT_DEMOS=OFF"]
    if shutil.which("ninja") and not (BUILD / "CMakeCache.txt").exists():
        configure += ["-G", "Ninja"]
    compile_all = ["cmake", "--build", str(BUILD), "--parallel", str(os.cpu_count())]
    for command in (configure, compile_all):
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode != 0:
            sys.exit(f"{done.stdout}\nthe bench programs could not be built")


def path_of(system):
    return PROGRAMS / ("bench_" + system.replace("-", "_"))


def rows_of(system):
    """The rows that a system's program has; empty if it was not built."""
    if not path_of(system).exists():
        return []
    return subprocess.run([path_of(system)], stdout=subprocess.PIPE, text=True, check=True).stdout.split()


def make_read_file():
    """The file of the read rows: random bytes, really on the disk, small enough to stay in the page cache."""
    size = 512 << 20
    if READ_FILE.exists() and READ_FILE.stat().st_size == size:
        return
    with open(READ_FILE, "wb") as file:
        for _ in range(size >> 20):
            file.write(os.urandom(1 << 20))
        file.flush()
        os.fsync(file.fileno())


def run(system, row):
    """One run of one row: its figures by name, the warnings it printed, and the seconds it took."""
    environment = dict(os.environ, WEFT_BENCH_FILE=str(READ_FILE))
    start = time.monotonic()
    program = subprocess.Popen([path_of(system), row], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               env=environment, start_new_session=True)
    try:
        output, errors = program.communicate(timeout=TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired:
        raise Failure(f"no figure within {TIMEOUT_SECONDS} s") from None
    finally:
        end_process_group(program.pid)
        program.wait()
    if program.returncode != 0:
        raise Failure(last_line(errors) or f"ended with status {program.returncode}")
    figures = {name: float(value) for name, value in re.findall(r"^(\S+)=(\S+)$", output, re.MULTILINE)}
    if row not in figures:
        raise Failure("printed no figure")
    return figures, errors.split("\n")[:-1], time.monotonic() - start


def end_process_group(group):
    """Ends a program with the server or load generator that it may have started."""
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        pass


def last_line(text):
    lines = text.strip().split("\n")
    return lines[-1]
