package portal

import (
	"bytes"
	"errors"
	"net/http"
	"strings"
	"time"

	"postrider"
)

const (
	// streamPause is the least time between two looks at the store.
	streamPause = 200 * time.Millisecond
	// streamIdle is how long a stream goes without a look when nothing is
	// heard: other nodes' attempts make no sound here.
	streamIdle = 5 * time.Second
	// streamAge ends a stream. The browser comes back by itself, and whether
	// it may is looked at again.
	streamAge = 10 * time.Minute
	// streamWrite is how long a browser may take to read.
	streamWrite = 10 * time.Second
)

// streamLogs sends the rows of new attempts as they are recorded.
func (p *Portal) streamLogs(v *visit) error {
	filter, err := readFilter(v.r).attempts(v.tenant)
	if err != nil {
		return err
	}
	after, err := streamStart(v.r)
	if err != nil {
		return err
	}
	select {
	case p.streams <- struct{}{}:
		defer func() { <-p.streams }()
	default:
		return &postrider.Error{
			Kind: postrider.RateLimited, Code: "too_many_streams", Detail: "Too many live views are open. Close some.",
		}
	}
	s := stream{v: v, control: http.NewResponseController(v.w)}
	v.w.Header().Set("Content-Type", "text/event-stream")
	v.w.Header().Set("X-Accel-Buffering", "no") // a proxy that waits for more would hold back each row
	v.w.WriteHeader(http.StatusOK)
	if !s.write("retry: 2000\n\n") {
		return nil
	}
	filter.Limit = pageSize
	end := time.NewTimer(streamAge)
	defer end.Stop()
	for {
		changed := p.o.Tail.Changed(v.tenant)
		found, last, err := p.o.History.AttemptsAfter(v.r.Context(), filter, after)
		if err != nil {
			if v.r.Context().Err() == nil {
				p.o.Logger.WarnContext(v.r.Context(), "live tail ended", "error", err)
			}
			return nil // the answer has begun: the browser comes back later
		}
		more := last != after
		after = last
		for _, row := range p.logRows(v, found) {
			if !p.sendRow(&s, row) {
				return nil
			}
		}
		if !p.pause(v, end.C, changed, more) {
			return nil
		}
		if !more && !s.write(": still here\n\n") {
			return nil
		}
	}
}

// pause waits until there is something to read, and reports whether to go on.
func (p *Portal) pause(v *visit, end <-chan time.Time, changed <-chan struct{}, more bool) bool {
	breath := time.NewTimer(streamPause)
	defer breath.Stop()
	select {
	case <-breath.C:
	case <-end:
		return false
	case <-v.r.Context().Done():
		return false
	case <-p.o.Tail.Stopped():
		return false
	}
	if more {
		return true
	}
	idle := time.NewTimer(streamIdle)
	defer idle.Stop()
	select {
	case <-changed:
	case <-idle.C:
	case <-end:
		return false
	case <-v.r.Context().Done():
		return false
	case <-p.o.Tail.Stopped():
		return false
	}
	return true
}

// streamStart is the attempt below which everything was seen: what the browser
// says that it saw last, or what the page showed.
func streamStart(r *http.Request) (id postrider.ID, err error) {
	text := r.Header.Get("Last-Event-ID")
	if text == "" {
		text = r.FormValue("after")
	}
	if id, err = postrider.ParseID(text); err != nil {
		return id, &postrider.Error{
			Kind: postrider.Malformed, Code: "invalid_cursor", Detail: "The place to start from is the id of an attempt.",
		}
	}
	return id, nil
}

// A stream is an answer that goes on.
type stream struct {
	v       *visit
	control *http.ResponseController
}

// write sends at once, and reports whether anybody is there. The server's
// limit on the whole answer is lifted for as long as it is being read.
func (s *stream) write(text string) bool {
	if err := s.control.SetWriteDeadline(time.Now().Add(streamWrite)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return false
	}
	if _, err := s.v.w.Write([]byte(text)); err != nil {
		return false
	}
	return s.control.Flush() == nil
}

// sendRow sends a row as the table has it.
func (p *Portal) sendRow(s *stream, row logRow) bool {
	var text bytes.Buffer
	if err := p.pages["logs"].ExecuteTemplate(&text, "log-row", row); err != nil {
		p.o.Logger.Error("live row not rendered", "error", err)
		return false
	}
	var b strings.Builder
	b.WriteString("id: " + row.Attempt.ID.String() + "\nevent: attempt\n")
	for line := range strings.Lines(text.String()) {
		b.WriteString("data: " + strings.TrimRight(line, "\r\n") + "\n")
	}
	b.WriteString("\n")
	return s.write(b.String())
}
