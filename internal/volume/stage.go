package volume

import (
	"context"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/ndctl"
	"github.com/pmemctl/pmemctl/internal/pmem"
	"github.com/pmemctl/pmemctl/internal/run"
)

// Stage is Mount on a path that another program chose.
func (s *Service) Stage(ctx context.Context, m MountSpec) (Volume, error) {
	target, err := s.openTarget(m.Path)
	if err != nil {
		return Volume{}, asPrecondition(err)
	}
	m.opened = target
	vol, err := s.Mount(ctx, m)
	return vol, target.done(err)
}

// Regions lists the regions of PMEM.
func (s *Service) Regions(context.Context) ([]pmem.Region, error) {
	sys, err := s.NDCTL.Snapshot(ndctl.Select{})
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(sys.Regions, func(r pmem.Region) bool { return r.Type != "pmem" }), nil
}

// Up tells whether a volume is there with its device up, as far as that can be
// known without LVM and libndctl: false need not mean that it is not.
func (s *Service) Up(name string) bool {
	_, up := s.up(name)
	return up
}

// CheckHost fails when no volume can be made on this host, and says why.
func (s *Service) CheckHost(context.Context) error {
	sys, err := s.NDCTL.Snapshot(ndctl.Select{})
	if err != nil {
		return err
	}
	if len(sys.Regions) == 0 {
		return NoPMEM(sys)
	}
	var fs unix.Statfs_t
	if err := unix.Statfs("/sys/bus/nd/devices", &fs); err == nil && fs.Flags&unix.ST_RDONLY != 0 {
		return errs.New(errs.Unsupported, "/sys", "is mounted read-only, so that no namespace can be made", "run the container privileged, or mount the host's /sys writable")
	}
	if err := s.hostDev(); err != nil {
		return err
	}
	if err := run.Installed("lvm"); err != nil {
		return err
	}
	if err := os.MkdirAll(s.Locks.Dir, 0o700); err != nil {
		return errs.Wrap("", s.Locks.Dir, "cannot hold locks", "mount a writable /run", err)
	}
	lock, err := s.Locks.Try("probe") // another probe may have it
	lock.Release()
	if err != nil {
		return err
	}
	return s.anyMemberReadable()
}

// anyMemberReadable fails when there are volume groups and none has its label. While one
// can be read the others' damage keeps no volume from being served.
func (s *Service) anyMemberReadable() error {
	var lost []string
	for _, n := range s.NDCTL.EnabledFSDAX() {
		mark, vg := parseMark(n.Name)
		switch {
		case mark != markMember:
		case s.LVM.HasLabel("/dev/" + n.Blockdev):
			return nil
		default:
			lost = append(lost, vg+" on /dev/"+n.Blockdev)
		}
	}
	if len(lost) == 0 {
		return nil
	}
	return errs.New(errs.Damaged, "volume groups", "cannot be read: "+strings.Join(lost, ", "), "pmemctl vg check")
}
