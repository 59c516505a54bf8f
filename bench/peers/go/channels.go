// Rows of goroutines that talk; the counterpart of channel_rows.hpp.

package main

import "sync"

// A bounded channel made of a mutex and two condition variables.
type mailbox struct {
	mutex    sync.Mutex
	notEmpty *sync.Cond
	notFull  *sync.Cond
	values   []uint64
	first    int
	count    int
}

func newMailbox(capacity int) *mailbox {
	box := &mailbox{values: make([]uint64, capacity)}
	box.notEmpty = sync.NewCond(&box.mutex)
	box.notFull = sync.NewCond(&box.mutex)
	return box
}

func (box *mailbox) wrapped(index int) int {
	if index < len(box.values) {
		return index
	}
	return index - len(box.values)
}

func (box *mailbox) send(value uint64) {
	box.mutex.Lock()
	for box.count == len(box.values) {
		box.notFull.Wait()
	}
	box.values[box.wrapped(box.first+box.count)] = value
	box.count++
	box.notEmpty.Signal()
	box.mutex.Unlock()
}

func (box *mailbox) receive() uint64 {
	box.mutex.Lock()
	for box.count == 0 {
		box.notEmpty.Wait()
	}
	value := box.values[box.first]
	box.first = box.wrapped(box.first + 1)
	box.count--
	box.notFull.Signal()
	box.mutex.Unlock()
	return value
}

func unbufferedRoundTrip() float64 {
	return nsPerOperation(func(roundTrips int) {
		there, back := make(chan uint64), make(chan uint64)
		go func() {
			for i := 0; i < roundTrips; i++ {
				back <- 1 + <-there
			}
		}()
		value := uint64(0)
		for i := 0; i < roundTrips; i++ {
			there <- value
			value = <-back
		}
		if value != uint64(roundTrips) {
			fail("a value was lost on its way")
		}
	})
}

func mutexAndConditionRoundTrip() float64 {
	return nsPerOperation(func(roundTrips int) {
		there, back := newMailbox(1), newMailbox(1)
		go func() {
			for i := 0; i < roundTrips; i++ {
				back.send(1 + there.receive())
			}
		}()
		value := uint64(0)
		for i := 0; i < roundTrips; i++ {
			there.send(value)
			value = back.receive()
		}
		if value != uint64(roundTrips) {
			fail("a value was lost on its way")
		}
	})
}

func bufferedMessage() float64 {
	return nsPerOperation(func(messages int) {
		channel := make(chan uint64, 128)
		go func() {
			for i := 0; i < messages; i++ {
				channel <- uint64(i)
			}
		}()
		sum := uint64(0)
		for i := 0; i < messages; i++ {
			sum += <-channel
		}
		if sum != uint64(messages)*uint64(messages-1)/2 {
			fail("a message was lost or came twice")
		}
	})
}

func messageAmongMany() float64 {
	const pairs = 8
	return nsPerOperation(func(messages int) {
		channel := make(chan uint64, 128)
		sums := make(chan uint64)
		each := uint64(messages / pairs)
		for i := 0; i < pairs; i++ {
			go func() {
				for value := uint64(0); value < each; value++ {
					channel <- value
				}
			}()
			go func() {
				sum := uint64(0)
				for i := uint64(0); i < each; i++ {
					sum += <-channel
				}
				sums <- sum
			}()
		}
		sum := uint64(0)
		for i := 0; i < pairs; i++ {
			sum += <-sums
		}
		if sum != pairs*(each*(each-1)/2) {
			fail("a message was lost or came twice")
		}
	})
}
