package signature_test

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"time"

	"postrider/signature"
)

// A whole receiver. What is not signed never reaches the handler; what comes
// again is answered without it.
func ExampleReceiver_Middleware() {
	receiver, err := signature.NewReceiver(signature.ReceiverOptions{
		Secrets:  []string{"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}, // from your configuration
		Remember: 10_000,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	mux := http.NewServeMux()
	mux.Handle("POST /api/callback", receiver.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		delivery, _ := signature.DeliveryFrom(r.Context())
		// Write it to a table or a queue, and answer once that is done.
		fmt.Printf("%s: %s\n", delivery.Event, delivery.Payload)
		w.WriteHeader(http.StatusNoContent)
	})))

	for _, secret := range []string{"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "somebody else's"} {
		answer := httptest.NewRecorder()
		mux.ServeHTTP(answer, deliver(secret, "application/x-www-form-urlencoded", "payload=%7B%22room%22%3A%221204%22%7D"))
		fmt.Printf("%d %q\n", answer.Code, answer.Body)
	}
	// Output:
	// room_status.updated: {"room":"1204"}
	// 204 ""
	// 401 "no signature matches\n"
}

// deliver makes a request as Postrider does.
func deliver(secret, contentType, body string) *http.Request {
	now := time.Now()
	signer := signature.NewSigner(secret)
	r := httptest.NewRequestWithContext(context.Background(), http.MethodPost, "/api/callback", strings.NewReader(body))
	r.Header.Set("Content-Type", contentType)
	r.Header.Set("X-Clubmed-Event", "room_status.updated")
	r.Header.Set("X-Clubmed-Signature", string(signer.AppendHex(nil, []byte(body))))
	r.Header.Set("webhook-id", "msg_1")
	r.Header.Set("webhook-timestamp", strconv.FormatInt(now.Unix(), 10))
	r.Header.Set("webhook-signature", string(signer.AppendStandard(nil, "msg_1", now, []byte(body))))
	return r
}

