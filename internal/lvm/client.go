// Package lvm runs LVM's command. It is independent of PMEM; lvm sees only the devices that it is
// given.
package lvm

import (
	"cmp"
	"context"
	"errors"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/pmemctl/pmemctl/internal/blockdev"
	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/fault"
)

// Timeout limits an lvm command.
const Timeout = 60 * time.Second

// Client runs lvm commands, one at a time. RunDir and Devices must be set.
type Client struct {
	// RunDir contains lvm's configuration; it is created if missing.
	RunDir string
	// Devices returns the names in /sys/class/block of the block devices that lvm may scan. It
	// sees no others, whatever their content.
	Devices func() ([]string, error)
	// Timeout of one command; 0 is the constant Timeout.
	Timeout time.Duration

	turn    turn
	session *session

	mu   sync.Mutex
	last State // of the last Report
}

// VGRef identifies a volume group. The UUID is unique; the name may not be.
type VGRef struct{ Name, UUID string }

// turn is a mutex for the session that can be waited for with a context.
type turn struct {
	once sync.Once
	free chan struct{}
}

func (t *turn) take(ctx context.Context) error {
	t.once.Do(func() { t.free = make(chan struct{}, 1) })
	select {
	case t.free <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (t *turn) end() { <-t.free }

// Close stops the lvm process; the next command starts another. One that is executing a change
// exits after it.
func (c *Client) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if c.turn.take(ctx) != nil {
		return
	}
	defer c.turn.end()
	c.drop()
}

func (c *Client) drop() {
	if c.session != nil {
		c.session.close()
		c.session = nil
	}
}

func (c *Client) timeout() time.Duration { return cmp.Or(c.Timeout, Timeout) }

// read runs a command that changes nothing. It is killed if it times out.
func (c *Client) read(ctx context.Context, args ...string) (answer, error) {
	if err := c.turn.take(ctx); err != nil {
		return answer{}, noTurn(args[0], err)
	}
	defer c.turn.end()
	ctx, cancel := context.WithTimeout(ctx, c.timeout())
	defer cancel()
	return c.run(ctx, nil, args)
}

// run runs a command that sees all devices, or only some. The caller holds the turn.
func (c *Client) run(ctx context.Context, only []string, args []string) (answer, error) {
	devices, err := c.devices(only)
	if err != nil {
		return answer{}, errs.Wrap("", "lvm", "cannot determine which devices to scan", "", err)
	}
	// An lvm process caches the size of a device, and does not notice another device under the
	// same name.
	if c.session != nil && !slices.Equal(c.session.devices, devices) {
		c.drop()
	}
	if c.session == nil {
		if c.session, err = startSession(c.RunDir, devices); err != nil {
			return answer{}, err
		}
	}
	a, err := c.session.do(ctx, args)
	if err == nil && c.session.dead {
		c.drop()
	}
	if err != nil {
		c.session.wait() // it may still be completing a change
		c.drop()
	}
	return a, err
}

func (c *Client) devices(only []string) ([]blockdev.Disk, error) {
	names, err := c.Devices()
	if err != nil {
		return nil, err
	}
	var devices []blockdev.Disk
	for _, name := range names {
		if only != nil && !slices.Contains(only, "/dev/"+name) {
			continue
		}
		disk, err := blockdev.ReadDisk(name)
		if errors.Is(err, os.ErrNotExist) { // it has been removed
			continue
		}
		if err != nil {
			return nil, err
		}
		devices = append(devices, disk)
	}
	return devices, nil
}

// devicesOf returns the devices of a group, and more, if another group has the same name;
// otherwise nil, which means all devices.
func (c *Client) devicesOf(g VGRef, more ...string) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var only []string
	sameName := 0
	for _, vg := range c.last.VGs {
		if vg.Name != g.Name {
			continue
		}
		sameName++
		if vg.UUID == g.UUID {
			for _, pv := range vg.PVs {
				only = append(only, pv.Name)
			}
		}
	}
	if sameName < 2 {
		return nil
	}
	return append(only, more...)
}

func noTurn(command string, err error) error {
	if errors.Is(err, context.Canceled) {
		return errs.Wrap(errs.Canceled, "lvm "+command, "was interrupted", "", err)
	}
	return errs.Wrap(errs.Deadline, "lvm "+command, "timed out waiting for another lvm command", "look for a stuck lvm process or a failed disk (ps -C lvm, dmesg), then try again", err)
}

