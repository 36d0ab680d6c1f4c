package cli

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"postrider"
)

// How often the list is asked for, and how long it is left alone at most when
// the server has trouble.
const (
	tailPause   = time.Second
	longestRest = 30 * time.Second
)

// settling is how far behind the newest entry another may still turn up: ids
// are made shortly before they are written, and on more than one machine.
const settling = 10 * time.Second

type tailLogs struct {
	remote
	scoped
	filters

	Last  int `default:"10" placeholder:"N" help:"How many earlier attempts to show first, 0 to 100."`
	Count int `placeholder:"N" help:"End after so many attempts."`
}

// Help are the examples of logs tail --help.
func (*tailLogs) Help() string {
	return `Examples:

    postrider logs tail
    postrider logs tail --status failure --last 0 --json

It runs until Ctrl-C, through restarts of the server.`
}

// Run shows attempts until the context ends.
func (t *tailLogs) Run(ctx context.Context, p *process) error {
	if t.Last < 0 || t.Last > largestPage {
		return misuse("--last", fmt.Sprintf("is not between 0 and %d", largestPage), "")
	}
	c, err := t.connect()
	if err != nil {
		return err
	}
	f := follower{client: c, query: t.add(t.query()), seen: map[postrider.ID]bool{}}
	shown := 0
	entries, err := f.begin(ctx, t.Last)
	if err != nil {
		return err // a server that never answered is more likely the wrong one than in trouble
	}
	for rest := tailPause; ; {
		for _, text := range entries {
			t.print(p, text)
			if shown++; shown == t.Count {
				return nil
			}
		}
		if err != nil {
			if ctx.Err() != nil {
				return nil //nolint:nilerr // Ctrl-C broke the call off
			}
			wait, passing := passingTrouble(err)
			if !passing {
				return err
			}
			if rest == tailPause {
				p.say("%v; trying again", err)
			}
			rest = min(max(2*rest, wait), longestRest)
		} else {
			rest = tailPause
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(rest):
		}
		entries, err = f.next(ctx)
	}
}

// passingTrouble reports whether an error may go away by itself, and how long
// the server asks to be left alone.
func passingTrouble(err error) (wait time.Duration, passing bool) {
	if refusal, ok := errors.AsType[*problem](err); ok {
		seconds, _ := strconv.Atoi(refusal.wait)
		return time.Duration(seconds) * time.Second, refusal.wait != ""
	}
	_, silent := errors.AsType[*unreachable](err)
	return 0, silent
}

// print writes one attempt on a line.
func (t *tailLogs) print(p *process, text json.RawMessage) {
	var e entry
	if t.JSON || json.Unmarshal(text, &e) != nil {
		fmt.Fprintf(p.stdout, "%s\n", bytes.TrimSpace(text))
		return
	}
	on, result := p.screen(), e.outcome()
	line := []string{
		on.styled(faint, e.At.Local().Format(time.TimeOnly)), on.styled(result.style, result.text), plain(e.Event),
		e.took(), plain(e.URL), on.styled(faint, e.ID),
	}
	if e.Attempt > 1 || e.Trigger != "event" {
		line = append(line, on.styled(faint, fmt.Sprintf("(%s %d)", e.Trigger, e.Attempt)))
	}
	if e.Error != nil {
		line = append(line, on.styled(result.style, plain(*e.Error)))
	}
	fmt.Fprintln(p.stdout, strings.Join(line, "  "))
}

// A follower reads what is new in the logs.
type follower struct {
	client *client
	query  url.Values
	begun  bool
	oldest postrider.ID          // of the first reading; what lies before it is nobody's news
	newest postrider.ID          // of all readings
	seen   map[postrider.ID]bool // those that the next reading meets again
}

// begin gives the last entries, the oldest first, and remembers where they end.
func (f *follower) begin(ctx context.Context, last int) ([]json.RawMessage, error) {
	entries, err := f.next(ctx)
	return entries[max(0, len(entries)-last):], err
}

// next gives the entries that were written since the reading before, the
// oldest first. Entries come newest first, so that it reads pages until it
// meets what it knows; the first reading is one page.
func (f *follower) next(ctx context.Context) (fresh []json.RawMessage, err error) {
	query := maps.Clone(f.query)
	query.Set("limit", strconv.Itoa(largestPage))
	floor := madeAt(f.newest).Add(-settling)
	newest, seen := f.newest, map[postrider.ID]bool{}
	for known := false; !known; {
		var got page
		if _, err := f.client.get(ctx, &got, "/v0/api_webhooks/logs", query); err != nil {
			return nil, err // all or nothing: the next reading meets the same again
		}
		for _, text := range got.Data {
			var e struct {
				ID postrider.ID `json:"id"`
			}
			if json.Unmarshal(text, &e) != nil {
				return nil, &stranger{f.client.Server, "an entry of its logs cannot be read"}
			}
			if known = f.begun && (madeAt(e.ID).Before(floor) || bytes.Compare(e.ID[:], f.oldest[:]) < 0); known {
				break
			}
			if seen[e.ID] = true; !f.seen[e.ID] {
				fresh = append(fresh, text)
			}
			if bytes.Compare(e.ID[:], newest[:]) > 0 {
				newest = e.ID
			}
			if !f.begun && got.NextCursor != "" {
				f.oldest = e.ID
			}
		}
		known = known || !f.begun || got.NextCursor == ""
		query.Set("cursor", got.NextCursor)
	}
	f.begun, f.newest, f.seen = true, newest, seen
	slices.Reverse(fresh)
	return fresh, nil
}

// madeAt is when an id was made: its first 48 bits are milliseconds (RFC 9562,
// section 5.7).
func madeAt(id postrider.ID) time.Time {
	return time.UnixMilli(int64(binary.BigEndian.Uint64(id[:8]) >> 16))
}
