package relay

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/coder/websocket"

	"postrider"
)

const (
	// writeTime is how long a listener may take to read one message. One that
	// is slower is cut off, so that it holds up no memory here.
	writeTime = 10 * time.Second
	// maxAnswer bounds what is read from a listener at once.
	maxAnswer = maxBody + 4*maxHeader
	// renewals of a webhook's time in the time that it has.
	renewals = 4
)

// A session is one listener, attached.
type session struct {
	relay *Relay
	postrider.Listener

	ready   Ready
	created bool // the webhook was made for it and nobody knows of it yet
	conn    *websocket.Conn
	bye     bool   // the listener has ended for good
	fault   string // what it said that it must not; empty: nothing
}

// prepare finds or makes the webhook.
func (s *session) prepare(ctx context.Context) error {
	var like *postrider.Webhook
	if !s.WebhookID.IsZero() {
		w, err := s.relay.o.Webhooks.Webhook(s.Tenant, s.WebhookID)
		if err != nil {
			return err
		}
		if w.Temporary() {
			if len(s.Events) > 0 {
				return errEvents
			}
			return s.take(s.relay.renew(ctx, s.Tenant, s.WebhookID))
		}
		like = &w
		s.ready.CopyOf = w.ID.String()
	}
	w, err := s.relay.temporary(ctx, &s.Listener, like)
	if err == nil && like == nil {
		s.ready.Secret = string(w.Secret)
	}
	s.created = err == nil
	return s.take(w, err)
}

func (s *session) take(w postrider.Webhook, err error) error {
	s.WebhookID = w.ID
	s.ready.WebhookID, s.ready.Events, s.ready.Status = w.ID, w.Events, string(w.Status())
	return err
}

// serve upgrades the request and returns when the session is over.
func (s *session) serve(w http.ResponseWriter, request *http.Request) {
	defer s.relay.leave()
	ctx, cancel := context.WithCancel(context.WithoutCancel(request.Context()))
	defer cancel()
	conn, err := websocket.Accept(w, request, nil)
	if err != nil {
		if s.created {
			s.relay.remove(ctx, s.Tenant, s.WebhookID, "its listener did not attach")
		}
		return
	}
	defer conn.CloseNow() //nolint:errcheck // it is closed already when all went well
	conn.SetReadLimit(maxAnswer)
	s.conn = conn
	s.write(ctx, encode(&head{Type: typeReady, Ready: &s.ready}, nil))
	if !s.attach(ctx) {
		s.restart()
		return
	}
	s.relay.o.Logger.Info("a listener attached", "webhook", s.WebhookID, "tenant", s.Tenant)
	s.relay.o.Wake(s.WebhookID)

	var watching sync.WaitGroup
	watching.Go(func() { s.watch(ctx) })
	err = s.read(ctx)
	cancel()
	watching.Wait()
	last := s.detach(context.WithoutCancel(ctx))
	s.relay.o.Logger.Info("a listener detached", "webhook", s.WebhookID, "tenant", s.Tenant, "bye", s.bye, "error", err)
	s.depart(context.WithoutCancel(ctx), last)
}

// depart leaves the webhook to others, or to its end.
func (s *session) depart(ctx context.Context, last bool) {
	w, err := s.relay.o.Webhooks.Webhook(s.Tenant, s.WebhookID)
	switch {
	case err != nil || !w.Temporary() || !last:
	case s.bye:
		s.relay.remove(ctx, s.Tenant, s.WebhookID, "its listener ended")
	default:
		if _, err := s.relay.renew(ctx, s.Tenant, s.WebhookID); err != nil {
			s.relay.o.Logger.Warn("a temporary webhook may be removed early", "webhook", s.WebhookID, "error", err)
		}
	}
	switch {
	case s.bye:
		s.conn.Close(websocket.StatusNormalClosure, "") //nolint:errcheck // it is gone either way
	case s.fault != "":
		s.conn.Close(websocket.StatusPolicyViolation, s.fault) //nolint:errcheck // it is gone either way
	}
}

// attach puts the session at the end of its webhook's line, in the place of an
// earlier one of the same listener, and sends what that one did not answer. It
// reports false when the relay is closing.
func (s *session) attach(ctx context.Context) bool {
	r := s.relay
	r.mu.Lock()
	if r.stopping {
		r.mu.Unlock()
		return false
	}
	l := r.line(s.WebhookID)
	before := l.find(s.Token)
	l.sessions = slices.DeleteFunc(l.sessions, func(other *session) bool { return other == before })
	var overtaken *session
	if n := len(l.sessions); n > 0 {
		overtaken = l.sessions[n-1]
	}
	l.sessions = append(l.sessions, s)
	var again [][]byte
	for _, e := range l.pending {
		if e.token == "" || e.token == s.Token {
			e.token = s.Token
			again = append(again, e.text)
		}
	}
	r.mu.Unlock()
	if before != nil {
		before.conn.CloseNow() //nolint:errcheck // its listener is here, and that connection is dead
	}
	if overtaken != nil {
		overtaken.write(ctx, encode(&head{Type: typeStandby}, nil))
	}
	for _, text := range again {
		s.write(ctx, text)
	}
	return true
}

