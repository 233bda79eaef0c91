package volume

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/lvm"
)

// RepairPlan describes what RepairVG will do.
type RepairPlan struct {
	VG, UUID string
	// Source is the origin of the metadata, which is change number Change, made at Time.
	Source string
	Change uint64
	Time   time.Time
	// Volumes are the volumes of the group in that metadata.
	Volumes []string
	// Writes describes the planned writes; empty if nothing is damaged.
	Writes []string
	// Doubt is a reason against the repair; "" if there is none.
	Doubt string

	sum   uint32
	group *groupOnDisk
	todo  map[*member][]lvm.Write
}

// PlanRepair returns what RepairVG would do, and changes nothing.
func (s *Service) PlanRepair(_ context.Context, name string) (RepairPlan, error) {
	return s.planRepair(name)
}

// RepairVG restores the labels and the metadata of a volume group from a copy on a device or from
// the archive. It writes only outside of the data, and saves what it overwrites in the files that
// it returns. A good copy is not overwritten before the others are restored, and the label of a
// device is written last, so the same call continues after a crash.
func (s *Service) RepairVG(ctx context.Context, plan RepairPlan) (kept []string, err error) {
	err = s.changing(ctx, func() error {
		now, err := s.planRepair(plan.UUID)
		if err != nil || len(now.Writes) == 0 {
			return err
		}
		if now.sum != plan.sum {
			return errs.New(errs.Conflict, "volume group "+plan.VG, "has changed since the plan was made", "run it again: pmemctl vg repair "+plan.VG)
		}
		if kept, err = s.keepBefore(now); err != nil {
			return errs.Wrap(errs.Unsupported, "volume group "+plan.VG, "is not repaired because the overwritten data cannot be saved in "+s.ArchiveDir,
				"make room there, or make it writable: mkdir -p "+s.ArchiveDir, err)
		}
		for _, m := range now.group.members {
			if len(now.todo[m]) == 0 {
				continue
			}
			if err := writeMember(s.Devices, m, now.todo[m]); err != nil {
				return errs.Wrap("", "volume group "+plan.VG, "is not repaired yet", "try again: pmemctl vg repair "+plan.VG, err)
			}
		}
		s.forgetAll()
		return s.verifyRepair(ctx, now)
	})
	return kept, err
}

func (s *Service) planRepair(id string) (RepairPlan, error) {
	p := RepairPlan{todo: map[*member][]lvm.Write{}}
	g, err := s.groupToRepair(id)
	if err != nil {
		return p, err
	}
	name := g.name
	p.VG, p.group = name, g
	subject := "volume group " + name
	if err := g.repairable(); err != nil {
		return p, err
	}
	p.Source, p.Change, p.Time, p.UUID, p.Volumes = g.source.where, g.source.group.Seqno, g.source.group.Time, g.source.group.UUID, volumesOf(g.source.group)
	p.sum = lvm.Sum(g.source.text)
	if g.source.guessed {
		p.Doubt = "The only evidence is a copy at the end of the device, where a group of an earlier version may have a tenant's volume. Check the listed volumes."
	}
	for _, m := range g.members {
		if m.pv.UUID == "" {
			continue
		}
		writes, err := m.disk.Repair(g.source.text, g.source.group, m.pv)
		if err != nil {
			return p, errs.Wrap(errs.Unsupported, subject, m.path()+" cannot be restored", "see: pmemctl vg check "+name+" -o wide", err)
		}
		for _, w := range writes {
			p.Writes = append(p.Writes, fmt.Sprintf("%s on %s (%d bytes at %d)", w.What, m.path(), len(w.Data), w.Offset))
		}
		if len(writes) > 0 {
			p.todo[m] = writes
		}
	}
	if len(p.Writes) == 0 {
		return p, nil
	}
	if later := g.lastTrace(s.Devices); later > p.Change {
		p.Doubt += fmt.Sprintf("The devices have traces of change %d, which is later: a volume created since then is not in this metadata, and its space counts as free.", later)
	}
	return p, g.sameTables(s.Devices)
}

// groupToRepair finds a group by its UUID, or by a name that only one damaged group has.
func (s *Service) groupToRepair(id string) (*groupOnDisk, error) {
	if err := ValidateName(id); err != nil {
		return nil, err
	}
	names, namespaces, err := s.groupNames()
	if err != nil {
		return nil, err
	}
	if slices.Contains(names, id) {
		return oneToRepair(s.readGroups(id, namespaces))
	}
	for _, name := range names {
		for _, g := range s.readGroups(name, namespaces) {
			if g.uuid() == id {
				return g, nil
			}
		}
	}
	return nil, noGroup(id)
}

