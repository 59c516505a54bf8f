//go:build cgo

// The row blocking-free: a call of foreign code, before and after which the runtime does what it does around system calls.

package main

// static void nothing(void) {}
import "C"

func blockingFree() float64 {
	return nsPerOperation(func(calls int) {
		for i := 0; i < calls; i++ {
			C.nothing()
		}
	})
}

func init() { rows = append(rows, row{"blocking-free", blockingFree}) }
