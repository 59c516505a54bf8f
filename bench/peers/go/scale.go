// Rows of very many goroutines; the counterpart of scale_rows.hpp.

package main

import (
	"fmt"
	"os"
	"runtime"
	"sort"
	"sync"
	"time"
)

type sleeper struct {
	duration time.Duration
	late     time.Duration
}

func sleepAll(sleepers []sleeper) {
	var running sync.WaitGroup
	running.Add(len(sleepers))
	for i := range sleepers {
		go func(each *sleeper) {
			start := time.Now()
			time.Sleep(each.duration)
			each.late = time.Since(start) - each.duration
			running.Done()
		}(&sleepers[i])
	}
	running.Wait()
}

func sleepMany() float64 {
	random := newRandomSequence(1)
	sleepers := make([]sleeper, 100_000)
	for i := range sleepers {
		sleepers[i].duration = time.Duration(1+random.below(1000)) * time.Millisecond
	}
	sleepAll(sleepers)

	cpuBefore := cpuNs()
	sleepAll(sleepers)
	cpuSeconds := (cpuNs() - cpuBefore) * 1e-9

	sort.Slice(sleepers, func(a, b int) bool { return sleepers[a].late < sleepers[b].late })
	if earliest := sleepers[0].late; earliest < 0 {
		fmt.Fprintf(os.Stderr, "woke a thread %v early\n", -earliest)
	}
	printFigure("sleep-100k-p99", sleepers[len(sleepers)*99/100].late.Seconds()*1e3)
	return cpuSeconds
}

func parkedBytes() float64 {
	const threads = 1_000_000
	never := make(chan struct{})
	parked := 0
	runtime.GC()
	before := memoryBytes()
	for i := 0; i < threads; i++ {
		go func() {
			parked++
			<-never
		}()
		if i%1024 == 0 {
			runtime.Gosched()
		}
	}
	for parked < threads {
		runtime.Gosched()
	}
	return (memoryBytes() - before) / threads
}

func skynetGrow(upward chan uint64, firstLeaf, leaves uint64) {
	const fanOut = 10
	if leaves == 1 {
		upward <- firstLeaf
		return
	}
	reports := make(chan uint64, 16)
	for i := uint64(0); i < fanOut; i++ {
		go skynetGrow(reports, firstLeaf+i*(leaves/fanOut), leaves/fanOut)
	}
	sum := uint64(0)
	for i := 0; i < fanOut; i++ {
		sum += <-reports
	}
	upward <- sum
}

func skynet() float64 {
	leaves := uint64(1)
	for leaves*10 <= uint64(min(1_000_000, askedFor(1_000_000))) {
		leaves *= 10
	}
	total := make(chan uint64, 16)
	start := time.Now()
	go skynetGrow(total, 0, leaves)
	if <-total != leaves*(leaves-1)/2 {
		fail("the leaves do not add up")
	}
	return float64(time.Since(start).Nanoseconds()) * 1e-6
}
