package mount

import (
	"context"
	"errors"
	"time"

	"github.com/pmemctl/pmemctl/internal/blockdev"
	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/run"
)

// Separate gives the file system of a copy a new UUID, without which an XFS could not be mounted
// together with its original.
func Separate(ctx context.Context, device string) error {
	device = blockdev.Node(device)
	content, err := Probe(ctx, device)
	if err != nil {
		return err
	}
	switch content.Type {
	case XFS:
		// This is what xfs_admin does, which is a shell script; pmemctl's image has no shell.
		_, err = run.Change(ctx, "xfs_db", "-x", "-p", "xfs_admin", "-c", "uuid generate", device)
		return errs.Wrap("", device, "cannot give the copy a new UUID", "mount and unmount the source once to clean its log, then try again", err)
	case Ext4:
		// tune2fs requires a check first. No data can be lost, because it is a copy.
		check, cancel := context.WithTimeout(ctx, time.Hour)
		defer cancel()
		_, err = run.Change(check, "e2fsck", "-f", "-p", device)
		var failed *run.Error
		const corrected = 1
		if err == nil || errors.As(err, &failed) && failed.Code == corrected {
			_, err = run.Change(check, "tune2fs", "-U", "random", device)
		}
		return errs.Wrap("", device, "cannot give the copy a new UUID", "check the source: e2fsck -f, then try again", err)
	}
	return nil
}
