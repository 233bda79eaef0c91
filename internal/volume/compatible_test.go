package volume

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/mount"
)

func TestUsableAs(t *testing.T) {
	for _, c := range []struct {
		has, asked string
		raw        bool
		reason     string // "" for usable
	}{
		{"ext4", "ext4", false, ""},
		{"ext4", "", false, ""},
		{"ext4", "xfs", false, "has the file system ext4, but xfs was requested"},
		{"xfs", "none", false, "has the file system xfs, but a raw block device"},
		{"ext4", "none", true, ""}, // made by who uses the raw device
		{"ext4", "ext4", true, "is published as a raw block device"},
		{"", "none", false, ""},
		{"LVM2_member", "none", false, ""},
		{"", "ext4", false, "has no file system"},
		{"LVM2_member", "", false, "has no file system"},
	} {
		err := usableAs("a", c.has, c.asked, c.raw)
		if c.reason == "" {
			assert.NoError(t, err, c)
			continue
		}
		assert.ErrorContains(t, err, "volume a: "+c.reason, c)
		assert.True(t, errs.Is(err, errs.Conflict), c)
	}
}

func TestMountedWithOtherOptions(t *testing.T) {
	point := func(own ...string) mount.Point {
		super := []string{"rw", "dax=always"}
		return mount.Point{Own: own, Super: super, Options: append(own, super...)}
	}
	given := &target{}
	for _, c := range []struct {
		asked []string
		point mount.Point
		want  string
	}{
		{[]string{"nosuid", "nodev"}, point("rw", "nosuid", "nodev", "relatime"), ""},
		{[]string{"nosuid", "nodev", "noexec"}, point("rw", "nosuid", "nodev", "relatime"), "without noexec"},
		{[]string{"nosuid", "nodev"}, point("rw", "nosuid", "nodev", "noexec", "relatime"), "with noexec"},
		{[]string{"noatime"}, point("rw", "noatime"), ""},
		{nil, point("rw", "noatime"), "with noatime"},
		{[]string{"noatime", "relatime"}, point("rw", "relatime"), ""},
		{[]string{"noexec", "exec"}, point("rw", "relatime"), ""},
		{[]string{"discard", "data=ordered", "dax", "x-mine", "nofail"}, point("rw", "relatime"), ""},
	} {
		assert.Equal(t, c.want, MountSpec{Options: c.asked, opened: given}.differsFrom(c.point), c)
	}
	byHand := MountSpec{Options: []string{"nosuid"}}
	assert.Empty(t, byHand.differsFrom(point("rw", "nosuid", "noatime")), "not asked for")
	assert.Equal(t, "without nosuid", byHand.differsFrom(point("rw")))

	staged := point("rw", "nosuid", "nodev", "noexec")
	publish := PublishSpec{Options: []string{"nosuid", "nodev", "noatime"}}
	assert.Empty(t, publish.differsFrom(point("ro", "nosuid", "nodev", "noexec"), staged), "as where it is staged")
	assert.Equal(t, "with noexec", publish.differsFrom(point("rw", "nosuid", "nodev", "noexec"), point("rw", "nosuid", "nodev")))
	publish.Options = append(publish.Options, "nodiratime")
	assert.Equal(t, "without nodiratime", publish.differsFrom(point("rw", "nosuid", "nodev", "noexec"), staged))
}
