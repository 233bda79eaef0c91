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

// checkTimeout is for the whole of a large file system with errors.
const checkTimeout = time.Hour

// Check repairs an ext4 that is mounted nowhere where its superblock asks for it, as a
// boot does: its journal is replayed, and after an error the whole is checked. One that
// is clean costs the reading of one block. An XFS replays its log when it is mounted.
// What cannot be repaired without the loss of something is left as it is, and an error.
//
// It goes on when the context is cancelled: a check that never comes to its end would
// keep the volume from ever being mounted.
func Check(ctx context.Context, device string) error {
	sb, err := readStart(device)
	if err != nil || !hasExt(sb) || !asksForCheck(sb) {
		return err
	}
	// One that is mounted, here or elsewhere, is the kernel's; e2fsck makes sure itself, too.
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

// checked reads the end of e2fsck(8): 1 is that all errors were corrected.
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

// asksForCheck reports whether a superblock of ext4 has an error recorded, was not left in
// order, or has a journal to be replayed (kernel fs/ext4/ext4.h: s_state,
// s_feature_incompat).
func asksForCheck(sb []byte) bool {
	const valid, erred, recover = 1, 2, 4
	state := binary.LittleEndian.Uint16(sb[1024+58:])
	return state&valid == 0 || state&erred != 0 || binary.LittleEndian.Uint32(sb[1024+96:])&recover != 0
}

// HasErrors reports whether an ext4 has an error recorded, mounted or not.
func HasErrors(device string) bool {
	const erred = 2
	sb, err := readStart(device)
	return err == nil && hasExt(sb) && binary.LittleEndian.Uint16(sb[1024+58:])&erred != 0
}

// HowToRepair is the next step when the kernel refuses to mount a file system; "" when
// its error says nothing of damage.
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
