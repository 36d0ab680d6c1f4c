package signature_test

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"postrider/signature"
)

const whsec = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

func standardHeader(id string, at time.Time, list string) http.Header {
	h := http.Header{}
	h.Set(signature.HeaderID, id)
	h.Set(signature.HeaderTimestamp, strconv.FormatInt(at.Unix(), 10))
	h.Set(signature.HeaderSignature, list)
	return h
}

func publicText(key ed25519.PrivateKey) string {
	return signature.FormatPublicKey(key.Public().(ed25519.PublicKey))
}

func TestSigner_AppendsToWhatIsThere(t *testing.T) {
	signer := signature.NewSigner(whsec)
	at := time.Unix(1614265330, 0)
	hex := signer.AppendHex(nil, []byte("body"))
	entry := signer.AppendStandard(nil, "id", at, []byte("body"))
	if len(hex) != signature.HexSize || len(entry) != signature.StandardSize {
		t.Errorf("got lengths %d and %d, want %d and %d", len(hex), len(entry), signature.HexSize, signature.StandardSize)
	}
	if got, want := string(signer.AppendHex([]byte("before "), []byte("body"))), "before "+string(hex); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	got := string(signer.AppendStandard(append(bytes.Clone(entry), ' '), "id", at, []byte("body")))
	if want := string(entry) + " " + string(entry); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestSigner_PanicsOnAnEmptySecret(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("got a signer, want a panic")
		}
	}()
	signature.NewSigner("")
}

func TestSigner_TakesASecretThatOnlyLooksLikeWhsecAsText(t *testing.T) {
	at := time.Unix(1614265330, 0)
	for _, secret := range []string{"whsec_", "whsec_***", "whsec_MfKQ9r8", "WHSEC_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"} {
		// The hex family signs the same bytes with the text as key.
		signed := "id." + strconv.FormatInt(at.Unix(), 10) + ".body"
		signer := signature.NewSigner(secret)
		hex := signer.AppendHex(nil, []byte(signed))
		entry := signer.AppendStandard(nil, "id", at, []byte("body"))
		if got, want := decodeBase64(t, string(entry[3:])), decodeHex(t, string(hex[7:])); !bytes.Equal(got, want) {
			t.Errorf("%s: got %x, want %x", secret, got, want)
		}
	}
}

func TestSigner_SignsInManyGoroutines(t *testing.T) {
	signer := signature.NewSigner(whsec)
	verifier := newVerifier(t, signature.Options{Secrets: []string{whsec}})
	at := time.Unix(1614265330, 0)
	var group sync.WaitGroup
	for worker := range 8 {
		group.Go(func() {
			for i := range 200 {
				id := fmt.Sprintf("msg_%d_%d", worker, i)
				body := bytes.Repeat([]byte(id), i)
				if err := verifier.VerifyHex(string(signer.AppendHex(nil, body)), body); err != nil {
					t.Errorf("hex, %s: got %v, want it accepted", id, err)
				}
				entry := signer.AppendStandard(nil, id, at, body)
				if err := verifier.VerifyStandard(standardHeader(id, at, string(entry)), body, at); err != nil {
					t.Errorf("standard, %s: got %v, want it accepted", id, err)
				}
			}
		})
	}
	group.Wait()
}

func TestVerifier_MeasuresToleranceToTheNanosecond(t *testing.T) {
	at := time.Unix(1614265330, 0)
	entry := string(signature.NewSigner(whsec).AppendStandard(nil, "id", at, nil))
	verifier := newVerifier(t, signature.Options{Secrets: []string{whsec}})
	for _, c := range []struct {
		now  time.Time
		want error
	}{
		{at.Add(signature.DefaultTolerance), nil},
		{at.Add(signature.DefaultTolerance + 1), signature.ErrTooOld},
		{at.Add(-signature.DefaultTolerance), nil},
		{at.Add(-signature.DefaultTolerance - 1), signature.ErrTooNew},
	} {
		if got := verifier.VerifyStandard(standardHeader("id", at, entry), nil, c.now); !errors.Is(got, c.want) {
			t.Errorf("at %v: got %v, want %v", c.now.Sub(at), got, c.want)
		}
	}
}

