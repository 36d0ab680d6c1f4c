package cli

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	// firstRest and longestRest bound the wait before a stream that broke off
	// is asked for again.
	firstRest   = time.Second
	longestRest = 30 * time.Second
	// streamSilence is how long a stream may say nothing at all: the server
	// gives a sign of life every 5 seconds.
	streamSilence = 20 * time.Second
)

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
	f := follower{client: c, query: t.add(t.query()), silence: streamSilence}
	shown := 0
	each := func(text json.RawMessage) (more bool) {
		t.print(p, text)
		shown++
		return shown != t.Count
	}
	for rest := firstRest; ; {
		began := f.last
		err := f.follow(ctx, t.Last, each)
		if errors.Is(err, errEnough) || ctx.Err() != nil {
			return nil //nolint:nilerr // Ctrl-C broke the call off
		}
		wait, passing := passingTrouble(err)
		if !passing || f.last == "" {
			return err // a server that never answered is more likely the wrong one than in trouble
		}
		if errors.Is(err, io.EOF) && f.last != began {
			rest = firstRest
			continue // the server ends a stream after a while, for it to be asked for again
		}
		if rest == firstRest && !errors.Is(err, io.EOF) {
			p.say("%v; trying again", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(max(rest, wait)):
		}
		rest = min(2*rest, longestRest)
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

// A follower reads the stream of attempts, from wherever it last was.
type follower struct {
	client  *client
	query   url.Values
	silence time.Duration
	last    string // the id that the stream goes on behind; empty before the first answer
}

// errEnough ends a stream that has been read far enough.
var errEnough = errors.New("enough was read")

// follow calls each with what is recorded until it has had enough or the stream
// breaks off; its error is an *unreachable then. The first time, it begins with
// the last entries of before. The stream is open before those are asked for, so
// that nothing falls between the two.
func (f *follower) follow(ctx context.Context, last int, each func(json.RawMessage) (more bool)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	watch := time.AfterFunc(f.silence, cancel)
	defer watch.Stop()
	header := http.Header{"Accept": {"text/event-stream"}}
	if f.last != "" {
		header.Set("Last-Event-ID", f.last)
	}
	body, err := f.client.stream(ctx, request{path: "/v0/api_webhooks/logs/stream", query: f.query, header: header})
	if err != nil {
		return err
	}
	defer body.Close()
	earlier := map[string]bool{}
	if f.last == "" && last > 0 {
		if earlier, err = f.earlier(ctx, last, each); err != nil {
			return err
		}
	}
	var event sseEvent
	for lines := bufio.NewReaderSize(body, 64<<10); ; {
		line, err := lines.ReadString('\n')
		if err != nil {
			return &unreachable{f.client.Server, err}
		}
		watch.Reset(f.silence)
		if !event.take(strings.TrimRight(line, "\r\n")) {
			continue
		}
		if event.id != "" {
			f.last = event.id
		}
		if event.data != "" && !earlier[event.id] && !each(json.RawMessage(event.data)) {
			return errEnough
		}
		event = sseEvent{}
	}
}

// earlier shows the last entries, the oldest first, and returns their ids.
func (f *follower) earlier(ctx context.Context, last int, each func(json.RawMessage) bool) (shown map[string]bool, err error) {
	query := maps.Clone(f.query)
	query.Set("limit", strconv.Itoa(last))
	var got page
	if _, err := f.client.get(ctx, &got, "/v0/api_webhooks/logs", query); err != nil {
		return nil, err
	}
	shown = map[string]bool{}
	for _, text := range slices.Backward(got.Data) {
		var e entry
		if json.Unmarshal(text, &e) != nil {
			return nil, &stranger{f.client.Server, "an entry of its logs cannot be read"}
		}
		shown[e.ID] = true
		if !each(text) {
			return nil, errEnough
		}
	}
	return shown, nil
}

// An sseEvent is a server-sent event, as far as it came.
type sseEvent struct{ id, data string }

// take adds a line, and reports whether the event is whole. Comments, and
// fields that are of no use here, pass by.
func (e *sseEvent) take(line string) (whole bool) {
	if line == "" {
		return e.id != "" || e.data != ""
	}
	name, value, _ := strings.Cut(line, ":")
	value = strings.TrimPrefix(value, " ")
	switch name {
	case "id":
		e.id = value
	case "data":
		if e.data != "" {
			e.data += "\n"
		}
		e.data += value
	}
	return false
}
