package doctor

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pmemctl/pmemctl/internal/mount"
	"github.com/pmemctl/pmemctl/internal/pmem"
	"github.com/pmemctl/pmemctl/internal/volume"
)

func (c Checker) checkVolumes(ctx context.Context, r *report, v volume.View) {
	conditions, err := c.Host.Conditions(ctx, v, c.Content)
	if err != nil {
		r.failed("volumes", "", err)
		return
	}
	for _, vol := range conditions {
		if vol.State != volume.Deleting && !r.has("volume", vol.Name) { // for those, see checkErasing
			c.checkVolume(r, vol)
		}
	}
}

func (c Checker) checkVolume(r *report, vol volume.Condition) {
	before := len(r.findings)
	problem := func(state State, detail, next string) { r.add("volume", vol.Name, state, detail, next) }
	faulty := slices.ContainsFunc(vol.Mounts, func(m volume.MountCondition) bool { return m.Fault != "" })
	show := "pmemctl volume show " + vol.Name
	switch {
	case faulty: // the mount says more
	case vol.State == volume.Creating && vol.Busy:
		problem(Note, "is being created", "")
	case vol.State == volume.Creating:
		problem(Warning, "is unfinished: its creation was interrupted", "repeat the command that created it, or: pmemctl volume delete "+vol.Name)
	case vol.State == volume.Damaged:
		problem(Fault, strings.TrimSuffix("is damaged: "+vol.Health, ": "), show)
	case vol.Gone:
		problem(Fault, "the device below it was removed", "unmount it, and mount it again: pmemctl volume unmount "+vol.Name)
	case vol.Suspended && vol.Busy:
		problem(Note, "is suspended, because it is being changed", "")
	case vol.Suspended:
		problem(Fault, "is suspended: all I/O waits", "resume it: pmemctl volume mount "+vol.Name+" PATH; or: dmsetup resume")
	case vol.Unreadable != "":
		problem(Fault, "its content cannot be read: "+vol.Unreadable, show)
	case vol.Health != "":
		problem(Warning, vol.Health, show)
	}
	for _, m := range vol.Mounts {
		c.checkMount(r, vol, m)
	}
	if len(r.findings) > before {
		return
	}
	detail := fmt.Sprintf("%s, %s", vol.Type, pmem.FormatSize(vol.Size))
	switch {
	case len(vol.Mounts) > 0:
		detail += ", mounted with DAX: " + strings.Join(paths(vol.Mounts), ", ")
	case vol.Content != "":
		detail += ", " + vol.Content + ", not mounted"
	default:
		detail += ", not mounted"
	}
	r.ok("volume", vol.Name, detail)
}

func orElse(text, other string) string {
	if text == "" {
		return other
	}
	return text
}

func paths(mounts []volume.MountCondition) (all []string) {
	for _, m := range mounts {
		all = append(all, m.Path)
	}
	return all
}

func (c Checker) checkMount(r *report, vol volume.Condition, m volume.MountCondition) {
	problem := func(state State, detail, next string) { r.add("volume", vol.Name, state, m.Path+": "+detail, next) }
	again := "unmount it, and mount it again: pmemctl volume unmount " + vol.Name + " " + m.Path
	switch m.Fault {
	case "":
	case mount.Erred:
		problem(Warning, "its file system "+string(m.Fault), again)
	default:
		problem(Fault, "its file system "+string(m.Fault), again+"; see why: dmesg | tail")
		return
	}
	if !m.DAX && slices.Contains(m.Options, "dax=inode") {
		problem(Note, m.WhyNoDAX, "")
		return
	}
	if !m.DAX {
		problem(Warning, "does not use DAX: "+orElse(m.WhyNoDAX, "the reason is not known"), again)
		return
	}
	if !c.Touch || m.ReadOnly() {
		return
	}
	if vol.NoMapSync {
		problem(Note, pmem.NoMapSync, "")
	}
	switch mapped, err := c.Host.MapFile(m.Path); {
	case err != nil:
		problem(Warning, "a file cannot be mapped to show DAX: "+err.Error(), "free some space on it, or omit --touch")
	case !mapped.Sync && !vol.NoMapSync:
		problem(Fault, "a file cannot be mapped with MAP_SYNC, so it does not use DAX", again)
	case !mapped.Huge:
		problem(Warning, "a fault maps 4 KiB in place of 2 MiB", "its free space may be fragmented: copy it to a new volume: pmemctl volume clone "+vol.Name+" NEWNAME")
	}
}

// abandonedAfter is when the erasing of a deleted volume should have begun.
const abandonedAfter = 10 * time.Minute

func (c Checker) checkErasing(r *report, deleted []volume.Volume, now time.Time) {
	if len(deleted) == 0 {
		r.ok("erasing", "", "nothing is to be erased")
		return
	}
	var left uint64
	var oldest time.Duration
	waiting, erasing := 0, false
	for _, vol := range deleted {
		if vol.Erasing.Failed != "" {
			continue // is damage
		}
		waiting++
		left += vol.RawSize - min(vol.RawSize, vol.Erasing.Done)
		oldest = max(oldest, now.Sub(vol.Erasing.Since))
		erasing = erasing || vol.Erasing.Rate > 0
	}
	held, _ := c.Host.HeldLocks() // of which checkLocks tells
	for _, h := range held {
		erasing = erasing || strings.HasPrefix(h.Name, "erasing")
	}
	detail := fmt.Sprintf("deleted volumes to be erased: %d, %s, the oldest for %s", waiting, pmem.FormatSize(left), oldest.Round(time.Second))
	switch {
	case waiting == 0:
	case !erasing && oldest > abandonedAfter:
		r.add("erasing", "", Warning, detail+"; nothing erases them", "pmemctl gc")
	default:
		r.add("erasing", "", Note, detail, "")
	}
}
