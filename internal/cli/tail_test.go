package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"postrider/internal/config"
)

// aLog is a server whose streams a test writes, one answer for each request.
type aLog struct {
	list    string   // of earlier entries, the newest first
	streams []string // what each stream says before it ends
	asked   []string // the Last-Event-ID of each
	silent  bool     // the last stream ends only with the request
}

func (l *aLog) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !strings.HasSuffix(r.URL.Path, "/stream") {
		fmt.Fprintf(w, `{"data": [%s]}`, l.list)
		return
	}
	l.asked = append(l.asked, r.Header.Get("Last-Event-ID"))
	fmt.Fprint(w, l.streams[0])
	l.streams = l.streams[1:]
	if len(l.streams) == 0 && l.silent {
		http.NewResponseController(w).Flush() //nolint:errcheck // the test sees what is missing
		<-r.Context().Done()
	}
}

func sse(ids ...string) (text string) {
	for _, id := range ids {
		text += fmt.Sprintf("id: %s\nevent: attempt\ndata: {\"id\":%q}\n\n: still here\n\n", id, id)
	}
	return text
}

// follow reads a log, a stream for each time, and returns the ids in order.
func follow(t *testing.T, l *aLog, times, last int, silence time.Duration) (ids []string, err error) {
	t.Helper()
	server := httptest.NewServer(l)
	defer server.Close()
	f := follower{client: newClient(config.Target{Server: server.URL}), query: url.Values{}, silence: silence}
	for range times {
		err = f.follow(t.Context(), last, func(text json.RawMessage) bool {
			var e entry
			if err := json.Unmarshal(text, &e); err != nil {
				t.Fatal(err)
			}
			ids = append(ids, e.ID)
			return e.ID != "enough"
		})
	}
	return ids, err
}

func TestFollower_GoesOnBehindWhatItHasSeen(t *testing.T) {
	l := &aLog{
		list:    `{"id":"b"},{"id":"a"}`, // b was recorded after the stream had begun
		streams: []string{"id: start\nretry: 2000\n\n" + sse("b", "c"), sse("d"), "", sse("e", "enough", "f")},
	}
	ids, err := follow(t, l, 4, 2, time.Minute)
	if got, want := fmt.Sprint(ids), "[a b c d e enough]"; got != want || !errors.Is(err, errEnough) {
		t.Errorf("got %s and %v, want %s and that it was enough", got, err, want)
	}
	if got, want := fmt.Sprintf("%q", l.asked), `["" "c" "d" "d"]`; got != want {
		t.Errorf("got streams behind %s, want %s", got, want)
	}
}

func TestFollower_ABreakBeforeTheFirstEntryLosesNothing(t *testing.T) {
	l := &aLog{streams: []string{"id: start\nretry: 2000\n\n", sse("a")}}
	ids, err := follow(t, l, 2, 0, time.Minute)
	if fmt.Sprint(ids) != "[a]" || !errors.Is(err, io.EOF) || l.asked[1] != "start" {
		t.Errorf("got %v, %v and streams behind %q, want a, the end, and the second behind the start", ids, err, l.asked)
	}
}

func TestFollower_ASilentServerIsLeft(t *testing.T) {
	l := &aLog{streams: []string{sse("a")}, silent: true}
	ids, err := follow(t, l, 1, 0, 50*time.Millisecond)
	if _, passing := passingTrouble(err); fmt.Sprint(ids) != "[a]" || !passing {
		t.Errorf("got %v and %v, want a and trouble that passes", ids, err)
	}
}
