package volume

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/pmemctl/pmemctl/internal/blockdev"
	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/pmem"
)

// A deleted volume has a mark, and its name is free. Its data is zeroed before its space is free:
// in the background by serve-csi, or by a process that waits for the space. The marks on the
// devices are the queue. Other state, such as the progress, is lost at a reboot, and erasing then
// starts again.

// Erasure is the progress of erasing a deleted volume.
type Erasure struct {
	// Since is when the volume was deleted, or first seen after a reboot.
	Since time.Time `json:"since"`
	// Done is the number of bytes erased.
	Done uint64 `json:"done"`
	// Rate is the current rate in bytes per second; 0 while no process erases it.
	Rate uint64 `json:"rate"`
	// Failed says why it could not be erased.
	Failed string `json:"failed,omitempty"`
}

// text describes the progress for a volume of size bytes.
func (e Erasure) text(size uint64) string {
	switch {
	case e.Failed != "":
		return e.Failed
	case e.Rate > 0:
		return fmt.Sprintf("%d %% erased, %s/s", e.Done*100/max(size, 1), pmem.FormatSize(e.Rate))
	}
	return "waiting to be erased"
}

// left returns the remaining time; false if it is unknown.
func (vol Volume) left() (time.Duration, bool) {
	e := vol.Erasing
	if e == nil || e.Rate == 0 || e.Done > vol.RawSize {
		return 0, false
	}
	return time.Duration(float64(vol.RawSize-e.Done) / float64(e.Rate) * float64(time.Second)), true
}

// Erase zeroes a deleted volume and frees its space. It waits for another process that is already
// erasing it. It returns nil if the volume no longer exists.
func (s *Service) Erase(ctx context.Context, vol Volume, rate EraseRate) error {
	if rate == (EraseRate{}) { // makes a process that is already erasing it use the full rate
		defer s.keepWanting(ctx, vol)()
	}
	lock, err := s.Locks.Acquire(ctx, eraseLock(vol))
	if err != nil {
		return err
	}
	defer lock.Release()
	return s.erase(ctx, vol, rate)
}

// TryErase is Erase, unless another process is erasing the volume: began is false then.
func (s *Service) TryErase(ctx context.Context, vol Volume, rate EraseRate) (began bool, err error) {
	lock, err := s.Locks.Try(eraseLock(vol))
	if lock == nil || err != nil {
		return false, err
	}
	defer lock.Release()
	return true, s.erase(ctx, vol, rate)
}

func eraseLock(vol Volume) string { return "erasing of " + vol.UUID }

func (s *Service) erase(ctx context.Context, vol Volume, rate EraseRate) error {
	s, done := s.operation()
	defer done()
	there, k := false, s.kindOf(vol.Type)
	err := s.changing(ctx, func() error {
		v, err := k.lookForDeleted(ctx)
		if err != nil {
			return err
		}
		var deleted Volume
		if deleted, there = v.deleted(vol.UUID); !there {
			s.forgetErasure(vol)
			return nil
		}
		vol = deleted
		if v.isScarce(vol) {
			rate = EraseRate{}
		}
		if err := v.present(vol.group()); err != nil {
			return err
		}
		// While the host is still locked: what comes up is the volume that was found to be
		// deleted.
		vol, err = k.bringUpToErase(ctx, vol)
		return notErased(vol, err)
	})
	if err != nil || !there {
		return err
	}
	return s.eraseNow(ctx, vol, rate)
}

// deleted finds a deleted volume by its UUID.
func (v View) deleted(uuid string) (Volume, bool) {
	for _, vol := range inState(v.Volumes(), Deleting) {
		if vol.UUID == uuid {
			return vol, true
		}
	}
	return Volume{}, false
}

