package egress

import (
	"crypto/tls"
	"slices"
	"sync"
	"time"
)

const (
	idleTimeout = 90 * time.Second
	sweepEvery  = time.Second
)

// A pool keeps connections between attempts, each under the key of its target.
// All its TLS connections were made with one config.
//
// Nothing reads from a connection that is kept: it is looked at when it is
// taken, and by a sweep every second, which closes those that the receiver has
// closed, or that have been kept for too long.
type pool struct {
	config        *tls.Config
	most, mostPer int // connections kept, in all and for each target

	mu       sync.Mutex
	kept     map[string][]*conn // the newest last; some are empty until the next sweep
	n        int
	ends     conn // of the ring of all that are kept: newer is the oldest of them, older the newest
	sweeper  *time.Timer
	sweeping bool
	closed   bool
}

func newPool(config *tls.Config, most, mostPer int) *pool {
	p := &pool{config: config, most: most, mostPer: mostPer, kept: map[string][]*conn{}}
	p.ends.older, p.ends.newer = &p.ends, &p.ends
	return p
}

// take gives a connection that can be written to, the one kept last, or nil.
func (p *pool) take(key string) *conn {
	for {
		c := p.pop(key)
		if c == nil || !c.stale(time.Now()) && c.quiet() {
			return c
		}
		c.Close()
	}
}

func (p *pool) pop(key string) *conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := p.kept[key]
	if len(list) == 0 {
		return nil
	}
	c := list[len(list)-1]
	p.remove(c)
	return c
}

// put keeps a connection on which nothing is under way, or closes it. The limit
// for all is held at the cost of the connection that was not used for longest.
func (p *pool) put(c *conn) {
	c.rested = time.Now().Round(0) // on the wall, whose clock goes on while the machine is suspended
	if surplus := p.keep(c); surplus != nil {
		surplus.Close()
	}
}

func (p *pool) keep(c *conn) (surplus *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := p.kept[c.key]
	if p.closed || c.expired() || len(list) >= p.mostPer {
		return c
	}
	if p.n >= p.most {
		surplus = p.ends.newer
		p.remove(surplus)
		list = p.kept[c.key]
	}
	p.kept[c.key] = append(list, c)
	p.n++
	c.newer, c.older = &p.ends, p.ends.older
	c.newer.older, c.older.newer = c, c
	if !p.sweeping {
		p.sweeping = true
		if p.sweeper == nil {
			p.sweeper = time.AfterFunc(sweepEvery, p.sweep)
		} else {
			p.sweeper.Reset(sweepEvery)
		}
	}
	return surplus
}

// remove takes out a connection that is kept.
func (p *pool) remove(c *conn) {
	list := p.kept[c.key]
	i := len(list) - 1
	for list[i] != c {
		i--
	}
	p.kept[c.key] = slices.Delete(list, i, i+1)
	p.n--
	c.newer.older, c.older.newer = c.older, c.newer
	c.newer, c.older = nil, nil
}

// sweep looks at the connections that were not used since the last sweep. While
// it looks it has them all, which takes less than a microsecond for each.
func (p *pool) sweep() {
	var gone []*conn
	now := time.Now().Round(0)
	p.mu.Lock()
	for c := p.ends.newer; c != &p.ends && now.Sub(c.rested) >= sweepEvery; {
		looked := c
		c = c.newer
		if looked.stale(now) || !looked.quiet() {
			p.remove(looked)
			gone = append(gone, looked)
		}
	}
	for key, list := range p.kept {
		if len(list) == 0 {
			delete(p.kept, key)
		}
	}
	if p.sweeping = p.n > 0; p.sweeping {
		p.sweeper.Reset(sweepEvery)
	}
	p.mu.Unlock()
	for _, c := range gone {
		c.Close()
	}
}

// stale reports whether a connection has been kept for too long.
func (c *conn) stale(now time.Time) bool {
	return c.expired() || now.Round(0).Sub(c.rested) >= idleTimeout
}

// close closes what is kept. What is put later is closed at once.
func (p *pool) close() {
	p.mu.Lock()
	p.closed = true
	var gone []*conn
	for c := p.ends.newer; c != &p.ends; c = p.ends.newer {
		p.remove(c)
		gone = append(gone, c)
	}
	if p.sweeping {
		p.sweeper.Stop()
		p.sweeping = false
	}
	p.mu.Unlock()
	for _, c := range gone {
		c.Close()
	}
}
