package volume

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"github.com/pmemctl/pmemctl/internal/blockdev"
	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/pmem"
)

// What is cleared of a new volume. A volume that was made for a file system has the
// bytes of former volumes, those that were not erased: ext4 and XFS show no block that
// was not written through them, and zero a block before they map it (fs/ext4/inode.c,
// fs/xfs/xfs_iomap.c: extents are unwritten first). Such a volume says so on its device,
// and is never given out as a raw one. Of it are cleared both ends, where signatures
// are, and what has media errors, which a write heals.

// filesystemUUID is the UUID in the info block of a direct volume that was made for a
// file system.
func filesystemUUID(namespace string) string {
	return uuid.NewSHA1(uuid.NameSpaceURL, []byte("pmemctl:filesystem/"+namespace)).String()
}

// clear zeroes the bytes of a new device from an offset on, or for a file system both
// ends of them, and heals the device.
func (s *Service) clear(ctx context.Context, dev *blockdev.Device, vol Volume, node string) error {
	step, done := s.progress("clearing " + vol.Name)
	defer done()
	var err error
	if end := min(endSize, dev.Size-vol.offset); vol.forFS {
		if err = dev.Zero(ctx, vol.offset, vol.offset+end, nil); err == nil {
			err = dev.Zero(ctx, dev.Size-end, dev.Size, nil)
		}
	} else {
		err = dev.Zero(ctx, vol.offset, dev.Size, step)
	}
	if err != nil {
		return err
	}
	return heal(ctx, dev, node, 0)
}

// clearTail clears what a file system may grow into from an offset on: the end, where
// signatures are, and what has media errors.
func clearTail(ctx context.Context, dev *blockdev.Device, from uint64, node string) error {
	if err := dev.Zero(ctx, max(from, dev.Size-min(endSize, dev.Size)), dev.Size, nil); err != nil {
		return err
	}
	return heal(ctx, dev, node, from)
}

// heal writes zeros to the parts of a device from an offset on in which the kernel lists
// media errors, and fails if it still does.
func heal(ctx context.Context, dev *blockdev.Device, node string, from uint64) error {
	const page = 4 * pmem.KiB
	for healed := false; ; healed = true {
		bad, err := blockdev.BadRanges(node, dev.Size)
		if err != nil {
			return err
		}
		left := 0
		for _, r := range bad {
			r.From, r.To = max(pmem.RoundDown(r.From, page), from), min(pmem.RoundUp(r.To, page), dev.Size)
			if r.From >= r.To {
				continue
			}
			if left++; healed {
				return errs.New(errs.Damaged, node, fmt.Sprintf("has media errors that a write does not heal, such as at byte %d, and is not given out", r.From), "see where: pmemctl region list -o wide; ask the maker of the DIMM")
			}
			if err := dev.Zero(ctx, r.From, r.To, nil); err != nil {
				return err
			}
		}
		if left == 0 {
			return nil
		}
	}
}
