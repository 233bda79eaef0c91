// Package volume is the volume service: what the command line and the CSI
// server both call. All policy is here: names, sizes and their rounding,
// placement, idempotence, locks, wiping, and what to do about a crash.
//
// Devices are the only record. Every state a volume can be in is told by a name
// on the device (see mark.go), and each state follows from the one before by
// one atomic change of a label or of LVM's metadata.
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

// NDCTL is what the service needs of libndctl; *ndctl.Lib is one.
type NDCTL interface {
	Snapshot(ndctl.Select) (pmem.System, error)
	EnabledFSDAX() []pmem.Namespace
	Warm()
	CreateNamespace(pmem.NamespaceSpec) (pmem.Namespace, error)
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

// LVM is what the service needs of LVM; *lvm.Client is one.
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
	// MayKnow is false when LVM's metadata on a device is certain to have none of some words.
	MayKnow(device string, words ...string) bool
}

// Reporter reads what LVM knows of some devices.
type Reporter interface {
	Report(context.Context) (lvm.State, error)
}

// Service makes, lists, grows, clones, mounts and deletes volumes.
type Service struct {
	NDCTL NDCTL
	// KeepNDCTL is NDCTL for the calls of one operation, which may share what they
	// read, and the function that ends it. It may be nil.
	KeepNDCTL func() (NDCTL, func())
	// LVM sees the devices of pmemctl's volume groups, and no other.
	LVM LVM
	// Foreign sees PMEM that is not pmemctl's, to show the volume groups there.
	Foreign Reporter
	// Disks sees every disk but what is pmemctl's, to find a namesake of a volume
	// group that is to be made.
	Disks Reporter
	// Devices and Mounts are those of the host.
	Devices Devices
	Mounts  Mounts
	Locks   hostlock.Locks
	// RunDir holds what is remembered until the next boot; "" for nothing.
	RunDir string
	// StateDir holds what is remembered across reboots; "" for nothing.
	StateDir string
	// ArchiveDir keeps the metadata of volume groups across reboots; "" for nothing.
	ArchiveDir string
	// Note is told what went wrong beside what was asked for; it may be nil.
	Note func(error)
	// TargetRoot is where volumes are staged and published, and nowhere else; "" is
	// anywhere. Mount and Unmount take any path.
	TargetRoot string
	// Progress is told of long work, such as erasing; it may be nil.
	Progress func(what string) (step blockdev.Progress, done func())
}

const hostLock = "host"

// hostTurn is whose turn it is in this process: a file lock is polled, which is slow
// among many calls of a server.
var hostTurn = make(chan struct{}, 1)

// changing runs do while no other pmemctl changes anything on this host.
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
	// Whoever uses a volume that lvm left suspended waits. One that is still at work will
	// resume it.
	if err != nil && !errs.Is(err, errs.Deadline) {
		undo, cancel := undoing(ctx)
		defer cancel()
		_, failed := s.resume(undo)
		err = errors.Join(err, failed)
	}
	return err
}

// lockVolume keeps others away from one volume, also during the long work for
// which the host is not locked. It is taken before the host's lock.
func (s *Service) lockVolume(ctx context.Context, name string) (*hostlock.Lock, error) {
	return s.Locks.Acquire(ctx, volumeLock(name))
}

func volumeLock(name string) string { return "volume " + name }

// operation is the service for one operation, which ends with the function.
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

// cleanUpTimeout bounds the undoing of what a cancelled call began.
const cleanUpTimeout = time.Minute

// undoing is a context for undoing what ctx was for, which may have ended.
func undoing(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), cleanUpTimeout)
}

// ChangeHost runs do while no other pmemctl changes anything on this host. It is
// for what is no matter of volumes, such as system memory.
func (s *Service) ChangeHost(ctx context.Context, do func() error) error {
	return s.changing(ctx, do)
}

func subject(name string) string { return "volume " + name }

func notFound(name string) error {
	return errs.New(errs.NotFound, subject(name), "does not exist", "see what there is: pmemctl volume list")
}
