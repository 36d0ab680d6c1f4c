package bench

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"postrider"
	"postrider/signature"
)

// Bare is the limit that a scenario is held against: a loop of signed POSTs,
// net/http's client to net/http's server, over the same number of connections,
// with the same payload, on the same machine, right before and right after. It
// stores nothing and decides nothing. Sender and receiver are one process, and
// its processor time is that of both.
type Bare struct {
	Delivered float64      `json:"delivered_per_second"`
	CPU       float64      `json:"cpu_seconds_per_1000"`
	Latency   *Percentiles `json:"latency_ms"` // from before the signing to the receipt

	total   int64
	elapsed time.Duration
	cpu     time.Duration
	latency histogram
}

// maxBare bounds the deliveries of one measurement.
const maxBare = 1 << 20

// A bareLoop is what one measurement of the limit needs.
type bareLoop struct {
	connections, payload int
	tls                  bool
	rate                 float64 // 0: as fast as it goes
	duration             time.Duration
}

// measure adds to the limit what one more run of the loop gives.
func (r *Bare) measure(ctx context.Context, o bareLoop) error {
	listener, err := listen(ctx)
	if err != nil {
		return fmt.Errorf("listen for the bare loop: %w", err)
	}
	secret := string(postrider.NewSecret())
	receiver, err := startReceiver(listener, receiverOptions{secret: secret, tls: o.tls})
	if err != nil {
		return err
	}
	defer receiver.close()
	transport := &http.Transport{
		MaxIdleConnsPerHost: o.connections, MaxConnsPerHost: o.connections, DisableCompression: true,
		TLSClientConfig: &tls.Config{RootCAs: receiver.roots, MinVersion: tls.VersionTLS12},
	}
	defer transport.CloseIdleConnections()
	sender := &bareSender{
		client: &http.Client{Transport: transport}, signer: signature.NewSigner(secret),
		url: receiver.hook(0), hookID: postrider.NewID().String(),
	}
	// A short run first, so that connections stand and pools are filled.
	short := o
	short.duration = o.duration / 10
	if err := sender.run(ctx, receiver.open(maxBare, 1), short); err != nil {
		return err
	}
	b := receiver.open(maxBare, 1)
	began, cpu := time.Now(), ownCPU()
	if err := sender.run(ctx, b, o); err != nil {
		return err
	}
	r.cpu += ownCPU() - cpu
	r.elapsed += max(b.lastAt().Sub(began), time.Nanosecond)
	r.total += b.unique.Load()
	r.latency.add(&b.latency)
	r.Delivered = rate(r.total, r.elapsed)
	r.CPU = costOf(r.cpu, r.total)
	r.Latency = r.latency.percentiles()
	return nil
}

// ownCPU is the processor time of this process.
func ownCPU() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		panic("bench: a process can always ask for its own usage: " + err.Error())
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

type bareSender struct {
	client *http.Client
	signer *signature.Signer
	url    string
	hookID string
}

// run sends for a while, at a rate or as fast as it goes.
func (s *bareSender) run(ctx context.Context, b *book, o bareLoop) error {
	payload := b.newPayload(o.payload)
	group, ctx := errgroup.WithContext(ctx)
	next := s.untilEnd(o.duration)
	if o.rate > 0 {
		due := make(chan int, maxBare)
		next = func() (int, bool) { event, more := <-due; return event, more }
		group.Go(func() error {
			defer close(due)
			return pace(ctx, min(maxBare, int(o.rate*o.duration.Seconds())), o.rate, func(event int, at time.Time) error {
				b.publish(event, at)
				due <- event
				return nil
			})
		})
	}
	for range o.connections {
		group.Go(func() error {
			body := bytes.Clone(payload)
			for event, more := next(); more; event, more = next() {
				if o.rate == 0 {
					b.publish(event, time.Now())
				}
				setDigits(body[seqAt:seqAt+seqDigits], event)
				if err := s.post(ctx, body); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}

// untilEnd numbers events until the time is up.
func (s *bareSender) untilEnd(duration time.Duration) func() (event int, more bool) {
	var next atomic.Int64
	end := time.Now().Add(duration)
	return func() (int, bool) {
		event := int(next.Add(1)) - 1
		return event, event < maxBare && time.Now().Before(end)
	}
}

// post is one delivery: an id, both signatures, the headers that Postrider
// sends, and the answer read.
func (s *bareSender) post(ctx context.Context, body []byte) error {
	id, now := postrider.NewID().String(), time.Now()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	var buffer [128]byte
	for _, header := range [...][2]string{
		{"Content-Type", string(postrider.JSON)},
		{"User-Agent", "bare"},
		{"X-Clubmed-Event", eventType(0)},
		{"X-Clubmed-Delivery", id},
		{"X-Clubmed-Hook-ID", s.hookID},
		{"X-Clubmed-Attempt", "1"},
		{"X-Clubmed-Signature", string(s.signer.AppendHex(buffer[:0], body))},
		{signature.HeaderID, id},
		{signature.HeaderTimestamp, strconv.FormatInt(now.Unix(), 10)},
		{signature.HeaderSignature, string(s.signer.AppendStandard(buffer[:0], id, now, body))},
	} {
		r.Header[header[0]] = []string{header[1]}
	}
	answer, err := s.client.Do(r)
	if err != nil {
		return fmt.Errorf("bare: %w", err)
	}
	defer answer.Body.Close()
	if _, err := io.Copy(io.Discard, answer.Body); err != nil {
		return fmt.Errorf("bare: %w", err)
	}
	if answer.StatusCode != http.StatusNoContent {
		return fmt.Errorf("bare: the receiver answered %s", answer.Status)
	}
	return nil
}
