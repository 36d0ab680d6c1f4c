package faulttest

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"postrider/internal/e2e"
	"postrider/internal/testkit"
)

// register makes a webhook for one event type, or a pattern.
func register(server *e2e.Server, url, events string) (id string) {
	return server.Call(http.MethodPost, "/v0/api_webhooks", fmt.Appendf(nil, `{"url": %q, "events": [%q]}`, url, events)).
		Must(http.StatusCreated).Text("id")
}

// event is the body of a publish with a payload of about so many bytes.
func event(kind string, size int) []byte {
	return fmt.Appendf(nil, `{"event": %q, "payload": {"pad": %q}}`, kind, strings.Repeat("x", size))
}

// times counts the requests that brought an event.
func times(receiver *e2e.Receiver, id string) (n int) {
	for _, r := range receiver.All() {
		if r.Header.Get("X-Clubmed-Delivery") == id {
			n++
		}
	}
	return n
}

// settled waits until an event's only delivery has succeeded.
func settled(t *testing.T, server *e2e.Server, id string) {
	t.Helper()
	e2e.Until(t, "the delivery of "+id, func() bool {
		return strings.Contains(string(server.Call(http.MethodGet, "/v0/events/"+id, nil).Must(http.StatusOK).Body), `"state":"succeeded"`)
	})
}

// The answer to a publish waits for the disk, and a disk that takes its time
// holds up nothing but what is written.
func TestDisk_NothingIsAcknowledgedBeforeItIsSynced(t *testing.T) {
	dir, receiver := t.TempDir(), e2e.Listen(t)
	server, disk := startOnDisk(t, dir)
	register(server, receiver.URL, "*")
	first := server.Call(http.MethodPost, "/v0/events", event("room.status", 10)).Must(http.StatusAccepted).Text("id")
	settled(t, server, first)
	if disk.count() == 0 {
		t.Fatal("got no sync of a server that has accepted an event")
	}

	disk.hold()
	select {
	case <-disk.asked: // one from before
	default:
	}
	answered := make(chan e2e.Answer, 1)
	go func() {
		answer, err := server.TryCall(http.MethodPost, "/v0/events", event("room.status", 10))
		if err != nil {
			t.Error(err)
		}
		answered <- answer
	}()
	<-disk.asked
	for _, path := range []string{"/healthz", "/readyz", "/v0/api_webhooks", "/v0/events/" + first} {
		server.Call(http.MethodGet, path, nil).Must(http.StatusOK)
	}
	select {
	case answer := <-answered:
		t.Errorf("got status %d before the disk had it", answer.Status)
	case <-time.After(200 * time.Millisecond):
	}
	disk.free()
	answer := <-answered
	settled(t, server, answer.Must(http.StatusAccepted).Text("id"))
}

// With a fifth of a second for each sync, many producers share one.
func TestDisk_SlowSyncsAreShared(t *testing.T) {
	receiver := e2e.Listen(t)
	server, disk := startOnDisk(t, t.TempDir())
	register(server, receiver.URL, "*")
	disk.slow(200 * time.Millisecond)
	const producers, each = 40, 5
	before, start := disk.count(), time.Now()
	var all sync.WaitGroup
	ids := make(chan string, producers*each)
	for range producers {
		all.Go(func() {
			for range each {
				asked := time.Now()
				answer, err := server.TryCall(http.MethodPost, "/v0/events", event("room.status", 10))
				if err != nil || answer.Status != http.StatusAccepted {
					t.Errorf("got status %d, %v", answer.Status, err)
					return
				}
				if took := time.Since(asked); took > 5*time.Second {
					t.Errorf("got an answer after %v, want a bounded wait", took)
				}
				ids <- answer.Text("id")
			}
		})
	}
	all.Wait()
	close(ids)
	for id := range ids {
		settled(t, server, id)
		if n := times(receiver, id); n != 1 {
			t.Errorf("got %s %d times, want once", id, n)
		}
	}
	t.Logf("%d events with %d syncs in %v", producers*each, disk.count()-before, time.Since(start))
	if n := disk.count() - before; n > 2*each*producers/4 {
		t.Errorf("got %d syncs for %d events, want them shared", n, producers*each)
	}
}

