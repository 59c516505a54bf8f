#!/usr/bin/env python3
"""Runs the porting guide: its programs must print exactly the ```text block that follows them, those before and those after alike.

    porting_test.py generate GUIDE PROGRAMS.cpp  all ```cpp blocks as one program, which runs the one whose number it is given
    porting_test.py compare GUIDE PROGRAMS       runs each and compares
    porting_test.py go GUIDE                     does the same with the ```go blocks; status 77 where there is no Go
    porting_test.py names GUIDE INCLUDE          whether every weft:: name, member and header that it mentions is in INCLUDE
    porting_test.py self-test
"""
import difflib
import os
import re
import shutil
import subprocess
import sys
import tempfile

BLOCK = re.compile(r"^```(cpp|go|text)\n(.*?)^```$", re.M | re.S)


def programs(text, language):
    """[(first line number, program, what it prints)]; the output is the next ```text block, None where there is none."""
    found = [(m[1], text.count("\n", 0, m.start(2)) + 1, m[2]) for m in BLOCK.finditer(text)]
    outputs = [next((body for kind, _, body in found[i:] if kind == "text"), None) for i in range(len(found))]
    return [(line, body, outputs[i]) for i, (kind, line, body) in enumerate(found) if kind == language]


def generate(guide, text):
    """One source: all includes first, then each program in a namespace of its own, its main a function `program`."""
    includes, bodies, calls = [], [], []
    for number, (line, body, _) in enumerate(programs(text, "cpp")):
        lines = body.split("\n")
        includes += [each for each in lines if each.startswith("#include") and each not in includes]
        rest = "\n".join("" if each.startswith("#include") else each for each in lines)
        rest, mains = re.subn(r"^int main\(\) \{$", "void program() {", rest, flags=re.M)
        if mains != 1:
            rest += f'\n#error "{guide}: the block at line {line} is no program: it has no int main()"\n'
        bodies.append(f'namespace program_{number} {{\n#line {line} "{guide}"\n{rest}\n}}\n')
        calls.append(f"    case {number}: return program_{number}::program(), 0;\n")
    return ("\n".join(includes) + "\n#include <cstdlib>\n" + "".join(bodies) +
            "int main(int argc, char** argv) {\n  switch (argc == 2 ? std::atoi(argv[1]) : -1) {\n" + "".join(calls) +
            "    default: return 2;\n  }\n}\n")


def difference(line, expected, run):
    """What to print when they differ; empty when all is well."""
    if expected is None:
        return f"line {line}: no ```text block says what this program prints\n"
    lines = list(difflib.unified_diff(expected.splitlines(True), run.stdout.splitlines(True), f"the guide, line {line}", "printed"))
    if run.returncode != 0:
        lines.append(f"line {line}: the program ended with status {run.returncode}\n")
    return "".join(each if each.endswith("\n") else each + "\n" for each in lines)


def run(*command, **more):
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, **more)


def compare(text, binary):
    wrong = "".join(difference(line, out, run(binary, str(n))) for n, (line, _, out) in enumerate(programs(text, "cpp")))
    return wrong if programs(text, "cpp") else "the guide has no programs\n"


def compare_go(text):
    if not shutil.which("go"):
        print("skipped: there is no Go here (script/setup bench)")
        sys.exit(77)
    wrong = "" if programs(text, "go") else "the guide has no Go\n"
    for line, body, out in programs(text, "go"):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "main.go")
            with open(path, "w", encoding="utf-8") as stream:
                stream.write(body)
            environment = {**os.environ, "HOME": folder, "GOCACHE": os.path.join(folder, "cache"), "GOFLAGS": "-mod=mod",
                           "GO111MODULE": "off"}
            wrong += difference(line, out, run("go", "run", path, env=environment))
    return wrong


def missing_names(text, headers, folder):
    """The weft:: names, struct members and headers that the guide mentions and the headers do not have."""
    wrong = []
    for name in sorted(set(re.findall(r"weft::((?:\w+::)*\w+)", text))):
        for part in name.split("::"):
            if not re.search(rf"\b{part}\b", headers):
                wrong.append(f"weft::{name}: there is no {part}\n")
    for owner, member in sorted(set(re.findall(r"\b(options|attributes)::(\w+)", text))):
        if not re.search(rf"\b{member}\b", headers):
            wrong.append(f"{owner}::{member}: there is no {member}\n")
    for header in sorted(set(re.findall(r"include/(weft/[\w/]+\.hpp)", text) + re.findall(r"<(weft/[\w/]+\.hpp)>", text))):
        if not os.path.exists(os.path.join(folder, header)):
            wrong.append(f"{header}: there is no such header\n")
    return "".join(wrong)


def read_headers(folder):
    headers = ""
    for at, _, names in os.walk(folder):
        for name in names:
            with open(os.path.join(at, name), encoding="utf-8") as stream:
                headers += re.sub(r"//.*", "", stream.read())
    return headers


def self_test():
    guide = "```cpp\n#include <a>\nint main() {\n}\n```\nand\n```go\ngo\n```\n```text\nhello\n```\n```cpp\nint f();\n```\n"
    two = programs(guide, "cpp")
    source = generate("G", guide)
    done = subprocess.CompletedProcess
    checks = {
        "programs share the output that follows": [out for _, _, out in two] == ["hello\n", None],
        "lines are counted": [line for line, _, _ in two] == [2, 14],
        "includes come first": source.startswith("#include <a>\n"),
        "mains become functions": "namespace program_0 {\n#line 2 \"G\"\n\nvoid program() {" in source,
        "a block without main is an error": '#error "G: the block at line 14' in source,
        "equal output passes": difference(1, "hello\n", done([], 0, "hello\n")) == "",
        "another output fails": "+hallo" in difference(1, "hello\n", done([], 0, "hallo\n")),
        "a bad status fails": "status 3" in difference(1, "hello\n", done([], 3, "hello\n")),
        "no output block fails": "no ```text" in difference(1, None, done([], 0, "")),
        "a name that is there passes": missing_names("weft::io::read", "namespace io { void read(); }", ".") == "",
        "a name that is not there fails": "there is no dance" in missing_names("weft::dance", "void danced();", "."),
        "a member that is not there fails": "there is no dance" in missing_names("`options::dance`", "", "."),
        "a header that is not there fails": "no such header" in missing_names("include/weft/dance.hpp", "", "."),
    }
    return "".join(f"wrong: {name}\n" for name, right in checks.items() if not right)


def main():
    what, *arguments = sys.argv[1:] or [""]
    text = ""
    if what in ("generate", "compare", "go", "names") and arguments:
        with open(arguments[0], encoding="utf-8") as stream:
            text = stream.read()
    if what == "generate" and len(arguments) == 2:
        with open(arguments[1], "w", encoding="utf-8") as stream:
            stream.write(generate(arguments[0], text))
        return
    if what == "compare" and len(arguments) == 2:
        wrong = compare(text, arguments[1])
    elif what == "go" and len(arguments) == 1:
        wrong = compare_go(text)
    elif what == "names" and len(arguments) == 2:
        wrong = missing_names(text, read_headers(arguments[1]), arguments[1])
    elif what == "self-test" and not arguments:
        wrong = self_test()
    else:
        sys.exit(__doc__)
    print(wrong, end="")
    sys.exit(1 if wrong else 0)


main()
