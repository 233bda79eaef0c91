package volume

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/pmemctl/pmemctl/internal/blockdev"
	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/pmem"
)

// A raw block volume is cleared. One that is made for a filesystem is not: it may hold bytes
// of former volumes, which ext4 and XFS never show, since they show no block that was not
// written through them, and with DAX zero a block before they map it. Its device says so,
// and it is never given out as a raw one. Only both ends of it are cleared, where signatures
// are, and what has media errors, which a write heals.

// filesystemUUID is the UUID in the info block of a direct volume that was made for a
// filesystem, whose namespace has the UUID given.
func filesystemUUID(namespace string) string {
	return uuid.NewSHA1(uuid.NameSpaceURL, []byte("pmemctl:filesystem/"+namespace)).String()
}

// madeForFS is the error for one who wants such a volume raw.
func madeForFS(vol Volume) error {
	return errs.New(errs.Conflict, subject(vol.Name), "was created for a file system and may hold data of deleted volumes below it, so it cannot be used as a raw block device",
		"create a raw volume: pmemctl volume create NAME --fs none, or volumeMode: Block")
}

// clear zeroes what a new volume must not show of former ones, and heals media errors.
func (s *Service) clear(ctx context.Context, dev Device, vol Volume, node string) error {
	stop := vol.offset + vol.Size
	end := stop
	if vol.forFS {
		end = min(vol.offset+endSize, stop)
	}
	step, done := s.progress("zeroing " + vol.Name)
	err := dev.Zero(ctx, vol.offset, end, step)
	done()
	if err == nil {
		err = clearTail(ctx, dev, end, stop)
	}
	if err == nil {
		err = s.heal(ctx, dev, node, 0)
	}
	return notHealed(err)
}

// notHealed says what to do about a medium that takes no write.
func notHealed(err error) error {
	var medium *blockdev.MediaError
	if !errors.As(err, &medium) {
		return err
	}
	return errs.New(errs.Damaged, medium.Path, fmt.Sprintf("has media errors that a write does not clear, the first at byte %d, so no volume is created on it", medium.First), "see where: pmemctl tree; replace the DIMM")
}

// clearTail zeroes the last bytes from one offset to another.
func clearTail(ctx context.Context, dev Device, from, to uint64) error {
	return dev.Zero(ctx, max(from, to-min(endSize, to)), to, nil)
}

// heal zeroes the parts of a device from an offset on in which the kernel lists media errors.
// It fails when the kernel still lists one.
func (s *Service) heal(ctx context.Context, dev Device, node string, from uint64) error {
	const page = 4 * pmem.KiB
	for healed := false; ; healed = true {
		bad, err := s.Devices.BadRanges(node, dev.Size())
		if err != nil {
			return err
		}
		left := 0
		for _, r := range bad {
			r.From, r.To = max(pmem.RoundDown(r.From, page), from), min(pmem.RoundUp(r.To, page), dev.Size())
			if r.From >= r.To {
				continue
			}
			if left++; healed {
				return &blockdev.MediaError{Path: node, First: r.From, Bytes: r.To - r.From}
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

// endSize is how much of both ends of a namespace is cleared of what blkid, LVM,
// MD or GPT could find there.
const endSize = 4 * pmem.MiB