func TestNewVerifier_RefusesWhatWouldAcceptNothingOrAnything(t *testing.T) {
	for name, options := range map[string]signature.Options{
		"no key":                         {},
		"an empty secret":                {Secrets: []string{""}},
		"an empty secret beside another": {Secrets: []string{whsec, ""}},
		"a secret with a line break":     {Secrets: []string{whsec + "\n"}},
		"whsec_ and nothing":             {Secrets: []string{"whsec_"}},
		"whsec_ and no base64":           {Secrets: []string{"whsec_***"}},
		"whsec_ and unpadded base64":     {Secrets: []string{"whsec_MfKQ9r8"}},
		"an empty public key":            {PublicKeys: []string{""}},
		"a public key without prefix":    {PublicKeys: []string{"1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4="}},
		"a private key":                  {PublicKeys: []string{signature.FormatPrivateKey(make([]byte, ed25519.PrivateKeySize))}},
		"a public key of 31 bytes":       {PublicKeys: []string{"whpk_KIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg=="}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := signature.NewVerifier(options)
			if !errors.Is(err, signature.ErrKey) {
				t.Fatalf("got %v, want %v", err, signature.ErrKey)
			}
			for _, key := range append(options.Secrets, options.PublicKeys...) {
				if key != "" && key != "whsec_" && strings.Contains(err.Error(), key) {
					t.Errorf("the error shows the key: %v", err)
				}
			}
		})
	}
	if _, err := signature.NewVerifier(signature.Options{Secrets: []string{whsec}, Tolerance: -1}); err == nil {
		t.Error("a negative tolerance: got a verifier, want an error")
	}
}

func TestParsePrivateKey_RefusesHalvesThatDoNotBelongTogether(t *testing.T) {
	one := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, ed25519.SeedSize))
	two := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{2}, ed25519.SeedSize))
	mixed := append(bytes.Clone(one[:ed25519.SeedSize]), two[ed25519.SeedSize:]...)
	for name, text := range map[string]string{
		"mixed halves":   signature.FormatPrivateKey(mixed),
		"the seed alone": signature.FormatPrivateKey(one[:ed25519.SeedSize]),
		"a public key":   publicText(one),
		"no prefix":      strings.TrimPrefix(signature.FormatPrivateKey(one), "whsk_"),
		"empty":          "",
	} {
		if _, err := signature.ParsePrivateKey(text); !errors.Is(err, signature.ErrKey) {
			t.Errorf("%s: got %v, want %v", name, err, signature.ErrKey)
		}
	}
	if got, err := signature.ParsePrivateKey(signature.FormatPrivateKey(one)); err != nil || !got.Equal(one) {
		t.Errorf("a whole key: got error %v and equal %v, want the key", err, got.Equal(one))
	}
}

func BenchmarkSigner(b *testing.B) {
	signer := signature.NewSigner(whsec)
	at := time.Unix(1614265330, 0)
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, ed25519.SeedSize))
	for _, size := range []int{512, 20_000} {
		body := bytes.Repeat([]byte("x"), size)
		dst := make([]byte, 0, 256)
		run := func(name string, sign func()) {
			b.Run(fmt.Sprintf("%s/%d", name, size), func(b *testing.B) {
				b.ReportAllocs()
				b.SetBytes(int64(size))
				for b.Loop() {
					sign()
				}
			})
		}
		run("hex", func() { dst = signer.AppendHex(dst[:0], body) })
		run("standard", func() { dst = signer.AppendStandard(dst[:0], "0197c9e4-7f3a-7000-8000-0123456789ab", at, body) })
		run("asymmetric", func() {
			dst = signature.AppendAsymmetric(dst[:0], key, "0197c9e4-7f3a-7000-8000-0123456789ab", at, body)
		})
	}
}

func BenchmarkSigner_Parallel(b *testing.B) {
	signer := signature.NewSigner(whsec)
	at := time.Unix(1614265330, 0)
	body := bytes.Repeat([]byte("x"), 512)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		dst := make([]byte, 0, 256)
		for pb.Next() {
			dst = signer.AppendHex(dst[:0], body)
			dst = signer.AppendStandard(dst, "0197c9e4-7f3a-7000-8000-0123456789ab", at, body)
		}
	})
}

func BenchmarkVerifier(b *testing.B) {
	at := time.Unix(1614265330, 0)
	body := bytes.Repeat([]byte("x"), 512)
	signer := signature.NewSigner(whsec)
	verifier := newVerifier(b, signature.Options{Secrets: []string{whsec}})
	value := string(signer.AppendHex(nil, body))
	b.Run("hex", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := verifier.VerifyHex(value, body); err != nil {
				b.Fatal(err)
			}
		}
	})
	h := standardHeader("id", at, string(signer.AppendStandard(nil, "id", at, body)))
	b.Run("standard", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := verifier.VerifyStandard(h, body, at); err != nil {
				b.Fatal(err)
			}
		}
	})
}