// eraseNow erases and removes a deleted volume. The caller holds the lock for erasing it; the host
// is not locked.
func (s *Service) eraseNow(ctx context.Context, vol Volume, rate EraseRate) error {
	log := s.erasureLog(vol, rate)
	err := s.eraseAndRemove(ctx, vol, log)
	var medium *blockdev.MediaError
	switch {
	case err == nil:
		s.forgetErasure(vol)
		s.forgetEmptied(ctx, vol.Regions...)
		return nil
	case errors.As(err, &medium):
		err = errs.New(errs.Damaged, subject(vol.Name), fmt.Sprintf("is deleted, but %s of it cannot be erased, the first at byte %d of %s: the medium cannot be written there", pmem.FormatSize(medium.Bytes), medium.First, medium.Path), giveUpNext(vol))
	default:
		err = notErased(vol, err)
	}
	log.stopped(err)
	return err
}

func notErased(vol Volume, err error) error {
	return errs.Wrap("", subject(vol.Name), "is deleted, but not yet erased", "continue: pmemctl gc", err)
}

func giveUpNext(vol Volume) string {
	return "replace the DIMM; or leave the data there: pmemctl gc --give-up " + vol.UUID
}

// GiveUp frees the space of a deleted volume without erasing it: its data stays on the medium. The
// UUID distinguishes it from a volume that has its name now.
func (s *Service) GiveUp(ctx context.Context, uuid string) error {
	what := "deleted volume with the UUID " + quoteIfOdd(uuid)
	lock, err := s.Locks.Try(eraseLock(Volume{UUID: uuid}))
	if err != nil {
		return err
	}
	if lock == nil {
		return errs.New(errs.Busy, what, "is being erased", "wait until it is done, or stop the process that erases it: see pmemctl volume list -o wide")
	}
	defer lock.Release()
	return s.changing(ctx, func() error {
		v, err := s.Look(ctx)
		if err != nil {
			return err
		}
		vol, there := v.deleted(uuid)
		if !there {
			return errs.New(errs.NotFound, what, "does not exist", "see what there is: pmemctl volume list -o wide")
		}
		if err := s.notInUse(vol); err != nil {
			return err
		}
		if err = v.present(vol.group()); err == nil {
			err = s.kindOf(vol.Type).remove(ctx, vol)
		}
		if err == nil {
			s.forgetErasure(vol)
			s.forgetEmptiedNow(vol.Regions...)
		}
		return errs.Wrap("", subject(vol.Name), "could not be removed", "", err)
	})
}

// eraseAndRemove zeroes all usable bytes of the device of a deleted volume, and removes it.
func (s *Service) eraseAndRemove(ctx context.Context, vol Volume, log *erasureLog) error {
	if err := s.zeroAll(ctx, vol, vol.RawSize, log); err != nil {
		return err
	}
	return s.changing(ctx, func() error { return s.kindOf(vol.Type).remove(ctx, vol) })
}

func (s *Service) zeroAll(ctx context.Context, vol Volume, size uint64, log *erasureLog) error {
	if err := s.notPublished(vol); err != nil {
		return err
	}
	if err := s.kindOf(vol.Type).checkErasable(ctx, vol); err != nil {
		return err
	}
	number, err := s.Devices.Identify(vol.Device)
	if err != nil {
		return err
	}
	dev, err := s.Devices.Hold(vol.Device)
	if err != nil {
		return err
	}
	step, done := s.progress("erasing " + vol.Name)
	if err = sizeIs(dev, size); err == nil {
		err = dev.ZeroWith(ctx, 0, dev.Size(), log.workers, log.paced(ctx, step))
	}
	done()
	if err != nil && s.Devices.Gone(number) { // not a media error
		err = errs.New(errs.Unsupported, vol.Device, "disappeared while it was being erased", "see what is missing: pmemctl tree")
	}
	return errors.Join(err, dev.Close())
}

// Deleted lists the volumes that are being erased or waiting to be: first those whose space is
// waited for, then by size, because small ones free some space soonest.
func (s *Service) Deleted(ctx context.Context) ([]Volume, error) {
	looked := time.Now()
	v, err := s.Look(ctx)
	if err != nil && ctx.Err() == nil { // LVM may be stuck, which does not matter for direct volumes
		if v, err := (direct{s}).lookForDeleted(ctx); err == nil && len(s.DeletedIn(v)) > 0 {
			return s.DeletedIn(v), nil
		}
	}
	if err != nil {
		return nil, err
	}
	s.noteDeleted(v)
	deleted := s.DeletedIn(v)
	s.forgetErasuresBut(deleted, looked)
	return deleted, nil
}

