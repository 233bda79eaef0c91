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
	"github.com/pmemctl/pmemctl/internal/lvm"
	"github.com/pmemctl/pmemctl/internal/pmem"
)

// A deleted volume has the mark of one, and its name is free. Its bytes are zeroed before
// its space is: in the background by serve-csi, or by whoever waits for it. The mark on the
// device is the queue. What is known of the work beside it, such as how far it is, is lost
// with a reboot, and then the work begins again.

// Erasure is how far the erasing of a deleted volume is.
type Erasure struct {
	// Since is when the volume was deleted, or first seen after a reboot.
	Since time.Time `json:"since"`
	// Done is how many bytes are erased.
	Done uint64 `json:"done"`
	// Rate is the bytes per second of late; 0 while nobody is at work on it.
	Rate uint64 `json:"rate"`
	// Failed says why it could not be erased.
	Failed string `json:"failed,omitempty"`
}

// text says how far the erasing of so many bytes is.
func (e Erasure) text(size uint64) string {
	switch {
	case e.Failed != "":
		return e.Failed
	case e.Rate > 0:
		return fmt.Sprintf("%d %% erased, %s/s", e.Done*100/max(size, 1), pmem.FormatSize(e.Rate))
	}
	return "waiting to be erased"
}

// left is how long the erasing of a volume goes on; false when that is not known.
func (vol Volume) left() (time.Duration, bool) {
	e := vol.Erasing
	if e == nil || e.Rate == 0 || e.Done > vol.RawSize {
		return 0, false
	}
	return time.Duration(float64(vol.RawSize-e.Done) / float64(e.Rate) * float64(time.Second)), true
}

// Erase zeroes a volume that was deleted, and gives its space back. It waits for who is at
// work on it already. There is nothing to do where there is no such volume any more.
func (s *Service) Erase(ctx context.Context, vol Volume, rate EraseRate) error {
	if rate == (EraseRate{}) { // whoever is at work is not to take its time
		defer s.keepWanting(ctx, vol)()
	}
	lock, err := s.Locks.Acquire(ctx, eraseLock(vol))
	if err != nil {
		return err
	}
	defer lock.Release()
	return s.erase(ctx, vol, rate)
}

// TryErase is Erase where nobody is at work on the volume; began is false otherwise.
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
		// While the host is still locked: what was seen to be deleted is what comes up.
		vol, err = k.bringUpToErase(ctx, vol)
		return notErased(vol, err)
	})
	if err != nil || !there {
		return err
	}
	return s.eraseNow(ctx, vol, rate)
}

// isScarce reports whether little is free where a deleted volume is. A scheduler of pods counts
// what is free, and then asks nobody for more: nothing is waited for, and yet it is wanted.
func (v View) isScarce(vol Volume) bool {
	const little = 8 // one in so many bytes
	if vol.Type == TypeDirect {
		r, _ := v.PMEM.Region(first(vol.Regions))
		return r.AvailableSize < r.Size/little
	}
	vg, _ := v.LVM.Find(vol.group())
	return vg.Free < vg.Size/little
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

// eraseNow erases and removes what is deleted. The lock of the erasing is held; the host is
// not locked for it.
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

// GiveUp gives the space of a deleted volume back as it is: its bytes stay on the medium. The
// UUID tells it from a volume that has its name now.
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

// eraseAndRemove zeroes all that the device of a deleted volume offers, and removes it.
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
	if err != nil && s.Devices.Gone(number) { // which is not the medium's fault
		err = errs.New(errs.Unsupported, vol.Device, "disappeared while it was being erased", "see what is missing: pmemctl tree")
	}
	return errors.Join(err, dev.Close())
}

// Deleted lists the volumes that are being erased, or wait for it: those first in whose
// place somebody waits for space, then the smallest, which soonest give some back.
func (s *Service) Deleted(ctx context.Context) ([]Volume, error) {
	looked := time.Now()
	v, err := s.Look(ctx)
	if err != nil && ctx.Err() == nil { // LVM may be stuck, which is no matter of direct volumes
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

// forgetErasuresBut forgets what is known of volumes that were not there at some time: they
// went in another way, such as by lvremove.
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
		// Who erases it now forgets it then.
		gone := Volume{UUID: e.Name()}
		if lock, err := s.Locks.Try(eraseLock(gone)); err == nil && lock != nil {
			s.forgetErasure(gone)
			lock.Release()
		}
	}
}

// noteDeleted has it be known without a look at the devices what is to be erased.
func (s *Service) noteDeleted(v View) {
	for _, vol := range inState(v.Volumes(), Deleting) {
		if _, err := os.Lstat(s.erasureFile(vol)); err != nil {
			s.keepErasure(vol, Erasure{Since: time.Now()})
		}
	}
}

// DeletedIn is Deleted for what is in a view.
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
	slices.SortStableFunc(deleted, func(a, b Volume) int {
		return cmp.Or(cmp.Compare(class[a.UUID], class[b.UUID]), cmp.Compare(a.RawSize, b.RawSize))
	})
	return deleted
}

