package bench

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// A request publishes one event or a batch. It is prepared once for each
// connection; between uses only digits of fixed width change.
type request struct {
	raw    []byte
	seqAt  []int // of each event, where its number stands
	hookAt []int // and the number of the webhook that gets it
}

// eventPrefix and five digits are the event type that one webhook, or all of
// them, subscribe to.
const (
	eventPrefix = "bench.w"
	hookDigits  = 5
)

// eventType is what the webhooks of a number subscribe to.
func eventType(n int) string { return fmt.Sprintf("%s%0*d", eventPrefix, hookDigits, n) }

func (s *server) newRequest(payload []byte, events int, single bool) *request {
	q := new(request)
	tenant := ""
	if s.tenant != "" {
		tenant = `"tenant":"` + s.tenant + `",`
	}
	var body []byte
	if !single {
		body = append(body, '[')
	}
	for i := range events {
		if i > 0 {
			body = append(body, ',')
		}
		body = append(body, `{`+tenant+`"event":"`+eventPrefix...)
		q.hookAt = append(q.hookAt, len(body))
		body = append(body, strings.Repeat("0", hookDigits)+`","payload":`...)
		q.seqAt = append(q.seqAt, len(body)+seqAt)
		body = append(body, payload...)
		body = append(body, '}')
	}
	path := "/v0/events"
	if !single {
		body = append(body, ']')
		path = "/v0/events/batch"
	}
	head := fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: %s\r\nX-Api-Key: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n",
		path, s.address, s.key, len(body))
	for i := range q.seqAt {
		q.seqAt[i] += len(head)
		q.hookAt[i] += len(head)
	}
	q.raw = append(head, body...)
	return q
}

// set makes the i-th event of the request that of a number, for the webhook of
// a number.
func (q *request) set(i, event, hook int) {
	setDigits(q.raw[q.seqAt[i]:q.seqAt[i]+seqDigits], event)
	setDigits(q.raw[q.hookAt[i]:q.hookAt[i]+hookDigits], hook)
}

// A conn is one kept-alive connection to the server's API. net/http's client
// would cost the two processors that the server runs on too more than the
// server's own side of the exchange; what is written and read here is the same.
type conn struct {
	net.Conn
	server *server
	in     *bufio.Reader
}

// answerWait bounds how long one request may take.
const answerWait = time.Minute

func (s *server) dial(ctx context.Context) (*conn, error) {
	c, err := new(net.Dialer).DialContext(ctx, "tcp", s.address)
	if err != nil {
		return nil, fmt.Errorf("connect to the server: %w", err)
	}
	return &conn{Conn: c, server: s, in: bufio.NewReaderSize(c, 16<<10)}, nil
}

// do sends a request and reads the answer to its end. An answer other than 202
// is an error.
func (c *conn) do(raw []byte) error {
	if err := c.SetDeadline(time.Now().Add(answerWait)); err != nil {
		return err
	}
	if _, err := c.Write(raw); err != nil {
		return fmt.Errorf("send a publication: %w", err)
	}
	if err := readAnswer(c.in); err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	return nil
}

var errAnswer = errors.New("not the answer of an HTTP/1.1 server")

// readAnswer reads one answer of our own server: a status line, headers, and a
// body that has a length or comes in chunks. An answer other than 202 is a
// *refusal.
func readAnswer(in *bufio.Reader) error {
	line, err := in.ReadSlice('\n')
	if err != nil {
		return err
	}
	if len(line) < len("HTTP/1.1 200\r\n") || !bytes.HasPrefix(line, []byte("HTTP/1.1 ")) {
		return errAnswer
	}
	status, err := strconv.Atoi(string(line[9:12]))
	if err != nil {
		return errAnswer
	}
	length, chunked := 0, false
	for {
		if line, err = in.ReadSlice('\n'); err != nil {
			return err
		}
		name, value, found := bytes.Cut(bytes.TrimSpace(line), []byte(":"))
		if !found {
			break
		}
		switch {
		case bytes.EqualFold(name, []byte("Content-Length")):
			if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil || length < 0 {
				return errAnswer
			}
		case bytes.EqualFold(name, []byte("Transfer-Encoding")):
			chunked = true
		}
	}
	var told *strings.Builder // what a failure says
	if status != http.StatusAccepted {
		told = new(strings.Builder)
	}
	if chunked {
		err = takeChunks(in, told)
	} else {
		err = take(in, length, told)
	}
	if err == nil && told != nil {
		err = &refusal{status, told.String()}
	}
	return err
}

// take reads n bytes, into a builder if there is one.
func take(in *bufio.Reader, n int, into *strings.Builder) (err error) {
	if into != nil {
		_, err = io.CopyN(into, in, int64(n))
	} else {
		_, err = in.Discard(n)
	}
	return err
}

func takeChunks(in *bufio.Reader, into *strings.Builder) error {
	for {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return err
		}
		size, err := strconv.ParseInt(string(bytes.TrimSpace(line)), 16, 32)
		if err != nil || size < 0 {
			return errAnswer
		}
		if err := take(in, int(size), into); err != nil {
			return err
		}
		if _, err := in.Discard(len("\r\n")); err != nil {
			return err
		}
		if size == 0 {
			return nil
		}
	}
}
