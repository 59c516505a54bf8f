// Rows of goroutines that yield, start and lock; the counterpart of thread_rows.hpp.

package main

import (
	"runtime"
	"sync"
	"time"
)

// Runs body in count goroutines and waits for all of them.
func runThreads(count int, body func()) {
	var running sync.WaitGroup
	running.Add(count)
	for i := 0; i < count; i++ {
		go func() {
			body()
			running.Done()
		}()
	}
	running.Wait()
}

func yield(threads int) float64 {
	return nsPerOperation(func(yields int) {
		runThreads(threads, func() {
			for i := 0; i < yields/threads; i++ {
				runtime.Gosched()
			}
		})
	})
}

// Go has no join; a goroutine says on a channel that it is done.
func spawnJoin() float64 {
	done := make(chan struct{})
	return nsPerOperation(func(threads int) {
		for i := 0; i < threads; i++ {
			go func() { done <- struct{}{} }()
			<-done
		}
	})
}

func spawnMany() float64 {
	const threads = 100_000
	start := time.Now()
	runThreads(threads, func() {})
	return float64(time.Since(start).Nanoseconds()) / threads
}

func mutexFree() float64 {
	var mutex sync.Mutex
	return nsPerOperation(func(locks int) {
		for i := 0; i < locks; i++ {
			mutex.Lock()
			mutex.Unlock()
		}
	})
}

func mutexContended() float64 {
	const threads = 8
	return nsPerOperation(func(locks int) {
		var mutex sync.Mutex
		taken := 0
		runThreads(threads, func() {
			for i := 0; i < locks/threads; i++ {
				mutex.Lock()
				taken++
				runtime.Gosched()
				mutex.Unlock()
			}
		})
		if taken != locks {
			fail("the mutex let two goroutines in at once")
		}
	})
}
