#!/usr/bin/env python3
"""Runs the demos dining_philosophers, skynet and pipeline as a user would, and holds what they say against what is known.

    classic_demos_test.py DEMOS      the folder with the built demos
"""
import collections
import os
import re
import resource
import subprocess
import sys
import tempfile
import unittest

DEMOS = ""
PATIENCE = 300  # seconds until a run counts as hung; sanitizers are slow


def run(demo, *arguments, **more):
    more = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more}
    return subprocess.run([os.path.join(DEMOS, demo), *arguments], stdin=subprocess.DEVNULL, text=True, errors="replace",
                          timeout=PATIENCE, check=False, **more)


class Demo(unittest.TestCase):
    def assert_refused(self, demo, arguments, sentence):
        result = run(demo, *arguments)
        self.assertEqual((result.returncode, result.stdout), (2, ""), arguments)
        self.assertRegex(result.stderr, rf"^{demo}: .*{re.escape(sentence)}.*\n$")

    def assert_fits_a_terminal(self, text):
        for line in text.splitlines():
            self.assertLessEqual(len(line), 80, line)

    def last_line(self, result, pattern):
        self.assertEqual(result.stderr, "")
        match = re.fullmatch(pattern, result.stdout.splitlines()[-1])
        self.assertIsNotNone(match, result.stdout)
        self.assert_fits_a_terminal(result.stdout)
        return [int(number) for number in match.groups()]

    def assert_bad_outputs_are_told(self, demo, *arguments):
        with open("/dev/full", "w", encoding="utf-8") as full:
            result = run(demo, *arguments, stdout=full)
        self.assertEqual((result.returncode, result.stderr), (2, f"{demo}: could not write all of the output\n"))
        # Closed: nothing that the program opens may take the place of its output.
        command = 'exec "$0" "$@" >&- 2>&-'
        result = subprocess.run(["sh", "-c", command, os.path.join(DEMOS, demo), *arguments], timeout=PATIENCE, check=False)
        self.assertEqual(result.returncode, 0)
        help_text = run(demo, "--help")
        self.assertEqual((help_text.returncode, help_text.stderr), (0, ""))
        self.assertTrue(help_text.stdout.startswith(f"Usage: {demo} "))
        self.assert_fits_a_terminal(help_text.stdout)


