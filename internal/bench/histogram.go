package bench

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// subBits sets a histogram's precision: 64 buckets for each doubling, so that
// a value is told to within 1.6 %.
const (
	subBits    = 6
	subBuckets = 1 << subBits
	// octaves reach beyond an hour in nanoseconds.
	octaves = 42 - subBits
	buckets = (octaves + 1) * subBuckets
)

// A histogram counts durations in buckets whose width grows with the value, so
// that recording costs one atomic addition and percentiles are right in
// proportion. The zero value is empty and ready; many goroutines may record.
type histogram struct {
	counts [buckets]atomic.Int64
	max    atomic.Int64
}

func bucketOf(nanoseconds int64) int {
	if nanoseconds < subBuckets {
		return int(max(nanoseconds, 0))
	}
	shift := bits.Len64(uint64(nanoseconds)) - 1 - subBits
	return min(shift*subBuckets+int(nanoseconds>>shift), buckets-1)
}

// lowest is the smallest value of a bucket.
func lowest(bucket int) int64 {
	if bucket < 2*subBuckets {
		return int64(bucket)
	}
	shift := bucket/subBuckets - 1
	return int64(bucket-shift*subBuckets) << shift
}

func (h *histogram) record(d time.Duration) {
	h.counts[bucketOf(int64(d))].Add(1)
	raise(&h.max, int64(d))
}

// raise sets a to the larger of itself and v.
func raise(a *atomic.Int64, v int64) {
	for {
		old := a.Load()
		if v <= old || a.CompareAndSwap(old, v) {
			return
		}
	}
}

func (h *histogram) total() (n int64) {
	for i := range h.counts {
		n += h.counts[i].Load()
	}
	return n
}

// quantile is the value that a fraction q of the recorded ones do not exceed:
// the upper end of its bucket, and never more than the largest value.
func (h *histogram) quantile(q float64) time.Duration {
	total := h.total()
	if total == 0 {
		return 0
	}
	rank := max(1, int64(q*float64(total)+0.999999))
	var seen int64
	for i := range h.counts {
		if seen += h.counts[i].Load(); seen >= rank {
			return time.Duration(min(lowest(i+1)-1, h.max.Load()))
		}
	}
	return time.Duration(h.max.Load())
}

// between counts the values from low up to and without high, to the precision
// of the buckets.
func (h *histogram) between(low, high time.Duration) (n int64) {
	for i := bucketOf(int64(low)); i < bucketOf(int64(high)); i++ {
		n += h.counts[i].Load()
	}
	return n
}

// add counts another histogram's values in.
func (h *histogram) add(other *histogram) {
	for i := range other.counts {
		if n := other.counts[i].Load(); n > 0 {
			h.counts[i].Add(n)
		}
	}
	raise(&h.max, other.max.Load())
}

// Percentiles sum a distribution of durations up, in milliseconds.
type Percentiles struct {
	P50 float64 `json:"p50"`
	P90 float64 `json:"p90"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

func (h *histogram) percentiles() *Percentiles {
	return &Percentiles{
		P50: milliseconds(h.quantile(0.50)), P90: milliseconds(h.quantile(0.90)),
		P99: milliseconds(h.quantile(0.99)), Max: milliseconds(time.Duration(h.max.Load())),
	}
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1e3 }
