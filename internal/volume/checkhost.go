package volume

import (
	"context"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/ndctl"
	"github.com/pmemctl/pmemctl/internal/run"
)

// CheckHost returns an error with the reason if no volume can be created on this host.
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
		return errs.New(errs.Unsupported, "/sys", "is mounted read-only, so no namespace can be created", "run the container privileged, or mount the host's /sys writable")
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

// anyMemberReadable returns an error if there are volume groups and none of their devices has a
// label. As long as one can be read, volumes can be served despite damage to the others.
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

// hostDev returns an error in a container with its own /dev: new device nodes would not appear
// there, and its locks would not be those of the host.
func (s *Service) hostDev() error {
	_, point, mounted, err := s.Mounts.At("/dev")
	if err != nil || mounted && point.FSType == "devtmpfs" {
		return err
	}
	return errs.New(errs.Unsupported, "/dev", "is not the host's", "mount the host's /dev into the container")
}
