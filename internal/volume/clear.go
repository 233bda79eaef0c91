package volume

import (
	"context"
	"errors"
	"fmt"

	"github.com/pmemctl/pmemctl/internal/blockdev"
	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/pmem"
)

// A raw block volume is zeroed. A volume that is created for a file system is not: it may hold
// data of deleted volumes. ext4 and XFS never show that data, because they show no block that was
// not written through them, and with DAX they zero a block before they map it. A mark on the
// device records this, and such a volume is never used as a raw one. Only both ends of it are
// zeroed, where signatures are, and blocks with media errors, which a write clears.

// madeForFS is the error if such a volume is requested as a raw one.
func madeForFS(vol Volume) error {
	return errs.New(errs.Conflict, subject(vol.Name), "was created for a file system and may hold data of deleted volumes below it, so it cannot be used as a raw block device",
		"create a raw volume: pmemctl volume create NAME --fs none, or volumeMode: Block")
}

// clear zeroes what a new volume must not show of deleted ones, and clears media errors.
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

// notHealed converts a MediaError to an error with a next step.
func notHealed(err error) error {
	var medium *blockdev.MediaError
	if !errors.As(err, &medium) {
		return err
	}
	return errs.New(errs.Damaged, medium.Path, fmt.Sprintf("has media errors that a write does not clear, the first at byte %d, so no volume is created on it", medium.First), "see where: pmemctl tree; replace the DIMM")
}

// clearTail zeroes the last endSize bytes of a range.
func clearTail(ctx context.Context, dev Device, from, to uint64) error {
	return dev.Zero(ctx, max(from, to-min(endSize, to)), to, nil)
}

// heal zeroes the blocks of a device, from an offset on, for which the kernel lists media errors.
// It returns an error if the kernel still lists one afterwards.
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

// endSize is the number of bytes zeroed at both ends of a namespace, where blkid, LVM, MD or GPT
// could find signatures.
const endSize = 4 * pmem.MiB
