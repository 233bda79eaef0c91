package volume

import (
	"fmt"
	"strings"
	"time"

	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/pmem"
)

// notInUse returns an error if a volume is mounted, or held or opened by anything.
func (s *Service) notInUse(vol Volume) error {
	if vol.Device == "" {
		return nil
	}
	dev, err := s.Devices.HoldToRead(vol.Device)
	if err == nil {
		if err := dev.Close(); err != nil {
			return err
		}
		if err := s.notPublished(vol); err != nil {
			return err
		}
		// A process that only has the device open does not hold it.
		if pids := s.openFor(s.Devices.Node(vol.Device)); len(pids) > 0 {
			return errs.New(errs.InUse, subject(vol.Name), fmt.Sprintf("is open in process %d", pids[0]), fmt.Sprintf("see what it is: ps %d", pids[0]))
		}
		return nil
	}
	if !errs.Is(err, errs.InUse) {
		return err
	}
	if n, numErr := s.Devices.Identify(vol.Device); numErr == nil {
		if points, _ := s.Mounts.Points(n); len(points) > 0 {
			var paths []string
			for _, p := range points {
				paths = append(paths, p.Path)
			}
			return errs.New(errs.InUse, subject(vol.Name), "is mounted on "+strings.Join(paths, ", "), "pmemctl volume unmount "+vol.Name)
		}
	}
	return errs.Wrap(errs.InUse, subject(vol.Name), "is in use", "see what uses it: lsof "+vol.Device+"; a container may have it mounted", err)
}

// notPublished returns an error if the device of a volume is bound into a container, which does
// not hold it.
func (s *Service) notPublished(vol Volume) error {
	n, err := s.Devices.Identify(vol.Device)
	if err != nil {
		return err
	}
	paths, err := s.Mounts.BoundNodes(n)
	if err != nil || len(paths) == 0 {
		return err
	}
	return errs.New(errs.InUse, subject(vol.Name), "is published at "+paths[0], "unpublish it there first: umount "+paths[0])
}

// openFor returns the processes that have a device open for longer than a moment: udevd opens
// every device briefly after each change.
func (s *Service) openFor(path string) []int {
	const poll, patience = 50 * time.Millisecond, 3 * time.Second
	for begun := time.Now(); ; time.Sleep(poll) {
		pids := s.Devices.Users(path)
		if len(pids) == 0 || time.Since(begun) > patience {
			return pids
		}
	}
}

// notMounted returns an error if a volume is mounted, here or elsewhere, or held: a raw device
// must be used exclusively.
func (s *Service) notMounted(vol Volume) error {
	dev, err := s.Devices.HoldToRead(vol.Device)
	if err == nil {
		return dev.Close()
	}
	if !errs.Is(err, errs.InUse) {
		return err
	}
	where := "is mounted or held open, possibly in a container"
	if points := s.MountedAt(vol); len(points) > 0 {
		where = "is mounted on " + points[0].Path
	}
	return errs.Wrap(errs.InUse, subject(vol.Name), where+", so it cannot be published as a raw device", "unmount it first: pmemctl volume unmount "+vol.Name, err)
}

// notMapped returns an error if a process has a devdax namespace open or mapped. The kernel would
// remove it from under the process, and libndctl does not check.
func (s *Service) notMapped(n pmem.Namespace) error {
	if n.Chardev == "" {
		return nil
	}
	if pids := s.openFor("/dev/" + n.Chardev); len(pids) > 0 {
		return errs.New(errs.InUse, "namespace "+n.Dev, fmt.Sprintf("its device /dev/%s is open in process %d", n.Chardev, pids[0]), fmt.Sprintf("see what it is: ps %d", pids[0]))
	}
	return nil
}

// notHeld returns an error if something has the block device of a namespace open exclusively.
func (s *Service) notHeld(n pmem.Namespace) error {
	if n.Blockdev == "" {
		return nil
	}
	dev, err := s.Devices.HoldToRead(blockPath(n))
	if errs.Is(err, errs.InUse) {
		return s.namespaceInUse(n, err)
	}
	if err != nil {
		return err
	}
	return dev.Close()
}

// namespaceInUse is the error for a namespace that cannot be disabled.
func (s *Service) namespaceInUse(n pmem.Namespace, err error) error {
	return errs.Wrap(errs.InUse, "namespace "+n.Dev, "is in use"+s.holders(n), "unmount it, or remove what is stacked on it: pmemctl tree", err)
}

func (s *Service) holders(n pmem.Namespace) string {
	number, err := s.Devices.NumberOf("/dev/" + n.Blockdev)
	if err != nil {
		return ""
	}
	if names := s.Devices.Holders(number); len(names) > 0 {
		return fmt.Sprintf(" by %v", names)
	}
	return ""
}
