#!/usr/bin/env python3
"""Fails when the tree departs from the plan of the house (docs/design.md).

    house_test.py ROOT         the tree at ROOT; prints each fault as FILE:LINE: what
    house_test.py --self-test  a made-up wrong tree, each fault of which must be found

The rules:
  - sched/, upcall/ and ipc/ never include one another, include/ includes only include/, and demos/, bench/ and tools/ only
    <weft/...> and their own files; tests/ may include everything
  - includes never form a circle
  - #if and its kin stand only in sched/context*.* and include/weft/detail/abi.hpp; a header begins with #pragma once
  - no source file is longer than 500 lines
"""
import os
import re
import sys
import tempfile

CODE = (".hpp", ".cpp", ".h", ".c", ".cc", ".inl", ".ipp")
HEADERS = (".hpp", ".h")
MAX_LINES = 500
MAY_INCLUDE = {
    "include": {"include"},
    "sched": {"sched", "include"},
    "upcall": {"upcall", "include"},
    "ipc": {"ipc", "include"},
    "demos": {"demos", "include"},
    "bench": {"bench", "include"},
    "tools": {"tools", "include"},
    "tests": {"tests", "include", "sched", "upcall", "ipc", "demos", "bench", "tools"},
}
ONLY_ANGLED = ("demos", "bench", "tools")  # they stand where a user stands
MAY_BRANCH = re.compile(r"sched/context(_\w+)?\.\w+|include/weft/detail/abi\.hpp")
INCLUDE = re.compile(r'\s*#\s*include\s*(?:"([^"]+)"|<([^>]+)>)')
CONDITION = re.compile(r"\s*#\s*(if|ifdef|ifndef|elif|elifdef|elifndef)\b")


def code_files(root):
    """The paths, relative to `root`, of every source file in a folder that the plan names."""
    found = []
    for folder in MAY_INCLUDE:
        for at, _, names in os.walk(os.path.join(root, folder)):
            found += [os.path.relpath(os.path.join(at, name), root) for name in names if name.endswith(CODE)]
    return sorted(found)


def resolve(file, name, quoted, files):
    """The file of the tree that `#include name` in `file` means; None for the system's."""
    places = [os.path.dirname(file)] if quoted else []
    for place in places + ["include", ""]:
        path = os.path.normpath(os.path.join(place, name))
        if path in files:
            return path
    return None


def check_include(file, name, quoted, target, say):
    """Says what is wrong with one arrow of the plan."""
    here = file.split("/")[0]
    top = os.path.normpath(os.path.join(os.path.dirname(file), name) if name.startswith(".") else name).split("/")[0]
    there = target.split("/")[0] if target else {"weft": "include"}.get(top, top)
    if target is None and there not in MAY_INCLUDE:
        return  # the system's
    if target is None:
        say(f"includes {name}, which is not there")
    elif there not in MAY_INCLUDE[here]:
        say(f"wrong arrow: {here} -> {there} (includes {name})")
    elif here in ONLY_ANGLED and there == "include" and (quoted or not name.startswith("weft/")):
        say(f"{here} includes weft as its users do: <{target[len('include/'):]}>, not {name}")


def find_circles(graph):
    """Each circle of includes once, as the list of its files with the first repeated at the end."""
    circles, done = [], set()

    def visit(file, path):
        if file in path:
            circles.append(path[path.index(file):] + [file])
        elif file not in done:
            for target in graph[file]:
                visit(target, path + [file])
            done.add(file)

    for file in graph:
        visit(file, [])
    return circles


def faults(root):
    """Every departure from the plan, as FILE:LINE: what."""
    found = []
    files = code_files(root)
    known = set(files)
    graph = {file: [] for file in files}
    for file in files:
        with open(os.path.join(root, file), encoding="utf-8") as stream:
            lines = stream.read().splitlines()
        if len(lines) > MAX_LINES:
            found.append(f"{file}: {len(lines)} lines, the limit is {MAX_LINES}")
        if file.endswith(HEADERS) and "#pragma once" not in lines:
            found.append(f"{file}: a header without #pragma once")
        for number, line in enumerate(lines, 1):
            def say(what):
                found.append(f"{file}:{number}: {what}")
            if CONDITION.match(line) and not MAY_BRANCH.fullmatch(file):
                say(f"a preprocessor condition outside sched/context*.* and abi.hpp: {line.strip()}")
            match = INCLUDE.match(line)
            if match:
                name, quoted = match[1] or match[2], match[1] is not None
                target = resolve(file, name, quoted, known)
                check_include(file, name, quoted, target, say)
                if target:
                    graph[file].append(target)
    return found + ["a circle of includes: " + " -> ".join(circle) for circle in find_circles(graph)]


