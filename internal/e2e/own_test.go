package e2e_test

import (
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"postrider/internal/e2e"
	"postrider/internal/pgtest"
)

// Whatever the operator opens: a webhook reaches neither the API nor the
// database nor the profiles, which trust whoever comes from this machine.
func TestOwnAddresses_StayClosedWhereLoopbackIsOpen(t *testing.T) {
	database := pgtest.For(t, false)
	at, err := url.Parse(database.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	free, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	profiles := free.Addr().String()
	free.Close()
	server := e2e.Start(t, t.TempDir(), "--database-url", at.String(), "--pprof", profiles,
		"--encryption-key", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=")
	create := func(url string) e2e.Answer {
		return server.Call(http.MethodPost, "/v0/api_webhooks", []byte(`{"url": "`+url+`", "events": ["*"], "active": false}`))
	}
	create("http://127.0.0.1:4567/").Must(http.StatusCreated)
	for name, address := range map[string]string{
		"the API": strings.TrimPrefix(server.URL, "http://"), "the database": at.Host, "the profiles": profiles,
	} {
		e2e.Until(t, "the refusal of "+name, func() bool {
			answer := create("http://" + address + "/")
			return answer.Status == http.StatusUnprocessableEntity && strings.Contains(string(answer.Body), "own listener")
		})
	}
}
