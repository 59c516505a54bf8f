#!/usr/bin/env python3
"""Runs the demos as a user would and holds what they print against what grep, sockets and signals say.

    demo_test.py DEMOS      the folder with the built demos
"""
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import unittest
import xml.etree.ElementTree

DEMOS = ""
LAST_LINE = re.compile(
    r"files=(\d+) matching_lines=(\d+) blocked=(\d+) unblocked=(\d+) preempted=(\d+) longest_gap_ms=\d+\.\d+ wall_ms=\d+\.\d+")
PATIENCE = 100  # seconds until a run counts as hung; sanitizers are slow
NOBODY = 65534

# File contents by name. Every oddity of which grep -c has an opinion of its own.
TREE = {
    "plain": b"weft\nno\nweft weft\n", "no_line_end": b"no\nweft", "empty": b"", "only_line_ends": b"\n\n\n",
    "binary": b"weft\0weft\nweft\0\n", "binary_no_end": b"a\nweft\0weft\0weft", "zeros": bytes(70_000),
    "nul_after_a_buffer": b"weft\n" * 30_000 + b"\0weft\0weft\n", "latin_1": b"\xe9weft\nweft\xe9\n", "dos": b"weft\r\nno\r\n",
    "one_huge_line": b"x" * 200_000 + b"weft" + b"y" * 200_000 + b"weft", "across_buffers": b"x" * 32_766 + b"weft\n",
    "below/deep/er/plain": b"weft\n", "below/with space\nand line break": b"weft\n", "-dash": b"weft\n",
}


