package csi

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/volume"
)

// Erasing of deleted volumes. DeleteVolume only marks a volume; its data is zeroed here, one
// volume at a time in each region or volume group.

const (
	// eraseLookEvery is the interval for checking the records of what is to be erased, as long as
	// there are any or they cannot be watched, and eraseLookAll that for reading the devices.
	eraseLookEvery = 2 * time.Second
	eraseLookAll   = 10 * time.Minute
)

// Deletions come in bursts, together with other calls. Erasing begins eraseCalm after the last
// one, at most eraseCalmAtMost after the first, or at once if space is wanted.
const (
	eraseCalm       = time.Second
	eraseCalmAtMost = 10 * time.Second
)

// badMediumRetry is the interval for retrying a volume with media errors.
const badMediumRetry = 24 * time.Hour

var errErasedElsewhere = errors.New("another process is erasing it")

// eraser tracks the volumes being erased, and those that could not be.
type eraser struct {
	mu     sync.Mutex
	woken  chan struct{}
	places map[string]bool   // in progress
	at     map[string]bool   // UUIDs in progress
	where  map[string]string // the place of each known UUID
	failed map[string]failedErasing
	// Deletions of the current burst.
	firstDeleted, lastDeleted time.Time
}

type failedErasing struct {
	next   time.Time // not before
	wait   time.Duration
	reason string
}

// deleted notes that a volume was deleted.
func (e *eraser) deleted() {
	e.mu.Lock()
	e.lastDeleted = time.Now()
	if e.firstDeleted.IsZero() {
		e.firstDeleted = e.lastDeleted
	}
	e.mu.Unlock()
	e.wake()
}

// calmIn returns how long the burst of deletions may still last.
func (e *eraser) calmIn() time.Duration {
	e.mu.Lock()
	defer e.mu.Unlock()
	left := time.Until(e.lastDeleted.Add(eraseCalm))
	if left <= 0 {
		e.firstDeleted = time.Time{}
	}
	return max(min(left, time.Until(e.firstDeleted.Add(eraseCalmAtMost))), 0)
}

// wake makes eraseDeleted look at once.
func (e *eraser) wake() {
	select {
	case e.wakes() <- struct{}{}:
	default:
	}
}

func (e *eraser) wakes() chan struct{} {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.woken == nil {
		e.woken = make(chan struct{}, 1)
	}
	return e.woken
}

// begin reports whether a volume can be erased now, and reserves its place.
func (e *eraser) begin(vol volume.Volume) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.places == nil {
		e.places, e.at, e.where, e.failed = map[string]bool{}, map[string]bool{}, map[string]string{}, map[string]failedErasing{}
	}
	e.where[vol.UUID] = vol.Place()
	if e.places[vol.Place()] || e.at[vol.UUID] || time.Now().Before(e.failed[vol.UUID].next) {
		return false
	}
	e.places[vol.Place()], e.at[vol.UUID] = true, true
	return true
}

// end frees the place and returns when the volume is retried; news is false if the reason has not
// changed. Media errors are not retried soon, because the whole volume would be written again.
func (e *eraser) end(vol volume.Volume, err error) (again time.Duration, news bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.places, vol.Place())
	delete(e.at, vol.UUID)
	before := e.failed[vol.UUID]
	if err == nil {
		delete(e.failed, vol.UUID)
		delete(e.where, vol.UUID)
		return 0, false
	}
	wait := min(max(2*before.wait, firstRetry), longestRetry)
	switch {
	case errors.Is(err, errErasedElsewhere):
		wait = eraseLookEvery
	case errs.Is(err, errs.Damaged):
		wait = badMediumRetry
	}
	e.failed[vol.UUID] = failedErasing{time.Now().Add(wait), wait, err.Error()}
	return wait, err.Error() != before.reason
}

// idle reports whether one of the volumes can be erased now.
func (e *eraser) idle(uuids []string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.ContainsFunc(uuids, func(uuid string) bool {
		return !e.places[e.where[uuid]] && !e.at[uuid] && !time.Now().Before(e.failed[uuid].next)
	})
}

// eraseDeleted erases deleted volumes until the context ends.
func (s *Server) eraseDeleted(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	// An idle server must not wake up: what other processes delete is seen by a watch.
	changed, err := s.Volumes.WatchUnerased(ctx)
	if err != nil {
		s.Log.Warn("deletions by other processes cannot be watched", "error", err.Error(), "look_every", eraseLookEvery.String())
	}
	retry := firstRetry
	for next := time.Now(); ; {
		look := eraseLookEvery
		unerased := s.Volumes.Unerased()
		if changed != nil && len(unerased) == 0 {
			look = max(time.Until(next), 0)
		}
		if calm := s.eraser.calmIn(); calm > 0 && !s.Volumes.SpaceWanted() {
			look = calm
		} else if !time.Now().Before(next) || s.eraser.idle(unerased) {
			deleted, err := s.Volumes.Deleted(ctx)
			if err != nil && ctx.Err() == nil {
				s.Log.Warn("could not look for deleted volumes", "error", err.Error(), "next", errs.NextStep(err), "again_in", retry.String())
				select {
				case <-ctx.Done():
				case <-time.After(retry):
				}
				retry = min(2*retry, longestRetry)
				continue
			}
			next, retry = time.Now().Add(eraseLookAll), firstRetry
			for _, vol := range deleted {
				if s.eraser.begin(vol) {
					wg.Go(func() { s.eraseOne(ctx, vol) })
				}
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-s.eraser.wakes():
		case _, ok := <-changed:
			if !ok {
				changed = nil
			}
		case <-time.After(look):
		}
	}
}

func (s *Server) eraseOne(ctx context.Context, vol volume.Volume) {
	began := time.Now()
	did, err := s.Volumes.TryErase(ctx, vol, s.EraseRate)
	if err == nil && !did {
		err = errErasedElsewhere
	}
	again, news := s.eraser.end(vol, err)
	switch {
	case err == nil:
		s.Log.Info("erased", "volume", vol.Name, "uuid", vol.UUID, "bytes", vol.RawSize, "took", time.Since(began).Round(time.Millisecond).String())
		s.eraser.wake()
	case ctx.Err() == nil && news && !errors.Is(err, errErasedElsewhere):
		s.Log.Error("a deleted volume could not be erased", "volume", vol.Name, "uuid", vol.UUID, "error", err.Error(), "next", errs.NextStep(err), "again_in", again.String())
	}
}
