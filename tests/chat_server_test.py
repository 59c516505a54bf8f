#!/usr/bin/env python3
"""Talks to the chat server as friends, strangers and enemies would, through sockets and through nc.

    chat_server_test.py DEMOS      the folder with the built demos
"""
import contextlib
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
import unittest

DEMOS = ""
PATIENCE = 120  # seconds until something counts as hung; sanitizers are slow
RESET = b"\1\0\0\0\0\0\0\0"  # SO_LINGER: close by a reset


class Client:
    """Somebody who chats. Reads lines; whoever waits for one that does not come fails."""

    def __init__(self, port, receive_buffer=None):
        self.socket = socket.socket()
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(PATIENCE)
        self.socket.connect(("127.0.0.1", port))
        self.stream = self.socket.makefile("rb")

    def say(self, text):
        self.send(text.encode() + b"\n")

    def send(self, data):
        self.socket.sendall(data)

    def line(self):
        """The next line without its end; None when the server has closed."""
        line = self.stream.readline()
        return line.decode().rstrip("\n") if line else None

    def until(self, text):
        """All lines up to the first that contains `text`."""
        lines = []
        while True:
            line = self.line()
            if line is None:
                raise AssertionError(f"the server closed before {text!r}; it said {lines[-20:]}")
            lines.append(line)
            if text in line:
                return lines

    def rest(self):
        lines = []
        while (line := self.line()) is not None:
            lines.append(line)
        return lines

    def named(self, name):
        self.say(f"/nick {name}")
        self.until(f"is now {name}")
        return self

    def close(self, reset=False):
        if reset:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.stream.close()
        self.socket.close()


class ChatServer(unittest.TestCase):
    def start(self, *arguments, **more):
        self.server = subprocess.Popen([os.path.join(DEMOS, "chat_server"), *arguments], stdout=subprocess.PIPE,
                                       stderr=subprocess.PIPE, text=True, **more)
        self.addCleanup(self.clean_up)
        line = self.server.stdout.readline()
        match = re.fullmatch(r"listening on 127\.0\.0\.1:(\d+)\n", line)
        self.assertIsNotNone(match, line + (self.server.stderr.read() if not line else ""))
        self.port = int(match[1])

    def clean_up(self):
        if self.server.poll() is None:
            self.server.kill()
        self.server.communicate()

    def join(self, name, **more):
        client = Client(self.port, **more)
        self.addCleanup(client.close)
        return client.named(name)

    def end(self, number=signal.SIGINT):
        """Ends the server. @returns what it printed."""
        self.server.send_signal(number)
        out, err = self.server.communicate(timeout=PATIENCE)
        self.assertEqual((self.server.returncode, err), (0, ""))
        return out


