package lvm

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"github.com/pmemctl/pmemctl/internal/errs"
)

// flush flushes the devices' caches. lvm writes with O_DIRECT and does not flush, so a completed
// change could be lost in a power failure, or be on the medium before an earlier write.
// (virtio-pmem has the host's page cache in front of its medium; for an NVDIMM this is a fence.)
func (c *Client) flush(only []string) error {
	devices, err := c.devices(only)
	if err != nil {
		return err
	}
	for _, d := range devices {
		f, err := os.Open("/dev/" + d.Name)
		if err != nil { // it is gone, which the next look notices
			continue
		}
		err = errors.Join(f.Sync(), f.Close())
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENXIO) {
			continue
		}
		if err != nil {
			return errs.Wrap("", "/dev/"+d.Name, "cannot flush what lvm wrote to the medium", "see the kernel's reason: dmesg | tail", err)
		}
	}
	return nil
}
