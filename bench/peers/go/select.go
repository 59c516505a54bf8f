// Rows of a goroutine that takes from whichever channel has something; the counterpart of select_rows.hpp.

package main

// ns per value that receive takes from the channels, into which the senders send in turn.
func receiveFromAny(channels, senders int, receive func(from []chan uint64) uint64) float64 {
	return nsPerOperation(func(values int) {
		from := make([]chan uint64, channels)
		for i := range from {
			from[i] = make(chan uint64)
		}
		each := uint64(values / senders)
		for i := 0; i < senders; i++ {
			go func(at int) {
				for value := uint64(0); value < each; value++ {
					from[at] <- value
					at = (at + senders%channels) % channels
				}
			}(i % channels)
		}
		sum := uint64(0)
		for i := 0; i < values; i++ {
			sum += receive(from)
		}
		if sum != uint64(senders)*each*(each-1)/2 {
			fail("a value was lost or came twice")
		}
	})
}

func plainReceive() float64 {
	return receiveFromAny(1, 2, func(from []chan uint64) uint64 { return <-from[0] })
}

func selectTwo() float64 {
	plain := plainReceive()
	chosen := receiveFromAny(2, 2, func(from []chan uint64) uint64 {
		select {
		case value := <-from[0]:
			return value
		case value := <-from[1]:
			return value
		}
	})
	printFigure("select-2-receive", plain)
	printFigure("select-2-ratio", chosen/plain)
	return chosen
}

func selectHundred() float64 { return receiveFromAny(100, 1, receiveFromHundred) }