// To rotate a secret, let the receiver trust both before the sender uses the new
// one, and the new one alone when it no longer uses the old.
func ExampleNewReceiver_rotation() {
	receiver, err := signature.NewReceiver(signature.ReceiverOptions{
		Secrets: []string{"the new secret", "the old secret"},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	handler := receiver.Middleware(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	for _, secret := range []string{"the old secret", "the new secret", "another secret"} {
		answer := httptest.NewRecorder()
		handler.ServeHTTP(answer, deliver(secret, "application/json", `{"room":"1204"}`))
		fmt.Println(secret, answer.Code)
	}
	// Output:
	// the old secret 200
	// the new secret 200
	// another secret 401
}

// Where there is no http.Handler, such as in a function that a cloud calls, give
// Receive the headers and the bytes of the body.
func ExampleReceiver_Receive() {
	receiver, err := signature.NewReceiver(signature.ReceiverOptions{
		Secrets: []string{"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	header := http.Header{}
	header.Set("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek")
	header.Set("webhook-timestamp", "1614265330")
	header.Set("webhook-signature", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=")
	body := []byte(`{"test": 2432232314}`)

	delivery, err := receiver.Receive(header, body, time.Unix(1614265330, 0)) // time.Now()
	fmt.Println(delivery.ID, string(delivery.Payload), err)
	_, err = receiver.Receive(header, []byte(`{"test": 1}`), time.Unix(1614265330, 0))
	fmt.Println(errors.Is(err, signature.ErrNoMatch))
	// Output:
	// msg_p5jXN8AQM9LWM0D4loKWxJek {"test": 2432232314} <nil>
	// true
}

func ExampleSigner() {
	signer := signature.NewSigner("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw") // once for a secret
	body := []byte(`{"test": 2432232314}`)
	at := time.Unix(1614265330, 0) // time.Now() of the attempt

	fmt.Println("X-Clubmed-Signature:", string(signer.AppendHex(nil, body)))
	fmt.Println("webhook-id: msg_p5jXN8AQM9LWM0D4loKWxJek")
	fmt.Println("webhook-timestamp:", strconv.FormatInt(at.Unix(), 10))
	fmt.Println("webhook-signature:", string(signer.AppendStandard(nil, "msg_p5jXN8AQM9LWM0D4loKWxJek", at, body)))
	// Output:
	// X-Clubmed-Signature: sha256=80ec8a89ce3cd22133a1066caecb4d04fea7467657c8514d717ec42c38a5c94c
	// webhook-id: msg_p5jXN8AQM9LWM0D4loKWxJek
	// webhook-timestamp: 1614265330
	// webhook-signature: v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=
}

// While a secret is changed, both sign, the newest first.
func ExampleSigner_AppendStandard_rotation() {
	current, previous := signature.NewSigner("the new secret"), signature.NewSigner("the old secret")
	body := []byte(`{"room":"1204"}`)
	at := time.Unix(1614265330, 0)

	list := current.AppendStandard(nil, "msg_1", at, body)
	list = previous.AppendStandard(append(list, ' '), "msg_1", at, body)

	receiver, err := signature.NewVerifier(signature.Options{Secrets: []string{"the old secret"}})
	if err != nil {
		fmt.Println(err)
		return
	}
	header := http.Header{}
	header.Set(signature.HeaderID, "msg_1")
	header.Set(signature.HeaderTimestamp, "1614265330")
	header.Set(signature.HeaderSignature, string(list))
	fmt.Println(receiver.VerifyStandard(header, body, at))
	// Output: <nil>
}

func ExampleVerifier_VerifyHex() {
	verifier, err := signature.NewVerifier(signature.Options{Secrets: []string{"correct horse battery staple"}})
	if err != nil {
		fmt.Println(err)
		return
	}
	callback := func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
		if err != nil {
			w.WriteHeader(http.StatusRequestEntityTooLarge)
			return
		}
		if err := verifier.VerifyHex(r.Header.Get("X-Clubmed-Signature"), body); err != nil {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	}

	body := strings.NewReader(`{"room":"1204"}`)
	request := httptest.NewRequestWithContext(context.Background(), http.MethodPost, "/api/callback", body)
	request.Header.Set("X-Clubmed-Signature", "sha256=0000000000000000000000000000000000000000000000000000000000000000")
	answer := httptest.NewRecorder()
	callback(answer, request)
	fmt.Println(answer.Code)
	// Output: 401
}

func ExampleVerifier_VerifyStandard() {
	verifier, err := signature.NewVerifier(signature.Options{Secrets: []string{"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}})
	if err != nil {
		fmt.Println(err)
		return
	}
	header := http.Header{}
	header.Set("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek")
	header.Set("webhook-timestamp", "1614265330")
	header.Set("webhook-signature", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=")
	body := []byte(`{"test": 2432232314}`)

	signed := time.Unix(1614265330, 0)
	fmt.Println(verifier.VerifyStandard(header, body, signed.Add(time.Second)))
	late := verifier.VerifyStandard(header, body, signed.Add(time.Hour))
	fmt.Println(errors.Is(late, signature.ErrTooOld))
	// Output:
	// <nil>
	// true
}

// With v1a the receiver holds no secret: what verifies cannot sign.
func ExampleAppendAsymmetric() {
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	at := time.Now()
	body := []byte(`{"room":"1204"}`)
	header := http.Header{}
	header.Set(signature.HeaderID, "msg_1")
	header.Set(signature.HeaderTimestamp, strconv.FormatInt(at.Unix(), 10))
	header.Set(signature.HeaderSignature, string(signature.AppendAsymmetric(nil, private, "msg_1", at, body)))

	verifier, err := signature.NewVerifier(signature.Options{PublicKeys: []string{signature.FormatPublicKey(public)}})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(verifier.VerifyStandard(header, body, at))
	// Output: <nil>
}
