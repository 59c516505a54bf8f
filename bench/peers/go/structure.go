// Rows of goroutines that belong together; the counterpart of structure_rows.hpp.

package main

import (
	"errors"
	"os"
	"sync"
	"syscall"
	"time"
)

// ns per goroutine to start 1,000 and wait for all of them.
func nursery() float64 {
	const goroutines = 1000
	return nsPerOperation(func(count int) {
		timesRun := make([]int, goroutines)
		for begun := 0; begun < count; begun += goroutines {
			var crowd sync.WaitGroup
			crowd.Add(goroutines)
			for i := range timesRun {
				go func(times *int) {
					*times++
					crowd.Done()
				}(&timesRun[i])
			}
			crowd.Wait()
		}
		for _, times := range timesRun {
			if times != count/goroutines {
				fail("not all goroutines have run")
			}
		}
	})
}

// Datagram sockets of the local domain, which the kernel names, in the runtime's poller.
func blockedSockets(count int) []*os.File {
	sockets := make([]*os.File, count)
	for i := range sockets {
		number, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
		must(err)
		must(syscall.Bind(number, &syscall.SockaddrUnix{}))
		sockets[i] = os.NewFile(uintptr(number), "socket")
	}
	return sockets
}

// Sends a byte to each socket and takes it from there: nobody else has.
func checkUntouched(sockets []*os.File) {
	sender, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, 0)
	must(err)
	for _, each := range sockets {
		must(each.SetReadDeadline(time.Time{}))
		raw, err := each.SyscallConn()
		must(err)
		must(raw.Control(func(number uintptr) {
			name, err := syscall.Getsockname(int(number))
			must(err)
			must(syscall.Sendto(sender, []byte("x"), 0, name))
		}))
		if got, err := each.Read(make([]byte, 1)); got != 1 || err != nil {
			fail("a receive that was cancelled has taken a byte")
		}
	}
	must(syscall.Close(sender))
}

// A read that others are to end has a deadline, which they set to a time that has passed.
func cancelBlockedOnce() float64 {
	sockets := blockedSockets(min(10_000, askedFor(10_000)))
	var crowd sync.WaitGroup
	crowd.Add(len(sockets))
	waiting, ended := 0, 0
	for _, each := range sockets {
		go func(socket *os.File) {
			waiting++
			if _, err := socket.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
				fail("a receive returned although nobody has sent")
			}
			ended++
			crowd.Done()
		}(each)
	}
	for waiting < len(sockets) {
		time.Sleep(time.Millisecond)
	}
	start := time.Now()
	for _, each := range sockets {
		must(each.SetReadDeadline(time.Unix(1, 0)))
	}
	crowd.Wait()
	taken := float64(time.Since(start).Nanoseconds()) * 1e-6
	if ended != len(sockets) {
		fail("not all goroutines have ended")
	}
	checkUntouched(sockets)
	for _, each := range sockets {
		must(each.Close())
	}
	return taken
}

// ms, median of five after two for warming up.
func cancelBlocked() float64 {
	times := make([]float64, 7)
	for i := range times {
		times[i] = cancelBlockedOnce()
	}
	return percentile(times[2:], 50)
}
