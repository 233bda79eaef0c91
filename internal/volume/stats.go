package volume

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

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
	fs, err := statfsOf(path, number)
	if errors.Is(err, os.ErrNotExist) {
		return Stats{}, notThere
	}
	if err != nil {
		return Stats{}, err
	}
	block := uint64(fs.Bsize)
	st := Stats{Total: fs.Blocks * block, Used: (fs.Blocks - fs.Bfree) * block, Available: fs.Bavail * block, Inodes: fs.Files, InodesUsed: fs.Files - fs.Ffree, Abnormal: s.badblocks(vol)}
	if st.Abnormal == "" && turnedReadOnly(number, point) {
		st.Abnormal = "the kernel made its file system read-only after an error; see why: dmesg | grep " + filepath.Base(vol.Device)
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

// turnedReadOnly tells whether a file system became read-only that was mounted
// writable somewhere: the kernel does that after an error.
func turnedReadOnly(device blockdev.Number, point mount.Point) bool {
	if !slices.Contains(point.Super, "ro") {
		return false
	}
	points, _ := mount.Points(device)
	return slices.ContainsFunc(points, func(p mount.Point) bool { return !slices.Contains(p.Own, "ro") })
}

// badblocks are media errors below a volume, as the kernel lists them for its
// block devices.
func (s *Service) badblocks(vol Volume) string {
	devices := []string{filepath.Base(vol.Device)}
	if m, ok := s.mapped(vol); ok {
		devices = m.Below()
	}
	for _, d := range devices {
		if data, _ := os.ReadFile("/sys/class/block/" + d + "/badblocks"); len(strings.TrimSpace(string(data))) > 0 {
			return fmt.Sprintf("media errors on /dev/%s; see where: pmemctl tree", d)
		}
	}
	return ""
}
