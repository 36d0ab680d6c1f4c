package sink

import (
	"fmt"
	"hash/maphash"
	"io"
	"sync"
)

// Counts are what a sink has received.
type Counts struct {
	Received int // requests
	Verified int // with right signatures
	Wrong    int // with wrong ones, or with none although a secret is known
	Unsigned int // or not checked for want of a secret
	Unique   int // different deliveries: an event counts once for each webhook
	Repeated int // that had been received before
}

// maxSeen bounds the memory for recognising what was received before. Beyond
// it, a delivery that was not among the first counts as unique.
const maxSeen = 1 << 20

type counter struct {
	mu     sync.Mutex
	counts Counts
	seen   map[uint64]bool // hashes of event and webhook ids
	seed   maphash.Seed
}

func (c *counter) now() Counts {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.counts
}

func (c *counter) add(d delivery) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.seen == nil {
		c.seen, c.seed = map[uint64]bool{}, maphash.MakeSeed()
	}
	c.counts.Received++
	switch d.verdict {
	case verified:
		c.counts.Verified++
	case wrong, stripped:
		c.counts.Wrong++
		return // whoever sent it can write any id
	case unread:
		return
	default:
		c.counts.Unsigned++
	}
	key := maphash.Comparable(c.seed, [2]string{d.ID, d.WebhookID})
	if c.seen[key] {
		c.counts.Repeated++
		return
	}
	c.counts.Unique++
	if len(c.seen) < maxSeen {
		c.seen[key] = true
	}
}

// WriteTo writes the counts as one line.
func (c Counts) WriteTo(w io.Writer) (int64, error) {
	n, err := fmt.Fprintf(w, "%d received: %d verified, %d wrong, %d unsigned or unchecked; %d unique, %d repeated\n",
		c.Received, c.Verified, c.Wrong, c.Unsigned, c.Unique, c.Repeated)
	return int64(n), err
}
