#!/usr/bin/env python3
"""Runs the README: its first ```cpp block must print exactly the ```text block that follows.

    readme_test.py extract README PROGRAM.cpp OUTPUT.txt   takes both out; without them, a program that says so and fails
    readme_test.py compare PROGRAM OUTPUT.txt              runs the program and compares
    readme_test.py self-test
"""
import difflib
import re
import subprocess
import sys

MISSING = "README.md has no ```cpp block with a ```text block after it: the program and what it prints"


def blocks(text):
    """(first line number of the program, program, output), or None where the README lacks them."""
    program = re.search(r"^```cpp\n(.*?)^```$", text, re.M | re.S)
    output = program and re.compile(r"^```text\n(.*?)^```$", re.M | re.S).search(text, program.end())
    if not output:
        return None
    return text.count("\n", 0, program.start(1)) + 1, program[1], output[1]


def extract(readme, program_file, output_file):
    try:
        with open(readme, encoding="utf-8") as stream:
            found = blocks(stream.read())
    except FileNotFoundError:
        found = None
    if found:
        line, program, output = found
        program = f'#line {line} "{readme}"\n{program}'  # the compiler's messages point into the README
    else:
        program, output = f'#include <cstdio>\nint main() {{ std::puts("{MISSING}"); return 1; }}\n', ""
    for file, text in (program_file, program), (output_file, output):
        with open(file, "w", encoding="utf-8") as stream:
            stream.write(text)


def difference(expected, got, status):
    """What to print when they differ; empty when all is well."""
    lines = list(difflib.unified_diff(expected.splitlines(True), got.splitlines(True), "README.md says", "the program printed"))
    if status != 0:
        lines.append(f"the program ended with status {status}\n")
    return "".join(line if line.endswith("\n") else line + "\n" for line in lines)


def compare(program, output_file):
    with open(output_file, encoding="utf-8") as stream:
        expected = stream.read()
    run = subprocess.run([program], stdout=subprocess.PIPE, text=True, check=False)
    return difference(expected, run.stdout, run.returncode)


def self_test():
    readme = "# weft\n\n```sh\nls\n```\n```cpp\nint main() {}\n```\nprints\n```text\nhello\n```\n```text\nno\n```\n"
    checks = {
        "both blocks are found": blocks(readme) == (7, "int main() {}\n", "hello\n"),
        "no output block": blocks(readme.replace("```text", "```")) is None,
        "an output before the program does not count": blocks("```text\na\n```\n```cpp\nb\n```\n") is None,
        "equal output passes": difference("hello\n", "hello\n", 0) == "",
        "a missing line fails": "-hello" in difference("hello\n", "", 0),
        "a missing last line end fails": difference("hello\n", "hello", 0) != "",
        "a bad exit status fails": "status 3" in difference("hello\n", "hello\n", 3),
    }
    return "".join(f"wrong: {name}\n" for name, right in checks.items() if not right)


def main():
    arguments = sys.argv[1:]
    if len(arguments) == 4 and arguments[0] == "extract":
        extract(*arguments[1:])
        return
    if len(arguments) == 3 and arguments[0] == "compare":
        wrong = compare(*arguments[1:])
    elif arguments == ["self-test"]:
        wrong = self_test()
    else:
        sys.exit(__doc__)
    print(wrong, end="")
    sys.exit(1 if wrong else 0)


main()
