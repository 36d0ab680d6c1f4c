package cli

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"postrider/internal/config"
)

// remote are the flags of every command that speaks to a server.
type remote struct {
	config.Remote

	JSON bool `help:"Print JSON as the server wrote it, an object on each line."`
}

// scoped are the flags of a command whose subject belongs to a tenant.
type scoped struct {
	Tenant string `placeholder:"TENANT" help:"With the operator's key: whose. Without it, the tenant named default."`
}

// add puts the tenant into a query.
func (s scoped) add(query url.Values) url.Values {
	if s.Tenant != "" {
		query.Set("tenant", s.Tenant)
	}
	return query
}

// A client speaks to one server.
type client struct {
	config.Target

	http *http.Client
}

// callTime bounds one call, the body included.
const callTime = time.Minute

// largestAnswer is how much of an answer is read: a page of logs is far below.
const largestAnswer = 256 << 20

// connect finds the server that a command speaks to. Nothing is sent yet.
func (r *remote) connect() (*client, error) {
	target, err := r.Resolve()
	if err != nil {
		return nil, err
	}
	return newClient(target), nil
}

func newClient(target config.Target) *client {
	return &client{Target: target, http: &http.Client{
		Timeout: callTime,
		// Following a redirect could hand the key to another server.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// A request to the API.
type request struct {
	method, path string
	query        url.Values
	body         []byte // nil: none
	header       http.Header
}

// encoded makes a body of a value.
func encoded(value any) []byte {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		panic("cli: a body of our own cannot be encoded: " + err.Error())
	}
	return text.Bytes()
}

// call sends a request and returns the answer's body. Its error is a *problem
// when the server refused, an *unreachable when it could not be asked.
func (c *client) call(ctx context.Context, r request) ([]byte, error) {
	got, err := c.do(ctx, r)
	if err != nil {
		return nil, err
	}
	if got.status/100 != 2 {
		return nil, c.refusal(got)
	}
	return got.body, nil
}

// An answer is what came back, whatever it is.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// do sends a request and reads what comes, whatever it is.
func (c *client) do(ctx context.Context, r request) (*answer, error) {
	response, err := c.send(ctx, c.http, r)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, largestAnswer))
	if err != nil {
		return nil, &unreachable{c.Server, err}
	}
	return &answer{response.StatusCode, response.Header, body}, nil
}

// stream is call for an answer that goes on until the context ends.
func (c *client) stream(ctx context.Context, r request) (io.ReadCloser, error) {
	patient := *c.http
	patient.Timeout = 0
	response, err := c.send(ctx, &patient, r)
	if err != nil {
		return nil, err
	}
	if response.StatusCode == http.StatusOK {
		return response.Body, nil
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, largestAnswer))
	if err != nil {
		return nil, &unreachable{c.Server, err}
	}
	return nil, c.refusal(&answer{response.StatusCode, response.Header, body})
}

func (c *client) send(ctx context.Context, by *http.Client, r request) (*http.Response, error) {
	address := c.Server + r.path
	if len(r.query) > 0 {
		address += "?" + r.query.Encode()
	}
	asked, err := http.NewRequestWithContext(ctx, cmp.Or(r.method, http.MethodGet), address, bytes.NewReader(r.body))
	if err != nil {
		return nil, fmt.Errorf("make the request: %w", err)
	}
	if r.body != nil {
		asked.Header.Set("Content-Type", "application/json")
	}
	maps.Copy(asked.Header, r.header)
	if c.Key != "" {
		asked.Header.Set("Authorization", "Bearer "+string(c.Key))
	}
	asked.Header.Set("User-Agent", "postrider-cli")
	response, err := by.Do(asked)
	if err != nil {
		if failed, ok := errors.AsType[*url.Error](err); ok {
			err = failed.Err // the URL would be told twice
		}
		return nil, &unreachable{c.Server, err}
	}
	return response, nil
}

// get reads one thing. Its text stays as it came.
func (c *client) get(ctx context.Context, into any, path string, query url.Values) (json.RawMessage, error) {
	return c.ask(ctx, into, request{path: path, query: query})
}

// ask sends a request and decodes the answer.
func (c *client) ask(ctx context.Context, into any, r request) (json.RawMessage, error) {
	text, err := c.call(ctx, r)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(text, into); err != nil {
		return nil, &stranger{c.Server, "its answer cannot be read"}
	}
	return text, nil
}

// A page is one part of a list.
type page struct {
	Data       []json.RawMessage `json:"data"`
	NextCursor string            `json:"next_cursor"`
}

// largestPage is the most that the API gives at once.
const largestPage = 100

// pages are the flags of every list.
type pages struct {
	Limit int  `default:"30" placeholder:"N" help:"How many to show at most."`
	All   bool `help:"Show all, however many there are."`
}

// list calls each for up to as many entries as asked for, in the list's order,
// and reports whether more follow.
func (c *client) list(ctx context.Context, o pages, path string, query url.Values, each func(json.RawMessage) error) (more bool, err error) {
	if o.Limit < 1 && !o.All {
		return false, misuse("--limit", "is 1 or more", "")
	}
	for left := o.Limit; o.All || left > 0; {
		query.Set("limit", strconv.Itoa(largestPage))
		if !o.All {
			query.Set("limit", strconv.Itoa(min(left, largestPage)))
		}
		var got page
		if _, err := c.get(ctx, &got, path, query); err != nil {
			return false, err
		}
		for _, entry := range got.Data {
			if err := each(entry); err != nil {
				return false, err
			}
		}
		if left -= len(got.Data); got.NextCursor == "" {
			return false, nil
		}
		query.Set("cursor", got.NextCursor)
	}
	return true, nil
}

// refusal reads why a server said no.
func (c *client) refusal(got *answer) error {
	p := &problem{server: c.Server, wait: got.header.Get("Retry-After"), keyed: c.Key != ""}
	mediaType, _, _ := mime.ParseMediaType(got.header.Get("Content-Type"))
	if mediaType == "application/problem+json" && json.Unmarshal(got.body, p) == nil && p.Code != "" {
		return p
	}
	said := "it answered with status " + strconv.Itoa(got.status)
	if to := got.header.Get("Location"); to != "" {
		said += " and pointed to " + plain(to)
	}
	return &stranger{c.Server, said}
}
