// Rows that read, write and serve: a goroutine per connection, pipe end or reader.

package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"unsafe"
)

func echoUntilClosed(connection net.Conn) {
	defer connection.Close()
	buffer := make([]byte, 4096)
	for {
		got, err := connection.Read(buffer)
		if err != nil {
			return
		}
		if _, err = connection.Write(buffer[:got]); err != nil {
			return
		}
	}
}

func serve(listener net.Listener) {
	for {
		connection, err := listener.Accept()
		must(err)
		go echoUntilClosed(connection)
	}
}

// Serves while the load generator runs; it reads this process's CPU clock.
func echo(connections int) float64 {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	must(err)
	go serve(listener)
	self, err := os.Executable()
	must(err)
	generator := filepath.Join(filepath.Dir(self), "bench_echo_client")
	port := listener.Addr().(*net.TCPAddr).Port
	command := exec.Command(generator, fmt.Sprint(port), fmt.Sprint(connections), fmt.Sprint(os.Getpid()))
	command.Stderr = os.Stderr
	report, err := command.Output()
	must(err)
	var cpuNs, requestsPerSecond float64
	_, err = fmt.Sscan(string(report), &cpuNs, &requestsPerSecond)
	must(err)
	printFigure(fmt.Sprintf("echo-%d-requests", connections), requestsPerSecond)
	return cpuNs
}

func pipeMessage() float64 {
	const pairs = 500
	var passed uint64
	for i := 0; i < pairs; i++ {
		firstReads, secondWrites, err := os.Pipe()
		must(err)
		secondReads, firstWrites, err := os.Pipe()
		must(err)
		go func() {
			for message := make([]byte, 1); ; {
				secondReads.Read(message)
				secondWrites.Write(message)
			}
		}()
		go func() {
			for message := make([]byte, 1); ; atomic.AddUint64(&passed, 2) {
				firstWrites.Write(message)
				firstReads.Read(message)
			}
		}()
	}
	return measureWindow(func() uint64 { return atomic.LoadUint64(&passed) }).cpuNsPerOperation
}

type fileAccess int

const (
	hot    fileAccess = 0
	direct fileAccess = syscall.O_DIRECT
)

const blockSize = 4096

func openReadFile(access fileAccess) (file *os.File, blocks uint64) {
	name := os.Getenv("WEFT_BENCH_FILE")
	file, err := os.OpenFile(name, os.O_RDONLY|int(access), 0)
	must(err)
	status, err := file.Stat()
	must(err)
	if access == hot {
		chunk := make([]byte, 1<<20)
		for err == nil {
			_, err = file.Read(chunk)
		}
	}
	return file, uint64(status.Size()) / blockSize
}

// Memory for one block, aligned as O_DIRECT wants it.
func makeBlockBuffer() []byte {
	memory := make([]byte, 2*blockSize)
	skip := blockSize - int(uintptr(unsafe.Pointer(&memory[0]))%blockSize)
	return memory[skip : skip+blockSize]
}

func measureReads(access fileAccess, atOnce int) windowResult {
	file, blocks := openReadFile(access)
	var reads uint64
	for i := 0; i < atOnce; i++ {
		go func(seed uint64) {
			random := newRandomSequence(seed)
			for block := makeBlockBuffer(); ; atomic.AddUint64(&reads, 1) {
				_, err := file.ReadAt(block, int64(random.below(blocks)*blockSize))
				must(err)
			}
		}(uint64(i + 1))
	}
	return measureWindow(func() uint64 { return atomic.LoadUint64(&reads) })
}
