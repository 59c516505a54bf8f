#!/usr/bin/env python3
"""What script/bench does before it measures: wrong arguments and questions are answered, and nothing is installed for them; and
weft's rows of threads, a thousand operations each: their own checks find no value lost and nothing left behind.

Usage: bench_test.py SOURCE_DIRECTORY BENCH_WEFT
"""

import os
import subprocess
import sys
import tempfile
import unittest

SOURCE = ""
PROGRAM = ""


class Bench(unittest.TestCase):
    def setUp(self):
        """A machine on which nothing is installed, and whose package manager only tells that it was called."""
        self.place = tempfile.TemporaryDirectory()
        self.calls = os.path.join(self.place.name, "calls")
        for program in ("apt-get", "dpkg-query", "sudo"):
            path = os.path.join(self.place.name, program)
            with open(path, "w", encoding="utf-8") as script:
                script.write(f'#!/bin/sh\necho {program} "$@" >>"{self.calls}"\nexit 1\n')
            os.chmod(path, 0o755)

    def tearDown(self):
        self.place.cleanup()

    def run_bench(self, *arguments):
        environment = dict(os.environ, PATH=self.place.name + ":" + os.environ["PATH"])
        command = [os.path.join(SOURCE, "script", "bench"), *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    def packages_asked_for(self):
        if not os.path.exists(self.calls):
            return ""
        with open(self.calls, encoding="utf-8") as calls:
            return calls.read()

    def test_wrong_arguments_are_a_sentence(self):
        unwritable = os.path.join(self.place.name, "missing", "out.json")
        for arguments, status, sentence in [
            (["--nope"], 2, "unrecognized arguments: --nope"),
            (["--filter", "("], 2, "--filter: missing )"),
            (["--rounds", "0"], 2, "--rounds must be at least 1"),
            (["--peers", "some"], 2, "invalid choice: 'some'"),
            (["--json", unwritable], 2, "No such file or directory"),
            (["--filter", "no-such-row"], 1, "no row has such a name; there are: yield-2 "),
        ]:
            with self.subTest(arguments):
                result = self.run_bench(*arguments)
                self.assertEqual(result.returncode, status, result.stderr)
                self.assertIn(sentence, result.stderr)
                self.assertEqual(self.packages_asked_for(), "")

    def test_help_is_help(self):
        result = self.run_bench("--help")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("usage: script/bench", result.stdout)
        self.assertEqual(self.packages_asked_for(), "")

    def test_peers_that_are_not_wanted_are_not_installed(self):
        without = self.run_bench("--peers", "none", "--filter", "^yield-2$")
        self.assertNotIn("golang-go", without.stderr + self.packages_asked_for())
        with_peers = self.run_bench("--filter", "^yield-2$")
        self.assertIn("golang-go", with_peers.stderr + self.packages_asked_for())


class Rows(unittest.TestCase):
    """Which figures come out of which row of weft's program, however small they are."""

    # Rows of a second or of a million, and those that need a load generator, a disk or two cores for themselves, are not run.
    TOO_LONG = ("sleep-", "parked-", "echo-", "pipe-", "read-", "blocking-", "preempt-", "spawn-100k")

    @classmethod
    def setUpClass(cls):
        sys.path.insert(0, os.path.join(SOURCE, "bench"))
        sys.dont_write_bytecode = True
        from rows import ROWS  # pylint: disable=import-outside-toplevel,import-error
        cls.rows = ROWS

    def run_program(self, *arguments):
        environment = dict(os.environ, WEFT_BENCH_OPERATIONS="1000")
        return subprocess.run([PROGRAM, *arguments], env=environment, capture_output=True, text=True, check=False)

    def test_the_program_has_every_row_of_the_table(self):
        has = self.run_program().stdout.split()
        for row in self.rows:
            with self.subTest(row.name):
                self.assertIn(row.run_as, has)

    def test_rows_print_their_figures_and_those_that_they_are_said_to_print(self):
        names = [row.name for row in self.rows if not row.printed_by and not row.name.startswith(self.TOO_LONG)]
        for new in ("select-2", "select-100", "channel-mpmc-8", "nursery-1000", "cancel-10k", "skynet-1m", "skynet-1m-later"):
            self.assertIn(new, names)
        for name in names:
            with self.subTest(name):
                result = self.run_program(name)
                self.assertEqual(result.returncode, 0, result.stderr)
                printed = dict(line.split("=") for line in result.stdout.splitlines())
                wanted = {row.name for row in self.rows if row.run_as == name}
                self.assertEqual(set(printed), wanted)
                for figure in printed.values():
                    self.assertGreater(float(figure), 0)

    def test_a_row_that_does_not_exist_is_a_sentence(self):
        result = self.run_program("no-such-row")
        self.assertEqual(result.returncode, 1)
        self.assertEqual(result.stderr, "no row is called no-such-row\n")


if __name__ == "__main__":
    SOURCE = sys.argv.pop(1)
    PROGRAM = sys.argv.pop(1)
    unittest.main()