RIGHT_TREE = {
    "include/weft/upcall.hpp": "#pragma once\n#include <vector>\n#include \"weft/error.hpp\"\n",
    "include/weft/error.hpp": "#pragma once\n",
    "include/weft/detail/abi.hpp": "#pragma once\n#if defined(__x86_64__)\n#endif\n",
    "sched/context.cpp": "#ifdef __SANITIZE_ADDRESS__\n#endif\n#include \"sched/stack.hpp\"\n",
    "sched/context_identity.hpp": "#pragma once\n#if defined(__x86_64__)\n#endif\n",
    "sched/stack.hpp": "#pragma once\n#include \"weft/upcall.hpp\"\n",
    "upcall/ring.cpp": "#include <liburing.h>\n#include <weft/upcall.hpp>\n",
    "demos/hello.cpp": "#include <weft/upcall.hpp>\n#include \"report.hpp\"\n",
    "demos/report.hpp": "#pragma once\n#include <string>\n",
    "tests/stack_test.cpp": "#include \"sched/stack.hpp\"\n#include \"upcall/ring.cpp\"\n" + "\n" * 498,
}
# A file put into the right tree, and the one fault that must then be found.
WRONG_FILES = [
    ("sched/a.cpp", '#include "upcall/ring.cpp"\n', "sched/a.cpp:1: wrong arrow: sched -> upcall"),
    ("upcall/a.cpp", '\n#include "../sched/stack.hpp"\n', "upcall/a.cpp:2: wrong arrow: upcall -> sched"),
    ("ipc/a.cpp", "#  include <sched/stack.hpp>\n", "ipc/a.cpp:1: wrong arrow: ipc -> sched"),
    ("include/weft/a.hpp", '#pragma once\n#include "sched/stack.hpp"\n', "wrong arrow: include -> sched"),
    ("demos/a.cpp", '#include "sched/stack.hpp"\n', "wrong arrow: demos -> sched"),
    ("bench/a.cpp", '#include "tests/stack_test.cpp"\n', "wrong arrow: bench -> tests"),
    ("tools/a.cpp", '#include "weft/error.hpp"\n', "tools includes weft as its users do"),
    ("sched/a.cpp", '#include "upcall/gone.hpp"\n', "includes upcall/gone.hpp, which is not there"),
    ("sched/a.cpp", "#include <weft/gone.hpp>\n", "includes weft/gone.hpp, which is not there"),
    ("include/weft/error.hpp", '#pragma once\n#include "weft/upcall.hpp"\n',
     "circle of includes: include/weft/upcall.hpp -> include"),
    ("sched/a.hpp", '#pragma once\n#include "a.hpp"\n', "a circle of includes: sched/a.hpp -> sched/a.hpp"),
    ("sched/a.hpp", "#ifndef A\n#pragma once\n", "sched/a.hpp:1: a preprocessor condition"),
    ("include/weft/abi.hpp", "#pragma once\n  # if 1\n", "abi.hpp:2: a preprocessor condition"),
    ("sched/a.hpp", "\n", "sched/a.hpp: a header without #pragma once"),
    ("tests/a_test.cpp", "\n" * 501, "tests/a_test.cpp: 501 lines"),
]


def faults_of(tree):
    with tempfile.TemporaryDirectory() as root:
        for file, text in tree.items():
            path = os.path.join(root, file)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w", encoding="utf-8") as stream:
                stream.write(text)
        return faults(root)


def self_test():
    missed = []
    found = faults_of(RIGHT_TREE)
    if found:
        missed.append(f"faults in a tree without any: {found}")
    for file, text, fault in WRONG_FILES:
        found = faults_of({**RIGHT_TREE, file: text})
        if len(found) != 1 or fault not in found[0]:
            missed.append(f"{file} with {text[:60]!r}: wanted [{fault}], found {found}")
    return missed


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    found = self_test() if sys.argv[1] == "--self-test" else faults(sys.argv[1])
    if sys.argv[1] != "--self-test" and not code_files(sys.argv[1]):
        found.append(f"{sys.argv[1]}: no source files here")
    for fault in found:
        print(fault)
    sys.exit(1 if found else 0)


main()