// forgetErasuresBut forgets the state of volumes that no longer existed at a given time: they were
// removed in another way, for example by lvremove.
func (s *Service) forgetErasuresBut(deleted []Volume, at time.Time) {
	if s.RunDir == "" {
		return
	}
	entries, _ := os.ReadDir(filepath.Join(s.RunDir, "erasing"))
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || info.ModTime().After(at) || slices.ContainsFunc(deleted, func(vol Volume) bool { return vol.UUID == e.Name() }) {
			continue
		}
		// A process that is erasing it forgets it when it has finished.
		gone := Volume{UUID: e.Name()}
		if lock, err := s.Locks.Try(eraseLock(gone)); err == nil && lock != nil {
			s.forgetErasure(gone)
			lock.Release()
		}
	}
}

// noteDeleted records which volumes are to be erased, so that this is known without reading the
// devices.
func (s *Service) noteDeleted(v View) {
	for _, vol := range inState(v.Volumes(), Deleting) {
		if _, err := os.Lstat(s.erasureFile(vol)); err != nil {
			s.keepErasure(vol, Erasure{Since: time.Now()})
		}
	}
}

// DeletedIn is Deleted for a view.
func (s *Service) DeletedIn(v View) []Volume { return s.inEraseOrder(inState(v.Volumes(), Deleting)) }

func (s *Service) inEraseOrder(deleted []Volume) []Volume {
	class := map[string]int{} // by UUID
	for i, vol := range deleted {
		deleted[i].Erasing = s.erasure(vol)
		switch {
		case deleted[i].Erasing.Failed != "":
			class[vol.UUID] = 2
		case !s.isWanted(vol):
			class[vol.UUID] = 1
		}
	}
	old := time.Now().Add(-smallestFirstFor)
	slices.SortStableFunc(deleted, func(a, b Volume) int {
		bySize := cmp.Compare(a.RawSize, b.RawSize)
		if a.Erasing.Since.Before(old) || b.Erasing.Since.Before(old) {
			bySize = a.Erasing.Since.Compare(b.Erasing.Since)
		}
		return cmp.Or(cmp.Compare(class[a.UUID], class[b.UUID]), bySize)
	})
	return deleted
}

// smallestFirstFor is how long a deleted volume may have to wait for smaller ones.
const smallestFirstFor = time.Minute

// EraseAll erases the deleted volumes, one after the other, and returns how many. One that cannot
// be erased does not block the others; with failedToo, those that failed before are tried again.
func (s *Service) EraseAll(ctx context.Context, rate EraseRate, failedToo bool) (erased int, err error) {
	var failed []error
	for tried := map[string]bool{}; ; {
		deleted, err := s.Deleted(ctx)
		if err != nil {
			return erased, errors.Join(append(failed, err)...)
		}
		next := slices.IndexFunc(deleted, func(vol Volume) bool { return !tried[vol.UUID] && (failedToo || vol.Erasing.Failed == "") })
		if next < 0 || ctx.Err() != nil {
			return erased, errors.Join(append(failed, ctx.Err())...)
		}
		tried[deleted[next].UUID] = true
		if err := s.Erase(ctx, deleted[next], rate); err != nil {
			failed = append(failed, err)
			continue
		}
		erased++
	}
}

// AsLongAsItTakes is a SpaceWait without limit.
const AsLongAsItTakes = time.Duration(math.MaxInt64)

// spaceWait is the state of a create that waits for the space of deleted volumes.
type spaceWait struct {
	until    time.Time
	itself   bool // it erases them itself
	failed   map[string]bool
	failures []error
}