func oneToRepair(groups []*groupOnDisk) (*groupOnDisk, error) {
	var damaged []*groupOnDisk
	for _, g := range groups {
		if slices.ContainsFunc(g.parts(), VGPart.Damaged) {
			damaged = append(damaged, g)
		}
	}
	switch len(damaged) {
	case 0:
		return groups[0], nil
	case 1:
		return damaged[0], nil
	}
	var known []string
	for _, g := range damaged {
		if g.uuid() != "" {
			known = append(known, g.uuid())
		}
	}
	if len(known) > 0 {
		return nil, errs.New(errs.Conflict, "volume group "+damaged[0].name, fmt.Sprintf("there are %d damaged groups of that name: %s", len(damaged), strings.Join(known, ", ")),
			"specify one by its UUID: pmemctl vg repair "+known[0])
	}
	return damaged[0], nil
}

// uuid returns the group's UUID; "" if nothing is left of the group.
func (g *groupOnDisk) uuid() string {
	if g.source == nil {
		return ""
	}
	return g.source.group.UUID
}

// lastTrace returns the number of the latest change of the group found outside of the data.
func (g *groupOnDisk) lastTrace(devices Devices) (last uint64) {
	for _, m := range g.members {
		if m.pv.UUID == "" {
			continue
		}
		f, err := devices.Open(m.path())
		if err != nil {
			continue
		}
		for _, end := range m.disk.Ends(m.pv) {
			part := make([]byte, end[1]-end[0])
			if _, err := f.ReadAt(part, int64(end[0])); err == nil {
				last = max(last, lvm.LastTrace(part, g.source.group.UUID))
			}
		}
		f.Close()
	}
	return last
}

// repairable returns an error if it is uncertain what the group should be.
func (g *groupOnDisk) repairable() error {
	subject, look := "volume group "+g.name, "see: pmemctl vg check "+g.name+" -o wide"
	for _, m := range g.members {
		if m.broken != "" {
			return errs.New(errs.Unsupported, subject, "its namespace "+m.Dev+" cannot be read: "+m.broken, "see why: pmemctl namespace show "+m.Dev+"; dmesg | tail")
		}
	}
	if g.source == nil {
		return errs.New(errs.Unsupported, subject, "nothing is left to restore it from: no copy on a device can be read, and the archive has no copy",
			"keep the devices unchanged; look for a backup of this host's archive")
	}
	if g.other != "" {
		return errs.New(errs.Conflict, subject, "its copies belong to two groups, "+g.source.group.UUID+" and "+g.other, look)
	}
	if len(g.missing) == 0 {
		return nil
	}
	for _, m := range g.members {
		if m.pv.UUID == "" && !m.disk.Label.Known() {
			return errs.New(errs.Unsupported, subject, fmt.Sprintf("cannot determine which of its %d physical volumes %s is", len(g.missing), m.path()), look)
		}
	}
	return errs.New(errs.Unsupported, subject, "is missing a device: physical volume "+g.missing[0].UUID, "bring it back: pmemctl region list; pmemctl namespace list")
}

// sameTables returns an error if a logical volume is active on the devices with a table that
// differs from the metadata to restore.
func (g *groupOnDisk) sameTables(devices Devices) error {
	numbers, names := map[string]string{}, map[string]bool{}
	for _, m := range g.members {
		names[m.Blockdev] = true
		if m.pv.UUID == "" {
			continue
		}
		n, err := devices.Identify(m.path())
		if err != nil {
			return err
		}
		numbers[m.pv.UUID] = n.String()
	}
	tables := map[string]string{}
	for _, lv := range g.source.group.LVs {
		if table, ok := g.source.group.Table(lv, numbers); ok {
			tables[g.source.group.MapperUUID(lv)] = table
		}
	}
	mapped, err := devices.Mapped()
	if err != nil {
		return err
	}
	ofGroup := "LVM-" + strings.ReplaceAll(g.source.group.UUID, "-", "")
	for _, m := range mapped {
		if !strings.HasPrefix(m.UUID, ofGroup) && !slices.ContainsFunc(devices.Below(m), func(below string) bool { return names[below] }) {
			continue
		}
		table, err := devices.Table(m)
		if errors.Is(err, os.ErrNotExist) {
			continue // it is gone
		}
		if err != nil {
			return err
		}
		if want, known := tables[m.UUID]; !known || want != table {
			return errs.New(errs.InUse, "volume group "+g.name, "/dev/mapper/"+m.Name+" is active with a table that differs from "+g.source.where,
				"save its data, unmount it and remove it: dmsetup remove "+m.Name)
		}
	}
	return nil
}