class DiningPhilosophers(Demo):
    def test_all_eat_in_each_of_three_ways(self):
        for philosophers, meals in ((5, 20), (2, 30), (50, 3)):
            result = run("dining_philosophers", "--philosophers", str(philosophers), "--meals", str(meals))
            self.assertEqual(result.returncode, 0)
            eaten, at_once = self.last_line(result, r"meals=(\d+) most_at_once=(\d+)")
            self.assertEqual(eaten, 3 * philosophers * meals)
            self.assertLessEqual(at_once, philosophers // 2)
            rows = re.findall(r"^  (?:std::scoped_lock|the lower|a waiter)\D*(\d+) +(\d+) ", result.stdout, re.M)
            self.assertEqual([int(eaten) for eaten, _ in rows], [philosophers * meals] * 3)

    def test_two_philosophers_far_apart_eat_at_once(self):
        result = run("dining_philosophers", "--philosophers", "30", "--meals", "30")
        self.assertGreater(self.last_line(result, r"meals=(\d+) most_at_once=(\d+)")[1], 1)

    def test_the_deadlock_is_reported_with_its_circle(self):
        for philosophers in (2, 5, 40):
            result = run("dining_philosophers", "--deadlock", "--philosophers", str(philosophers))
            self.assertEqual(result.returncode, 0, result.stderr)
            self.assert_fits_a_terminal(result.stdout)
            self.assertEqual(result.stdout.splitlines()[-1], f"deadlock=1 in_circle={philosophers}")
            self.assertIn("  philosopher 1 waits for a fork that philosopher 2 has\n", result.stdout)
            self.assertIn("These wait for one another in a circle:", result.stderr)
            waits = re.findall(r'"philosopher (\d+)" waits in mutex \S+ held by thread \d+ "philosopher (\d+)"', result.stderr)
            self.assertEqual({int(a): int(b) for a, b in waits}, {i + 1: (i + 1) % philosophers + 1 for i in range(philosophers)})

    def test_wrong_usage_is_a_sentence_and_status_2(self):
        for arguments, sentence in ((["--philosophers", "1"], "from 2 to 10000"), (["--meals"], "from 1 to 100000"),
                                    (["--meals", "1x"], '"1x"'), (["--quick"], '"--quick"'), (["5"], '"5"')):
            self.assert_refused("dining_philosophers", arguments, sentence)
        self.assert_bad_outputs_are_told("dining_philosophers", "--meals", "1")


class Skynet(Demo):
    LAST = r"sum=(\d+) threads=(\d+) alive_at_once=(\d+) peak_mib=(\d+)"

    def grow(self, *arguments):
        result = run("skynet", *arguments)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("which is right", result.stdout)
        return self.last_line(result, self.LAST)

    def test_the_sum_is_right_for_every_shape(self):
        for width, depth in ((10, 4), (1, 0), (1, 500), (3, 7), (5000, 1), (1, 1)):
            leaves = width ** depth
            threads = sum(width ** level for level in range(depth + 1))
            for order in ("--now", "--later"):
                total, started, *_ = self.grow(order, "--width", str(width), "--depth", str(depth))
                self.assertEqual((total, started), (leaves * (leaves - 1) // 2, threads))

    def test_children_that_run_at_once_leave_few_alive(self):
        few, many = (self.grow(order, "--depth", "4")[2] for order in ("--now", "--later"))
        self.assertLess(few, 300)
        self.assertGreater(many, 10_000)

    @unittest.skipIf("san/" in " ".join(sys.argv), "a million threads take a sanitizer minutes")
    def test_the_default_is_a_million(self):
        self.assertEqual(self.grow()[:2], [499_999_500_000, 1_111_111])

    def test_wrong_usage_is_a_sentence_and_status_2(self):
        for arguments, sentence in ((["--width", "0"], "from 1 to 1000000"), (["--depth", "-1"], "from 0 to 1000"),
                                    (["--depth", "8"], "too many threads"), (["--width", "1000000", "--depth", "1000"], "too many"),
                                    (["--sooner"], '"--sooner"')):
            self.assert_refused("skynet", arguments, sentence)
        self.assert_bad_outputs_are_told("skynet", "--depth", "2")


class Pipeline(Demo):
    LAST = r"files=(\d+) lines=(\d+) words=(\d+) distinct=(\d+)"

    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.files = {}

    def tearDown(self):
        self.folder.cleanup()

    def path(self, name, content):
        path = os.path.join(self.folder.name, name)
        with open(path, "wb") as stream:
            stream.write(content)
        self.files[name] = content
        return path

    def count(self, *arguments, status=0):
        result = run("pipeline", *arguments)
        self.assertEqual(result.returncode, status, result.stderr)
        return result

    def test_counts_are_those_of_wc(self):
        words = "weft threads block like kernel threads and cost like function calls".split()
        paths = [self.path(f"many{i}", "".join(f"{words[j % 11]}{' ' if j % 7 else chr(10)}" for j in range(i * 97)).encode())
                 for i in range(40)]
        paths += [self.path("empty", b""), self.path("no_end", b"a b"), self.path("ends", b"\n\n\n"),
                  self.path("long", b"x" * 200_000 + b" y\n"), self.path("spaces", b" \t a\r\n\v\f b  \n")]
        wc = subprocess.run(["wc", "-lw", *paths], stdout=subprocess.PIPE, text=True, check=True, env={"LC_ALL": "C"}).stdout
        lines, total = map(int, wc.splitlines()[-1].split()[:2])
        times = collections.Counter(b"\n".join(self.files.values()).split())
        for workers in ("1", "3", "100"):
            result = self.count("--workers", workers, "--top", "3", *paths)
            self.assertEqual(self.last_line(result, self.LAST), [len(paths), lines, total, len(times)])
            top = sorted(times.items(), key=lambda item: (-item[1], item[0]))[:3]
            shown = re.findall(r"^  (\d+)  (\S+)$", result.stdout, re.M)
            self.assertEqual(shown, [(str(n), word.decode()) for word, n in top])
            self.assertIn("longest line: 200002 bytes, line 1 of ", result.stdout)

    def test_of_the_longest_lines_the_first_is_told(self):
        paths = [self.path("a", b"no\nlonger a\n"), self.path("b", b"longer b\n"), self.path("c", b"longer c")]
        result = self.count(*paths, *paths, "--workers", "6")
        self.assertIn("longest line: 8 bytes, line 2 of ", result.stdout)
        self.assertIn("  longer a\n", result.stdout)

    def test_without_files_it_reads_its_own_source_from_anywhere(self):
        result = run("pipeline", cwd="/")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(self.last_line(result, self.LAST)[0], 1)
        self.assertIn("demos/pipeline.cpp", result.stdout)

    def test_what_cannot_be_read_is_a_sentence_and_the_rest_is_counted(self):
        good = self.path("good", b"one two\n")
        result = self.count(os.path.join(self.folder.name, "none"), good, self.folder.name, status=2)
        self.assertIn("/none': No such file or directory\n", result.stderr)
        self.assertIn(f"cannot read '{self.folder.name}': Is a directory\n", result.stderr)
        self.assertEqual(result.stdout.splitlines()[-1], "files=1 lines=1 words=2 distinct=2")

    def test_what_is_no_text_does_no_harm_to_a_terminal(self):
        result = self.count(self.path("bytes", bytes(range(256)) + b"\x1b]0;gotcha\a\n"))
        self.last_line(result, self.LAST)
        self.assertRegex(result.stdout, r"\A[ -~\n]*\Z")

    def test_more_files_than_descriptors_are_no_trouble(self):
        paths = [self.path(str(i), b"a\n") for i in range(200)]
        result = run("pipeline", "--workers", "4", *paths, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (24, 24)))
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(self.last_line(result, self.LAST)[:2], [200, 200])

    def test_wrong_usage_is_a_sentence_and_status_2(self):
        for arguments, sentence in ((["--top", "x"], '"x"'), (["--workers", "0"], "from 1 to 1000"), (["--slow"], '"--slow"')):
            self.assert_refused("pipeline", arguments, sentence)
        self.assert_bad_outputs_are_told("pipeline", self.path("a", b"a\n"))
        self.assertEqual(self.count("--", self.path("a", b"a\n")).returncode, 0)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    DEMOS = os.path.abspath(sys.argv.pop(1))
    unittest.main(verbosity=2)