// detach takes the session off the line, and reports whether it was the last.
// What a listener has not answered waits for it to come back, but not when it
// has said good-bye.
func (s *session) detach(ctx context.Context) (last bool) {
	r := s.relay
	r.mu.Lock()
	l := r.line(s.WebhookID)
	at := slices.Index(l.sessions, s)
	active := at >= 0 && at == len(l.sessions)-1
	l.sessions = slices.DeleteFunc(l.sessions, func(other *session) bool { return other == s })
	if s.bye {
		for _, e := range l.pending {
			if e.token == s.Token {
				delete(l.pending, e.id)
				e.answer <- lost(e)
			}
		}
	}
	var next *session
	if n := len(l.sessions); active && n > 0 {
		next = l.sessions[n-1]
	}
	last = at >= 0 && len(l.sessions) == 0 && !r.stopping
	r.tidy(s.WebhookID)
	r.mu.Unlock()
	if next != nil {
		next.write(ctx, encode(&head{Type: typeActive}, nil))
	}
	return last
}

// write sends a message. Whether it arrives is seen by the answer; a connection
// that takes none is closed, which ends the session.
func (s *session) write(ctx context.Context, text []byte) {
	ctx, cancel := context.WithTimeout(ctx, writeTime)
	defer cancel()
	if err := s.conn.Write(ctx, websocket.MessageBinary, text); err != nil {
		s.conn.CloseNow() //nolint:errcheck // the read loop sees it
	}
}

// restart tells the listener to come back later.
func (s *session) restart() {
	s.conn.Close(websocket.StatusServiceRestart, "the server stops") //nolint:errcheck // it is gone either way
}

// read takes answers until the session ends.
func (s *session) read(ctx context.Context) error {
	for {
		_, text, err := s.conn.Read(ctx)
		if err != nil {
			return err
		}
		h, body, err := decode(text)
		if err == nil {
			switch {
			case h.Type == typeBye:
				s.bye = true
				return nil
			case h.Type == typeAnswer && h.Answer != nil:
				err = s.answered(&h, body)
			}
		}
		if err != nil {
			s.fault = cut(err.Error(), 100)
			return err
		}
	}
}

// answered settles an exchange that this listener was given. Any other is over,
// or was never its own.
func (s *session) answered(h *head, body []byte) error {
	r := s.relay
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.line(s.WebhookID)
	e, found := l.pending[h.ID]
	if !found || e.token != s.Token {
		return nil
	}
	outcome, err := h.Answer.outcome(body, time.Since(e.started))
	if err != nil {
		return err
	}
	delete(l.pending, h.ID)
	e.answer <- outcome
	return nil
}

// watch sees that both the listener and its right to listen are still there,
// and renews the webhook's time.
func (s *session) watch(ctx context.Context) {
	o := &s.relay.o
	ping := time.NewTicker(o.Ping)
	defer ping.Stop()
	renew := time.NewTicker(o.Hold / renewals)
	defer renew.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-renew.C:
			if _, err := s.relay.renew(ctx, s.Tenant, s.WebhookID); err != nil && ctx.Err() == nil {
				o.Logger.Warn("a temporary webhook was not renewed", "webhook", s.WebhookID, "error", err)
			}
		case <-ping.C:
			if code, reason := s.entitled(); code != 0 {
				s.conn.Close(code, reason) //nolint:errcheck // it is gone either way
				return
			}
			if !alive(ctx, s.conn, o.Ping) {
				s.conn.CloseNow() //nolint:errcheck // the read loop sees it
				return
			}
		}
	}
}

// entitled says why the listener may stay no longer; 0: it may.
func (s *session) entitled() (code websocket.StatusCode, reason string) {
	if !s.relay.o.HasKey(s.Key) {
		return closeRevoked, "the API key was revoked"
	}
	if w, err := s.relay.o.Webhooks.Webhook(s.Tenant, s.WebhookID); err != nil || !w.Temporary() {
		return closeRemoved, "the webhook was deleted, or has a URL of its own now"
	}
	return 0, ""
}

// alive reports whether the other side answers a ping.
func alive(ctx context.Context, conn *websocket.Conn, within time.Duration) bool {
	wait, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	err := conn.Ping(wait)
	return err == nil || errors.Is(ctx.Err(), context.Canceled)
}
