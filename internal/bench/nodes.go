package bench

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// heard is how long after a node came or went the others share a webhook's
// budget with it: more than a heartbeat.
const heard = 3 * time.Second

// nodes publishes at several servers on one database, with one generator whose
// connections are spread over them, between two runs of half as many events at
// one server alone.
func nodes(ctx context.Context, s *stage) error {
	r, err := s.receive(ctx, answering, false)
	if err != nil {
		return err
	}
	if err := s.subscribeAll(ctx, r, s.load.Webhooks, func(int) string { return eventType(0) }); err != nil {
		return err
	}
	half := max(1, s.load.Events/2)
	before, err := s.flood(ctx, r, half, new(Result))
	if err != nil {
		return err
	}
	if err := s.join(ctx); err != nil {
		return err
	}
	if _, err := s.flood(ctx, r, s.load.Events, s.result); err != nil {
		return err
	}
	if err := s.part(ctx); err != nil {
		return err
	}
	after, err := s.flood(ctx, r, half, new(Result))
	if err != nil {
		return err
	}
	s.result.OneNode = rate(int64(2*half), before+after)
	return nil
}

// join starts the other nodes, and waits until all know of each other.
func (s *stage) join(ctx context.Context) error {
	s.bar.Say("more nodes")
	for n := 2; n <= s.load.Nodes; n++ {
		dir := filepath.Join(s.server.dataDir, fmt.Sprintf("node-%d", n))
		if err := os.Mkdir(dir, 0o700); err != nil {
			return fmt.Errorf("make a data directory: %w", err)
		}
		node, err := start(ctx, s.o, dir, s.server.key)
		if err != nil {
			return err
		}
		s.others = append(s.others, node)
	}
	return pause(ctx, heard)
}

// part stops the other nodes again.
func (s *stage) part(ctx context.Context) error {
	for len(s.others) > 0 {
		last := len(s.others) - 1
		if err := s.others[last].stop(); err != nil {
			return err
		}
		s.others = s.others[:last]
	}
	return pause(ctx, heard)
}
