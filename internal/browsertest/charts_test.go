package browsertest

import (
	"maps"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"postrider/internal/e2e"
)

// What the charts show is what the logs hold: the same attempts, counted from
// both.
func TestPortal_ChartsAgreeWithTheLogs(t *testing.T) { e2e.WithEachEngine(t, testCharts) }

// countWait is how long an attempt may be missing in the charts that is in the
// logs: the nodes of a database keep their counts to themselves for a second.
const countWait = 3 * time.Second

func testCharts(t *testing.T, flags ...string) {
	w := newWorld(t, append(flags, "--retry-schedule", "0s,1h")...)
	var n atomic.Int64
	w.receiver.Answer(func(rw http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/flaky") && n.Add(1)%3 == 0 {
			rw.WriteHeader(http.StatusBadGateway)
		}
	})
	steady, flaky := w.webhook("/steady", "", "*"), w.webhook("/flaky", "", "*")
	for range 40 {
		w.publish("room.updated", `{}`)
	}
	w.attempts(82, "") // the pings included; failures are tried once more
	settled := func() int {
		w.operator.Call(http.MethodGet, "/readyz", nil)
		return len(w.partner.Pages("/v0/api_webhooks/logs", 100))
	}
	for before := -1; before != settled(); before = settled() {
		<-time.After(300 * time.Millisecond) // retries of the failed ones
	}
	tab := NewTab(t, w.operator.URL)
	tab.SignIn(w.partner.Key)
	for name, path := range map[string]string{"": "/", steady: "/webhooks/" + steady, flaky: "/webhooks/" + flaky} {
		want := map[[2]string]int{} // by minute and result
		query := "/v0/api_webhooks/logs"
		if name != "" {
			query = "/v0/api_webhooks/" + name + "/logs"
		}
		for _, row := range w.partner.Pages(query, 100) {
			at, err := time.Parse(time.RFC3339Nano, row["at"].(string))
			if err != nil {
				t.Fatal(err)
			}
			want[[2]string{strconv.FormatInt(at.Truncate(time.Minute).Unix(), 10), row["status"].(string)}]++
		}
		got := tab.counts("/portal/t/lagoon-travel" + path + "?span=1h")
		for end := time.Now().Add(countWait); !maps.Equal(got, want) && time.Now().Before(end); {
			got = tab.counts("/portal/t/lagoon-travel" + path + "?span=1h")
		}
		if len(got) == 0 || len(got) != len(want) {
			t.Errorf("%q: got %v, want %v", name, got, want)
		}
		for key, count := range want {
			if got[key] != count {
				t.Errorf("%q: the chart has %d of %v, the logs have %d", name, got[key], key, count)
			}
		}
	}
	if !strings.Contains(tab.Text(), "Median") {
		t.Error("the latency is not shown")
	}
}

// counts are the attempts that a page's chart shows, by minute and result.
func (tab *Tab) counts(path string) map[[2]string]int {
	tab.t.Helper()
	tab.Open(path)
	got := map[[2]string]int{}
	for _, row := range Script[[][]string](tab, `[...document.querySelectorAll("#numbers tbody tr")].map((row) => [row.dataset.at, ...[...row.cells].slice(1, 3).map((c) => c.textContent)])`) {
		for i, result := range []string{"success", "failure"} {
			if count, err := strconv.Atoi(row[i+1]); err != nil {
				tab.t.Fatal(err)
			} else if count > 0 {
				got[[2]string{row[0], result}] = count
			}
		}
	}
	return got
}
