package volume

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/mount"
)

// Stats is the usage of a volume where it is published. Sizes are bytes.
type Stats struct {
	// Block says that it is published as a device: only Total is set.
	Block                  bool
	Total, Used, Available uint64
	Inodes, InodesUsed     uint64
	// Abnormal says what is wrong with the volume; "" for nothing.
	Abnormal string
}

// Stats returns the usage of a volume at a path where it is published; NotFound if it is not
// published there.
func (s *Service) Stats(ctx context.Context, name, path string) (_ Stats, err error) {
	if u, used, err := s.Mounts.UseAt(path); err == nil && used && s.lost(name, u) {
		return Stats{Block: u.Node, Abnormal: "its device was removed, and possibly added again, since it was published here"}, nil
	}
	vol, ok := s.findUp(name)
	if !ok {
		var err error
		if vol, err = s.Get(ctx, name); err != nil {
			return Stats{}, err
		}
	}
	notThere := errs.New(errs.NotFound, subject(name), "is not published at "+path, "see where it is: pmemctl volume show "+name)
	target, err := s.openTarget(path)
	if err != nil {
		return Stats{}, notThere
	}
	defer func() { err = target.done(err) }()
	path = target.at
	if vol.State == Damaged {
		return Stats{Abnormal: "damaged: " + vol.Health}, nil
	}
	if vol.Device == "" {
		return Stats{}, notThere
	}
	// No lock is held: the volume, its mounts or the path may disappear at any time.
	number, err := s.Devices.Identify(vol.Device)
	if errors.Is(err, os.ErrNotExist) {
		return Stats{}, notThere
	}
	if err != nil {
		return Stats{}, err
	}
	if at, err := s.Devices.NumberOf(path); err == nil { // a device node
		if at != number {
			return Stats{}, notThere
		}
		return Stats{Block: true, Total: vol.Size, Abnormal: s.badblocks(vol)}, nil
	}
	have, point, mounted, err := s.Mounts.At(path)
	if errors.Is(err, os.ErrNotExist) || err == nil && (!mounted || have != number) {
		return Stats{}, notThere
	}
	if err != nil {
		return Stats{}, err
	}
	if s.isSuspended(vol) { // access to the file system would block
		return Stats{Abnormal: "its device is suspended"}, nil
	}
	points, err := s.Mounts.Points(number)
	if err != nil {
		return Stats{}, err
	}
	fault := s.Mounts.FaultOf(number, point, points)
	if fault == mount.ShutDown {
		return Stats{Abnormal: s.faultText(vol, fault)}, nil
	}
	fs, err := s.Mounts.Usage(path, number)
	if errors.Is(err, os.ErrNotExist) {
		return Stats{}, notThere
	}
	if err != nil {
		return Stats{}, err
	}
	block := uint64(fs.Bsize)
	st := Stats{Total: fs.Blocks * block, Used: (fs.Blocks - fs.Bfree) * block, Available: fs.Bavail * block, Inodes: fs.Files, InodesUsed: fs.Files - fs.Ffree, Abnormal: s.badblocks(vol)}
	switch {
	case fault != "":
		st.Abnormal = s.faultText(vol, fault)
	case st.Abnormal == "":
		st.Abnormal = s.notGrown(vol, point)
	}
	return st, nil
}

func (s *Service) faultText(vol Volume, fault mount.Fault) string {
	return "its file system " + string(fault) + s.andMedium(vol) + "; see why: dmesg | grep " + filepath.Base(s.Devices.Node(vol.Device))
}

// badblocks describes the media errors that the kernel lists for the volume's parts of its
// devices; "" if there are none.
func (s *Service) badblocks(vol Volume) string {
	bad, err := s.Devices.BadRanges(vol.Device, vol.Size)
	if err != nil || len(bad) == 0 {
		return ""
	}
	return fmt.Sprintf("media errors on /dev/%s; see where: pmemctl tree", s.Devices.KernelName(bad[0].On))
}
