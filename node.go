package postrider

import "time"

// A Node is one run of a server on a store. On a shared store there can be
// several at once, each with the name of its machine.
type Node struct {
	Run     int64 // never given to another run of the store; 0: nobody shares the store
	Name    string
	Version string
	Address string // where it serves, host:port

	// By the clock of the node that tells.
	StartedAt time.Time
	BeatAt    time.Time // when it last said that it is alive; zero where nobody asks for it

	Self bool // it is the node that tells
}
