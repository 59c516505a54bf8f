#!/usr/bin/env python3
"""Adds up what ctest's JUnit reports say: "12 passed, 0 failed", with ", 2 skipped" when there are any.

    count_results.py [--broken N] [--failures] REPORT.xml...
        --broken N   count N builds that broke as failed
        --failures   first print the end of the output of every failed test
    count_results.py --self-test

A doctest program counts once per test case, any other test once. A test that failed without a failed case (it crashed, hung,
leaked, or was not built) counts as one failure. A report that is missing, unreadable or empty is one failure too.
Exit status: 0 when nothing failed.
"""
import argparse
import os
import re
import sys
import tempfile
import xml.etree.ElementTree as xml

CASES = re.compile(r"\[doctest\] test cases:\s*\d+\s*\|\s*(\d+) passed\s*\|\s*(\d+) failed\s*\|\s*(\d+) skipped")
SKIPPED_CASE = re.compile(r"^\[skipped\] 1 case$", re.M)  # tests/main.cpp: doctest counts it as passed
LINES_SHOWN = 60


def count_test(test):
    """(passed, failed, skipped) of one <testcase>."""
    output = test.findtext("system-out") or ""
    skip = test.find("skipped")
    skipped_whole = skip is not None and (skip.get("message") or "").startswith("SKIP_")
    fine = skipped_whole or (skip is None and test.find("failure") is None and test.get("status") == "run")
    cases = [tuple(map(int, match)) for match in CASES.findall(output)]
    passed, failed, skipped = (sum(column) for column in zip(*cases)) if cases else (0, 0, 0)
    marked = len(SKIPPED_CASE.findall(output))
    passed, skipped = passed - marked, skipped + marked
    if not fine:
        failed = max(failed, 1)
    elif not cases:
        passed, skipped = (0, 1) if skipped_whole else (1, 0)
    return passed, failed, skipped


def read_report(path):
    """The <testcase>s of a report; empty when there is no report."""
    try:
        return xml.parse(path).getroot().findall("testcase")
    except (OSError, xml.ParseError):
        return []


def count(reports, broken, show_failures):
    total = [0, broken, 0]
    for path in reports:
        tests = read_report(path)
        if not tests:
            total[1] += 1
            print(f"no test results in {path}")
        for test in tests:
            numbers = count_test(test)
            total = [a + b for a, b in zip(total, numbers)]
            if numbers[1] and show_failures:
                lines = (test.findtext("system-out") or "").splitlines()
                print(f"--- {test.get('name')} failed after {float(test.get('time', 0)):.1f} s; the end of its output:")
                print("\n".join(lines[-LINES_SHOWN:]))
    return total


def sentence(total):
    text = f"{total[0]} passed, {total[1]} failed"
    return text + f", {total[2]} skipped" if total[2] else text


DOCTEST = "[doctest] test cases:  {} |  {} passed | {} failed | {} skipped\n"
EXAMPLES = [  # (attributes and children of a <testcase>, output, what it counts as)
    ('status="run">', "", (1, 0, 0)),
    ('status="run">', DOCTEST.format(12, 12, 0, 3), (12, 0, 3)),
    ('status="run">', "[skipped] 1 case\n" + DOCTEST.format(4, 4, 0, 0), (3, 0, 1)),
    ('status="fail"><failure message=""/>', DOCTEST.format(5, 3, 2, 0), (3, 2, 0)),
    ('status="fail"><failure message=""/>', DOCTEST.format(5, 5, 0, 0) + "LeakSanitizer: 8 bytes", (5, 1, 0)),
    ('status="fail"><failure message="Timeout"/>', "no last line", (0, 1, 0)),
    ('status="fail"><failure message=""/>', "", (0, 1, 0)),
    ('status="notrun"><skipped message="SKIP_RETURN_CODE=77"/>', "", (0, 0, 1)),
    ('status="notrun"><skipped message="SKIP_RETURN_CODE=77"/>', "[skipped] 1 case\n" + DOCTEST.format(1, 1, 0, 0), (0, 0, 1)),
    ('status="notrun"><skipped message="Unable to find executable"/>', "", (0, 1, 0)),
]


def self_test():
    wrong = []
    for head, output, wanted in EXAMPLES:
        got = count_test(xml.fromstring(f"<testcase {head}<system-out>{output}</system-out></testcase>"))
        if got != wanted:
            wrong.append(f"{head} {output!r}: {got}, wanted {wanted}")
    with tempfile.TemporaryDirectory() as folder:
        report = os.path.join(folder, "report.xml")
        with open(report, "w", encoding="utf-8") as stream:
            stream.write('<testsuite><testcase name="a" status="run"><system-out/></testcase></testsuite>')
        total = count([report, os.path.join(folder, "none.xml")], 1, False)
        if sentence(total) != "1 passed, 2 failed":
            wrong.append(f"a passed test, a missing report and a broken build: {sentence(total)}")
    return wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--broken", type=int, default=0)
    parser.add_argument("--failures", action="store_true")
    parser.add_argument("--self-test", action="store_true")
    parser.add_argument("reports", nargs="*")
    arguments = parser.parse_args()
    if arguments.self_test:
        wrong = self_test()
        print("\n".join(wrong))
        sys.exit(1 if wrong else 0)
    total = count(arguments.reports, arguments.broken, arguments.failures)
    print(sentence(total))
    sys.exit(1 if total[1] or sum(total) == 0 else 0)


main()
