package model

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"github.com/pmemctl/pmemctl/internal/blockdev"
	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/mount"
)

// mounts are the file systems and the mount table of the host. The paths are those of the machine
// on which the tests run.
type mounts struct{ *Host }

func realPath(path string) (string, error) { return mount.RealPath(path) }

// superblock is at the start of a file system of the model.
type superblock struct {
	FS   string
	UUID string
	Size uint64
}

const superblockSize = 4096

func (h *Host) readSuperblock(path string) (s superblock, n blockdev.Number, err error) {
	if n, err = h.identify(path); err != nil {
		return s, n, err
	}
	text := strings.TrimRight(string(h.read(n, 0, superblockSize)), "\x00")
	_ = json.Unmarshal([]byte(text), &s) // anything else is not a superblock
	return s, n, nil
}

func (h *Host) writeSuperblock(n blockdev.Number, offset uint64, s superblock) error {
	data, err := json.Marshal(s)
	if err == nil {
		h.write(n, offset, append(data, make([]byte, superblockSize-len(data))...))
	}
	return err
}

func (m mounts) RealPath(path string) (string, error) {
	if err := m.reading("path"); err != nil {
		return "", err
	}
	return realPath(path)
}

func (m mounts) At(path string) (blockdev.Number, mount.Point, bool, error) {
	if path == "/dev" {
		if err := m.reading("/dev"); err != nil {
			return blockdev.Number{}, mount.Point{}, false, err
		}
		return blockdev.Number{}, mount.Point{Path: path, FSType: "devtmpfs"}, true, nil
	}
	u, ok, err := m.UseAt(path)
	return u.Number, u.Point, ok, err
}

func (m mounts) UseAt(path string) (mount.Use, bool, error) {
	path, err := realPath(path)
	if err != nil {
		return mount.Use{}, false, err
	}
	uses, err := m.Uses()
	for _, u := range slices.Backward(uses) {
		if u.Path == path {
			return u, true, nil
		}
	}
	return mount.Use{}, false, err
}

func (m mounts) Uses() ([]mount.Use, error) {
	if err := m.reading("table of mounts"); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []mount.Use
	for _, one := range m.Host.mounts {
		all = append(all, mount.Use{Point: one.point, Number: one.number, Node: one.node})
	}
	return all, nil
}

func (m mounts) Points(n blockdev.Number) ([]mount.Point, error) {
	uses, err := m.Uses()
	var points []mount.Point
	for _, u := range uses {
		if u.Number == n && !u.Node {
			points = append(points, u.Point)
		}
	}
	return points, err
}

func (m mounts) BoundNodes(n blockdev.Number) ([]string, error) {
	uses, err := m.Uses()
	var paths []string
	for _, u := range uses {
		if u.Number == n && u.Node {
			paths = append(paths, u.Path)
		}
	}
	return paths, err
}

func (m mounts) add(step string, number func() (blockdev.Number, error), path, fs, source string, node bool, options []string) error {
	path, err := realPath(path)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.step(step, func() error {
		n, err := number()
		if err != nil {
			return err
		}
		own := []string{"rw"}
		if slices.Contains(options, "ro") {
			own = []string{"ro"}
		}
		m.Host.mounts = append(m.Host.mounts, mounted{n, mount.Point{Path: path, FSType: fs, Root: "/", Source: source, Options: slices.Concat(own, options), Own: own, Super: slices.Concat([]string{"rw"}, options)}, node})
		return nil
	})
}

func (m mounts) Mount(device, path, fs string, options []string) error {
	return m.add("mount", func() (blockdev.Number, error) {
		s, n, err := m.readSuperblock(device)
		if err == nil && s.FS != fs {
			err = fmt.Errorf("mount %s: %w", device, unix.EINVAL)
		}
		if err == nil && m.held[n] > 0 {
			err = fmt.Errorf("mount %s: %w", device, unix.EBUSY)
		}
		return n, err
	}, path, fs, device, false, options)
}

func (m mounts) Bind(from, to string, readOnly bool, options []string) error {
	if readOnly {
		options = append(slices.Clone(options), "ro")
	}
	if strings.HasPrefix(from, "/dev/") {
		return m.add("bind", func() (blockdev.Number, error) { return m.identify(from) }, to, "devtmpfs", from, true, options)
	}
	n, p, ok, err := m.At(from)
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("%s: nothing is mounted there", from)
	}
	return m.add("bind", func() (blockdev.Number, error) { return n, nil }, to, p.FSType, p.Source, false, append(slices.Clone(options), p.Super...))
}

