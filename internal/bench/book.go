package bench

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync/atomic"
	"time"
)

// A book says what was published, what of it arrived, and how late. It counts
// one measured run; what belongs to another run is a stranger to it.
type book struct {
	run   int
	base  time.Time      // times below are nanoseconds since
	sent  []atomic.Int64 // when each event was published, or was due to be
	seen  []atomic.Uint64
	hooks int

	unique     atomic.Int64
	duplicates atomic.Int64
	checked    atomic.Int64 // signatures, of a sample
	wrong      atomic.Int64 // of these
	last       atomic.Int64 // when the newest arrived
	latency    histogram
}

// towards is how far what has arrived is on its way to a number.
func (b *book) towards(expected int64) func() (done, total int64) {
	return func() (int64, int64) { return b.unique.Load(), expected }
}

// runs makes books differ from each other, and from those of a process that
// used the same server before.
var runs atomic.Int64

const maxRun = 10_000

// newBook is for a number of events, of which each goes to any of the webhooks.
func newBook(events, webhooks int) *book {
	if runs.Load() == 0 {
		runs.CompareAndSwap(0, 1+rand.Int64N(maxRun)) //nolint:gosec // no secret: a number to tell runs apart by
	}
	return &book{
		run: int(runs.Add(1) % maxRun), base: time.Now(),
		sent: make([]atomic.Int64, events), seen: make([]atomic.Uint64, (events*webhooks+63)/64), hooks: webhooks,
	}
}

func (b *book) publish(event int, at time.Time) { b.sent[event].Store(int64(at.Sub(b.base))) }

// receive notes an arrival, and reports whether the event is one of this book.
func (b *book) receive(webhook, event int, at time.Time) bool {
	if event >= len(b.sent) || webhook >= b.hooks {
		return false
	}
	bit := event*b.hooks + webhook
	if b.seen[bit/64].Or(1<<(bit%64))&(1<<(bit%64)) != 0 {
		b.duplicates.Add(1)
		return true
	}
	now := int64(at.Sub(b.base))
	b.latency.record(time.Duration(now - b.sent[event].Load()))
	raise(&b.last, now)
	b.unique.Add(1)
	return true
}

// lastAt is when the newest delivery arrived.
func (b *book) lastAt() time.Time { return b.base.Add(time.Duration(b.last.Load())) }

// A mark tells a payload's run and event. It begins the payload and has a
// fixed width, so that a request is prepared once and only its digits change.
const (
	markBegin  = `{"run":"`
	markMiddle = `","n":"`
	markEnd    = `","pad":"`
	runDigits  = 4
	seqDigits  = 9
	runAt      = len(markBegin)
	seqAt      = runAt + runDigits + len(markMiddle)
	markLength = seqAt + seqDigits + len(markEnd)

	minPayload = markLength + len(`"}`)
)

// newPayload is a JSON object of exactly size bytes, with the mark of event 0.
func (b *book) newPayload(size int) []byte {
	payload := fmt.Appendf(make([]byte, 0, size), `%s%0*d%s%0*d%s`, markBegin, runDigits, b.run, markMiddle, seqDigits, 0, markEnd)
	payload = append(payload, bytes.Repeat([]byte("x"), size-minPayload)...)
	return append(payload, `"}`...)
}

// setDigits writes n over a number of fixed width.
func setDigits(digits []byte, n int) {
	for i := len(digits) - 1; i >= 0; i-- {
		digits[i] = byte('0' + n%10)
		n /= 10
	}
}

// readMark is the run and event of a payload; not ok for a ping, or anything
// else that is not ours.
func readMark(payload []byte) (run, event int, ok bool) {
	if len(payload) < minPayload || string(payload[:runAt]) != markBegin {
		return 0, 0, false
	}
	run, err := strconv.Atoi(string(payload[runAt : runAt+runDigits]))
	if err != nil {
		return 0, 0, false
	}
	event, err = strconv.Atoi(string(payload[seqAt : seqAt+seqDigits]))
	return run, event, err == nil && event >= 0
}
