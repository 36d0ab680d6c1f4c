package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"postrider"
)

// openNode opens one more node of a database, for the length of the test.
func openNode(t *testing.T, database string) *Store {
	t.Helper()
	return openWith(t, options(database))
}

// openWith opens a node with settings of its own, for the length of the test.
func openWith(t *testing.T, o Options) *Store {
	t.Helper()
	s, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close a node: %v", err)
		}
	})
	return s
}

func eventFor(webhook postrider.ID, claimed bool) postrider.Accepted {
	e := postrider.Event{
		ID: postrider.NewID().String(), Tenant: "default", Type: "room_status.updated", Payload: []byte(`{"a":1}`),
		CreatedAt: time.Now(), Deliveries: 1,
	}
	return postrider.Accepted{Event: e, Deliveries: []postrider.Delivery{{
		DeliveryKey: postrider.DeliveryKey{Tenant: e.Tenant, EventID: e.ID, WebhookID: webhook},
		EventType:   e.Type, Payload: e.Payload, Trigger: postrider.TriggerEvent, Claimed: claimed, AcceptedAt: e.CreatedAt,
	}}}
}

func accept(t *testing.T, s *Store, list ...postrider.Accepted) (ids []string) {
	t.Helper()
	for i := range list {
		list[i].Publication = i
		ids = append(ids, list[i].Event.ID)
	}
	if _, err := s.Accept(t.Context(), list, nil); err != nil {
		t.Fatal(err)
	}
	return ids
}

func claim(t *testing.T, s *Store, webhook postrider.ID, rows int, ordered bool) postrider.Claimed {
	t.Helper()
	claimed, err := s.Claim(t.Context(), webhook, postrider.ClaimLimit{Rows: rows, Bytes: 1 << 20, Ordered: ordered})
	if err != nil {
		t.Fatal(err)
	}
	return claimed
}

