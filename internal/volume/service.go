// Package volume is the volume service that the CLI and the CSI server share. It has all policy:
// names, sizes and their rounding, placement, idempotence, locks, wiping, and crash recovery.
//
// The devices are the only record. A name on the device (see mark.go) shows each state of a
// volume, and one atomic change of a label or of LVM's metadata leads from each state to the next.
package volume

import (
	"context"
	"errors"
	"time"

	"github.com/pmemctl/pmemctl/internal/blockdev"
	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/hostlock"
	"github.com/pmemctl/pmemctl/internal/lvm"
	"github.com/pmemctl/pmemctl/internal/ndctl"
	"github.com/pmemctl/pmemctl/internal/pmem"
)

// NDCTL is what the service requires of libndctl; *ndctl.Lib implements it.
type NDCTL interface {
	Snapshot(ndctl.Select) (pmem.System, error)
	EnabledFSDAX() []pmem.Namespace
	Granularity(region string) uint64
	Warm()
	CreateNamespace(pmem.NamespaceSpec) (pmem.Namespace, error)
	// AdvanceSeed enables the last namespace of a region for a moment, if the name is owned; see
	// ndctl.ErrNoSeed.
	AdvanceSeed(region string, owned func(name string) bool) error
	RenameNamespace(key, name string) (pmem.Namespace, error)
	RenameDisabled(key, name string) error
	EnableNamespace(key string) (pmem.Namespace, error)
	DestroyNamespace(key string) error
	EnableRaw(key string) (blockdev string, err error)
	DisableRaw(key string) error
	InitLabels(regions ...string) error
	EnableRegion(region string) error
	DisableRegion(region string) error
}

// LVM is what the service requires of LVM; *lvm.Client implements it.
type LVM interface {
	Report(context.Context) (lvm.State, error)
	CreateVG(ctx context.Context, vg, tag string, extentSize, dataAlign uint64, devices ...string) error
	ExtendVG(ctx context.Context, vg lvm.VGRef, dataAlign uint64, devices ...string) error
	RemoveVG(ctx context.Context, vg lvm.VGRef, devices ...string) error
	CreateLV(context.Context, lvm.NewLV) error
	Deactivate(ctx context.Context, vg lvm.VGRef, name string) error
	RenameLV(ctx context.Context, vg lvm.VGRef, name, to string) error
	UnmarkLV(ctx context.Context, vg lvm.VGRef, name, tag string) error
	RemoveLV(ctx context.Context, vg lvm.VGRef, name, uuid string) error
	ExtendLV(ctx context.Context, vg lvm.VGRef, name string, by uint64, stripes int, ranges []string) error
	Activate(ctx context.Context, vg lvm.VGRef, name string) error
	Refresh(ctx context.Context, vg lvm.VGRef, name string) error
	MakeNodes(ctx context.Context, vg lvm.VGRef) error
	// HasLabel reports whether a device has the label of a physical volume.
	HasLabel(device string) bool
	// MayKnow returns false only if LVM's metadata on a device certainly contains none of the
	// words.
	MayKnow(device string, words ...string) bool
}

// Reporter reads what LVM knows of some devices.
type Reporter interface {
	Report(context.Context) (lvm.State, error)
}

// Service creates, lists, expands, clones, mounts and deletes volumes.
type Service struct {
	NDCTL NDCTL
	// KeepNDCTL returns an NDCTL whose calls may share what they read during one operation, and a
	// function that ends it. It may be nil.
	KeepNDCTL func() (NDCTL, func())
	// LVM sees only the devices of pmemctl's volume groups.
	LVM LVM
	// Foreign sees PMEM that is not pmemctl's, to show the volume groups on it.
	Foreign Reporter
	// Disks sees all disks that are not pmemctl's, to find duplicate names of a volume group
	// before it is created.
	Disks Reporter
	// All sees all namespaces but volumes.
	All AdoptLVM
	// Devices and Mounts are those of the host.
	Devices Devices
	Mounts  Mounts
	Locks   hostlock.Locks
	// RunDir holds the records that are valid until the next boot; "" for none.
	RunDir string
	// StateDir holds the records that persist across reboots; "" for none.
	StateDir string
	// ArchiveDir is the archive of the metadata of volume groups; "" for none.
	ArchiveDir string
	// Note is called with errors that do not fail the operation; it may be nil.
	Note func(error)
	// TargetRoot is the directory below which volumes may be staged and published; "" is anywhere.
	// Mount and Unmount accept any path.
	TargetRoot string
	// Progress is called for long operations, such as erasing; it may be nil.
	Progress func(what string) (step blockdev.Progress, done func())
}

const hostLock = "host"

// hostTurn serializes changes within this process: file locks are polled, which is slow with many
// concurrent calls.
var hostTurn = make(chan struct{}, 1)

// changing runs do while holding the host lock.
func (s *Service) changing(ctx context.Context, do func() error) error {
	select {
	case hostTurn <- struct{}{}:
		defer func() { <-hostTurn }()
	case <-ctx.Done():
		return errs.Wrap(errs.Busy, hostLock, "is being changed by another call", "wait for it to finish, then try again", ctx.Err())
	}
	lock, err := s.Locks.Acquire(ctx, hostLock)
	if err != nil {
		return err
	}
	defer lock.Release()
	if err := s.hostDev(); err != nil {
		return err
	}
	defer s.keepMetadata()
	err = do()
	// A volume that lvm left suspended blocks its users. If lvm is still running, it resumes the
	// volume itself.
	if err != nil && !errs.Is(err, errs.Deadline) {
		undo, cancel := undoing(ctx)
		defer cancel()
		_, failed := s.resume(undo)
		err = errors.Join(err, failed)
	}
	return err
}

// lockVolume locks one volume, also during long work for which the host is not locked. It is taken
// before the host lock.
func (s *Service) lockVolume(ctx context.Context, name string) (*hostlock.Lock, error) {
	return s.Locks.Acquire(ctx, volumeLock(name))
}

func volumeLock(name string) string { return "volume " + name }

// operation returns the service for one operation, and a function that ends it.
func (s *Service) operation() (*Service, func()) {
	if s.KeepNDCTL == nil {
		return s, func() {}
	}
	one := *s
	keep, done := s.KeepNDCTL()
	one.NDCTL = keep
	return &one, done
}

func (s *Service) progress(what string) (blockdev.Progress, func()) {
	if s.Progress == nil {
		return nil, func() {}
	}
	return s.Progress(what)
}

// cleanUpTimeout limits the cleanup after a cancelled call.
const cleanUpTimeout = time.Minute

// undoing returns a context for the cleanup after an operation whose context may have ended.
func undoing(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), cleanUpTimeout)
}

// ChangeHost runs do while holding the host lock. It is for changes that do not concern volumes,
// such as system memory.
func (s *Service) ChangeHost(ctx context.Context, do func() error) error {
	return s.changing(ctx, do)
}

func subject(name string) string { return "volume " + name }

func notFound(name string) error {
	return errs.New(errs.NotFound, subject(name), "does not exist", "see what there is: pmemctl volume list")
}

// vanished keeps NotFound from an error with a device that was found before: that answers whether
// a volume or a place for one exists, and whether the device was removed, or only cannot be seen
// any more, is not known.
func vanished(name string, err error) error {
	if errs.Is(err, errs.NotFound) {
		return errs.Wrap(errs.Busy, subject(name), "changed while it was being created or deleted", "try again", err)
	}
	return err
}