// change runs a command that changes something. It is never interrupted, because it may have
// suspended a mounted device: on a timeout the call returns, and the command continues. No other
// command runs until it has finished.
func (c *Client) change(ctx context.Context, g VGRef, args ...string) error {
	return c.changeWith(ctx, g, nil, args)
}

func (c *Client) changeWith(ctx context.Context, g VGRef, more []string, args []string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	fault.Step("before " + args[0])
	if err := c.turn.take(ctx); err != nil {
		return noTurn(args[0], err)
	}
	ended := make(chan error, 1)
	go func() {
		defer c.turn.end()
		only := c.devicesOf(g, more...)
		a, err := c.run(context.Background(), only, args)
		if reason := a.failure(); err == nil && reason != "" {
			err = classify(args[0], reason)
		}
		if err == nil {
			err = c.flush(only)
		}
		ended <- err
	}()
	timeout := time.NewTimer(c.timeout())
	defer timeout.Stop()
	expired := make(chan struct{})
	if deadline, ok := ctx.Deadline(); ok {
		defer time.AfterFunc(time.Until(deadline), func() { close(expired) }).Stop()
	}
	select {
	case err := <-ended:
		fault.Step("after " + args[0])
		return err
	case <-timeout.C:
	case <-expired:
	}
	return errs.Wrap(errs.Deadline, "lvm "+args[0], "timed out and was left running",
		"look for a stuck lvm process or a failed disk (ps -C lvm, dmesg), then try again", context.DeadlineExceeded)
}

// ErrMetadataFull is wrapped if the metadata area of a volume group has no room for a change.
// Nothing is changed then.
var ErrMetadataFull = errors.New("the metadata area of the volume group has no room for the change")

// classify derives the kind of an error from lvm's message in the C locale; unknown messages are
// internal errors.
func classify(command, reason string) error {
	for _, words := range []string{"exceeds maximum metadata size", "too large for circular buffer"} {
		if strings.Contains(reason, words) {
			return errs.Wrap(errs.NoSpace, "lvm "+command, reason, "delete volumes of the group that are not needed: pmemctl volume list", ErrMetadataFull)
		}
	}
	kind := errs.Internal
	for _, c := range []struct {
		words string
		kind  errs.Kind
	}{
		{"insufficient free space", errs.NoSpace},
		{"Insufficient free space", errs.NoSpace},
		{"Insufficient suitable", errs.NoSpace},
		{"already exists", errs.Conflict},
		{"in use", errs.InUse},
		{"is used by another device", errs.InUse},
		{"contains a filesystem in use", errs.InUse},
		{"Can't open", errs.InUse},
		{"Failed to find logical volume", errs.NotFound},
		{"not found", errs.NotFound},
	} {
		if strings.Contains(reason, c.words) {
			kind = c.kind
			break
		}
	}
	return errs.New(kind, "lvm "+command, reason, "see what LVM reports: pvs -a; vgs; lvs -a")
}

// CreateVG creates a volume group with extents of extentSize bytes whose data begins at a multiple
// of dataAlign bytes. Each device has LVM's metadata at both ends, the second copy in the last
// dataAlign bytes.
func (c *Client) CreateVG(ctx context.Context, vg, tag string, extentSize, dataAlign uint64, devices ...string) error {
	args := []string{"vgcreate", "-y", "--pvmetadatacopies", "2", "--addtag", tag, "-s", byteCount(extentSize), "--dataalignment", byteCount(dataAlign), vg}
	return c.changeWith(ctx, VGRef{Name: vg}, devices, append(args, devices...))
}

// ExtendVG adds devices to a volume group.
func (c *Client) ExtendVG(ctx context.Context, vg VGRef, dataAlign uint64, devices ...string) error {
	args := []string{"vgextend", "-y", "--pvmetadatacopies", "2", "--dataalignment", byteCount(dataAlign), vg.Name}
	return c.changeWith(ctx, vg, devices, append(args, devices...))
}

// RemoveVG removes a volume group without logical volumes, and LVM's labels from its devices.
func (c *Client) RemoveVG(ctx context.Context, vg VGRef, devices ...string) error {
	if err := c.change(ctx, vg, "vgremove", "-qq", vg.Name); err != nil { // no to every question
		return err
	}
	return c.RemovePVs(ctx, devices...)
}

// RemovePVs removes LVM's labels from devices that are in no volume group.
func (c *Client) RemovePVs(ctx context.Context, devices ...string) error {
	if len(devices) == 0 {
		return nil
	}
	return c.change(ctx, VGRef{}, append([]string{"pvremove", "-y"}, devices...)...)
}

