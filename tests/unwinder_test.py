#!/usr/bin/env python3
"""Proves that exceptions are unwound by libgcc_s although libunwind, which exports the same functions, is loaded too.

    unwinder_test.py PROGRAM            runs it under LD_DEBUG=bindings and looks where its _Unwind_* symbols are bound
    unwinder_test.py --self-test CXX    builds a program with libunwind first, which must be found out

The reason is told in cmake/dependencies.cmake.
"""
import glob
import os
import re
import subprocess
import sys
import tempfile

# "binding file A [0] to B [0]: normal symbol `_Unwind_RaiseException' [GCC_3.0]"
BINDING = re.compile(r"binding file (\S+) \[\d+\] to (\S+) \[\d+\]: \w+ symbol `(_Unwind_\w+)'")


def trace(program):
    """Runs the program with every symbol bound at start; returns its exit status and the dynamic linker's lines."""
    with tempfile.TemporaryDirectory() as folder:
        environment = dict(os.environ, LD_DEBUG="bindings,files", LD_BIND_NOW="1", LD_DEBUG_OUTPUT=os.path.join(folder, "ld"))
        status = subprocess.run([program], stdout=subprocess.DEVNULL, env=environment, check=False).returncode
        text = ""
        for file in glob.glob(os.path.join(folder, "ld.*")):
            with open(file, encoding="utf-8", errors="replace") as stream:
                text += stream.read()
        return status, text


def faults(program):
    status, text = trace(program)
    found = [] if status == 0 else [f"{program} ended with status {status}"]
    if "libunwind.so" not in text:
        found.append("libunwind was not loaded: this run proves nothing")
    raisers = 0
    for user, provider, symbol in BINDING.findall(text):
        name = os.path.basename(provider)
        if name.startswith("libunwind"):
            found.append(f"{symbol} of {user} is bound to {provider}, not to libgcc_s")
        raisers += symbol == "_Unwind_RaiseException" and name.startswith("libgcc_s")
    if raisers == 0:
        found.append("_Unwind_RaiseException is nowhere bound to libgcc_s")
    return found


def self_test(compiler):
    """The same program linked in the wrong order must be found out, in the right order not."""
    with tempfile.TemporaryDirectory() as folder:
        source, program = os.path.join(folder, "program.cpp"), os.path.join(folder, "program")
        with open(source, "w", encoding="utf-8") as stream:
            stream.write("int main() { try { throw 1; } catch (int) { return 0; } return 1; }\n")
        unwind = "-Wl,--push-state,--no-as-needed,-lunwind,--pop-state"
        gcc_s = "-Wl,--push-state,--no-as-needed,-lgcc_s,--pop-state"
        wrong = []
        subprocess.run([compiler, source, "-o", program, unwind, gcc_s], check=True)
        if not any("not to libgcc_s" in fault for fault in faults(program)):
            wrong.append("libunwind came first and was not found out")
        subprocess.run([compiler, source, "-o", program, gcc_s, unwind], check=True)
        return wrong + faults(program)


def main():
    if len(sys.argv) == 3 and sys.argv[1] == "--self-test":
        found = self_test(sys.argv[2])
    elif len(sys.argv) == 2:
        found = faults(sys.argv[1])
    else:
        sys.exit(__doc__)
    for fault in found:
        print(fault)
    sys.exit(1 if found else 0)


main()