// keepBefore saves the metadata to restore, and the data about to be overwritten, in the archive.
func (s *Service) keepBefore(p RepairPlan) (kept []string, err error) {
	if s.ArchiveDir == "" {
		return nil, errors.New("there is no archive")
	}
	devices := map[string]string{}
	for _, m := range p.group.members {
		if m.pv.UUID != "" && m.UUID != "" {
			devices[m.pv.UUID] = m.UUID
		}
	}
	if _, err := s.archive().Keep(p.VG, p.group.source.text, p.group.source.group, devices); err != nil {
		return nil, err
	}
	for _, m := range p.group.members {
		if _, ok := p.todo[m]; !ok {
			continue
		}
		for _, end := range m.disk.Ends(m.pv) {
			data, err := readWhatCan(s.Devices, m.path(), end[0], end[1])
			if err != nil {
				return nil, err
			}
			file, err := s.archive().KeepOverwritten(p.VG, m.Blockdev, end[0], data)
			if err != nil {
				return nil, err
			}
			kept = append(kept, file)
		}
	}
	return kept, s.archive().Sync(p.VG)
}

// readWhatCan reads a part of a device and compresses it; unreadable bytes are zeros.
func readWhatCan(devices Devices, path string, from, to uint64) ([]byte, error) {
	f, err := devices.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var packed bytes.Buffer
	zip, err := gzip.NewWriterLevel(&packed, gzip.BestSpeed)
	if err != nil {
		return nil, err
	}
	page := make([]byte, 4096)
	for ; from < to; from += uint64(len(page)) {
		page = page[:min(4096, to-from)]
		if _, err := f.ReadAt(page, int64(from)); err != nil {
			clear(page)
		}
		if _, err := zip.Write(page); err != nil {
			return nil, err
		}
	}
	if err := zip.Close(); err != nil {
		return nil, err
	}
	return packed.Bytes(), nil
}

// writeMember writes to a device that is used only by logical volumes of the group.
func writeMember(devices Devices, m *member, writes []lvm.Write) error {
	open := devices.Hold
	if n, err := devices.Identify(m.path()); err == nil && len(devices.Holders(n)) > 0 {
		open = devices.HoldShared // sameTables has checked them
	}
	dev, err := open(m.path())
	if err != nil {
		return err
	}
	for _, w := range writes {
		if err := dev.Write(w.Data, int64(w.Offset)); err != nil {
			return errors.Join(errs.Wrap("", m.path(), w.What+" cannot be written", "look for media errors: pmemctl region show "+m.Region, err), dev.Close())
		}
	}
	return dev.Close()
}

// verifyRepair reads the group again, also with LVM.
func (s *Service) verifyRepair(ctx context.Context, p RepairPlan) error {
	now, err := s.planRepair(p.UUID)
	if err != nil {
		return err
	}
	failed := func(reason string) error {
		return errs.New(errs.Internal, "volume group "+p.VG, "was written, and "+reason, "the overwritten data is in "+s.ArchiveDir+"; look for media errors: pmemctl dimm list -o wide")
	}
	if len(now.Writes) > 0 || now.sum != p.sum {
		return failed("does not read back as written")
	}
	state, err := s.LVM.Report(ctx)
	if err != nil {
		return err
	}
	for _, vg := range state.VGs {
		if vg.UUID != p.UUID {
			continue
		}
		seen := map[string]bool{}
		for _, lv := range vg.LVs {
			seen[lv.UUID] = true
		}
		lost := func(lv lvm.GroupLV) bool { return slices.Contains(lv.Tags, tag) && !seen[lv.UUID] }
		switch {
		case vg.PartialPVMissing:
			return failed("LVM considers one of its devices missing")
		case slices.ContainsFunc(p.group.source.group.LVs, lost):
			return failed("LVM does not see all of its volumes")
		}
		return nil
	}
	return failed("LVM does not see it")
}
