package volume

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
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
	return "waits to be erased"
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
	there := false
	err := s.changing(ctx, func() error {
		v, err := s.Look(ctx)
		if err != nil {
			return err
		}
		if vol, there = v.deleted(vol.UUID); !there {
			return nil
		}
		if err := v.present(vol.group()); err != nil {
			return err
		}
		if s.needsRefresh(vol) { // or the erasing waits for ever, or fails
			return s.refresh(ctx, vol)
		}
		return nil
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

// eraseNow erases and removes what is deleted. The host is not locked for the erasing; the
// lock of the erasing is held, or the volume's where it has no mark.
func (s *Service) eraseNow(ctx context.Context, vol Volume, rate EraseRate) error {
	log := s.erasureLog(vol, rate)
	var err error
	if vol.Type == TypeDirect {
		err = s.eraseDirect(ctx, vol, log)
	} else {
		err = s.eraseLVM(ctx, vol, log)
	}
	var medium *blockdev.MediaError
	switch {
	case err == nil:
		s.forgetErasure(vol)
		s.forgetEmptied(ctx, vol.Regions...)
		return nil
	case errors.As(err, &medium):
		err = errs.New(errs.Damaged, subject(vol.Name), fmt.Sprintf("is deleted, and %s of it cannot be erased, the first at byte %d of %s: the medium takes no write there", pmem.FormatSize(medium.Bytes), medium.First, medium.Path),
			"replace the DIMM; or leave the bytes there: pmemctl volume delete "+vol.Name+" --no-erase --force")
	default:
		err = errs.Wrap("", subject(vol.Name), "is deleted, and not erased yet", "go on with it: pmemctl gc", err)
	}
	log.stopped(err)
	return err
}

func (s *Service) eraseDirect(ctx context.Context, vol Volume, log *erasureLog) error {
	// The raw device has no info block in the way, and needs no struct pages.
	err := s.changing(ctx, func() error {
		blockdev, err := s.NDCTL.EnableRaw(vol.UUID)
		vol.Device = "/dev/" + blockdev
		return err
	})
	if err != nil {
		return err
	}
	if err := s.zeroAll(ctx, vol, vol.RawSize, log); err != nil {
		return err
	}
	return s.changing(ctx, func() error {
		if err := s.NDCTL.DisableRaw(vol.UUID); err != nil {
			return err
		}
		return s.NDCTL.DestroyNamespace(vol.UUID)
	})
}

func (s *Service) eraseLVM(ctx context.Context, vol Volume, log *erasureLog) error {
	if vol.Device == "" {
		if err := s.changing(ctx, func() error { return s.LVM.Activate(ctx, vol.group(), vol.lv) }); err != nil {
			return err
		}
	}
	vol.Device = lvm.MapperPath(vol.VG, vol.lv)
	if err := s.waitForNode(ctx, vol); err != nil {
		return err
	}
	if err := s.zeroAll(ctx, vol, vol.Size, log); err != nil {
		return err
	}
	return s.changing(ctx, func() error { return s.removeLV(ctx, vol) })
}

func (s *Service) zeroAll(ctx context.Context, vol Volume, size uint64, log *erasureLog) error {
	if err := notPublished(vol); err != nil {
		return err
	}
	dev, err := blockdev.Hold(vol.Device)
	if err != nil {
		return err
	}
	step, done := s.progress("erasing " + vol.Name)
	if err = sizeIs(dev, size); err == nil {
		err = dev.Zero(ctx, 0, dev.Size, log.paced(ctx, step))
	}
	done()
	return errors.Join(err, dev.Close())
}

// Deleted lists the volumes that are being erased, or wait for it: those first in whose
// place somebody waits for space, then the smallest, which soonest give some back.
func (s *Service) Deleted(ctx context.Context) ([]Volume, error) {
	v, err := s.Look(ctx)
	if err != nil {
		return nil, err
	}
	return s.DeletedIn(v), nil
}

// DeletedIn is Deleted for what is in a view.
func (s *Service) DeletedIn(v View) []Volume { return s.inEraseOrder(inState(v.Volumes(), Deleting)) }

func (s *Service) inEraseOrder(deleted []Volume) []Volume {
	for i, vol := range deleted {
		deleted[i].Erasing = s.erasure(vol)
		if _, err := os.Lstat(s.erasureFile(vol)); err != nil {
			s.keepErasure(vol, *deleted[i].Erasing)
		}
	}
	slices.SortStableFunc(deleted, func(a, b Volume) int {
		if wantA, wantB := s.isWanted(a), s.isWanted(b); wantA != wantB {
			if wantA {
				return -1
			}
			return 1
		}
		return cmp.Compare(a.RawSize, b.RawSize)
	})
	return deleted
}

// EraseAll erases what was deleted and is not erased yet, one volume after the other, and
// returns how many. One that cannot be erased does not hold up the others.
func (s *Service) EraseAll(ctx context.Context, rate EraseRate) (erased int, err error) {
	deleted, err := s.Deleted(ctx)
	if err != nil {
		return 0, err
	}
	var failed []error
	for _, vol := range deleted {
		if err := s.Erase(ctx, vol, rate); err != nil {
			failed = append(failed, err)
			continue
		}
		erased++
	}
	return erased, errors.Join(failed...)
}

// Place is where the space of a volume is: its volume group, or its region.
func (vol Volume) Place() string {
	if vol.Type == TypeLVM {
		return "volume group " + vol.VG
	}
	return "region " + first(vol.Regions)
}

// erasingFor are the deleted volumes whose space could be that of a new one.
func (v View) erasingFor(spec Spec) []Volume {
	return slices.DeleteFunc(inState(v.Volumes(), Deleting), func(vol Volume) bool {
		return vol.Type != spec.Type || spec.VG != "" && vol.VG != spec.VG || !slices.ContainsFunc(vol.Regions, spec.mayUse)
	})
}

// spaceWait is how far a create is that waits for the space of deleted volumes.
type spaceWait struct {
	until  time.Time       // zero before it waits, or where it waits without end
	failed map[string]bool // by UUID: what cannot be erased
}

// waitForSpace erases, or has others erase, the first of some deleted volumes that can be
// erased. The error of the create is returned when there is none, or it takes too long.
func (s *Service) waitForSpace(ctx context.Context, w *spaceWait, erasing []Volume, why error) error {
	erasing = slices.DeleteFunc(erasing, func(vol Volume) bool { return w.failed[vol.UUID] })
	if len(erasing) == 0 {
		return why
	}
	if w.failed == nil {
		w.failed = map[string]bool{}
		if s.SpaceWait > 0 {
			w.until = time.Now().Add(s.SpaceWait)
		}
	}
	waiting := ctx
	if !w.until.IsZero() {
		var cancel context.CancelFunc
		waiting, cancel = context.WithDeadline(ctx, w.until)
		defer cancel()
	}
	vol := erasing[0]
	err := s.Erase(waiting, vol, EraseRate{})
	switch {
	case errs.Is(err, errs.Damaged):
		w.failed[vol.UUID] = true
		return nil
	case err != nil && waiting.Err() != nil && why != nil:
		return s.noSpaceYet(why, erasing)
	}
	return err
}

// waitForSpaceOf is waitForSpace for the growth of a volume.
func (s *Service) waitForSpaceOf(ctx context.Context, w *spaceWait, vol Volume, why error) error {
	deleted, err := s.Deleted(ctx)
	if err != nil {
		return err
	}
	deleted = slices.DeleteFunc(deleted, func(d Volume) bool { return d.group() != vol.group() })
	return s.waitForSpace(ctx, w, deleted, why)
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
	text := fmt.Sprintf("%s of deleted volumes in its place are still to be erased", pmem.FormatSize(bytes))
	if longest > 0 {
		text += ", about " + longest.Round(time.Second).String() + " more"
	}
	return errs.New(errs.NoSpace, "", why.Error()+"; "+text, "try again then; see how far it is: pmemctl volume list -o wide")
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

// Unerased lists the UUIDs of the volumes that are to be erased, as far as they were deleted or
// seen since the last boot, without a look at the devices.
func (s *Service) Unerased() []string {
	if s.RunDir == "" {
		return nil
	}
	entries, _ := os.ReadDir(filepath.Join(s.RunDir, "erasing"))
	var uuids []string
	for _, e := range entries {
		uuids = append(uuids, e.Name())
	}
	return uuids
}

// logEvery is how often the progress of an erasing is kept.
const logEvery = 2 * time.Second

// erasureLog keeps the progress of one erasing, at its rate.
type erasureLog struct {
	service *Service
	vol     Volume
	rate    EraseRate
	state   Erasure
}

func (s *Service) erasureLog(vol Volume, rate EraseRate) *erasureLog {
	log := &erasureLog{service: s, vol: vol, rate: rate, state: *s.erasure(vol)}
	log.state.Done, log.state.Rate, log.state.Failed = 0, 0, ""
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
		if since := time.Since(kept); since >= logEvery {
			l.state.Done, l.state.Rate = done, uint64(float64(done-keptAt)/since.Seconds())
			l.service.keepErasure(l.vol, l.state)
			kept, keptAt = time.Now(), done
		}
		if pause := l.rate.pause(time.Since(began), done-before); pause > 0 && !l.service.isWanted(l.vol) {
			select {
			case <-time.After(pause):
			case <-ctx.Done():
			}
		}
		began, before = time.Now(), done
	}
}
