package volume

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/pmemctl/pmemctl/internal/blockdev"
	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/mount"
)

// Stats is how full a volume is where it is published. Sizes are bytes.
type Stats struct {
	// Block says that it is published as a device: Total is all there is to know.
	Block                  bool
	Total, Used, Available uint64
	Inodes, InodesUsed     uint64
	// Abnormal says what is wrong with the volume; "" for nothing.
	Abnormal string
}

// Stats looks at a volume at a path where it was published; NotFound when it is
// not there.
func (s *Service) Stats(ctx context.Context, name, path string) (_ Stats, err error) {
	if u, used, err := mount.UseAt(path); err == nil && used && s.lost(name, u) {
		return Stats{Block: u.Node, Abnormal: "its device is gone, or went and came back, since it was published here"}, nil
	}
	vol, ok := s.up(name)
	if !ok {
		var err error
		if vol, err = s.Get(ctx, name); err != nil {
			return Stats{}, err
		}
	}
	notThere := errs.New(errs.NotFound, subject(name), "is not at "+path, "see where it is: pmemctl volume show "+name)
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
	// No lock keeps the volume, its mounts or the path: each may go between two looks.
	number, err := blockdev.Identify(vol.Device)
	if errors.Is(err, os.ErrNotExist) {
		return Stats{}, notThere
	}
	if err != nil {
		return Stats{}, err
	}
	if at, err := blockdev.NumberOf(path); err == nil { // a device node
		if at != number {
			return Stats{}, notThere
		}
		return Stats{Block: true, Total: vol.Size, Abnormal: s.badblocks(vol)}, nil
	}
	have, point, mounted, err := mount.At(path)
	if errors.Is(err, os.ErrNotExist) || err == nil && (!mounted || have != number) {
		return Stats{}, notThere
	}
	if err != nil {
		return Stats{}, err
	}
	if s.isSuspended(vol) { // the file system would wait
		return Stats{Abnormal: "its device is suspended"}, nil
	}
	points, err := mount.Points(number)
	if err != nil {
		return Stats{}, err
	}
	fault := mount.FaultOf(number, point, points)
	if fault == mount.ShutDown {
		return Stats{Abnormal: s.faultText(vol, fault)}, nil
	}
	fs, err := statfsOf(path, number)
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
		st.Abnormal = notGrown(vol, point)
	}
	return st, nil
}

// statfsOf is statfs(2) of a path when that is on the device, and os.ErrNotExist when
// it is not: below a mount that has gone there is the file system of the host.
func statfsOf(path string, device blockdev.Number) (fs unix.Statfs_t, err error) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return fs, &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fs, &os.PathError{Op: "fstat", Path: path, Err: err}
	}
	if (blockdev.Number{Major: unix.Major(st.Dev), Minor: unix.Minor(st.Dev)}) != device {
		return fs, os.ErrNotExist
	}
	if err := unix.Fstatfs(fd, &fs); err != nil {
		return fs, &os.PathError{Op: "fstatfs", Path: path, Err: err}
	}
	return fs, nil
}

func (s *Service) faultText(vol Volume, fault mount.Fault) string {
	return "its file system " + string(fault) + s.andMedium(vol) + "; see why: dmesg | grep " + filepath.Base(blockdev.Node(vol.Device))
}

// badblocks are media errors in a volume's own parts of its devices, as the kernel lists
// them.
func (s *Service) badblocks(vol Volume) string {
	bad, err := blockdev.BadRanges(vol.Device, vol.Size)
	if err != nil || len(bad) == 0 {
		return ""
	}
	return fmt.Sprintf("media errors on /dev/%s; see where: pmemctl tree", bad[0].On.KernelName())
}
