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
