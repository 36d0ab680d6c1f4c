package postrider_test

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"postrider"
)

func TestNewID_IDsSortInTheOrderInWhichTheyWereMade(t *testing.T) {
	last := postrider.NewID()
	for range 20_000 { // more than the count inside one millisecond holds
		id := postrider.NewID()
		if bytes.Compare(id[:], last[:]) <= 0 {
			t.Fatalf("got %s after %s, want it above", id, last)
		}
		last = id
	}
}

func TestNewID_IsUniqueAmongManyGoroutines(t *testing.T) {
	const goroutines, each = 16, 2000
	made := make([][]postrider.ID, goroutines)
	var all sync.WaitGroup
	for i := range goroutines {
		all.Go(func() {
			for range each {
				made[i] = append(made[i], postrider.NewID())
			}
		})
	}
	all.Wait()
	seen := map[[8]byte]bool{} // the time and count alone are unique already
	for _, ids := range made {
		if !slices.IsSortedFunc(ids, func(a, b postrider.ID) int { return bytes.Compare(a[:], b[:]) }) {
			t.Error("got ids of one goroutine out of order")
		}
		for _, id := range ids {
			seen[[8]byte(id[:8])] = true
		}
	}
	if len(seen) != goroutines*each {
		t.Errorf("got %d different ids, want %d", len(seen), goroutines*each)
	}
}

func TestNewID_IsAVersion7UUIDOfThisMoment(t *testing.T) {
	before := time.Now().UnixMilli()
	id := postrider.NewID()
	after := time.Now().UnixMilli()
	if version := id[6] >> 4; version != 7 {
		t.Errorf("got version %d, want 7", version)
	}
	if variant := id[8] >> 6; variant != 0b10 {
		t.Errorf("got variant %b, want 10 (RFC 9562, section 4.1)", variant)
	}
	at := int64(id[0])<<40 | int64(id[1])<<32 | int64(id[2])<<24 | int64(id[3])<<16 | int64(id[4])<<8 | int64(id[5])
	// The tests before may have made more ids than there were ticks.
	if at < before || at > after+100 {
		t.Errorf("got the time %d, want %d to %d", at, before, after)
	}
}

func TestNewID_AClockThatIsSetBackKeepsTheOrder(t *testing.T) {
	before := postrider.NewID()
	synctest.Test(t, func(t *testing.T) { // where it is the year 2000
		if time.Now().Year() != 2000 {
			t.Fatal("got another time in a bubble: the test proves nothing")
		}
		if after := postrider.NewID(); bytes.Compare(after[:], before[:]) <= 0 {
			t.Errorf("got %s after %s, want it above", after, before)
		}
	})
}

func TestParseID_ReadsWhatStringWrites(t *testing.T) {
	for range 100 {
		id := postrider.NewID()
		for _, text := range []string{id.String(), strings.ToUpper(id.String())} {
			if got, err := postrider.ParseID(text); err != nil || got != id {
				t.Errorf("got %s, %v, want %s", got, err, id)
			}
		}
		encoded, err := json.Marshal(map[postrider.ID]postrider.ID{id: id})
		if want := `{"` + id.String() + `":"` + id.String() + `"}`; err != nil || string(encoded) != want {
			t.Errorf("got %s, %v, want %s", encoded, err, want)
		}
		var back map[postrider.ID]postrider.ID
		if err := json.Unmarshal(encoded, &back); err != nil || back[id] != id {
			t.Errorf("got %v, %v, want %s", back, err, id)
		}
	}
}

func TestParseID_RefusesEveryOtherSpelling(t *testing.T) {
	good := "01890a5d-ac96-774b-bcce-b302099a8057"
	if _, err := postrider.ParseID(good); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{
		"", "x", good[:35], good + "0", " " + good, good + " ", good + "\n", "{" + good + "}", "urn:uuid:" + good,
		strings.ReplaceAll(good, "-", ""), strings.ReplaceAll(good, "-", "_"), "01890a5dac96-774b-bcce-b302-099a8057",
		strings.Replace(good, "0", "g", 1), strings.Replace(good, "0", "０", 1), strings.Replace(good, "0", "\x00", 1),
	} {
		if id, err := postrider.ParseID(text); err == nil || !id.IsZero() {
			t.Errorf("got %s, %v from %q, want an error and no id", id, err, text)
		}
		var id postrider.ID
		if err := id.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("got %q unmarshalled, want an error", text)
		}
	}
}

func FuzzParseID(f *testing.F) {
	f.Add("01890a5d-ac96-774b-bcce-b302099a8057")
	f.Add("00000000-0000-0000-0000-000000000000")
	f.Add("{01890A5D-AC96-774B-BCCE-B302099A8057}")
	f.Fuzz(func(t *testing.T, text string) {
		id, err := postrider.ParseID(text)
		if err != nil {
			return
		}
		if got := id.String(); got != strings.ToLower(text) {
			t.Errorf("got %q from %q, want the same id in lower case", got, text)
		}
	})
}

func TestID_OnlyTheZeroIDNamesNothing(t *testing.T) {
	if !(postrider.ID{}).IsZero() || postrider.NewID().IsZero() || (postrider.ID{15: 1}).IsZero() {
		t.Error("got IsZero wrong, want it true of the zero id alone")
	}
}
