"""The rows of the suite: what each measures, in which unit, and what weft must reach.

Which peers have a row, their programs say themselves (run without arguments).
"""

from dataclasses import dataclass, field

# Peers by the names that reports use, in the order of the table.
PEERS = [
    "jump_fcontext", "boost-fiber", "state-threads", "go", "pthread", "coroutine",
    "liburing", "hybrid", "epoll", "libuv", "asio", "offload-pool",
]


@dataclass(frozen=True)
class Target:
    """A figure that weft must reach: a plain number, or a factor of a peer's figure in the same run."""

    factor: float
    peer: str = ""

    def value(self, peer_figures):
        """The number to reach; None if the peer has no figure."""
        if not self.peer:
            return self.factor
        figure = peer_figures.get(self.peer)
        return None if figure is None else self.factor * figure

    def describe(self, better):
        sign = "≤" if better == "less" else "≥"
        if not self.peer:
            return f"{sign} {self.factor:g}"
        factor = "" if self.factor == 1 else f"{self.factor:g} × "
        return f"{sign} {factor}{self.peer}"


@dataclass(frozen=True)
class Row:
    name: str
    unit: str
    targets: list = field(default_factory=list)
    better: str = "less"
    printed_by: str = ""  # the row whose run prints this figure too; empty: this row itself

    @property
    def run_as(self):
        return self.printed_by or self.name


def at(figure):
    return Target(figure)


ECHO_TARGETS = [Target(1.05, "liburing"), Target(1, "epoll")]

ROWS = [
    Row("yield-2", "ns", [at(6), Target(1, "jump_fcontext")]),
    Row("yield-1000", "ns", [at(15)]),
    *(Row(f"yield-{threads}-{policy}", "ns") for threads in (2, 1000) for policy in ("fifo", "priority", "deadline", "own-policy")),
    Row("spawn-join", "ns", [at(40)]),
    Row("spawn-100k", "ns", [at(1000)]),
    Row("channel-unbuffered", "ns", [at(45)]),
    Row("channel-buffered-128", "ns", [at(8)]),
    Row("channel-mpmc-8", "ns", [Target(1, "boost-fiber"), Target(1, "go")]),
    Row("select-2", "ns", [Target(1, "go")]),
    Row("select-2-receive", "ns", printed_by="select-2"),
    Row("select-2-ratio", "receives", [at(3)], printed_by="select-2"),
    Row("select-100", "ns", [Target(1, "go")]),
    Row("mailbox", "ns", [Target(1, "go"), Target(1, "pthread")]),
    Row("mailbox-round-trip", "ns"),
    Row("semaphore", "ns", [at(35)]),
    Row("mutex-cv", "ns", [at(60)]),
    Row("mutex-free", "ns", [at(2)]),
    Row("mutex-contended-8", "ns", [at(50)]),
    Row("nursery-1000", "ns", [Target(1, "state-threads"), Target(1, "go")]),
    Row("cancel-10k", "ms", [at(50)]),
    Row("sleep-100k", "cpu s", [at(0.4)]),
    Row("sleep-100k-p99", "ms", [at(5)], printed_by="sleep-100k"),
    Row("parked-1m", "bytes", [at(4300)]),
    Row("parked-1m-tiny", "bytes", [at(2100)]),
    Row("skynet-1m", "ms", [at(120)]),
    Row("skynet-1m-later", "ms"),
    Row("echo-1", "cpu ns"),
    Row("echo-1-requests", "1/s", better="more", printed_by="echo-1"),
    Row("echo-100", "cpu ns", ECHO_TARGETS),
    Row("echo-100-requests", "1/s", better="more", printed_by="echo-100"),
    Row("echo-1000", "cpu ns", [Target(1, "epoll")]),
    Row("echo-1000-requests", "1/s", better="more", printed_by="echo-1000"),
    Row("echo-10000", "cpu ns", [Target(1, "epoll")]),
    Row("echo-10000-requests", "1/s", better="more", printed_by="echo-10000"),
    Row("pipe-1000", "cpu ns", [at(2000)]),
    Row("read-hot-1", "1/s", [Target(1, "pthread")], better="more"),
    Row("read-hot-128", "1/s", [Target(0.95, "liburing")], better="more"),
    Row("read-direct-128", "cpu us", [at(6.1)]),
    Row("blocking-free", "ns", [at(25), Target(1, "go")]),
    Row("blocking-takeover-p50", "us", [at(60)]),
    Row("blocking-takeover-p99", "us", [Target(1, "go")], printed_by="blocking-takeover-p50"),
    Row("blocking-return", "us", [Target(1, "offload-pool")], printed_by="blocking-takeover-p50"),
    Row("blocking-takeover-1core-p50", "us", [at(30)]),
    Row("blocking-takeover-1core-p99", "us", [Target(1, "go")], printed_by="blocking-takeover-1core-p50"),
    Row("blocking-return-1core", "us", [Target(1, "offload-pool")], printed_by="blocking-takeover-1core-p50"),
    Row("blocking-carried", "us"),
    Row("preempt-overhead", "percent", [at(3)]),
]