// NewLV describes a logical volume to create.
type NewLV struct {
	VG      VGRef
	Name    string
	Size    uint64 // bytes, a multiple of the extent size times the stripes
	Tags    []string
	Stripes int // 0 or 1: linear
	// StripeSize is the number of bytes on one device before the next is used.
	StripeSize uint64
	// Devices to allocate extents from; none means any of the group.
	Devices []string
}

// CreateLV creates and activates a logical volume. Its content is not zeroed, and it is not
// activated automatically at boot.
func (c *Client) CreateLV(ctx context.Context, lv NewLV) error {
	args := []string{"lvcreate", "-y", "-ay", "--setautoactivation", "n", "-Zn", "-Wn", "-n", lv.Name, "-L", byteCount(lv.Size)}
	for _, t := range lv.Tags {
		args = append(args, "--addtag", t)
	}
	if lv.Stripes > 1 {
		args = append(args, "-i", strconv.Itoa(lv.Stripes), "-I", byteCount(lv.StripeSize))
	}
	return c.change(ctx, lv.VG, append(append(args, lv.VG.Name), lv.Devices...)...)
}

// Deactivate removes the device of a logical volume, which must not be open.
func (c *Client) Deactivate(ctx context.Context, vg VGRef, name string) error {
	return c.change(ctx, vg, "lvchange", "-an", vg.Name+"/"+name)
}

// RenameLV renames a logical volume. An active one is suspended meanwhile.
func (c *Client) RenameLV(ctx context.Context, vg VGRef, name, to string) error {
	return c.change(ctx, vg, "lvrename", vg.Name, name, to)
}

// UnmarkLV removes a tag from a logical volume, and enables its activation at boot.
func (c *Client) UnmarkLV(ctx context.Context, vg VGRef, name, tag string) error {
	return c.change(ctx, vg, "lvchange", "--setautoactivation", "y", "--deltag", tag, vg.Name+"/"+name)
}

// RemoveLV removes a logical volume that is not in use, unless another one with a different UUID
// has taken its name.
func (c *Client) RemoveLV(ctx context.Context, vg VGRef, name, uuid string) error {
	return c.change(ctx, vg, "lvremove", "-y", "--select", "lv_uuid="+uuid, vg.Name+"/"+name)
}

// MaxRanges is the maximum number of ranges for ExtendLV.
const MaxRanges = maxWords - 10

// ExtendLV adds extents to a logical volume, which may be in use. ranges are as in LV.Ranges, and
// by is their total size in bytes; all of them are added.
func (c *Client) ExtendLV(ctx context.Context, vg VGRef, name string, by uint64, stripes int, ranges []string) error {
	args := []string{"lvextend", "-y", "-L", "+" + byteCount(by)}
	if stripes > 1 {
		args = append(args, "-i", strconv.Itoa(stripes))
	}
	return c.change(ctx, vg, append(append(args, vg.Name+"/"+name), ranges...)...)
}

// Refresh reloads the table of a logical volume, and resumes one that a killed lvm left suspended.
func (c *Client) Refresh(ctx context.Context, vg VGRef, name string) error {
	return c.change(ctx, vg, "lvchange", "--refresh", vg.Name+"/"+name)
}

// Activate activates a logical volume, for example after a reboot.
func (c *Client) Activate(ctx context.Context, vg VGRef, name string) error {
	return c.change(ctx, vg, "lvchange", "-ay", vg.Name+"/"+name)
}

// AddTag adds a tag to a volume group.
func (c *Client) AddTag(ctx context.Context, vg VGRef, tag string) error {
	return c.change(ctx, vg, "vgchange", "--addtag", tag, vg.Name)
}

// AddLVTags adds tags to a logical volume.
func (c *Client) AddLVTags(ctx context.Context, vg VGRef, name string, tags ...string) error {
	args := []string{"lvchange"}
	for _, t := range tags {
		args = append(args, "--addtag", t)
	}
	return c.change(ctx, vg, append(args, vg.Name+"/"+name)...)
}

// MakeNodes creates missing device nodes, for example in a container without udevd.
func (c *Client) MakeNodes(ctx context.Context, vg VGRef) error {
	return c.change(ctx, vg, "vgmknodes", vg.Name)
}

func byteCount(n uint64) string { return strconv.FormatUint(n, 10) + "b" }
