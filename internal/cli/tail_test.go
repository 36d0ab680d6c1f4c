package cli

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"testing"

	"postrider"
	"postrider/internal/config"
)

// aLog is a server whose list of attempts a test fills.
type aLog struct{ ids []postrider.ID } // the oldest first

func (l *aLog) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	limit, _ := strconv.Atoi(r.FormValue("limit"))
	before, _ := strconv.Atoi(r.FormValue("cursor"))
	if before == 0 {
		before = len(l.ids)
	}
	rows := []map[string]string{}
	for _, id := range slices.Backward(l.ids[max(0, before-limit):before]) {
		rows = append(rows, map[string]string{"id": id.String()})
	}
	next := ""
	if before > limit {
		next = strconv.Itoa(before - limit)
	}
	json.NewEncoder(w).Encode(map[string]any{"data": rows, "next_cursor": next}) //nolint:errcheck // the test sees what is missing
}

func (l *aLog) grow(n int) (grown []postrider.ID) {
	for range n {
		grown = append(grown, postrider.NewID())
	}
	l.ids = append(l.ids, grown...)
	return grown
}

func TestFollower_GivesEachAttemptOnceAndInOrder(t *testing.T) {
	logs := new(aLog)
	logs.grow(250) // what lies before the first page is nobody's news
	server := httptest.NewServer(logs)
	defer server.Close()
	f := follower{client: newClient(config.Target{Server: server.URL}), query: url.Values{}}

	read := func(what string, want []postrider.ID) {
		t.Helper()
		entries, err := f.next(t.Context())
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		var got []string
		for _, text := range entries {
			var e entry
			if err := json.Unmarshal(text, &e); err != nil {
				t.Fatal(err)
			}
			got = append(got, e.ID)
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: got %d entries %v, want %d %v", what, len(got), got, len(want), want)
		}
	}
	last, err := f.begin(t.Context(), 3)
	if err != nil || len(last) != 3 {
		t.Fatalf("got %d entries and error %v, want the last 3", len(last), err)
	}
	read("nothing new", nil)
	read("one", logs.grow(1))
	read("more than a page", logs.grow(230))
	read("nothing again", nil)

	// An id that was made first may be written last.
	late, early := postrider.NewID(), postrider.NewID()
	logs.ids = append(logs.ids, early)
	read("the early one", []postrider.ID{early})
	logs.ids = slices.Insert(logs.ids, len(logs.ids)-1, late)
	read("the late one", []postrider.ID{late})
}