func newSpaceWait(patience time.Duration) *spaceWait {
	return &spaceWait{until: time.Now().Add(min(patience, 10000*time.Hour)), itself: patience == AsLongAsItTakes, failed: map[string]bool{}}
}

// waitForSpace waits until one of the given deleted volumes is erased. With AsLongAsItTakes it
// erases them itself, because no server may be running. If none can be erased, or it takes too
// long, it returns the error of the create.
func (s *Service) waitForSpace(ctx context.Context, w *spaceWait, erasing []Volume, why error) error {
	erasing = slices.DeleteFunc(s.inEraseOrder(erasing), func(vol Volume) bool { return w.failed[vol.UUID] || vol.Erasing.Failed != "" })
	if len(erasing) == 0 {
		return errors.Join(append([]error{why}, w.failures...)...)
	}
	if w.itself {
		return s.eraseOneOf(ctx, w, erasing)
	}
	if time.Now().After(w.until) {
		return s.noSpaceYet(why, erasing)
	}
	defer s.keepWanting(ctx, erasing[0])()
	const poll = 100 * time.Millisecond
	for ctx.Err() == nil && time.Now().Before(w.until) {
		if !slices.ContainsFunc(erasing, func(vol Volume) bool { return !s.isUnerased(vol) }) {
			time.Sleep(poll)
			continue
		}
		return nil
	}
	if ctx.Err() != nil {
		return s.noSpaceYet(why, erasing)
	}
	return nil // the last attempt
}

// eraseOneOf erases one of the deleted volumes: the first that no other process is erasing, or
// else the first.
func (s *Service) eraseOneOf(ctx context.Context, w *spaceWait, erasing []Volume) error {
	vol := erasing[0]
	began, err := false, error(nil)
	for _, vol = range erasing {
		if began, err = s.TryErase(ctx, vol, EraseRate{}); began || err != nil {
			break
		}
	}
	if !began && err == nil {
		vol = erasing[0]
		err = s.Erase(ctx, vol, EraseRate{})
	}
	if ctx.Err() != nil {
		return err
	}
	if err != nil { // another volume may be erased instead
		w.failed[vol.UUID] = true
		w.failures = append(w.failures, err)
	}
	return nil
}

// isUnerased reports whether a deleted volume may still become erased.
func (s *Service) isUnerased(vol Volume) bool {
	_, err := os.Lstat(s.erasureFile(vol))
	return err == nil && s.erasure(vol).Failed == ""
}

// noSpaceYet is the error of a create for which space is still being erased.
func (s *Service) noSpaceYet(why error, erasing []Volume) error {
	var bytes uint64
	var longest time.Duration
	for _, vol := range s.inEraseOrder(erasing) {
		bytes += vol.RawSize - min(vol.RawSize, vol.Erasing.Done)
		if left, known := vol.left(); known {
			longest = max(longest, left)
		}
	}
	text := fmt.Sprintf("%s of deleted volumes there must be erased first", pmem.FormatSize(bytes))
	if longest > 0 {
		text += ", which takes about " + longest.Round(time.Second).String()
	}
	return errs.New(errs.NoSpace, "", why.Error()+"; "+text, "try again later; see the progress: pmemctl volume list -o wide")
}

// keepWanting requests the full rate for erasing a deleted volume, until the returned function is
// called.
func (s *Service) keepWanting(ctx context.Context, vol Volume) func() {
	ctx, cancel := context.WithCancel(ctx)
	s.want(vol)
	go func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-time.After(wantedFor / 3):
				s.want(vol)
			}
		}
	}()
	return cancel
}

// State of erasing other than the mark.

func (s *Service) erasureFile(vol Volume) string {
	return filepath.Join(s.RunDir, "erasing", filepath.Base(vol.UUID))
}

// erasure returns the recorded progress of a deleted volume.
func (s *Service) erasure(vol Volume) *Erasure {
	e := Erasure{Since: time.Now()}
	if data, err := os.ReadFile(s.erasureFile(vol)); s.RunDir == "" || err != nil || json.Unmarshal(data, &e) != nil {
		return &Erasure{Since: time.Now()}
	}
	if info, err := os.Stat(s.erasureFile(vol)); err == nil && time.Since(info.ModTime()) > 3*logEvery {
		e.Rate = 0 // the process that was erasing it is dead
	}
	return &e
}