def made_tree():
    root = tempfile.mkdtemp(prefix="weft-demo-test-")
    files = {**TREE, **{f"many/{i}": b"weft\n" * (i % 3) for i in range(120)}}
    for name, content in files.items():
        path = os.path.join(root, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as stream:
            stream.write(content)
    os.symlink("plain", os.path.join(root, "link"))
    os.symlink(".", os.path.join(root, "below", "circle"))
    os.symlink("nowhere", os.path.join(root, "dangling"))
    os.mkfifo(os.path.join(root, "below", "fifo"))
    os.chmod(root, 0o755)
    return root


def run(demo, *arguments, **more):
    return subprocess.run([os.path.join(DEMOS, demo), *arguments], stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, errors="replace", timeout=PATIENCE, check=False, **more)


def grep(pattern, *paths):
    """(files, matching lines) by grep -r -c -F."""
    found = subprocess.run(["grep", "-r", "-c", "-F", "-Z", "-e", pattern, "--", *paths], stdin=subprocess.DEVNULL,
                           stdout=subprocess.PIPE, check=False).stdout
    counts = [int(count) for count in re.findall(rb"\0(\d+)\n", found)]
    return len(counts), sum(counts)


class Hello(unittest.TestCase):
    def test_two_threads_and_a_channel_print_four_words_in_order(self):
        result = run("hello")
        self.assertEqual((result.returncode, result.stdout, result.stderr), (0, "hello\nfrom\ntwo\nthreads\n", ""))


class BlockingIo(unittest.TestCase):
    def setUp(self):
        self.root = made_tree()
        self.trace = self.root + ".trace.json"
        self.environment = {**os.environ, "WEFT_TRACE": self.trace}

    def tearDown(self):
        shutil.rmtree(self.root)
        if os.path.exists(self.trace):
            os.remove(self.trace)

    def search(self, *arguments, **environment):
        """Runs the demo. @returns its result and the numbers of its last line."""
        result = run("blocking_io", *arguments, env={**self.environment, **environment})
        lines = result.stdout.splitlines()
        match = LAST_LINE.fullmatch(lines[-1]) if lines else None
        self.assertIsNotNone(match, f"status {result.returncode}, no last line in:\n{result.stdout}\n{result.stderr}")
        return result, [int(number) for number in match.groups()]

    def assert_same_as_grep(self, pattern, *paths, **environment):
        result, (files, lines, *_) = self.search("--", pattern, *paths, **environment)
        self.assertEqual((files, lines), grep(pattern, *paths), result.stderr)
        self.assertEqual(result.returncode, 0 if lines else 1, result.stderr)

    def test_totals_are_those_of_grep(self):
        for pattern in ("weft", "w", "weft weft", "xweft", "eft\r", "-", "é", "not there at all"):
            with self.subTest(pattern=pattern):
                self.assert_same_as_grep(pattern, self.root)

    def test_paths_are_taken_as_grep_takes_them(self):
        at = [os.path.join(self.root, name) for name in ("link", "below/circle", "plain", "plain", "-dash", "empty")]
        self.assert_same_as_grep("weft", *at)
        self.assert_same_as_grep("weft", self.root + "/", *at)

    def test_the_other_ways_and_grep_agree_with_weft(self):
        self.assertIn("read(2), the kernel threads and grep -c -F count the same", self.search("weft", self.root)[0].stdout)

    def test_the_report_has_all_its_parts(self):
        result, (_, lines, blocked, unblocked, preempted) = self.search("weft", self.root)
        for part in ("one after another", "a kernel thread per file", "weft, a thread per file", "most lines", "status page",
                     "sort (pid", "heartbeat", "blocked", "unblocked", "preempted", "Timeline", "# ran", self.trace):
            self.assertIn(part, result.stdout)
        self.assertGreater(lines, 0)
        self.assertGreater(blocked, 0)
        self.assertEqual(unblocked, blocked)
        self.assertEqual(preempted, 0)

    def test_the_report_keeps_to_the_width_of_the_terminal(self):
        for columns in (80, 120):
            result, _ = self.search("weft", self.root, COLUMNS=str(columns))
            widest = max(result.stdout.replace(self.trace, "").splitlines()[:-1], key=len)
            self.assertLessEqual(len(widest), columns, widest)

    def test_signals_in_mid_run_lose_nothing(self):
        paths = [self.root] * 20
        with subprocess.Popen([os.path.join(DEMOS, "blocking_io"), "--weft-only", "weft", *paths], env=self.environment,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as demo:
            while demo.poll() is None:
                for number in (signal.SIGSTOP, signal.SIGCHLD, signal.SIGWINCH, signal.SIGCONT):
                    demo.send_signal(number)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    demo.wait(0.002)
            last = demo.stdout.read().splitlines()[-1]
            self.assertEqual(demo.returncode, 0, demo.stderr.read())
        files, lines = grep("weft", *paths)
        self.assertIn(f"files={files} matching_lines={lines} ", last)

    def test_ctrl_c_in_mid_run_loses_nothing(self):
        paths = [self.root] * 40
        for number, options in ((signal.SIGINT, ["--weft-only"]), (signal.SIGTERM, ["--weft-only"]), (signal.SIGINT, [])):
            with self.subTest(signal=number, options=options), \
                 subprocess.Popen([os.path.join(DEMOS, "blocking_io"), *options, "weft", *paths], env=self.environment,
                                  stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as demo:
                while "three ways" not in demo.stdout.readline():
                    self.assertIsNone(demo.poll())
                demo.send_signal(number)
                out, err = demo.communicate(timeout=PATIENCE)
                match = LAST_LINE.fullmatch(out.splitlines()[-1])
                self.assertIsNotNone(match, out + err)
                files, _, blocked, unblocked, _ = (int(n) for n in match.groups())
                self.assertEqual(demo.returncode, 2, err)
                self.assertIn(f"{number.name} ended it early: {files:,} of ", err)
                self.assertIn(f"{files:,} counts in, {files:,} back", out)
                self.assertEqual(blocked, unblocked)
                self.assertIn(self.trace, out)
                with open(self.trace, encoding="utf-8") as stream:
                    json.load(stream)

    def test_a_trace_that_cannot_be_written_is_not_announced(self):
        for place, why in ((self.root, "Is a directory"), ("/dev/full", "No space left on device")):
            result, _ = self.search("--weft-only", "weft", self.root, WEFT_TRACE=place)
            self.assertNotIn("Trace of", result.stdout)
            self.assertIn(f'the trace cannot be written to "{place}": {why}', result.stderr)

    def test_a_bad_transfer_engine_is_told_before_anything_is_done(self):
        result = run("blocking_io", "weft", self.root, env={**self.environment, "WEFT_TRANSFER": "fast"})
        self.assertEqual((result.returncode, result.stdout), (2, ""))
        self.assertIn("WEFT_TRANSFER is 'fast'", result.stderr)

    def test_the_trace_is_json_that_names_the_threads(self):
        self.search("--weft-only", "weft", self.root)
        with open(self.trace, encoding="utf-8") as stream:
            trace = json.load(stream)
        events = trace["traceEvents"] if isinstance(trace, dict) else trace
        names = {event.get("args", {}).get("name", "") for event in events if event.get("name") == "thread_name"}
        for name in ("one_huge_line", "heartbeat", "status page", "client"):
            self.assertTrue(any(name in there for there in names), f"no row named {name}")

    def test_the_sort_child_gives_back_the_fullest_files(self):
        result, (files, *_) = self.search("weft", self.root)
        self.assertIn(f"{files} counts in, {files} back", result.stdout)
        self.assertRegex(result.stdout, r"most lines +30,00\d  .*nul_after_a_buffer\n")

    def test_what_cannot_be_searched_is_told_and_the_rest_is_searched(self):
        gone, fifo = os.path.join(self.root, "gone"), os.path.join(self.root, "below", "fifo")
        result, (files, lines, *_) = self.search("weft", gone, fifo, "/dev/null", "-", self.root)
        self.assertEqual((files, lines), grep("weft", self.root))
        self.assertEqual(result.returncode, 2)
        for sentence in (f"cannot search '{gone}': No such file or directory", f"'{fifo}' is a pipe (FIFO), not a file",
                         "'/dev/null' is a device", "standard input ('-') is not searched", f"as by grep -r: {fifo}\n",
                         "as for grep -c: "):
            self.assertIn(sentence, result.stderr)

    def test_nothing_to_search_is_no_match(self):
        empty = os.path.join(self.root, "nothing")
        os.mkdir(empty)
        result, (files, lines, *_) = self.search("weft", empty)
        self.assertEqual((files, lines, result.returncode), (0, 0, 1), result.stderr)

    def run_with_descriptors(self, count):
        import resource  # here, because only these tests bend the limits of their children
        return run("blocking_io", "weft", self.root, env=self.environment,
                   preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (count, count)))

    def test_few_descriptors_suffice(self):
        for count in (65, 80):
            result = self.run_with_descriptors(count)
            self.assertEqual(result.returncode, 0, result.stderr)
            self.assertIn(f"files={grep('weft', self.root)[0]} ", result.stdout.splitlines()[-1])

    def test_too_few_descriptors_are_a_sentence_and_status_2(self):
        for count in (12, 64):
            result = self.run_with_descriptors(count)
            self.assertEqual((result.returncode, result.stdout), (2, ""))
            self.assertIn(f"only {count} files may be open at once, and the demo needs 65 at least", result.stderr)

    def test_limit_searches_so_many_files(self):
        result, (files, *_) = self.search("--limit", "10", "--at-once", "3", "--warm", "weft", self.root)
        self.assertEqual(files, 10)
        self.assertIn("10 of the ", result.stdout)

    def test_unreadable_files_and_directories_get_a_sentence_each(self):
        secret, closed = os.path.join(self.root, "secret"), os.path.join(self.root, "closed")
        with open(secret, "w", encoding="utf-8") as stream:
            stream.write("weft\n")
        os.mkdir(closed)
        files, lines = grep("weft", self.root)
        os.chmod(secret, 0)
        os.chmod(closed, 0)
        someone = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}
        try:
            result = run("blocking_io", "weft", self.root, env={**os.environ, "WEFT_TRACE": ""}, cwd="/", **someone)
        except PermissionError:
            self.skipTest("user nobody may not run the demo where it is")
        if result.returncode == 127 or "error while loading shared libraries" in result.stderr:
            self.skipTest("user nobody may not load the library where it is")
        self.assertEqual(result.returncode, 2, result.stderr)
        self.assertIn(f"cannot read '{secret}': Permission denied", result.stderr)
        self.assertIn(f"cannot read the directory '{closed}': Permission denied", result.stderr)
        self.assertIn(f"files={files - 1} matching_lines={lines - 1} ", result.stdout.splitlines()[-1])
        for trace in re.findall(r"^Trace of .*: (/.*)$", result.stdout, re.M):
            if trace.startswith(tempfile.gettempdir()):
                os.remove(trace)

    def test_wrong_usage_is_a_sentence_and_status_2(self):
        for arguments, sentence in (([""], "the pattern is empty"), (["a\nb"], "the pattern has a line break"),
                                    (["--fast"], 'there is no option "--fast"'), (["--limit"], "--limit wants a number"),
                                    (["--limit", "1x"], "--limit wants a number"), (["--at-once", "0"], "from 1")):
            result = run("blocking_io", *arguments)
            self.assertEqual((result.returncode, result.stdout), (2, ""), arguments)
            self.assertIn(sentence, result.stderr)
        self.assertIn("Usage: blocking_io", run("blocking_io", "--help").stdout)


class Frozen(unittest.TestCase):
    LAST = re.compile(r"plain_gap_ms=(\d+\.\d) regions_gap_ms=(\d+\.\d)")

    def test_regions_keep_the_heart_beating_where_plain_calls_stop_it(self):
        with tempfile.TemporaryDirectory() as folder:
            result = run("frozen", "--quick", env={**os.environ, "WEFT_TRACE": "", "TMPDIR": folder})
            self.assertEqual((result.returncode, result.stderr), (0, ""))
            self.assertEqual(os.listdir(folder), [], "a trace was left behind")
        for part in ("plain calls", "weft::blocking", "the heart stopped for at most", "processor", "heartbeat", "flock a file"):
            self.assertIn(part, result.stdout)
        self.assertEqual(result.stdout.count("# ran"), 2, "two timelines")
        last = self.LAST.fullmatch(result.stdout.splitlines()[-1])
        self.assertIsNotNone(last, result.stdout)
        self.assertGreater(float(last[1]), 15 + 22)  # plain: the two that sleep freeze all, one after the other

    def test_a_trace_of_each_run_is_kept_where_the_user_says(self):
        with tempfile.TemporaryDirectory() as folder:
            trace = os.path.join(folder, "kept.json")
            self.assertEqual(run("frozen", "--quick", env={**os.environ, "WEFT_TRACE": trace}).returncode, 0)
            for name in (trace, trace + ".2"):
                with open(name, encoding="utf-8") as stream:
                    self.assertIn("heartbeat", stream.read())

    def test_what_cannot_be_done_is_a_sentence_and_status_2(self):
        for arguments, more, sentence in ((["--fast"], {}, 'not "--fast"'), (["--quick"], {"TMPDIR": "/nowhere"}, "/nowhere"),
                                          (["--quick"], {"PATH": "/nowhere"}, "cannot start the program sleep")):
            result = run("frozen", *arguments, env={**os.environ, "WEFT_TRACE": "", **more})
            self.assertEqual((result.returncode, result.stdout), (2, ""), arguments)
            self.assertIn(sentence, result.stderr)
        self.assertIn("Usage: frozen", run("frozen", "--help").stdout)


class NullFork(unittest.TestCase):
    def test_the_table_has_four_systems_and_the_papers_figures(self):
        result = run("null_fork", "--quick")
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        for row in ("processes .*11300 +1840", "kernel threads .* 948 +441", "weft, without activations .* 34 +37",
                    "weft, activations standing by .* 37 +42"):
            self.assertRegex(result.stdout, row)
        pair = r"\d+\.\d+/\d+\.\d+"
        self.assertRegex(result.stdout.splitlines()[-1], f"^processes={pair} kernel_threads={pair} without={pair} with={pair}$")

    def test_wrong_usage_is_a_sentence_and_status_2(self):
        result = run("null_fork", "--fast")
        self.assertEqual((result.returncode, result.stdout), (2, ""))
        self.assertIn('not "--fast"', result.stderr)
        self.assertIn("Usage: null_fork", run("null_fork", "--help").stdout)


class NBody(unittest.TestCase):
    def test_three_kinds_of_threads_compute_the_same_and_are_drawn(self):
        with tempfile.TemporaryDirectory() as folder:
            picture = os.path.join(folder, "out.svg")
            result = run("nbody", "--quick", picture)
            self.assertEqual((result.returncode, result.stderr), (0, ""))
            drawn = xml.etree.ElementTree.parse(picture).getroot()
        for percent in (100, 80, 60):
            self.assertRegex(result.stdout, rf"\n +{percent} % ( \| +\d+\.\d ms +\d+ *){{3}}\n")
        self.assertRegex(result.stdout, r" 100 % ( \| +\d+\.\d ms +0 *){3}\n", "a miss with all of the memory")
        self.assertIn("All runs computed the same", result.stdout)
        times = r"\d+\.\d/\d+\.\d"
        self.assertRegex(result.stdout.splitlines()[-1],
                         f"^crossing=(\\d+|none) kernel_ms={times} plain_ms={times} upcalls_ms={times}$")
        svg = "{http://www.w3.org/2000/svg}"
        self.assertEqual(drawn.tag, svg + "svg")
        self.assertEqual(len(drawn.findall(svg + "polyline")), 3)
        words = [text.text for text in drawn.iter(svg + "text")]
        for text in ("100 %", "60 %", "execution time, s", "kernel threads"):
            self.assertIn(text, words)

    def test_what_cannot_be_done_is_a_sentence_and_status_2(self):
        for arguments, sentence in ((["--fast"], 'not "--fast"'), (["a.svg", "b.svg"], 'not "b.svg"'), (["--miss-us"], "1 to 1000000"),
                                    (["--miss-us", "0"], "1 to 1000000"), (["/nowhere/x.svg"], "cannot write /nowhere/x.svg: No")):
            result = run("nbody", *arguments)
            self.assertEqual((result.returncode, result.stdout), (2, ""), arguments)
            self.assertIn(sentence, result.stderr)
        self.assertIn("Usage: nbody", run("nbody", "--help").stdout)


class EchoServer(unittest.TestCase):
    def setUp(self):
        self.server = subprocess.Popen([os.path.join(DEMOS, "echo_server")], stdout=subprocess.PIPE,
                                       stderr=subprocess.PIPE, text=True)
        line = self.server.stdout.readline()
        match = re.fullmatch(r"listening on 127\.0\.0\.1:(\d+)\n", line)
        self.assertIsNotNone(match, line + (self.server.stderr.read() if not line else ""))
        self.port = int(match[1])

    def tearDown(self):
        if self.server.poll() is None:
            self.server.kill()
        self.server.communicate()

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)

    def echo(self, connection, data):
        """Sends `data` and @returns what comes back; a kernel thread sends, so that large data cannot jam."""
        sender = threading.Thread(target=connection.sendall, args=(data,))
        sender.start()
        back = bytearray()
        while len(back) < len(data):
            piece = connection.recv(65536)
            if not piece:
                break
            back += piece
        sender.join()
        return bytes(back)

    def end_with(self, number):
        self.server.send_signal(number)
        out, err = self.server.communicate(timeout=PATIENCE)
        self.assertEqual((self.server.returncode, err), (0, ""))
        return out

    def test_a_hundred_connections_at_once_get_their_own_words_back(self):
        peers = [self.connect() for _ in range(100)]
        for turn in range(3):
            for number, peer in enumerate(peers):
                peer.sendall(f"turn {turn} of {number}\n".encode())
            for number, peer in enumerate(peers):
                words = f"turn {turn} of {number}\n".encode()
                self.assertEqual(peer.recv(len(words), socket.MSG_WAITALL), words)
        for peer in peers:
            peer.close()
        self.assertIn("SIGINT: the end, after 100 connections", self.end_with(signal.SIGINT))

    def test_a_megabyte_comes_back_whole(self):
        data = os.urandom(1 << 20)
        with self.connect() as peer:
            self.assertEqual(self.echo(peer, data), data)
            peer.shutdown(socket.SHUT_WR)
            self.assertEqual(peer.recv(1), b"")  # it ends when we do

    def test_ctrl_c_ends_it_cleanly_with_connections_open(self):
        with self.connect() as peer:
            self.assertEqual(self.echo(peer, b"still there"), b"still there")
            self.end_with(signal.SIGINT)
            self.assertEqual(peer.recv(1), b"")

    def test_sigterm_ends_it_too(self):
        self.assertIn("SIGTERM", self.end_with(signal.SIGTERM))

    def test_a_peer_that_resets_hurts_nobody(self):
        rude = self.connect()
        rude.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        rude.sendall(b"x" * 100_000)
        rude.close()
        with self.connect() as peer:
            self.assertEqual(self.echo(peer, b"hello"), b"hello")

    def test_wrong_ports_are_a_sentence_and_status_2(self):
        taken = str(self.port)
        for arguments, sentence in ((["--port", "x"], "--port wants a number"), (["--port", "65536"], "--port wants a number"),
                                    (["--port"], "--port wants a number"), (["7777"], 'not "7777"'), (["--port", taken], taken)):
            result = run("echo_server", *arguments)
            self.assertEqual(result.returncode, 2, arguments)
            self.assertIn(sentence, result.stderr)
        self.assertIn("Usage: echo_server", run("echo_server", "--help").stdout)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    DEMOS = sys.argv.pop(1)
    unittest.main(verbosity=2)