// EraseAll erases what was deleted and is not erased yet, one volume after the other, and
// returns how many. One that cannot be erased does not hold up the others; those that failed
// before are tried again if that is asked for.
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

// Place is where the space of a volume is: its volume group, or its region.
func (vol Volume) Place() string {
	if vol.Type == TypeLVM {
		return "volume group " + vol.VG
	}
	return "region " + first(vol.Regions)
}

// erasingFor are the deleted volumes of the places where a new one would fit without them.
func (v View) erasingFor(spec Spec, failed func(Volume) bool) []Volume {
	spec.Limit = 0
	places, err := v.placesFor(spec)
	if err != nil {
		return nil
	}
	var all []Volume
	for _, p := range places {
		var here []Volume
		var bytes uint64
		for _, vol := range inState(v.Volumes(), Deleting) {
			if vol.Type == spec.Type && !failed(vol) && (spec.Type == TypeLVM && vol.vgUUID == p.plan.vgUUID || spec.Type == TypeDirect && first(vol.Regions) == p.plan.Region) {
				here = append(here, vol)
				bytes += vol.RawSize
			}
		}
		if p.rawFree+bytes >= p.plan.Raw {
			all = append(all, here...)
		}
	}
	return all
}

// erasingIn are the deleted volumes of a group that has room for so many bytes without them.
func (v View) erasingIn(g lvm.VGRef, bytes uint64, failed func(Volume) bool) []Volume {
	var here []Volume
	vg, _ := v.LVM.Find(g)
	free := vg.Free
	for _, vol := range inState(v.Volumes(), Deleting) {
		if vol.Type == TypeLVM && vol.vgUUID == g.UUID && !failed(vol) {
			here = append(here, vol)
			free += vol.RawSize
		}
	}
	if free < bytes {
		return nil
	}
	return here
}

// AsLongAsItTakes is a SpaceWait without an end.
const AsLongAsItTakes = time.Duration(math.MaxInt64)

// spaceWait is how far a create is that waits for the space of deleted volumes.
type spaceWait struct {
	until    time.Time
	itself   bool // it erases them
	failed   map[string]bool
	failures []error
}

func newSpaceWait(patience time.Duration) *spaceWait {
	return &spaceWait{until: time.Now().Add(min(patience, 10000*time.Hour)), itself: patience == AsLongAsItTakes, failed: map[string]bool{}}
}

// waitForSpace waits until one of some deleted volumes is erased that can be, and does so
// itself when it may take as long as it takes: there may be no server. The error of the create
// is returned when there is none, or it takes too long.
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

// eraseOneOf erases one of some deleted volumes: the first that nobody is at work on, or else
// the first.
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
	if err != nil { // another one may do
		w.failed[vol.UUID] = true
		w.failures = append(w.failures, err)
	}
	return nil
}

// isUnerased reports whether a deleted volume may still be erased.
func (s *Service) isUnerased(vol Volume) bool {
	_, err := os.Lstat(s.erasureFile(vol))
	return err == nil && s.erasure(vol).Failed == ""
}

// noSpaceYet is the error of a create for which space is being erased.
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

// keepWanting has the space of a deleted volume be given back as fast as it can be, until the
// function returned is called.
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

// What is known of an erasing beside its mark.

func (s *Service) erasureFile(vol Volume) string {
	return filepath.Join(s.RunDir, "erasing", filepath.Base(vol.UUID))
}

// erasure is what is known of the erasing of a deleted volume.
func (s *Service) erasure(vol Volume) *Erasure {
	e := Erasure{Since: time.Now()}
	if data, err := os.ReadFile(s.erasureFile(vol)); s.RunDir == "" || err != nil || json.Unmarshal(data, &e) != nil {
		return &Erasure{Since: time.Now()}
	}
	if info, err := os.Stat(s.erasureFile(vol)); err == nil && time.Since(info.ModTime()) > 3*logEvery {
		e.Rate = 0 // whoever was at work is dead
	}
	return &e
}

// eraseFailed reports whether a deleted volume could not be erased the last time.
func (s *Service) eraseFailed(vol Volume) bool { return s.erasure(vol).Failed != "" }

// keepErasure takes failures for granted: the mark on the device is what counts.
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

// Unerased lists the UUIDs of the volumes that are to be erased and did not fail to be, as far as
// they were deleted or seen since the last boot, without a look at the devices.
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

// logEvery is how often the progress of an erasing is kept.
const logEvery = 2 * time.Second

// erasureLog keeps the progress of one erasing, at its rate. Its functions are called by one
// goroutine at a time.
type erasureLog struct {
	service *Service // nil keeps nothing
	vol     Volume
	rate    EraseRate
	state   Erasure

	asked  time.Time // when it was looked whether the space is wanted
	wanted bool
}

// workers is 1 for a rate that is limited, and 0, as many as help, while the space is wanted.
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
	log.state.Done, log.state.Rate = 0, 0 // that it failed stays until it does not
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

// paced is called after each chunk, and waits as long as the rate asks for.
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
