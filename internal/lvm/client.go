// Package lvm uses LVM by its command. It knows nothing of PMEM, but that its
// devices are /dev/pmem*.
package lvm

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/fault"
)

// Timeout ends an lvm command that gives no answer.
const Timeout = 60 * time.Second

// Client runs lvm commands, one at a time. The zero value is not ready: RunDir
// must be set.
type Client struct {
	// RunDir holds lvm's configuration; it is made when missing.
	RunDir string
	// AllDevices lets lvm look at every disk, not only at PMEM.
	AllDevices bool
	// Timeout of one command; 0 is Timeout.
	Timeout time.Duration

	turn    turn
	session *session
	seen    string // by the session, of devices
}

// turn is whose turn it is to use the session. Waiting for it ends with a context,
// which waiting for a mutex does not.
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

// Close ends the lvm process; the next command starts another.
func (c *Client) Close() {
	_ = c.turn.take(context.Background())
	defer c.turn.end()
	c.drop()
}

func (c *Client) drop() {
	if c.session != nil {
		c.session.close()
		c.session = nil
	}
}

func (c *Client) read(ctx context.Context, args ...string) (answer, error) {
	if err := c.turn.take(ctx); err != nil {
		return answer{}, waitedInVain(args[0], err)
	}
	defer c.turn.end()
	timeout := c.Timeout
	if timeout == 0 {
		timeout = Timeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if seen := seenDevices(); seen != c.seen {
		c.drop()
		c.seen = seen
	}
	if c.session == nil {
		dir, devices, err := writeConfig(c.RunDir, c.AllDevices)
		if err != nil {
			return answer{}, err
		}
		if c.session, err = startSession(dir, devices); err != nil {
			return answer{}, err
		}
	}
	a, err := c.session.do(ctx, args)
	if err == nil && c.session.dead {
		c.drop()
	}
	if err != nil {
		c.session.wait() // it may still be at the end of a change
		c.drop()
		return answer{}, err
	}
	if reason := a.failure(); reason != "" {
		return answer{}, classify(args[0], reason)
	}
	return a, nil
}

func waitedInVain(command string, err error) error {
	if errors.Is(err, context.Canceled) {
		return errs.Wrap(errs.Canceled, "lvm "+command, "was interrupted", "", err)
	}
	return errs.Wrap(errs.Deadline, "lvm "+command, "had no turn in time: another lvm command is at work", "look for a dead disk (dmesg), then try again", err)
}

// change runs a command that changes something. It is not interrupted when the
// context is cancelled, only by its own time limit: it may have a device that is
// mounted suspended.
func (c *Client) change(ctx context.Context, args ...string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	uninterrupted, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	if deadline, ok := ctx.Deadline(); ok {
		uninterrupted, cancel = context.WithDeadline(uninterrupted, deadline)
		defer cancel()
	}
	fault.Point("before " + args[0])
	_, err := c.read(uninterrupted, args...)
	fault.Point("after " + args[0])
	return err
}

// classify turns lvm's words into a kind of error. The words are those of the C
// locale; what is not known stays internal, with the words in it.
func classify(command, reason string) error {
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
	return errs.New(kind, "lvm "+command, reason, "see what lvm has to say: pvs -a; vgs; lvs -a")
}

// CreateVG makes a volume group with extents of extentSize bytes whose data
// starts on a multiple of dataAlign bytes.
func (c *Client) CreateVG(ctx context.Context, vg, tag string, extentSize, dataAlign uint64, devices ...string) error {
	args := []string{"vgcreate", "-y", "--addtag", tag, "-s", byteCount(extentSize), "--dataalignment", byteCount(dataAlign), vg}
	return c.change(ctx, append(args, devices...)...)
}

// ExtendVG adds devices to a volume group.
func (c *Client) ExtendVG(ctx context.Context, vg string, dataAlign uint64, devices ...string) error {
	args := []string{"vgextend", "-y", "--dataalignment", byteCount(dataAlign), vg}
	return c.change(ctx, append(args, devices...)...)
}

// RemoveVG removes a volume group without logical volumes, and the marks of LVM
// from its devices.
func (c *Client) RemoveVG(ctx context.Context, vg string, devices ...string) error {
	if err := c.change(ctx, "vgremove", "-qq", vg); err != nil { // no to every question
		return err
	}
	return c.RemovePVs(ctx, devices...)
}

// RemovePVs removes the marks of LVM from devices that are in no volume group.
func (c *Client) RemovePVs(ctx context.Context, devices ...string) error {
	if len(devices) == 0 {
		return nil
	}
	return c.change(ctx, append([]string{"pvremove", "-y"}, devices...)...)
}

// NewLV says what logical volume to make.
type NewLV struct {
	VG, Name string
	Size     uint64 // bytes, a multiple of the extent size times the stripes
	Tags     []string
	Stripes  int // 0 or 1: linear
	// StripeSize is the bytes on one device before it goes on to the next.
	StripeSize uint64
	// Devices to take extents of; none means any of the group.
	Devices []string
}

// CreateLV makes a logical volume and activates it. What it contains is not
// cleared, and it does not come up by itself at boot.
func (c *Client) CreateLV(ctx context.Context, lv NewLV) error {
	args := []string{"lvcreate", "-y", "-ay", "--setautoactivation", "n", "-Zn", "-Wn", "-n", lv.Name, "-L", byteCount(lv.Size)}
	for _, t := range lv.Tags {
		args = append(args, "--addtag", t)
	}
	if lv.Stripes > 1 {
		args = append(args, "-i", strconv.Itoa(lv.Stripes), "-I", byteCount(lv.StripeSize))
	}
	return c.change(ctx, append(append(args, lv.VG), lv.Devices...)...)
}

// MarkLV adds a tag to a logical volume that nobody is to use any more, and has it
// not come up by itself at boot.
func (c *Client) MarkLV(ctx context.Context, vg, name, tag string) error {
	return c.change(ctx, "lvchange", "--setautoactivation", "n", "--addtag", tag, vg+"/"+name)
}

// UnmarkLV takes a tag from a logical volume, and has it come up by itself at
// boot.
func (c *Client) UnmarkLV(ctx context.Context, vg, name, tag string) error {
	return c.change(ctx, "lvchange", "--setautoactivation", "y", "--deltag", tag, vg+"/"+name)
}

// RemoveLV removes a logical volume that is not in use. One of that name with
// another UUID, which somebody put in its place, is left alone.
func (c *Client) RemoveLV(ctx context.Context, vg, name, uuid string) error {
	return c.change(ctx, "lvremove", "-y", "--select", "lv_uuid="+uuid, vg+"/"+name)
}

// MaxRanges is how many ranges ExtendLV takes at a time.
const MaxRanges = maxWords - 10

// ExtendLV adds extents to a logical volume; it may be in use. The ranges are as
// in LV.Ranges, by is the bytes in them, and all of them are taken.
func (c *Client) ExtendLV(ctx context.Context, vg, name string, by uint64, stripes int, ranges []string) error {
	args := []string{"lvextend", "-y", "-L", "+" + byteCount(by)}
	if stripes > 1 {
		args = append(args, "-i", strconv.Itoa(stripes))
	}
	return c.change(ctx, append(append(args, vg+"/"+name), ranges...)...)
}

// Refresh gives a logical volume the device that it should have: one that a killed
// lvm left suspended goes on.
func (c *Client) Refresh(ctx context.Context, vg, name string) error {
	return c.change(ctx, "lvchange", "--refresh", vg+"/"+name)
}

// Activate brings a logical volume up, as after a reboot.
func (c *Client) Activate(ctx context.Context, vg, name string) error {
	return c.change(ctx, "lvchange", "-ay", vg+"/"+name)
}

// MakeNodes makes device nodes that are missing, as in a container whose /dev
// no udev looks after.
func (c *Client) MakeNodes(ctx context.Context, vg string) error {
	return c.change(ctx, "vgmknodes", vg)
}

func byteCount(n uint64) string { return strconv.FormatUint(n, 10) + "b" }
