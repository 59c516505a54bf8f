// Rows of two goroutines that are locked to a kernel thread each, on both cores; the counterpart of mailbox_rows.hpp.

package main

import "runtime"

// Runs one on another kernel thread and the other on this one, and returns when both have ended.
func onTwoKernelThreads(one func(), other func()) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	done := make(chan struct{})
	go func() {
		runtime.LockOSThread() // and ends with its kernel thread
		one()
		close(done)
	}()
	other()
	<-done
}

func mailboxMessage() float64 {
	useBothCores()
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(2))
	return nsPerOperation(func(messages int) {
		box := make(chan uint64, 128)
		sum := uint64(0)
		onTwoKernelThreads(func() {
			for i := 0; i < messages; i++ {
				box <- uint64(i)
			}
		}, func() {
			for i := 0; i < messages; i++ {
				sum += <-box
			}
		})
		if sum != uint64(messages)*uint64(messages-1)/2 {
			fail("a message was lost or came twice")
		}
	})
}

func mailboxRoundTrip() float64 {
	useBothCores()
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(2))
	return nsPerOperation(func(roundTrips int) {
		there, back := make(chan uint64, 2), make(chan uint64, 2)
		value := uint64(0)
		onTwoKernelThreads(func() {
			for i := 0; i < roundTrips; i++ {
				there <- value
				value = <-back
			}
		}, func() {
			for i := 0; i < roundTrips; i++ {
				back <- 1 + <-there
			}
		})
		if value != uint64(roundTrips) {
			fail("a value was lost on its way")
		}
	})
}
