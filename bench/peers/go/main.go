// The peer go: goroutines on one processor (GOMAXPROCS=1), pinned to the core that every other system is measured on.
//
// As the C++ programs: `bench_go ROW` prints `ROW=figure`, `bench_go` alone lists its rows. How a row is measured is said
// where the C++ programs define it.
package main

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"syscall"
	"unsafe"
)

type row struct {
	name    string
	measure func() float64
}

var rows = []row{
	{"yield-2", func() float64 { return yield(2) }},
	{"yield-1000", func() float64 { return yield(1000) }},
	{"spawn-join", spawnJoin},
	{"spawn-100k", spawnMany},
	{"mutex-free", mutexFree},
	{"mutex-contended-8", mutexContended},
	{"channel-unbuffered", unbufferedRoundTrip},
	{"channel-buffered-128", bufferedMessage},
	{"channel-mpmc-8", messageAmongMany},
	{"select-2", selectTwo},
	{"select-2-receive", plainReceive},
	{"select-100", selectHundred},
	{"nursery-1000", nursery},
	{"cancel-10k", cancelBlocked},
	{"mutex-cv", mutexAndConditionRoundTrip},
	{"mailbox", mailboxMessage},
	{"mailbox-round-trip", mailboxRoundTrip},
	{"sleep-100k", sleepMany},
	{"parked-1m", parkedBytes},
	{"skynet-1m", skynet},
	{"skynet-1m-later", skynet}, // there is one order only: a new goroutine runs when its parent waits
	{"echo-1", func() float64 { return echo(1) }},
	{"echo-100", func() float64 { return echo(100) }},
	{"echo-1000", func() float64 { return echo(1000) }},
	{"echo-10000", func() float64 { return echo(10000) }},
	{"pipe-1000", pipeMessage},
	{"read-hot-1", func() float64 { return measureReads(hot, 1).operationsPerSecond }},
	{"read-hot-128", func() float64 { return measureReads(hot, 128).operationsPerSecond }},
	{"blocking-takeover-p50", blockingHandoffOnTwoCores},
	{"blocking-takeover-1core-p50", func() float64 { return blockingHandoff("-1core") }},
	{"read-direct-128", func() float64 { return measureReads(direct, 128).cpuNsPerOperation * 1e-3 }},
}

// Confines every kernel thread that the runtime has started, and thereby those it will start.
func pinToCore(core uint) { runOnCores(1 << core) }

func useBothCores() { runOnCores(1<<0 | 1<<1) }

func runOnCores(mask uint64) {
	cores := [128]uint64{mask}
	kernelThreads, _ := os.ReadDir("/proc/self/task")
	for _, each := range kernelThreads {
		id, _ := strconv.Atoi(each.Name())
		syscall.RawSyscall(syscall.SYS_SCHED_SETAFFINITY, uintptr(id), unsafe.Sizeof(cores), uintptr(unsafe.Pointer(&cores)))
	}
}

func raiseDescriptorLimit() {
	var limit syscall.Rlimit
	must(syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit))
	limit.Cur = limit.Max
	must(syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit))
}

func printFigure(name string, figure float64) { fmt.Printf("%s=%.6g\n", name, figure) }

func fail(sentence string) {
	fmt.Fprintln(os.Stderr, sentence)
	os.Exit(1)
}

func must(err error) {
	if err != nil {
		fail(err.Error())
	}
}

func main() {
	runtime.GOMAXPROCS(1)
	if len(os.Args) < 2 {
		for _, each := range rows {
			fmt.Println(each.name)
		}
		return
	}
	pinToCore(0)
	raiseDescriptorLimit()
	for _, each := range rows {
		if each.name == os.Args[1] {
			printFigure(each.name, each.measure())
			return
		}
	}
	fail("no row is called " + os.Args[1])
}
