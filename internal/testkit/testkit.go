// Package testkit is what the tests of several rooms share. Only tests import
// it.
package testkit

import (
	"testing/synctest"
	"time"
)

// Advance lets simulated time pass, and returns when all that became due
// because of it has happened. It is only for use inside a synctest bubble.
func Advance(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}
