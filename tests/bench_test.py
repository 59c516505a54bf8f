#!/usr/bin/env python3
"""What script/bench does before it measures: wrong arguments and questions are answered, and nothing is installed for them.

Usage: bench_test.py SOURCE_DIRECTORY
"""

import os
import subprocess
import sys
import tempfile
import unittest

SOURCE = ""


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


if __name__ == "__main__":
    SOURCE = sys.argv.pop(1)
    unittest.main()
