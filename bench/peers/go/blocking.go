// Rows of calls that block in the kernel; the counterpart of blocking_rows.hpp. Go's runtime takes the processor from a
// goroutine in a system call when its monitor finds it there, 20 µs to 10 ms later.

package main

import (
	"runtime"
	"sort"
	"syscall"
	"time"
)

func percentile(values []float64, percent int) float64 {
	sort.Float64s(values)
	return values[(len(values)-1)*percent/100]
}

func blockingHandoff(cores string) float64 {
	const warmUp, window = 200 * time.Millisecond, time.Second
	var ends [2]int
	must(syscall.Pipe(ends[:])) // a descriptor that the runtime's poller does not know
	mayRun, hasReturned := make(chan struct{}), make(chan struct{})
	var blockedAt, ranAt, wroteAt time.Time
	go func() {
		for range mayRun {
			ranAt = time.Now()
			wroteAt = time.Now()
			_, err := syscall.Write(ends[1], []byte{'x'})
			must(err)
			<-hasReturned
		}
	}()
	var takeovers, returns []float64
	buffer := make([]byte, 1)
	for start := time.Now(); time.Since(start) < warmUp+window; {
		runtime.Gosched() // until the other one waits for this:
		mayRun <- struct{}{}
		blockedAt = time.Now()
		_, err := syscall.Read(ends[0], buffer)
		returned := time.Now()
		must(err)
		hasReturned <- struct{}{}
		if time.Since(start) > warmUp {
			takeovers = append(takeovers, float64(ranAt.Sub(blockedAt).Nanoseconds())*1e-3)
			returns = append(returns, float64(returned.Sub(wroteAt).Nanoseconds())*1e-3)
		}
	}
	printFigure("blocking-takeover"+cores+"-p99", percentile(takeovers, 99))
	printFigure("blocking-return"+cores, percentile(returns, 50))
	return percentile(takeovers, 50)
}

func blockingHandoffOnTwoCores() float64 {
	useBothCores()
	return blockingHandoff("")
}
