package bench

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func TestHistogram_BucketsCoverEveryValueOnce(t *testing.T) {
	for bucket := range buckets - 1 {
		low, next := lowest(bucket), lowest(bucket+1)
		if next <= low || bucketOf(low) != bucket || bucketOf(next-1) != bucket {
			t.Fatalf("bucket %d is %d to %d, and these are in %d and %d", bucket, low, next-1, bucketOf(low), bucketOf(next-1))
		}
	}
	for value, want := range map[int64]int{-1: 0, 0: 0, math.MaxInt64: buckets - 1} {
		if got := bucketOf(value); got != want {
			t.Errorf("%d: got bucket %d, want %d", value, got, want)
		}
	}
}

func TestHistogram_QuantilesAreThoseOfTheSortedValues(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var h histogram
	values := make([]time.Duration, 10_001)
	for i := range values {
		values[i] = time.Duration(math.Exp(random.NormFloat64()*2) * float64(time.Millisecond))
		h.record(values[i])
	}
	slices.Sort(values)
	for _, q := range []float64{0, 0.01, 0.5, 0.9, 0.99, 0.999, 1} {
		rank := max(1, int(math.Ceil(q*float64(len(values)))))
		got, want := h.quantile(q), values[rank-1]
		if got < want || float64(got) > float64(want)*1.016+1 {
			t.Errorf("quantile %v: got %v, want %v or up to 1.6 %% more", q, got, want)
		}
	}
}

func TestHistogram_OfNothingIsZero(t *testing.T) {
	var h histogram
	if got := h.quantile(0.99); got != 0 {
		t.Errorf("got %v, want 0", got)
	}
	h.record(7 * time.Millisecond)
	if got := *h.percentiles(); got != (Percentiles{7, 7, 7, 7}) {
		t.Errorf("got %v, want the one value everywhere", got)
	}
}

func TestHistogram_AddsAnother(t *testing.T) {
	var a, b histogram
	a.record(time.Millisecond)
	b.record(time.Second)
	b.record(2 * time.Second)
	a.add(&b)
	if got := a.total(); got != 3 {
		t.Errorf("got %d values, want 3", got)
	}
	if got := a.quantile(1); got != 2*time.Second {
		t.Errorf("got %v as the largest, want 2s", got)
	}
	if got := a.between(500*time.Millisecond, 10*time.Second); got != 2 {
		t.Errorf("got %d between 0.5 and 10 s, want 2", got)
	}
}
