package api

import (
	"crypto/sha256"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"postrider"
)

// rates hold each API key to its rate: a bucket for each key, which holds one
// second's requests. A rate of 0 sets no limit, and costs nothing.
type rates struct {
	partner, operator rate.Limit

	mu   sync.Mutex
	keys map[[sha256.Size]byte]*rate.Limiter
}

// manyKeys is how many buckets there may be before those that are full, and so
// are as good as new ones, are thrown away.
const manyKeys = 10_000

func newRates(partner, operator float64) *rates {
	return &rates{
		partner: rate.Limit(partner), operator: rate.Limit(operator), keys: map[[sha256.Size]byte]*rate.Limiter{},
	}
}

// take counts a request of the key, or says when there is room for it.
func (l *rates) take(key *postrider.APIKey, now time.Time) error {
	limit := l.partner
	if key.Operator() {
		limit = l.operator
	}
	if limit == 0 {
		return nil
	}
	bucket := l.bucket(key, limit, now)
	place := bucket.ReserveN(now, 1)
	wait := place.DelayFrom(now)
	if wait == 0 {
		return nil
	}
	place.CancelAt(now)
	return &postrider.Error{
		Kind: postrider.RateLimited, Code: "too_many_requests", RetryAfter: wait,
		Detail: "This API key makes too many requests. Retry-After says in how many seconds the next one is taken.",
	}
}

func (l *rates) bucket(key *postrider.APIKey, limit rate.Limit, now time.Time) *rate.Limiter {
	l.mu.Lock()
	defer l.mu.Unlock()
	bucket, found := l.keys[key.Hash]
	if !found {
		if len(l.keys) >= manyKeys {
			l.forget(now)
		}
		bucket = rate.NewLimiter(limit, max(1, int(limit)))
		l.keys[key.Hash] = bucket
	}
	return bucket
}

func (l *rates) forget(now time.Time) {
	for hash, bucket := range l.keys {
		if bucket.TokensAt(now) >= float64(bucket.Burst()) {
			delete(l.keys, hash)
		}
	}
}
