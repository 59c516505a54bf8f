#!/usr/bin/env python3
"""Measures weft beside its peers, in one run on one machine, and prints how they compare.

Every row is run in rounds, weft and all peers in turn, so that whatever else the machine does hits all of them alike; the
figure of a system is the median of its rounds. Figures of different runs or machines are not to be compared: ratios are.
"""

import argparse
import os
import re
import statistics
import sys

import programs
import report
from rows import PEERS, ROWS

# A peer that needs longer than this for one round is measured once.
SLOW_SECONDS = 10


def parse_arguments():
    parser = argparse.ArgumentParser(prog="script/bench", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--filter", metavar="RE", default="", help="only rows whose name this regular expression finds")
    parser.add_argument("--json", metavar="FILE", help="write the figures there too")
    parser.add_argument("--peers", choices=["all", "none"], default="all", help="measure the peers as well (default) or not")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="rounds per row (default 5)")
    parser.add_argument("--check", action="store_true", help=argparse.SUPPRESS)  # only say what must be installed for it
    arguments = parser.parse_args()
    if arguments.rounds < 1:
        parser.error("--rounds must be at least 1")
    try:
        arguments.filter = re.compile(arguments.filter)
    except re.error as error:
        parser.error(f"--filter: {error}")
    try:
        if arguments.json:
            open(arguments.json, "a", encoding="utf-8").close()
    except OSError as error:
        parser.error(f"--json: {arguments.json}: {error.strerror}")
    return arguments


class Contest:
    """One program row, run by every system that has it."""

    def __init__(self, name, systems):
        self.name = name
        self.running = list(systems)
        self.figures = {}  # figure name -> system -> values of the rounds
        self.remarks = {}  # system -> what the reader must know about it

    def run_round(self):
        for system in list(self.running):
            try:
                figures, warnings, seconds = programs.run(system, self.name)
            except programs.Failure as failure:
                self.remarks[system] = f"is left out: {failure}"
                self.drop(system)
                continue
            for name, value in figures.items():
                self.figures.setdefault(name, {}).setdefault(system, []).append(value)
            if warnings:
                self.remarks[system] = warnings[-1]
            if system != "weft" and seconds > SLOW_SECONDS:
                self.remarks[system] = f"takes {seconds:.0f} s and is measured once"
                self.running.remove(system)

    def drop(self, system):
        self.running.remove(system)
        for values in self.figures.values():
            values.pop(system, None)

    def medians(self, figure_name):
        medians = {system: statistics.median(values) for system, values in self.figures.get(figure_name, {}).items()}
        return medians.pop("weft", None), {name: medians[name] for name in PEERS if name in medians}


def measure(name, systems, rounds):
    contest = Contest(name, systems)
    for round_number in range(rounds):
        if sys.stderr.isatty():
            print(f"\r{name}: round {round_number + 1} of {rounds} ", end="\033[K\r", file=sys.stderr, flush=True)
        contest.run_round()
    return contest


def find_systems(peers_wanted):
    """The rows that each system has, weft first."""
    systems = {}
    for system in ["weft"] + (PEERS if peers_wanted == "all" else []):
        systems[system] = programs.rows_of(system)
        if not systems[system]:
            print(f"{system} is left out: its library was not found, so its program was not built")
    return systems


def warn_if_busy():
    load = os.getloadavg()[0]
    if load > 0.7:
        print(f"warning: the load average is {load:.1f}: something else runs here and will disturb the figures")


def main():
    arguments = parse_arguments()
    selected = [row for row in ROWS if arguments.filter.search(row.name)]
    if not selected:
        sys.exit("no row has such a name; there are: " + " ".join(row.name for row in ROWS))
    if arguments.check:
        print("needs build bench" if arguments.peers == "all" else "needs build")
        return
    warn_if_busy()
    programs.build()
    systems = find_systems(arguments.peers)
    if any(row.name.startswith("read-") or row.name == "blocking-carried" for row in selected):
        programs.make_read_file()

    results = []
    contests = {}
    for row in selected:
        if row.run_as not in contests:
            having = [system for system, rows in systems.items() if row.run_as in rows]
            contests[row.run_as] = measure(row.run_as, having, arguments.rounds)
        weft, peers = contests[row.run_as].medians(row.name)
        results.append((row, weft, peers))
        report.print_row(row, weft, peers)
        if row.name == row.run_as:
            for system, remark in contests[row.run_as].remarks.items():
                print(f"      {system} {remark}", flush=True)

    if arguments.json:
        report.write_json(arguments.json, results)
    if any(weft is None for _, weft, _ in results):
        sys.exit("weft has no figure in some rows")


if __name__ == "__main__":
    main()
