package bench

import (
	"encoding/json"
	"testing"
	"time"
)

func TestBook_TellsLostFromTwice(t *testing.T) {
	b := newBook(3, 2)
	for event := range 3 {
		b.publish(event, b.base)
	}
	at := b.base.Add(time.Millisecond)
	for _, arrival := range [][2]int{{0, 0}, {1, 0}, {0, 1}, {0, 0}, {0, 0}, {1, 2}} { // webhook, event
		if !b.receive(arrival[0], arrival[1], at) {
			t.Errorf("%v: got a stranger, want one of the book", arrival)
		}
	}
	if unique, twice := b.unique.Load(), b.duplicates.Load(); unique != 4 || twice != 2 {
		t.Errorf("got %d unique and %d duplicates, want 4 and 2", unique, twice)
	}
	if got := b.latency.total(); got != 4 {
		t.Errorf("got %d latencies, want one for each unique delivery", got)
	}
	for _, stranger := range [][2]int{{2, 0}, {0, 3}} {
		if b.receive(stranger[0], stranger[1], at) {
			t.Errorf("%v: got it counted, want a stranger", stranger)
		}
	}
}

func TestPayload_IsJSONOfTheSizeWithItsMark(t *testing.T) {
	for _, size := range []int{minPayload, 64, 512, 256 << 10} {
		b := newBook(1, 1)
		payload := b.newPayload(size)
		setDigits(payload[seqAt:seqAt+seqDigits], 123_456_789)
		if len(payload) != size || !json.Valid(payload) {
			t.Errorf("%d: got %d bytes, valid %v", size, len(payload), json.Valid(payload))
		}
		run, event, ok := readMark(payload)
		if !ok || run != b.run || event != 123_456_789 {
			t.Errorf("%d: got run %d, event %d, %v, want run %d, event 123456789", size, run, event, ok, b.run)
		}
	}
}

func TestReadMark_PassesOverWhatIsNotOurs(t *testing.T) {
	whole := string(newBook(1, 1).newPayload(minPayload))
	for _, payload := range []string{
		"", `{}`, `{"zen":"Keep it logically awesome.","hook_id":"0195b3f4"}`, whole[:len(whole)-1],
		`{"run":"abcd","n":"000000000","pad":""}`, `{"run":"0001","n":"-00000001","pad":""}`,
	} {
		if _, _, ok := readMark([]byte(payload)); ok {
			t.Errorf("%q: got a mark, want none", payload)
		}
	}
}
