// Clocks, counters and random numbers; the counterpart of measure.hpp.

package main

import (
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// What WEFT_BENCH_OPERATIONS says, or usual.
func askedFor(usual int) int {
	asked, err := strconv.Atoi(os.Getenv("WEFT_BENCH_OPERATIONS"))
	if err != nil || asked <= 0 {
		return usual
	}
	return asked
}

// Calls run(n) with growing n until one call lasts long enough to be trusted; returns its ns per operation. If a number is asked
// for, that many are performed, rounded up, once.
func nsPerOperation(run func(operations int)) float64 {
	const longEnough = 300 * time.Millisecond
	asked := askedFor(0)
	operations := 1000
	if asked > 0 {
		operations = (asked + 999) / 1000 * 1000
	}
	for {
		start := time.Now()
		run(operations)
		elapsed := time.Since(start)
		if elapsed >= longEnough || asked > 0 {
			return float64(elapsed.Nanoseconds()) / float64(operations)
		}
		growth := int(1.4 * float64(longEnough) / float64(elapsed))
		operations *= min(max(growth, 2), 20)
	}
}

func min(a, b int) int {
	if a < b {
		return a
	}
	return b
}

func max(a, b int) int {
	if a > b {
		return a
	}
	return b
}

// User and system CPU time of this process so far, in nanoseconds.
func cpuNs() float64 {
	var usage syscall.Rusage
	must(syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
	return float64(usage.Utime.Nano() + usage.Stime.Nano())
}

// Resident memory and page tables of this process, in bytes.
func memoryBytes() float64 {
	status, err := os.ReadFile("/proc/self/status")
	must(err)
	kibibytes := 0.0
	for _, line := range strings.Split(string(status), "\n") {
		if strings.HasPrefix(line, "VmRSS:") || strings.HasPrefix(line, "VmPTE:") {
			value, _ := strconv.ParseFloat(strings.Fields(line)[1], 64)
			kibibytes += value
		}
	}
	return kibibytes * 1024
}

type windowResult struct {
	cpuNsPerOperation   float64
	operationsPerSecond float64
}

// What happens in one second, after a warm-up; count() is the number of operations so far.
func measureWindow(count func() uint64) windowResult {
	time.Sleep(200 * time.Millisecond)
	start, cpuBefore, countBefore := time.Now(), cpuNs(), count()
	time.Sleep(time.Second)
	operations := float64(count() - countBefore)
	return windowResult{(cpuNs() - cpuBefore) / operations, operations / time.Since(start).Seconds()}
}

// xorshift64, as in the C++ programs.
type randomSequence uint64

func newRandomSequence(seed uint64) randomSequence { return randomSequence(seed * 0x9E3779B97F4A7C15) }

func (state *randomSequence) below(limit uint64) uint64 {
	*state ^= *state << 13
	*state ^= *state >> 7
	*state ^= *state << 17
	return uint64(*state) % limit
}