// eraseFailed reports whether the last attempt to erase a deleted volume failed.
func (s *Service) eraseFailed(vol Volume) bool { return s.erasure(vol).Failed != "" }

// Errors are ignored in keepErasure: only the mark on the device counts.
func (s *Service) keepErasure(vol Volume, e Erasure) {
	if s.RunDir == "" || vol.UUID == "" {
		return
	}
	data, err := json.Marshal(e)
	if err == nil && os.MkdirAll(filepath.Dir(s.erasureFile(vol)), 0o700) == nil {
		_ = os.WriteFile(s.erasureFile(vol), data, 0o600)
	}
}

func (s *Service) forgetErasure(vol Volume) {
	if s.RunDir != "" && vol.UUID != "" {
		_ = os.Remove(s.erasureFile(vol))
	}
}

// Unerased lists, without reading the devices, the UUIDs of the volumes that are to be erased and
// have not failed, if they were deleted or seen since the last boot.
func (s *Service) Unerased() []string {
	if s.RunDir == "" {
		return nil
	}
	entries, _ := os.ReadDir(filepath.Join(s.RunDir, "erasing"))
	var uuids []string
	for _, e := range entries {
		if s.erasure(Volume{UUID: e.Name()}).Failed == "" {
			uuids = append(uuids, e.Name())
		}
	}
	return uuids
}

// logEvery is the interval at which the progress is recorded.
const logEvery = 2 * time.Second

// erasureLog records the progress of one erasing and limits its rate. It is not safe for
// concurrent use.
type erasureLog struct {
	service *Service // nil records nothing
	vol     Volume
	rate    EraseRate
	state   Erasure

	asked  time.Time // when it was last checked whether the space is wanted
	wanted bool
}

// workers returns 1 for a limited rate, or 0 (as many as help) while the space is wanted.
func (l *erasureLog) workers() int {
	if l.rate == (EraseRate{}) || l.isWanted() {
		return 0
	}
	return 1
}

func (l *erasureLog) isWanted() bool {
	if time.Since(l.asked) > 200*time.Millisecond {
		l.asked, l.wanted = time.Now(), l.service.isWanted(l.vol)
	}
	return l.wanted
}

func (s *Service) erasureLog(vol Volume, rate EraseRate) *erasureLog {
	log := &erasureLog{service: s, vol: vol, rate: rate, state: *s.erasure(vol)}
	log.state.Done, log.state.Rate = 0, 0 // a failure stays recorded until an attempt succeeds
	s.keepErasure(vol, log.state)
	return log
}

func (l *erasureLog) stopped(err error) {
	l.state.Rate = 0
	var reason *errs.Error
	if errs.Is(err, errs.Damaged) && errors.As(err, &reason) {
		l.state.Failed = reason.Reason
	}
	l.service.keepErasure(l.vol, l.state)
}

// paced is called after each chunk and sleeps to keep the rate.
func (l *erasureLog) paced(ctx context.Context, step blockdev.Progress) blockdev.Progress {
	began, kept := time.Now(), time.Now()
	var before, keptAt uint64
	return func(done, total uint64) {
		if step != nil {
			step(done, total)
		}
		if since := time.Since(kept); since >= logEvery && l.service != nil {
			l.state.Done, l.state.Rate = done, uint64(float64(done-keptAt)/since.Seconds())
			l.service.keepErasure(l.vol, l.state)
			kept, keptAt = time.Now(), done
		}
		const slice = 200 * time.Millisecond
		for pause := l.rate.pause(time.Since(began), done-before); pause > 0 && !l.isWanted() && ctx.Err() == nil; pause -= slice {
			select {
			case <-time.After(min(pause, slice)):
			case <-ctx.Done():
			}
		}
		began, before = time.Now(), done
	}
}
