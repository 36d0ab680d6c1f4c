package e2e_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"postrider/internal/e2e"
	"postrider/internal/receivertest"
)

// bodies are what every receiver is sent beside the golden payloads: 300 kB of
// characters of one to four bytes, four times, so that whatever ends a chunk
// ends in the middle of one.
func bodies() map[string]string {
	all := map[string]string{"small": `{"room":"1204","status":"ready"}`}
	maps.Copy(all, payloads)
	for shift := range 4 {
		all[fmt.Sprintf("300 kB, shifted by %d", shift)] = `{"` + strings.Repeat("n", shift) + `":"` + strings.Repeat("é早🏝x", 30_000) + `"}`
	}
	return all
}

// Every receiver that partners are told to copy, or given to build with, takes
// what the program sends: in both content types, byte for byte, once. It refuses
// it once the webhook signs with another secret.
func TestReceivers_TakeWhatTheServerSends(t *testing.T) {
	const text = "clé secrète ☂"
	standard, sdk := receivertest.StandardWebhooks(t), receivertest.NewSDK(t)
	for name, receiver := range map[string]struct {
		program receivertest.Program
		secret  string
		rotates bool // with the old secret alone it goes on working while the webhook signs with both
	}{
		"NodeExpress":                     {program: receivertest.Node(t), secret: text},
		"NodeExpressWhsec":                {program: receivertest.Node(t), secret: secret},
		"Go":                              {program: receivertest.Go(t), secret: text},
		"Python":                          {program: receivertest.Python(t), secret: text},
		"PHP":                             {program: receivertest.PHP(t), secret: text},
		"StandardWebhooks":                {program: standard, secret: secret, rotates: true},
		"StandardWebhooksWithATextSecret": {program: standard, secret: text, rotates: true},
		"GoMiddleware":                    {program: receivertest.Middleware(t), secret: text, rotates: true},
		"SDKExpress":                      {program: sdk.Program("express"), secret: text, rotates: true},
		"SDKFastify":                      {program: sdk.Program("fastify"), secret: secret, rotates: true},
		"SDKFetch":                        {program: sdk.Program("fetch"), secret: text, rotates: true},
		"SDKHTTP":                         {program: sdk.Program("http"), secret: secret, rotates: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			operator := e2e.Start(t, t.TempDir())
			r := receiver.program.Start(t, receiver.secret)
			ids := map[string]string{} // of the webhooks, by what they subscribe to
			for kind, contentType := range map[string]string{"json": "application/json", "form": "application/x-www-form-urlencoded"} {
				ids[kind] = operator.Call(http.MethodPost, "/v0/api_webhooks", fmt.Appendf(nil,
					`{"url": %q, "content_type": %q, "secret": %q, "events": [%q], "retry_schedule": [0]}`,
					inPieces(t, r.URL), contentType, receiver.secret, kind+".published")).Must(http.StatusCreated).Text("id")
				if ping := r.Next(t); ping.Type != "ping" {
					t.Errorf("got %+v, want the ping of the new webhook", ping)
				}
			}

			want, got := map[string]receivertest.Event{}, map[string]receivertest.Event{}
			publish := func(kind, payload string) {
				t.Helper()
				id := operator.Call(http.MethodPost, "/v0/events", []byte(`{"payload":`+payload+`,"event":"`+kind+`.published"}`)).
					Must(http.StatusAccepted).Text("id")
				sum := sha256.Sum256([]byte(payload))
				want[id] = receivertest.Event{
					Type: kind + ".published", Delivery: id, Bytes: len(payload), SHA256: hex.EncodeToString(sum[:]),
				}
			}
			receive := func() {
				t.Helper()
				for len(got) < len(want) {
					event := r.Next(t)
					got[event.Delivery] = event
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Fatalf("the receiver recorded (-want +got):\n%s", diff)
				}
			}
			for kind := range ids {
				for _, payload := range bodies() {
					publish(kind, payload)
				}
			}
			receive()

			if receiver.rotates {
				for kind, id := range ids {
					operator.Call(http.MethodPost, "/v0/api_webhooks/"+id+"/rotate_secret", []byte(`{"grace_seconds": 3600}`)).Must(http.StatusOK)
					publish(kind, `{"signed":"twice"}`)
				}
				receive()
			}

			if failures := operator.Pages("/v0/api_webhooks/logs?status=failure", 100); len(failures) > 0 {
				t.Errorf("got %d failed attempts, the last %v, want none", len(failures), failures[0])
			}

			for kind, id := range ids {
				operator.Call(http.MethodPost, "/v0/api_webhooks/"+id+"/rotate_secret", []byte(`{"grace_seconds": 0}`)).Must(http.StatusOK)
				event := operator.Call(http.MethodPost, "/v0/events", []byte(`{"payload":1,"event":"`+kind+`.published"}`)).
					Must(http.StatusAccepted).Text("id")
				e2e.Until(t, "the receiver refuses another secret", func() bool {
					logs := operator.Pages("/v0/api_webhooks/"+id+"/logs?event_id="+event, 10)
					return len(logs) > 0 && logs[0]["status"] == "failure" && logs[0]["status_code"] == 401.0
				})
			}
			select {
			case event := <-r.Events:
				t.Errorf("got %+v, want nothing that another secret signed", event)
			default:
			}
		})
	}
}

// inPieces stands before a receiver and hands on what it is sent in small
// pieces, each at once: their ends fall anywhere in the text. It returns the
// URL to send to.
func inPieces(t *testing.T, target string) string {
	t.Helper()
	parsed, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	behind := parsed.Host
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	t.Cleanup(func() {
		listener.Close()
		group.Wait()
	})
	group.Go(func() {
		for {
			sender, err := listener.Accept()
			if err != nil {
				return // the test has ended
			}
			receiver, err := new(net.Dialer).DialContext(t.Context(), "tcp", behind)
			if err != nil {
				sender.Close()
				continue
			}
			hangUp := func() {
				sender.Close()
				receiver.Close()
			}
			context.AfterFunc(t.Context(), hangUp)
			group.Go(func() {
				defer hangUp()
				piece := make([]byte, 1009)
				for {
					n, err := sender.Read(piece)
					if err != nil {
						return
					}
					if _, err := receiver.Write(piece[:n]); err != nil {
						return
					}
				}
			})
			group.Go(func() {
				defer hangUp()
				io.Copy(sender, receiver) //nolint:errcheck // ends with the connection
			})
		}
	})
	parsed.Host = listener.Addr().String()
	return parsed.String()
}
