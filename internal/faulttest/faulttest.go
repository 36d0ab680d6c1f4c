// Package faulttest does to the real binary what happens to servers: it is
// killed at any moment, stopped, frozen, started anew under load and with a
// large backlog, and its disk fills up, is slow or fails. A history of what
// was accepted, what receivers saw and what the logs say is checked after each.
//
// It holds tests only, and nobody imports it. What a trial does follows from
// its seed, which it prints:
//
//	go test ./internal/faulttest -run TestTrial -seed 7 -rounds 1000
package faulttest
