package node

import (
	"github.com/meshcrypt/meshcrypt/node/scheduler"
)

// workers is how many TUN queues and sockets a port has.
func workers() int { return min(scheduler.CPUs, MaxWorkers) }

// seatWorkers gives each TUN queue and each outer socket of a busy packet engine a seat of
// its own, and takes them away when it is busy no more.
func seatWorkers(busy bool) {
	if busy {
		scheduler.Seat(2 * workers())
	} else {
		scheduler.Seat(-2 * workers())
	}
}
