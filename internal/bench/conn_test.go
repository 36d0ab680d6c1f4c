package bench

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

func TestReadAnswer(t *testing.T) {
	const accepted = "HTTP/1.1 202 Accepted\r\nContent-Type: application/json\r\n"
	for name, test := range map[string]struct {
		answer string
		fails  bool
		status int // of the refusal
	}{
		"with a length":       {accepted + "Content-Length: 2\r\n\r\n{}", false, 0},
		"odd spelling":        {accepted + "content-length:2\r\n\r\n{}", false, 0},
		"without a body":      {accepted + "\r\n", false, 0},
		"in chunks":           {accepted + "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n10\r\n0123456789abcdef\r\n0\r\n\r\n", false, 0},
		"refused":             {"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 8\r\n\r\n{\"a\":1}\n", true, 503},
		"refused in chunks":   {"HTTP/1.1 401 Unauthorized\r\nTransfer-Encoding: chunked\r\n\r\n8\r\n{\"a\":1}\n\r\n0\r\n\r\n", true, 401},
		"cut in the body":     {accepted + "Content-Length: 3\r\n\r\n{}", true, 0},
		"cut in the headers":  {accepted + "Content-Le", true, 0},
		"cut in a chunk":      {accepted + "Transfer-Encoding: chunked\r\n\r\n5\r\n{}", true, 0},
		"no length":           {accepted + "Content-Length: many\r\n\r\n", true, 0},
		"a negative length":   {accepted + "Content-Length: -1\r\n\r\n", true, 0},
		"no chunk":            {accepted + "Transfer-Encoding: chunked\r\n\r\nzz\r\n", true, 0},
		"a negative chunk":    {accepted + "Transfer-Encoding: chunked\r\n\r\n-5\r\n", true, 0},
		"another protocol":    {"SSH-2.0-OpenSSH_9.2p1\r\n", true, 0},
		"status without text": {"HTTP/1.1 20\r\n\r\n", true, 0},
		"nothing":             {"", true, 0},
	} {
		t.Run(name, func(t *testing.T) {
			in := bufio.NewReader(strings.NewReader(test.answer))
			err := readAnswer(in)
			if (err != nil) != test.fails {
				t.Fatalf("got error %v, want one: %v", err, test.fails)
			}
			var refused *refusal
			if errors.As(err, &refused); test.status != 0 && (refused == nil || refused.status != test.status || refused.body != "{\"a\":1}\n") {
				t.Errorf("got %v, want the refusal %d with its body", err, test.status)
			}
			if rest := in.Buffered(); err == nil && rest != 0 {
				t.Errorf("got %d bytes left over, want the connection ready for the next answer", rest)
			}
		})
	}
}

// What is written by hand must be the HTTP and JSON that everybody else reads.
func TestRequest_IsWhatItSays(t *testing.T) {
	s := &server{address: "127.0.0.1:8080", key: "the operator's key", tenant: "bench"}
	b := newBook(100, 1)
	q := s.newRequest(b.newPayload(64), 3, false)
	for i := range 3 {
		q.set(i, 40+i, 7+i)
	}
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(string(q.raw))))
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprint(r.Method, r.URL, r.Host, r.Header.Get("X-Api-Key"), int(r.ContentLength) == len(body)),
		"POST/v0/events/batch127.0.0.1:8080the operator's keytrue"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	var batch []struct {
		Tenant, Event string
		Payload       json.RawMessage
	}
	if err := json.Unmarshal(body, &batch); err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	for i, event := range batch {
		run, n, ok := readMark(event.Payload)
		if !ok || run != b.run || n != 40+i || event.Event != eventType(7+i) || event.Tenant != "bench" || len(event.Payload) != 64 {
			t.Errorf("%d: got %+v of run %d", i, event, run)
		}
	}
	if len(batch) != 3 {
		t.Errorf("got %d events, want 3", len(batch))
	}
}