func wantEvents(t *testing.T, what string, claimed postrider.Claimed, want ...string) {
	t.Helper()
	var got []string
	for i := range claimed.Deliveries {
		got = append(got, claimed.Deliveries[i].EventID)
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

func done(d *postrider.Delivery) postrider.Settlement {
	return postrider.Settlement{Key: d.DeliveryKey, Done: true, Attempt: postrider.Attempt{
		ID: postrider.NewID(), Tenant: d.Tenant, WebhookID: d.WebhookID, EventID: d.EventID, EventType: d.EventType, Number: 1,
		Trigger: d.Trigger, At: time.Now(), URL: "https://one.test/", Status: postrider.AttemptSuccess,
	}}
}

// die lets a node's last heartbeat be longer ago than a lease.
func die(t *testing.T, database string, s *Store) {
	t.Helper()
	if err := cluster.Do(t.Context(), database, fmt.Sprintf(`UPDATE nodes SET beat_at = now() - interval '11 seconds' WHERE id = %d`, s.run.Load())); err != nil {
		t.Fatal(err)
	}
}

// beat is a heartbeat, with what comes beside it.
func beat(t *testing.T, s *Store) {
	t.Helper()
	if err := s.beat(t.Context(), postrider.Node{}); err != nil {
		t.Fatal(err)
	}
	if err := s.freeEnded(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestNodes_AClaimIsOneNodesUntilItDies(t *testing.T) {
	database := newDatabase(t)
	one, two := openNode(t, database), openNode(t, database)
	webhook := postrider.NewID()
	ids := accept(t, one, eventFor(webhook, true), eventFor(webhook, false), eventFor(webhook, false))
	wantEvents(t, "the first of two", claim(t, one, webhook, 1, false), ids[1])
	mine := claim(t, two, webhook, 10, false)
	wantEvents(t, "another node", mine, ids[2])
	if got := two.Nodes(); got != 2 {
		t.Errorf("got %d nodes at the second one's start, want 2", got)
	}
	beat(t, one)
	if got := one.Nodes(); got != 2 {
		t.Errorf("got %d nodes after a heartbeat, want 2", got)
	}
	die(t, database, one)
	beat(t, two)
	select {
	case <-two.Orphaned():
	default:
		t.Error("got no signal that claims came free")
	}
	if waiting, err := two.Waiting(t.Context(), postrider.ID{}, 10); err != nil || len(waiting) != 1 || waiting[0].WebhookID != webhook {
		t.Errorf("got %+v, %v, want the webhook", waiting, err)
	}
	freed := claim(t, two, webhook, 10, false)
	wantEvents(t, "after the death", freed, ids[0], ids[1])

	// The dead one goes on: its settle is recorded, but ends nothing.
	if err := one.Settle(t.Context(), []postrider.Settlement{done(&freed.Deliveries[0])}); err != nil {
		t.Fatal(err)
	}
	if _, deliveries, err := two.Event(t.Context(), "default", ids[0]); err != nil || len(deliveries) != 1 ||
		deliveries[0].State != postrider.DeliveryPending || deliveries[0].Last == nil {
		t.Errorf("got %+v, %v, want it pending, with an attempt", deliveries, err)
	}
	// What it claims before it has noticed is nobody's.
	late := accept(t, one, eventFor(webhook, true))
	wantEvents(t, "the dead node", claim(t, one, webhook, 10, false))
	wantEvents(t, "what the dead node wrote", claim(t, two, webhook, 10, false), late[0])
	before := one.run.Load()
	beat(t, one)
	if one.run.Load() == before || !time.Now().Before(one.Lease()) {
		t.Errorf("got run %d and lease %v, want another run, and alive", one.run.Load(), one.Lease())
	}
}

func TestNodes_AClaimThatIsCommittedAfterItsNodesEndIsFreed(t *testing.T) {
	database := newDatabase(t)
	one, two := openNode(t, database), openNode(t, database)
	webhook := postrider.NewID()
	ids := accept(t, one, eventFor(webhook, false))
	die(t, database, one)
	beat(t, two)
	// As a transaction does that had begun before.
	if err := cluster.Do(t.Context(), database, fmt.Sprintf(`UPDATE queue SET node = %d`, one.run.Load())); err != nil {
		t.Fatal(err)
	}
	beat(t, two)
	wantEvents(t, "the straggler", claim(t, two, webhook, 10, false), ids[0])
}

// manyClaims is more than can be freed in the time that any statement has.
const manyClaims = 300_000

// claimMany gives a node very many claims, and the lane of an ordered webhook.
func claimMany(t *testing.T, database string, s *Store) (ordered postrider.ID) {
	t.Helper()
	ordered = postrider.NewID()
	if err := cluster.Do(t.Context(), database, fmt.Sprintf(`
INSERT INTO queue (tenant_id, event_id, webhook_id, accepted_at, due_at, node, day, size, trigger)
SELECT 'default', i::text, lpad(to_hex(i %% 50), 32, '0')::uuid, now(), now(), %d, current_date, 2, 'event' FROM generate_series(1, %d) i`,
		s.run.Load(), manyClaims)); err != nil {
		t.Fatal(err)
	}
	accept(t, s, eventFor(ordered, false), eventFor(ordered, false))
	claim(t, s, ordered, 1, true)
	return ordered
}

// claimsOf counts what a node has in hand.
func claimsOf(t *testing.T, c *pgx.Conn, run int64) (n int) {
	t.Helper()
	if err := c.QueryRow(t.Context(), `SELECT count(*) FROM queue WHERE node = $1`, run).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestNodes_ADeadOnesManyClaimsAreFreedBesideTheHeartbeat(t *testing.T) {
	database := newDatabase(t)
	dead := openNode(t, database)
	ordered := claimMany(t, database, dead)
	living := []*Store{openNode(t, database), openNode(t, database)}
	c := connect(t, living[0].config)
	die(t, database, dead)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	for _, s := range living {
		go func() { ended <- s.Run(ctx, postrider.Node{}) }()
	}
	defer func() {
		cancel()
		for range living {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
	}()

	const bound = time.Minute
	began, pause := time.Now(), make([]time.Duration, len(living))
	signals, seen := 0, map[int]bool{}
	for left := manyClaims; left > 0; left = claimsOf(t, c, dead.run.Load()) {
		for i, s := range living {
			pause[i] = max(pause[i], time.Since(s.Lease().Add(-Lease)))
		}
		seen[left] = true
		select {
		case <-living[0].Orphaned():
			signals++
		case <-time.After(50 * time.Millisecond):
		}
		if time.Since(began) > bound {
			t.Fatalf("got %d claims left after %v", left, bound)
		}
	}
	t.Logf("%d claims were free after %v, with %d signals; heartbeats came after %v at most", manyClaims, time.Since(began), signals, pause)
	if slices.Max(pause) > HeartbeatEvery+HeartbeatEvery/2 {
		t.Errorf("got pauses of the heartbeat of up to %v, want %v", pause, HeartbeatEvery)
	}
	if signals < 3 || len(seen) < 5 {
		t.Errorf("got %d signals that claims came free, and %d numbers of what was left, want it part by part", signals, len(seen))
	}
	if got := claim(t, living[0], ordered, 10, true); len(got.Deliveries) != 2 {
		t.Errorf("got %d deliveries of the dead node's lane, want 2", len(got.Deliveries))
	}
}

func TestNodes_AreNotForgottenBeforeTheirClaimsAreFree(t *testing.T) {
	database := newDatabase(t)
	dead, living := openNode(t, database), openNode(t, database)
	webhook := postrider.NewID()
	ids := accept(t, dead, eventFor(webhook, true))
	c := connect(t, living.config)
	long := fmt.Sprintf(`UPDATE nodes SET ended_at = now() - interval '1 hour' WHERE id = %d`, dead.run.Load())
	do(t, c, long)
	if err := living.endDead(t.Context()); err != nil {
		t.Fatal(err)
	}
	beat(t, living)
	wantEvents(t, "what one that ended long ago had", claim(t, living, webhook, 10, false), ids[0])
	beat(t, living)
	var known bool
	if err := c.QueryRow(t.Context(), `SELECT EXISTS (SELECT 1 FROM nodes WHERE id = $1)`, dead.run.Load()).Scan(&known); err != nil || known {
		t.Errorf("got it known %t, %v, want it forgotten once nothing of it is left", known, err)
	}
}

func TestNodes_ACloseEndsTheNodeHoweverMuchItHas(t *testing.T) {
	database := newDatabase(t)
	leaving, staying := open(t, database), openNode(t, database)
	claimMany(t, database, leaving)
	run := leaving.run.Load()
	began := time.Now()
	if err := leaving.Close(); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > writeTimeout+time.Second {
		t.Errorf("got it closed after %v, want the rest left to others", took)
	}
	c := connect(t, staying.config)
	t.Logf("%d claims were left after %v", claimsOf(t, c, run), time.Since(began))
	beat(t, staying)
	if left := claimsOf(t, c, run); left > 0 {
		t.Errorf("got %d claims left, want the others to free them", left)
	}
}

func TestNodes_TheLivingAreTold(t *testing.T) {
	database := newDatabase(t)
	one, two := openNode(t, database), openNode(t, database)
	for _, s := range []*Store{one, two} {
		if err := s.beat(t.Context(), postrider.Node{Name: "alpha", Version: "v1.2.3", Address: "192.0.2.1:8080"}); err != nil {
			t.Fatal(err)
		}
	}
	alive := func() []postrider.Node {
		t.Helper()
		list, err := two.Alive(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for i := range list {
			for _, at := range []time.Time{list[i].StartedAt, list[i].BeatAt} {
				if age := time.Since(at); age < 0 || age > time.Minute {
					t.Errorf("got the moment %v, want one that was just now", at)
				}
			}
			list[i].StartedAt, list[i].BeatAt = time.Time{}, time.Time{}
		}
		return list
	}
	first := postrider.Node{Run: one.run.Load(), Name: "alpha", Version: "v1.2.3", Address: "192.0.2.1:8080"}
	second := first
	second.Run, second.Self = two.run.Load(), true
	if diff := cmp.Diff([]postrider.Node{first, second}, alive()); diff != "" {
		t.Error(diff)
	}
	die(t, database, one)
	if diff := cmp.Diff([]postrider.Node{second}, alive()); diff != "" {
		t.Errorf("after the other's death: %s", diff)
	}
}

func TestNodes_ACloseFreesClaimsAtOnce(t *testing.T) {
	database := newDatabase(t)
	one, two := open(t, database), openNode(t, database)
	webhook := postrider.NewID()
	ids := accept(t, one, eventFor(webhook, true))
	if err := one.Close(); err != nil {
		t.Fatal(err)
	}
	wantEvents(t, "after the close", claim(t, two, webhook, 10, false), ids[0])
}

func TestLanes_AnOrderedWebhookIsOneNodesUntilItHasNothingLeft(t *testing.T) {
	database := newDatabase(t)
	one, two := openNode(t, database), openNode(t, database)
	webhook := postrider.NewID()
	ids := accept(t, one, eventFor(webhook, false), eventFor(webhook, false))
	first := claim(t, one, webhook, 1, true)
	wantEvents(t, "the owner", first, ids[0])
	blocked := claim(t, two, webhook, 10, true)
	wantEvents(t, "the other", blocked)
	if blocked.More || blocked.NextDue != time.Second {
		t.Errorf("got %+v, want it to look again in a second", blocked)
	}
	if err := one.Settle(t.Context(), []postrider.Settlement{done(&first.Deliveries[0])}); err != nil {
		t.Fatal(err)
	}
	wantEvents(t, "the other, before the queue is empty", claim(t, two, webhook, 10, true))
	second := claim(t, one, webhook, 10, true)
	wantEvents(t, "the owner", second, ids[1])
	if err := one.Settle(t.Context(), []postrider.Settlement{done(&second.Deliveries[0])}); err != nil {
		t.Fatal(err)
	}
	wantEvents(t, "the owner, at the end", claim(t, one, webhook, 10, true))
	more := accept(t, one, eventFor(webhook, false))
	wantEvents(t, "the other, once the lane was given up", claim(t, two, webhook, 10, true), more[0])
	wantEvents(t, "the owner of before", claim(t, one, webhook, 10, true))
}

func TestLanes_ADeadNodesLaneIsTakenOver(t *testing.T) {
	database := newDatabase(t)
	one, two := openNode(t, database), openNode(t, database)
	webhook := postrider.NewID()
	ids := accept(t, one, eventFor(webhook, false), eventFor(webhook, false))
	wantEvents(t, "the owner", claim(t, one, webhook, 1, true), ids[0])
	die(t, database, one)
	wantEvents(t, "before the death is found", claim(t, two, webhook, 10, true))
	beat(t, two)
	wantEvents(t, "after it", claim(t, two, webhook, 10, true), ids...)
}

// A webhook that becomes ordered may still have deliveries in hand elsewhere.
func TestLanes_NothingIsClaimedBehindAnotherNodesDelivery(t *testing.T) {
	database := newDatabase(t)
	one, two := openNode(t, database), openNode(t, database)
	webhook := postrider.NewID()
	ids := accept(t, one, eventFor(webhook, true), eventFor(webhook, false))
	wantEvents(t, "beside it", claim(t, two, webhook, 10, true))
	if err := one.Release(t.Context(), []postrider.DeliveryKey{{Tenant: "default", EventID: ids[0], WebhookID: webhook}}); err != nil {
		t.Fatal(err)
	}
	wantEvents(t, "after it", claim(t, two, webhook, 10, true), ids...)
}

func TestChanges_AreMadeOneAfterAnotherOverAllNodes(t *testing.T) {
	database := newDatabase(t)
	one, two := openNode(t, database), openNode(t, database)
	create := func(s *Store, name string) error {
		return s.CreateTenant(t.Context(), postrider.Tenant{Name: name, CreatedAt: time.Now()})
	}
	start := two.Revision()
	if err := create(one, "acme"); err != nil {
		t.Fatal(err)
	}
	if err := create(two, "rival"); !errors.Is(err, postrider.ErrStale) {
		t.Fatalf("got error %v, want that it is stale", err)
	}
	if _, found, err := one.Tenant(t.Context(), "rival"); found || err != nil {
		t.Errorf("got found %v, %v, want nothing written", found, err)
	}
	changes, err := two.Changes(t.Context(), start)
	want := []postrider.Change{{Revision: start + 1, Noun: postrider.NounTenant, Tenant: "acme", Key: "acme"}}
	if err != nil || !slices.Equal(changes, want) {
		t.Fatalf("got %+v, %v, want %+v", changes, err, want)
	}
	if err := create(two, "rival"); err != nil {
		t.Errorf("got error %v, want it written", err)
	}
	if err := create(two, "rival"); err == nil {
		t.Error("got a name taken twice")
	}
	if err := create(two, "third"); err != nil {
		t.Errorf("got error %v after a change that was refused, want no revision used up", err)
	}
}

func TestChanges_AreToldToOtherNodes(t *testing.T) {
	database := newDatabase(t)
	one, two := openNode(t, database), openNode(t, database)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- two.Run(ctx, postrider.Node{}) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	await(t, two.Changed(), "the beginning") // it listens
	if err := one.PutEventType(t.Context(), postrider.EventType{Name: "a", CreatedAt: time.Now(), UpdatedAt: time.Now()}); err != nil {
		t.Fatal(err)
	}
	await(t, two.Changed(), "the change")
	if changes, err := two.Changes(t.Context(), two.Revision()); err != nil || len(changes) != 1 || changes[0].Key != "a" {
		t.Errorf("got %+v, %v, want the change", changes, err)
	}
}

func await(t *testing.T, c <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(10 * time.Second):
		t.Fatalf("got no signal of %s", what)
	}
}

func TestChanges_ANodeThatMissedSomeEnds(t *testing.T) {
	database := newDatabase(t)
	one, two := openNode(t, database), openNode(t, database)
	for _, name := range []string{"a", "b"} {
		if err := one.CreateTenant(t.Context(), postrider.Tenant{Name: name, CreatedAt: time.Now()}); err != nil {
			t.Fatal(err)
		}
	}
	if err := cluster.Do(t.Context(), database, `UPDATE changes SET changed_at = now() - interval '8 days'`); err != nil {
		t.Fatal(err)
	}
	if err := one.housekeep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := two.Changes(t.Context(), two.Revision()); err == nil {
		t.Error("got changes with a gap")
	}
	await(t, two.Failed(), "the end")
}

func TestHistory_OldDaysAreDroppedAndWhatIsUnsettledIsKept(t *testing.T) {
	database := newDatabase(t)
	s := openNode(t, database)
	webhook := postrider.NewID()
	ids := accept(t, s, eventFor(webhook, false), eventFor(webhook, false))
	chosen := eventFor(webhook, false)
	chosen.Event.ID, chosen.ChosenID = "chosen", true
	chosen.Deliveries[0].EventID = "chosen"
	accept(t, s, chosen)
	settled := claim(t, s, webhook, 1, false)
	wantEvents(t, "before", settled, ids[0])
	end := done(&settled.Deliveries[0])
	if err := s.Settle(t.Context(), []postrider.Settlement{end}); err != nil {
		t.Fatal(err)
	}
	later := time.Now().Add(40 * dayLength)
	if err := setClock(database, later); err != nil {
		t.Fatal(err)
	}
	if err := s.makeDays(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time there is nothing to do
		if err := s.DropHistory(t.Context(), 30*dayLength); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := s.Event(t.Context(), "default", ids[0]); err == nil {
		t.Error("got an old event that is settled, want it gone")
	}
	if _, err := s.Attempt(t.Context(), "default", end.Attempt.ID); err == nil {
		t.Error("got an old attempt, want it gone")
	}
	left := claim(t, s, webhook, 10, false)
	wantEvents(t, "40 days later", left, ids[1], "chosen")
	for i := range left.Deliveries {
		if string(left.Deliveries[i].Payload) != `{"a":1}` {
			t.Errorf("got payload %q", left.Deliveries[i].Payload)
		}
		if err := s.Settle(t.Context(), []postrider.Settlement{done(&left.Deliveries[i])}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.DropHistory(t.Context(), 30*dayLength); err != nil {
		t.Fatal(err)
	}
	var rest int
	err := s.read(t.Context(), func(ctx context.Context, c *pgx.Conn) error {
		return c.QueryRow(ctx, `SELECT (SELECT count(*) FROM events_rest) + (SELECT count(*) FROM chosen_ids)`).Scan(&rest)
	})
	if err != nil || rest != 0 {
		t.Errorf("got %d rows, %v, want nothing left of what was settled", rest, err)
	}
}

// Rows of a day without a partition go to the rest, and to the partition once
// it is made.
func TestHistory_AMissedDayLosesNothing(t *testing.T) {
	database := newDatabase(t)
	s := openNode(t, database)
	late := eventFor(postrider.NewID(), false)
	late.Event.CreatedAt = time.Now().Add(20 * dayLength)
	late.Event.ID, late.ChosenID = "late", true
	late.Deliveries[0].EventID = "late"
	accept(t, s, late)
	if err := setClock(database, late.Event.CreatedAt); err != nil {
		t.Fatal(err)
	}
	if err := s.makeDays(t.Context()); err != nil {
		t.Fatal(err)
	}
	var table string
	err := s.read(t.Context(), func(ctx context.Context, c *pgx.Conn) error {
		return c.QueryRow(ctx, `SELECT tableoid::regclass::text FROM events WHERE id = 'late'`).Scan(&table)
	})
	if want := partition("events", dayOf(late.Event.CreatedAt)); err != nil || table != want {
		t.Errorf("got it in %s, %v, want %s", table, err, want)
	}
}