// After a sync that failed nobody knows what the disk has. The server accepts
// nothing more and ends; the next one starts from what is really there.
func TestDisk_AFailedSyncEndsTheServer(t *testing.T) {
	dir, receiver := t.TempDir(), e2e.Listen(t)
	server, disk := startOnDisk(t, dir)
	register(server, receiver.URL, "*")
	var accepted []string
	for range 5 {
		accepted = append(accepted, server.Call(http.MethodPost, "/v0/events", event("room.status", 10)).Must(http.StatusAccepted).Text("id"))
	}
	disk.fail()
	answer, err := server.TryCall(http.MethodPost, "/v0/events", event("room.status", 10))
	if err == nil && answer.Status != http.StatusServiceUnavailable {
		t.Errorf("got status %d of a publish that the disk does not have: %s", answer.Status, answer.Body)
	}
	if err := server.Wait(); err == nil {
		t.Error("got a server that ended as if all were well")
	}
	if log := server.Log(); !strings.Contains(log, "the disk cannot be trusted any more") {
		t.Errorf("got no word of the reason:\n%s", tail(log))
	}
	again := e2e.Start(t, dir)
	for _, id := range accepted {
		settled(t, again, id)
	}
	again.Call(http.MethodPost, "/v0/events", event("room.status", 10)).Must(http.StatusAccepted)
	if err := again.Stop(); err != nil {
		t.Error(err)
	}
	checkIntegrity(t, dir)
}

// mountSmall mounts a file system of 64 MiB that is the test's own.
func mountSmall(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	image := filepath.Join(t.TempDir(), "image")
	if err := errors.Join(os.WriteFile(image, nil, 0o600), os.Truncate(image, 64<<20)); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"mkfs.ext4", "-q", "-F", image}, {"mount", "-o", "loop", image, dir}} {
		if output, err := exec.CommandContext(t.Context(), args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, output)
		}
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
	return dir
}

// fill takes all the room that is left on a file system, and returns what gives
// it back.
func fill(t *testing.T, dir string) (empty func()) {
	t.Helper()
	name := filepath.Join(dir, "ballast")
	file, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int64{1 << 20, 4 << 10, 1} {
		_, err = io.CopyBuffer(struct{ io.Writer }{file}, struct{ io.Reader }{zeros{}}, make([]byte, size))
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("got %v from writing without an end, want a full disk", err)
		}
	}
	file.Close() //nolint:errcheck // it cannot be written, that is what it is for
	return func() {
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }

// On a disk without room publishes are refused and nothing that was accepted is
// lost: deliveries go out, their outcomes are recorded once there is room, and
// then publishes are accepted again.
func TestDisk_FullRefusesPublishesUntilThereIsRoom(t *testing.T) {
	if !testkit.Isolated(t, syscall.CLONE_NEWNS) {
		return
	}
	mount, receiver := mountSmall(t), e2e.Listen(t)
	dir := filepath.Join(mount, "data")
	server := e2e.Start(t, dir)
	register(server, receiver.URL, "*")
	goOn := make(chan struct{})
	receiver.Answer(func(w http.ResponseWriter, _ *http.Request) {
		<-goOn
		w.WriteHeader(http.StatusNoContent)
	})
	accepted := []string{server.Call(http.MethodPost, "/v0/events", event("room.status", 10)).Must(http.StatusAccepted).Text("id")}
	receiver.Event(t, accepted[0]) // and waits

	empty := fill(t, mount)
	refused := 0
	for range 100 {
		answer := server.Call(http.MethodPost, "/v0/events", event("room.status", 200_000))
		if answer.Status == http.StatusAccepted { // into room that the files had
			accepted = append(accepted, answer.Text("id"))
			continue
		}
		refused++
		answer.Must(http.StatusInsufficientStorage)
		if answer.Text("code") != "storage_full" || answer.Header.Get("Retry-After") == "" {
			t.Errorf("got %s with headers %v, want storage_full and when to try again", answer.Body, answer.Header)
		}
		if refused == 10 {
			break
		}
	}
	if refused < 10 {
		t.Fatalf("got %d publishes refused on a full disk", refused)
	}
	server.Call(http.MethodGet, "/readyz", nil).Must(http.StatusOK)
	close(goOn)
	for _, id := range accepted {
		receiver.Event(t, id)
	}
	t.Logf("%d events accepted before the disk was full, %d refused afterwards", len(accepted), refused)

	empty()
	for _, id := range accepted {
		settled(t, server, id)
		if n := times(receiver, id); n != 1 {
			t.Errorf("got %s %d times, want once", id, n)
		}
	}
	after := server.Call(http.MethodPost, "/v0/events", event("room.status", 200_000)).Must(http.StatusAccepted).Text("id")
	settled(t, server, after)

	// The same once more with a power cut: a server starts on a full disk, too.
	empty = fill(t, mount)
	server.Kill()
	server = e2e.Start(t, dir)
	server.Call(http.MethodGet, "/v0/events/"+after, nil).Must(http.StatusOK)
	server.Call(http.MethodPost, "/v0/events", event("room.status", 200_000)).Must(http.StatusInsufficientStorage)
	empty()
	settled(t, server, server.Call(http.MethodPost, "/v0/events", event("room.status", 10)).Must(http.StatusAccepted).Text("id"))
	for _, id := range append(accepted, after) {
		settled(t, server, id)
	}
	if err := server.Stop(); err != nil {
		t.Error(err)
	}
	checkIntegrity(t, dir)
}
