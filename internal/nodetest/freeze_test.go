package nodetest

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"postrider/internal/e2e"
)

const (
	// hang is shorter than what any statement may take, so that all that waits
	// for an answer gets it, and with the time between two heartbeats shorter
	// than a lease. It is longer than anybody waits for a connection of the pool.
	hang = 5 * time.Second
	// crowd is how many come to a node meanwhile: more than it has connections
	// to look for an id with.
	crowd = 20
)

// A database that hangs refuses nothing: its connections stay, new ones are
// taken by the kernel, and no answer comes. Nodes take no event meanwhile, say
// so to whom they have no connection for, keep what they have under way, and go
// on without a restart.
func TestNodes_ADatabaseThatHangsIsToldAndGoneOnWith(t *testing.T) {
	f := newField(t)
	f.client.Timeout = time.Minute // the answer is what is looked at, however late
	stop := f.load()
	defer stop()
	<-time.After(3 * time.Second)

	before := f.count(http.StatusServiceUnavailable)
	if err := f.cluster.Freeze(); err != nil {
		t.Fatal(err)
	}
	ctx, leave := context.WithCancel(t.Context())
	var visitors sync.WaitGroup
	defer visitors.Wait()
	defer leave()
	for i := range crowd {
		visitors.Go(func() { f.publish(ctx, fmt.Sprintf("loads%d", i), "load.made", 300*time.Millisecond) })
	}
	<-time.After(500 * time.Millisecond) // what was committed before is answered by then
	accepted := f.count(http.StatusAccepted)
	<-time.After(hang - 500*time.Millisecond)
	if more := f.count(http.StatusAccepted) - accepted; more > 0 {
		t.Errorf("%d publishes were answered 202 while nothing could be stored", more)
	}
	refused := f.count(http.StatusServiceUnavailable) - before
	if refused == 0 {
		t.Error("no publish was answered 503 while the database hung")
	}
	back := time.Now()
	if err := f.cluster.Thaw(); err != nil {
		t.Fatal(err)
	}
	accepts := f.since(back, "an event is accepted again", &f.last)
	delivers := f.since(back, "a delivery is made again", &f.seen)
	for i := range nodes {
		e2e.Until(t, fmt.Sprintf("node %d is ready, without a restart", i), func() bool {
			answer, err := f.node(i).TryCall(http.MethodGet, "/readyz", nil)
			return err == nil && answer.Status == http.StatusOK
		})
	}
	ready := time.Since(back)
	if max(accepts, delivers, ready) > outage {
		t.Errorf("after the database went on: %v to accept, %v to deliver, %v until every node was ready, want at most %v",
			accepts, delivers, ready, outage)
	}
	<-time.After(2 * time.Second)

	leave()
	visitors.Wait()
	stop()
	f.arriveUpTo(time.Now(), "everything accepted is delivered")
	f.judge(0, "a database that hung for less than a lease")
	for id := range f.accepted {
		if answer := f.node(0).Call(http.MethodGet, "/v0/events/"+id, nil); answer.Status != http.StatusOK {
			t.Errorf("event %s was accepted, and is answered %d: %s", id, answer.Status, answer.Body)
		}
	}
	t.Logf("%d publishes were answered 503; after the database went on %v until an event was accepted, %v until one was delivered, "+
		"%v until every node was ready", refused, accepts.Round(time.Millisecond), delivers.Round(time.Millisecond), ready.Round(time.Millisecond))
}
