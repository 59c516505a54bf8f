"""What the runner prints and writes: the table, the machine, the JSON file."""

import datetime
import json
import os
import platform
import re
import subprocess

from programs import ROOT
from rows import PEERS


def short(figure):
    """A figure with three significant digits: 5.61, 23.9, 4,336, 727,909."""
    if abs(figure) >= 100:
        return f"{figure:,.0f}"
    return f"{figure:.3g}"


def ratio(peer_figure, weft_figure):
    return f"{peer_figure / weft_figure:.3g}×" if weft_figure else "–"


def verdict(row, weft, peers):
    """Every target of a row with "met" or "missed"; a target on a peer that gave no figure is left open."""
    texts = []
    for target in row.targets:
        wanted = target.value(peers)
        if weft is None or wanted is None:
            outcome = "open"
        else:
            outcome = "met" if (weft <= wanted if row.better == "less" else weft >= wanted) else "missed"
        texts.append(f"{target.describe(row.better)} {outcome}")
    return ", ".join(texts)


def print_row(row, weft, peers):
    figure = "–" if weft is None else short(weft)
    print(f"{row.name:<28}{figure:>10} {row.unit:<8}{verdict(row, weft, peers)}".rstrip(), flush=True)
    named = [f"{name} {short(peers[name])}" + (f" ({ratio(peers[name], weft)})" if weft is not None else "")
             for name in PEERS if name in peers]
    for start in range(0, len(named), 4):
        print(" " * 6 + "   ".join(f"{text:<28}" for text in named[start:start + 4]).rstrip(), flush=True)


def command_output(*command):
    try:
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def first_match(pattern, path):
    with open(path, encoding="utf-8") as file:
        found = re.search(pattern, file.read(), re.MULTILINE)
    return found.group(1) if found else ""


def machine():
    return {
        "cpu": first_match(r"^model name\s*: (.*)$", "/proc/cpuinfo") or platform.machine(),
        "cores": os.cpu_count(),
        "memory_kib": int(first_match(r"^MemTotal:\s*(\d+)", "/proc/meminfo") or 0),
        "kernel": platform.release(),
        "compiler": command_output("c++", "--version").split("\n")[0],
        "go": command_output("go", "version"),
    }


def commit():
    revision = command_output("git", "rev-parse", "HEAD")
    if not revision:
        return "unknown"
    return revision + ("-dirty" if command_output("git", "status", "--porcelain") else "")


def rounded(figure):
    return None if figure is None else float(f"{figure:.6g}")


def write_json(path, rows):
    """`rows` is a list of (row, weft's figure or None, figures by peer)."""
    content = {
        "machine": machine(),
        "commit": commit(),
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "rows": [{"name": row.name, "unit": row.unit, "better": row.better, "weft": rounded(weft),
                  "peers": {name: rounded(figure) for name, figure in peers.items()}}
                 for row, weft, peers in rows],
    }
    with open(path, "w", encoding="utf-8") as file:
        json.dump(content, file, indent=1)
        file.write("\n")