func (m mounts) Unmount(device, path string) error { return m.UnmountPath(path) }

func (m mounts) UnmountPath(path string) error {
	path, err := realPath(path)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.step("umount", func() error {
		for i, one := range slices.Backward(m.Host.mounts) {
			if one.point.Path == path {
				m.Host.mounts = slices.Delete(m.Host.mounts, i, i+1)
				return nil
			}
		}
		return &os.PathError{Op: "unmount", Path: path, Err: unix.EINVAL}
	})
}

func (m mounts) Detach(path, _ string) error { return m.UnmountPath(path) }

func (m mounts) Format(_ context.Context, on mount.Space, fs string, _ ...string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.step("mkfs", func() error {
		n, err := m.identify(on.Device)
		if err == nil && m.inUse(n) {
			err = errs.New(errs.InUse, on.Device, "is in use", "")
		}
		if err != nil {
			return err
		}
		return m.writeSuperblock(n, on.Offset, superblock{fs, uuid.NewString(), on.Size})
	})
}

func (m mounts) Probe(_ context.Context, device string) (mount.Content, error) {
	if err := m.reading("probe"); err != nil {
		return mount.Content{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	s, _, err := m.readSuperblock(device)
	return mount.Content{Type: s.FS}, err
}

func (m mounts) Check(context.Context, string) error { return m.reading("fsck") }
func (m mounts) HasErrors(string) bool               { return false }

func (m mounts) Extent(device, fs string) (uint64, error) {
	if err := m.reading("superblock"); err != nil {
		return 0, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	s, _, err := m.readSuperblock(device)
	if err == nil && s.FS != fs {
		err = fmt.Errorf("%s has no %s superblock", device, fs)
	}
	return s.Size, err
}

// rewrite changes the superblock of a device, as a step.
func (m mounts) rewrite(step, device string, do func(*superblock, uint64)) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.step(step, func() error {
		s, n, err := m.readSuperblock(device)
		if err != nil || s.FS == "" {
			return err
		}
		do(&s, m.sizeOf(n))
		return m.writeSuperblock(n, 0, s)
	})
}

func (m mounts) Grow(_ context.Context, device string, _ mount.Point) error {
	return m.rewrite("growfs", device, func(s *superblock, size uint64) { s.Size = size })
}

func (m mounts) Separate(_ context.Context, device string) error {
	return m.rewrite("new uuid", device, func(s *superblock, _ uint64) { s.UUID = uuid.NewString() })
}

func (m mounts) DAX(_ string, p mount.Point) (dax, noMapSync bool, err error) {
	if err := m.reading("dax"); err != nil {
		return false, false, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	dax = mount.HasDAXOption(p) && !m.noDAX
	return dax, !dax || slices.ContainsFunc(m.regions, isVirtio) && !m.grantsSync, nil
}

func (m mounts) WhyNoDAX(string, blockdev.Number, mount.Point) string {
	return "it is mounted without the option dax"
}

func (m mounts) MapFile(dir string) (mount.Mapped, error) {
	_, p, ok, err := m.At(dir)
	if err != nil || !ok {
		return mount.Mapped{}, errors.Join(err, os.ErrNotExist)
	}
	dax, noMapSync, err := m.DAX(dir, p)
	m.mu.Lock()
	defer m.mu.Unlock()
	return mount.Mapped{Sync: !noMapSync, Huge: dax && !m.smallFaults}, err
}

func (m mounts) FaultOf(n blockdev.Number, _ mount.Point, _ []mount.Point) mount.Fault {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.faults[n]
}

func (m mounts) Usage(path string, n blockdev.Number) (fs unix.Statfs_t, err error) {
	have, p, ok, err := m.At(path)
	if err != nil || !ok || have != n {
		return fs, os.ErrNotExist
	}
	size, err := m.Extent(p.Source, p.FSType)
	fs.Bsize, fs.Blocks, fs.Bfree, fs.Bavail = 4096, size/4096, size/4096, size/4096
	return fs, err
}
