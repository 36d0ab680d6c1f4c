// A receiver of webhooks in Go, with the standard library only.
//
//	WEBHOOK_SECRET='the secret of the webhook' PORT=4567 go run .
package main

import (
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"mime"
	"net"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"sync"
	"time"
)

const (
	maxBody = 4 << 20 // a form is up to three times as long as its payload
	maxSeen = 10_000
)

func main() {
	secret := os.Getenv("WEBHOOK_SECRET")
	if secret == "" {
		log.Fatal("receiver: WEBHOOK_SECRET is not set: without it anyone could send events")
	}
	listener, err := net.Listen("tcp", "127.0.0.1:"+cmp.Or(os.Getenv("PORT"), "4567"))
	if err != nil {
		log.Fatal(err)
	}
	rc := &receiver{secret: []byte(secret), out: json.NewEncoder(os.Stdout), seen: map[string]bool{}}
	mux := http.NewServeMux()
	mux.Handle("POST /api/callback", rc)
	server := http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 30 * time.Second}
	fmt.Printf("{\"listening\":\"http://%s/api/callback\"}\n", listener.Addr())
	log.Fatal(server.Serve(listener))
}

type receiver struct {
	secret []byte

	mu     sync.Mutex // over all that follows
	out    *json.Encoder
	seen   map[string]bool
	oldest [maxSeen]string // a ring of what is in seen
	next   int
}

var deliveryID = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

func (rc *receiver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// The signature covers the bytes of the body as they came, so all of them are
	// read before anything is made of them.
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		w.WriteHeader(http.StatusRequestEntityTooLarge)
		return
	case err != nil: // the sender went away in the middle
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	if !rc.isSigned(body, r.Header.Get("X-Clubmed-Signature")) {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	delivery := r.Header.Get("X-Clubmed-Delivery")
	payload, ok := readPayload(r.Header.Get("Content-Type"), body)
	if !ok || !deliveryID.MatchString(delivery) {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	if err := rc.once(r.Header.Get("X-Clubmed-Event"), delivery, payload); err != nil {
		log.Print(err)
		w.WriteHeader(http.StatusInternalServerError) // it will be sent again
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (rc *receiver) isSigned(body []byte, header string) bool {
	mac := hmac.New(sha256.New, rc.secret)
	mac.Write(body)
	expected := "sha256=" + hex.EncodeToString(mac.Sum(nil))
	return hmac.Equal([]byte(header), []byte(expected)) // takes the same time wherever they differ
}

// readPayload gives the bytes of the JSON.
func readPayload(contentType string, body []byte) (payload []byte, ok bool) {
	payload = body
	if mediaType, _, _ := mime.ParseMediaType(contentType); mediaType == "application/x-www-form-urlencoded" {
		form, err := url.ParseQuery(string(body))
		if err != nil {
			return nil, false
		}
		payload = []byte(form.Get("payload"))
	}
	return payload, json.Valid(payload)
}

// once records a delivery, unless it is one that was recorded before and is sent
// again. Two copies that come at the same time wait for each other.
func (rc *receiver) once(event, delivery string, payload []byte) error {
	rc.mu.Lock()
	defer rc.mu.Unlock()
	if rc.seen[delivery] {
		return nil
	}
	if err := rc.record(event, delivery, payload); err != nil {
		return err
	}
	delete(rc.seen, rc.oldest[rc.next])
	rc.oldest[rc.next] = delivery
	rc.seen[delivery] = true
	rc.next = (rc.next + 1) % maxSeen
	return nil
}

// record stands for writing the event to your database or queue: soon done, and
// done before the answer, since after a 2xx the event is not sent again. The work
// that follows from the event belongs behind that queue, not here.
func (rc *receiver) record(event, delivery string, payload []byte) error {
	sum := sha256.Sum256(payload)
	return rc.out.Encode(struct {
		Event    string `json:"event"`
		Delivery string `json:"delivery"`
		Bytes    int    `json:"bytes"`
		SHA256   string `json:"sha256"`
	}{event, delivery, len(payload), hex.EncodeToString(sum[:])})
}
