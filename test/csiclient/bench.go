package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
)

// lives are lives of volumes, from create to delete, one after the other in each
// of several clients.
type lives struct {
	wanted
	count, parallel int
	prefix, dir     string

	mu   sync.Mutex
	took map[string][]time.Duration // by call
}

// calls are the calls of a life, in order.
var calls = []string{"create", "stage", "publish", "unpublish", "unstage", "delete"}

func (l *lives) flags(cmd *cobra.Command) {
	l.wanted.flags(cmd)
	f := cmd.Flags()
	f.IntVar(&l.count, "count", 1, "lives of each client")
	f.IntVar(&l.parallel, "parallel", 1, "clients at once")
	f.StringVar(&l.prefix, "prefix", "life", "`beginning` of the names")
	f.StringVar(&l.dir, "dir", "/mnt/csi", "`directory` for the staging and target paths")
}

func (l *lives) run(ctx context.Context, c *client) (string, error) {
	l.took = map[string][]time.Duration{}
	directory := func(i int) string { return filepath.Join(l.dir, fmt.Sprintf("%s-%d", l.prefix, i)) }
	for i := range l.parallel { // kubelet makes it
		if err := os.MkdirAll(filepath.Join(directory(i), "staging"), 0o755); err != nil {
			return "", err
		}
	}
	// When one fails, the others go on to their end: no volume is left half made.
	failed := make([]error, l.parallel)
	var clients sync.WaitGroup
	begun := time.Now()
	for i := range l.parallel {
		clients.Go(func() {
			for n := 0; n < l.count && failed[i] == nil; n++ {
				failed[i] = l.live(ctx, c, fmt.Sprintf("%s-%d-%d", l.prefix, i, n), directory(i))
			}
		})
	}
	clients.Wait()
	words := []string{fmt.Sprintf("total %d", time.Since(begun).Microseconds())}
	for _, name := range calls {
		words = append(words, fmt.Sprintf("%s %d", name, median(l.took[name]).Microseconds()))
	}
	return strings.Join(words, " "), errors.Join(failed...)
}

// live is one life, with the time that each call of it took.
func (l *lives) live(ctx context.Context, c *client, name, dir string) error {
	staging, target := filepath.Join(dir, "staging"), filepath.Join(dir, "target")
	do := map[string]func() error{
		"create":    func() error { _, err := c.create(ctx, name, l.wanted); return err },
		"stage":     func() error { return c.Stage(ctx, name, staging, capability(l.fs)) },
		"publish":   func() error { return c.Publish(ctx, name, staging, target, capability(l.fs)) },
		"unpublish": func() error { return c.Unpublish(ctx, name, target) },
		"unstage":   func() error { return c.Unstage(ctx, name, staging) },
		"delete":    func() error { return c.Delete(ctx, name) },
	}
	for _, call := range calls {
		begun := time.Now()
		if err := do[call](); err != nil {
			return err
		}
		took := time.Since(begun)
		l.mu.Lock()
		l.took[call] = append(l.took[call], took)
		l.mu.Unlock()
	}
	return nil
}

// many is volumes that are made one after the other and stay, so that the last
// ones are made among all the others.
type many struct {
	wanted
	count  int
	prefix string
}

// ends is how many of the first and of the last creates are timed.
const ends = 10

func (m *many) flags(cmd *cobra.Command) {
	m.rawFlags(cmd)
	f := cmd.Flags()
	f.IntVar(&m.count, "count", 500, "volumes")
	f.StringVar(&m.prefix, "prefix", "many", "`beginning` of the names")
}

func (m *many) run(ctx context.Context, c *client) (string, error) {
	var took []time.Duration
	name := func(i int) string { return fmt.Sprintf("%s-%d", m.prefix, i) }
	for i := range m.count {
		begun := time.Now()
		if _, err := c.create(ctx, name(i), m.wanted); err != nil {
			return "", err
		}
		took = append(took, time.Since(begun))
	}
	n := min(ends, len(took))
	return fmt.Sprintf("first %d last %d", median(took[:n]).Microseconds(), median(took[len(took)-n:]).Microseconds()), nil
}

// median is 0 for no samples.
func median(samples []time.Duration) time.Duration {
	if len(samples) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(samples))
	return (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
}