class Manners(ChatServer):
    def setUp(self):
        self.start()

    def test_what_one_says_all_others_in_the_room_hear(self):
        anna, bert, carl = (self.join(name) for name in ("anna", "bert", "carl"))
        anna.say("hello")
        self.assertEqual(bert.until("<")[-1], "<anna> hello")
        self.assertEqual(carl.until("<")[-1], "<anna> hello")
        bert.say("/join kitchen")
        bert.until("bert is in kitchen")
        anna.until("* bert went to kitchen")
        bert.say("anybody?")
        carl.say("/join kitchen")
        bert.until("* carl is in kitchen")
        carl.say("me")
        self.assertEqual(bert.line(), "<carl> me")
        bert.say("/msg anna psst")
        self.assertEqual(anna.until("[")[-1], "[bert] psst")
        anna.say("/who")
        self.assertEqual(anna.until("kitchen:")[-3:], ["* Here: 3 people", "*   lobby: anna", "*   kitchen: bert carl"])
        bert.say("/quit")
        self.assertEqual(bert.rest()[-1], "* Goodbye.")
        self.assertEqual(carl.until("left")[-1], "* bert has left")
        anna.say("/who")
        self.assertNotIn("bert", " ".join(anna.until("kitchen:")))

    def test_mistakes_are_told_to_who_made_them(self):
        anna, bert = self.join("anna"), self.join("bert")
        for line, answer in (("/nick bert", "! Somebody else is bert."), ("/nick", "! A name is"), ("/nick a.b", "! A name is"),
                             ("/nick " + "x" * 21, "! A name is"), ("/nick anna", "! You are anna already."),
                             ("/nick *", "! A name is"), ("/join", "! A room's name is"), ("/join lobby", "! You are in lobby"),
                             ("/msg", "! It takes a name"), ("/msg bert", "! It takes a name"), ("/msg eve x", "! Nobody is called eve"),
                             ("/dance", "! There is no command /dance;"), ("/", "! There is no command /;")):
            anna.say(line)
            self.assertTrue(anna.until("!")[-1].startswith(answer), line)
        anna.say("   ")
        anna.say("/help")
        for line in anna.until("/quit"):
            self.assertLessEqual(len(line), 80)
        anna.say("only this was heard")
        self.assertEqual(bert.line(), "<anna> only this was heard")

    def test_half_lines_are_put_together_and_the_last_one_needs_no_end(self):
        anna, bert = self.join("anna"), self.join("bert")
        for byte in b"slow typing\r\n":
            anna.send(bytes([byte]))
        self.assertEqual(bert.line(), "<anna> slow typing")
        anna.send(b"one\ntwo\nthr")
        anna.send(b"ee")
        anna.socket.shutdown(socket.SHUT_WR)
        self.assertEqual([bert.line() for _ in range(4)], ["<anna> one", "<anna> two", "<anna> three", "* anna has left"])
        self.assertEqual(anna.rest()[-1], "* guest2 is now bert")  # and then the end

    def test_lines_that_are_too_long_are_dropped_and_told(self):
        anna, bert = self.join("anna"), self.join("bert")
        for end in (b"\n", b"\r\n"):
            anna.send(b"x" * 1000 + end)
            self.assertEqual(bert.line(), "<anna> " + "x" * 1000)
            for length in (1001, 1002, 5000, 3_000_000):
                anna.send(b"y" * length + end)
                self.assertEqual(anna.until("!")[-1], "! That line was longer than 1000 bytes; nobody has heard it.")
            anna.send(b"ok" + end)
            self.assertEqual(bert.line(), "<anna> ok")
        self.assertLess(self.memory(), 100 << 20)

    def memory(self):
        with open(f"/proc/{self.server.pid}/status", encoding="ascii") as status:
            if "asan" in DEMOS or "tsan" in DEMOS:  # sanitizers have their own idea of memory
                return 0
            return int(re.search(r"VmRSS:\s+(\d+) kB", status.read())[1]) << 10

    def test_bytes_that_are_no_text_do_no_harm(self):
        anna, bert = self.join("anna"), self.join("bert")
        anna.send(bytes(b for b in range(256) if b not in b"\n"))
        anna.send("\n\x1b[2J grüße 世界 \u202e\u0085 🙂\t.\n".encode() + b"\xc0\xaf \xed\xa0\x80 \xf5 \xe4\xb8\n")
        heard = [bert.stream.readline() for _ in range(3)]
        for line in heard:
            text = line.decode()  # throws where it is no UTF-8
            self.assertNotRegex(text[:-1], r"[\x00-\x1f\x7f-\x9f\u2028-\u202e]")
        self.assertEqual(heard[1].decode(), "<anna> ?[2J grüße 世界 ????? 🙂 .\n")
        self.assertEqual(heard[2].decode(), "<anna> ?? ??? ? ??\n")

    def test_who_drops_or_resets_is_gone_and_nobody_minds(self):
        anna = self.join("anna")
        for i in range(30):
            rude = Client(self.port)
            rude.send(b"/nick rude\nhal" if i % 2 else b"")
            rude.close(reset=i % 3 == 0)
            self.assertIn("has left", anna.until("has left")[-1])
        anna.say("/who")
        self.assertEqual(anna.until("lobby")[-2:], ["* Here: 1 person", "*   lobby: anna"])

    def test_nothing_is_left_of_those_who_left(self):
        anna = self.join("anna")
        descriptors = f"/proc/{self.server.pid}/fd"
        before = len(os.listdir(descriptors))
        for _ in range(100):
            Client(self.port).close()
            anna.until("has left")
        end = time.monotonic() + PATIENCE
        while len(os.listdir(descriptors)) > before and time.monotonic() < end:
            time.sleep(0.01)  # what was closed last may be on its way
        self.assertEqual(len(os.listdir(descriptors)), before)

    def test_all_are_told_of_the_end(self):
        clients = [self.join(f"n{i}") for i in range(20)]
        self.server.send_signal(signal.SIGTERM)
        for client in clients:
            self.assertEqual(client.rest()[-1], "* The server ends. Goodbye.")
            client.close()
        out, err = self.server.communicate(timeout=PATIENCE)
        self.assertEqual((self.server.returncode, err), (0, ""))
        self.assertEqual(out, "SIGTERM: the end, after 20 clients\n")

    @unittest.skipUnless(shutil.which("nc"), "nc is not installed (script/setup test)")
    def test_nc_is_all_it_takes(self):
        anna = self.join("anna")
        talk = ["nc", "-N", "127.0.0.1", str(self.port)]
        bert = subprocess.run(talk, input="/nick bert\nhello from nc\n/who\n/quit\n", stdout=subprocess.PIPE, text=True,
                              timeout=PATIENCE, check=True).stdout
        self.assertEqual(anna.until("left")[-2:], ["<bert> hello from nc", "* bert has left"])
        self.assertEqual(bert.splitlines()[-3:], ["* Here: 2 people", "*   lobby: anna bert", "* Goodbye."])
        with subprocess.Popen(talk[:1] + talk[2:], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as carl:
            self.assertIn("Welcome", carl.stdout.readline())
            self.assertIn("SIGINT: the end", self.end())
            self.assertEqual(carl.communicate(timeout=PATIENCE)[0].splitlines()[-1], "* The server ends. Goodbye.")


class Enemies(ChatServer):
    def flood(self, talker, listener, until):
        """Talks, no faster than `listener` hears it, until `until(line number)` is true."""
        number = 0
        while not until(number):
            number += 1
            talker.say(f"{number} " + "x" * 900)
            listener.until(f"> {number} ")

    def test_one_who_reads_slowly_loses_lines_and_holds_up_nobody(self):
        self.start("--patience", "3600")
        slow = self.join("slow", receive_buffer=4096)
        talker, listener = self.join("talker"), self.join("listener")
        said = self.more_than_fits()
        self.flood(talker, listener, lambda number: number == said)
        heard = lost = 0
        for number in range(1_000_000):  # reads, and is spoken to, until there is room again and it is told
            if number % 100 == 0:
                talker.say("/msg slow awake?")
                said += 1
            line = slow.line()
            told = re.fullmatch(r"! You read too slowly; lines lost here: (\d+)", line)
            if told:
                lost = int(told[1])
                break
            heard += line.startswith(("<talker>", "[talker]"))
        talker.say("/msg slow the last one")
        heard += len(slow.until("the last one")) - 1
        self.assertGreater(lost, 0)
        self.assertGreater(heard, 256)
        self.assertEqual(heard + lost, said)

    @staticmethod
    def more_than_fits():
        """Lines that are more than the kernel keeps for a connection of which nothing is read."""
        with open("/proc/sys/net/ipv4/tcp_wmem", encoding="ascii") as limits:
            return int(limits.read().split()[2]) // 900 + 2000

    def test_one_who_reads_nothing_is_left(self):
        self.start("--patience", "1")
        self.join("mute", receive_buffer=4096)
        talker, listener = self.join("talker"), self.join("listener")
        gone = []

        def mute_has_left(number):
            if number % 100 == 0:
                listener.say("/who")
                here = " ".join(listener.until("lobby"))
                gone.append("mute" not in here)
            return gone[-1] or number > 200_000

        self.flood(talker, listener, mute_has_left)
        self.assertTrue(gone[-1])

    def test_a_flood_leaves_others_their_turn(self):
        self.start()
        anna, bert = self.join("anna"), self.join("bert")
        enemies = [(Client(self.port), b"/who\n" * 5000), (Client(self.port), b"x" * 25_000)]
        for enemy, _ in enemies:
            self.addCleanup(enemy.close)
            enemy.say("/join elsewhere")
            enemy.socket.setblocking(False)
        for number in range(200):
            for enemy, flood in enemies * 20:
                with contextlib.suppress(BlockingIOError):
                    enemy.socket.send(flood)
            anna.say(f"word {number}")
            self.assertEqual(bert.until("<anna>")[-1], f"<anna> word {number}")

    def test_more_than_the_server_takes_are_turned_away(self):
        self.start("--clients", "2")
        anna, bert = self.join("anna"), self.join("bert")
        third = Client(self.port)
        self.assertEqual(third.rest(), ["! The chat is full; try again later."])
        third.close()
        bert.say("/quit")
        bert.rest()
        bert.close()
        anna.until("bert has left")
        end = time.monotonic() + PATIENCE
        while True:  # bert's thread ends a moment after he left
            carl = Client(self.port)
            self.addCleanup(carl.close)
            if "Welcome" in carl.line():
                break
            self.assertLess(time.monotonic(), end)
        anna.until("is here")

    @unittest.skipIf("asan/" in " ".join(sys.argv), "UBSan opens a pipe to look at a type, and ends the program where it cannot")
    def test_few_descriptors_are_a_sentence_and_those_who_wait_come_in_later(self):
        self.start(preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (24, 24)))
        clients = [Client(self.port) for _ in range(40)]
        for client in clients:
            self.addCleanup(client.close)
        self.assertEqual(self.server.stderr.readline(), "chat_server: cannot take another client for now: Too many open files\n")
        for client in clients:
            self.assertIn("Welcome", client.line())
            client.close()
        self.server.send_signal(signal.SIGINT)
        self.assertIn("after 40 clients", self.server.communicate(timeout=PATIENCE)[0])

    def test_the_end_does_not_wait_for_one_who_reads_nothing(self):
        for second_signal in (False, True):
            self.start("--patience", "3600")
            self.join("mute", receive_buffer=4096)
            talker, listener = self.join("talker"), self.join("listener")
            enough = self.more_than_fits()
            self.flood(talker, listener, lambda number: number == enough)
            self.server.send_signal(signal.SIGINT)
            self.assertEqual(listener.rest()[-1], "* The server ends. Goodbye.")
            if second_signal:
                self.server.send_signal(signal.SIGTERM)
            out, err = self.server.communicate(timeout=PATIENCE)
            self.assertEqual((self.server.returncode, out, err), (0, "SIGINT: the end, after 3 clients\n", ""))

    def test_an_output_that_nobody_reads_does_not_end_the_chat(self):
        self.start()
        self.server.stdout.close()
        anna, bert = self.join("anna"), self.join("bert")
        anna.say("still there")
        self.assertEqual(bert.until("<anna>")[-1], "<anna> still there")
        self.server.send_signal(signal.SIGINT)
        self.assertEqual(bert.rest()[-1], "* The server ends. Goodbye.")
        self.assertEqual(self.server.stderr.read(), "chat_server: could not write all of the output\n")
        self.assertEqual(self.server.wait(timeout=PATIENCE), 2)
        self.server.stdout = None

    def test_what_cannot_be_done_is_a_sentence_and_status_2(self):
        self.start()
        taken = str(self.port)
        for arguments, sentence in ((["--port", "65536"], "from 0 to 65535"), (["--port"], "from 0 to 65535"), (["--port", taken], taken),
                                    (["--clients", "0"], "from 1 to 100000"), (["--line", "x"], '"x"'), (["--patience", "0"], "from 1"),
                                    (["7777"], '"7777"')):
            result = subprocess.run([os.path.join(DEMOS, "chat_server"), *arguments], capture_output=True, text=True,
                                    timeout=PATIENCE, check=False)
            self.assertEqual((result.returncode, result.stdout), (2, ""), arguments)
            self.assertRegex(result.stderr, rf"^chat_server: .*{re.escape(sentence)}.*\n$")
        helped = subprocess.run([os.path.join(DEMOS, "chat_server"), "--help"], capture_output=True, text=True, check=True)
        self.assertTrue(helped.stdout.startswith("Usage: chat_server "))
        for line in helped.stdout.splitlines():
            self.assertLessEqual(len(line), 80)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    DEMOS = os.path.abspath(sys.argv.pop(1))
    unittest.main(verbosity=2)
