package mount

import (
	"context"
	"encoding/binary"
	"errors"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pmemctl/pmemctl/internal/blockdev"
	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/run"
)

// checkTimeout allows for a full check of a large file system.
const checkTimeout = time.Hour

// Check repairs an unmounted ext4 file system if its superblock requests it, like at boot: its
// journal is replayed, and after an error it is fully checked. For a clean one this costs one
// read. XFS replays its log at mount. Errors that cannot be repaired without loss are left, and
// returned as an error.
//
// It continues when the context is cancelled: a check that never finishes would prevent the volume
// from ever being mounted.
func Check(ctx context.Context, device string) error {
	sb, err := readStart(device)
	if err != nil || !hasExt(sb) || !asksForCheck(sb) {
		return err
	}
	// A mounted file system is used by the kernel, here or in another mount namespace; e2fsck
	// checks this too.
	held, err := blockdev.HoldToRead(device)
	if errs.Is(err, errs.InUse) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := held.Close(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), checkTimeout)
	defer cancel()
	out, err := run.Change(ctx, "e2fsck", "-p", blockdev.Node(device))
	return checked(device, string(out), err)
}

// checked interprets the result of e2fsck(8): 1 means that all errors were corrected.
func checked(device, out string, err error) error {
	var failed *run.Error
	const corrected = 1
	if err == nil || errors.As(err, &failed) && failed.Code == corrected {
		return nil
	}
	reason := "has errors that cannot be repaired automatically"
	if failed != nil && failed.Code < 0 {
		reason = "could not be checked"
	}
	if lines := strings.Split(strings.TrimSpace(out), "\n"); lines[0] != "" {
		reason += " (e2fsck: " + strings.Join(lines[max(0, len(lines)-2):], "; ") + ")"
	}
	return errs.Wrap(errs.Unsupported, device, reason, "see what is wrong: e2fsck -f -n "+device+"; copy the volume if its data matters, then repair it: e2fsck -f "+device, err)
}

// asksForCheck reports whether an ext4 superblock has a recorded error, was not cleanly unmounted,
// or has a journal to be replayed (kernel fs/ext4/ext4.h: s_state, s_feature_incompat).
func asksForCheck(sb []byte) bool {
	const valid, erred, recover = 1, 2, 4
	state := binary.LittleEndian.Uint16(sb[1024+58:])
	return state&valid == 0 || state&erred != 0 || binary.LittleEndian.Uint32(sb[1024+96:])&recover != 0
}

// HasErrors reports whether an ext4 file system has a recorded error, mounted or not.
func HasErrors(device string) bool {
	const erred = 2
	sb, err := readStart(device)
	return err == nil && hasExt(sb) && binary.LittleEndian.Uint16(sb[1024+58:])&erred != 0
}

// HowToRepair returns the next step after the kernel refused to mount a file system; "" if its
// error does not indicate damage.
func HowToRepair(device, fs string, err error) string {
	if !errors.Is(err, unix.EUCLEAN) && !errors.Is(err, unix.EIO) && !errors.Is(err, unix.EBADMSG) && !errors.Is(err, unix.EFSCORRUPTED) {
		return ""
	}
	switch fs {
	case XFS:
		return "copy the volume if its data matters, then repair it: xfs_repair " + device + "; if its log cannot be replayed, xfs_repair -L discards the latest changes"
	case Ext4:
		return "see what is wrong: e2fsck -f -n " + device + "; copy the volume if its data matters, then repair it: e2fsck -f " + device
	}
	return ""
}
