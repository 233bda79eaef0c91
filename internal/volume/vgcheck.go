package volume

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/lvm"
	"github.com/pmemctl/pmemctl/internal/ndctl"
	"github.com/pmemctl/pmemctl/internal/pmem"
)

// VGPart is a part of a device that is required to read a volume group: the label, or a copy of
// the metadata.
type VGPart struct {
	VG     string    `json:"vg"`
	Device string    `json:"device,omitempty"`
	Part   string    `json:"part"` // label, copy 1, copy 2 or device
	State  PartState `json:"state"`
	// Change is the sequence number (seqno) of the group's metadata in the part; 0 if there is
	// none.
	Change uint64 `json:"change,omitempty"`
	// Offset and Size are bytes on the device.
	Offset    uint64 `json:"offset"`
	Size      uint64 `json:"size"`
	Namespace string `json:"namespace,omitempty"` // changes over a reboot
	PVUUID    string `json:"pv_uuid,omitempty"`
	VGUUID    string `json:"vg_uuid,omitempty"`
	Reason    string `json:"reason,omitempty"`
	Next      string `json:"next,omitempty"`
}

// PartState is the state of a VGPart.
type PartState string

// States of parts.
const (
	PartOK      PartState = "ok"
	PartDamaged PartState = "damaged"
	PartMissing PartState = "missing" // the device is not there
	PartUnused  PartState = "unused"  // the group does without
)

// Damaged reports whether the part is damaged or missing.
func (p VGPart) Damaged() bool { return p.State == PartDamaged || p.State == PartMissing }

// member is a namespace with the mark of a volume group.
type member struct {
	pmem.Namespace
	disk   lvm.Disk
	broken string // why the device cannot be read; "" when it can
	// pv is the physical volume that the device is in the group; its UUID is "" if it is none.
	pv lvm.GroupPV
}

func (m *member) path() string { return "/dev/" + m.Blockdev }

// groupOnDisk is a volume group as recorded on its devices and in the archive.
type groupOnDisk struct {
	name    string
	members []*member
	// source is the valid metadata; nil if there is none.
	source *source
	// other is the UUID of a second group to which copies on one device belong; "" if there is
	// none.
	other string
	// missing are the physical volumes of the group that match no member.
	missing []lvm.GroupPV
}

// source is metadata of a group, and where it was found.
type source struct {
	text     []byte
	group    lvm.Group
	where    string // "copy 2 on /dev/pmem0" or "the archive (FILE)"
	kept     bool   // it is in the archive
	archived map[string]string
	// guessed: the only evidence is data that a tenant may have written.
	guessed bool
}

// CheckVGs reads LVM's data on the devices of pmemctl's volume groups, or of the group of that
// name. It does not call LVM, and changes nothing.
func (s *Service) CheckVGs(ctx context.Context, name string) ([]VGPart, error) {
	parts, err := s.checkVGs(name)
	if err != nil || !slices.ContainsFunc(parts, VGPart.Damaged) {
		return parts, err
	}
	// Another process may have been writing just now.
	err = s.changing(ctx, func() error {
		parts, err = s.checkVGs(name)
		return err
	})
	return parts, err
}

func (s *Service) checkVGs(name string) ([]VGPart, error) {
	names, namespaces, err := s.groupNames()
	if err != nil {
		return nil, err
	}
	if name != "" {
		if !slices.Contains(names, name) {
			return nil, noGroup(name)
		}
		names = []string{name}
	}
	parts := []VGPart{}
	for _, name := range names {
		for _, g := range s.readGroups(name, namespaces) {
			parts = append(parts, g.parts()...)
		}
	}
	return parts, nil
}

func noGroup(name string) error {
	return errs.New(errs.NotFound, "volume group "+quoteIfOdd(name), "has no device created by pmemctl", "see what there is: pmemctl vg list; pmemctl namespace list -o wide")
}

// groupNames returns the names of the groups for which namespaces are marked.
func (s *Service) groupNames() (names []string, namespaces []pmem.Namespace, err error) {
	sys, err := s.NDCTL.Snapshot(ndctl.Select{Namespaces: true})
	for _, n := range sys.Namespaces {
		if mark, vg := parseMark(n.Name); mark == markMember && !slices.Contains(names, vg) {
			names = append(names, vg)
		}
	}
	slices.Sort(names)
	return names, sys.Namespaces, err
}

func (s *Service) archive() lvm.Archive { return lvm.Archive{Dir: s.ArchiveDir} }

// readGroups reads the groups of a name from their devices and from the archive. There are several
// if devices came from another host.
func (s *Service) readGroups(name string, namespaces []pmem.Namespace) []*groupOnDisk {
	var members []*member
	for _, n := range namespaces {
		if mark, vg := parseMark(n.Name); mark == markMember && isGroup(vg, name) {
			members = append(members, s.readMember(n))
		}
	}
	slices.SortFunc(members, func(a, b *member) int { return cmp.Compare(a.Dev, b.Dev) })
	return splitByUUID(name, members, func(fits func(lvm.Archived) bool) *lvm.Archived {
		if s.ArchiveDir == "" {
			return nil
		}
		archived, err := s.archive().Newest(name, fits)
		if err != nil {
			s.note(errs.Wrap("", "volume group "+name, "its archive cannot be read", "see: ls -la "+s.ArchiveDir, err))
		}
		return archived
	})
}

// splitByUUID assigns the devices with the mark of a name to groups, and chooses the group of
// each: by the metadata on the device, by its label, by the archive, or by data found where
// metadata could be. A device without any evidence belongs to the only group if there is one, or
// else to none.
func splitByUUID(name string, members []*member, newest func(fits func(lvm.Archived) bool) *lvm.Archived) []*groupOnDisk {
	var pvs []lvm.GroupPV
	uuidByPV, labelled := map[string]string{}, map[string]bool{}
	for _, m := range members {
		if c, ok := m.metadata(false); ok {
			pvs = append(pvs, c.Group.PVs...)
			for _, pv := range c.Group.PVs {
				uuidByPV[pv.UUID] = c.Group.UUID
			}
		}
		labelled[m.disk.Label.PV] = true
	}
	// A tenant can write metadata to its volume. So nothing is believed in places where the data
	// of a group may be that is missing a device of this size.
	couldBeData := func(m *member, offset uint64) bool {
		return slices.ContainsFunc(pvs, func(pv lvm.GroupPV) bool {
			return !labelled[pv.UUID] && pv.DeviceSize == m.disk.Size && pv.DataEnd > offset
		})
	}
	uuidOf := func(m *member) string {
		if c, ok := m.metadata(false); ok {
			return c.Group.UUID
		}
		if uuid := uuidByPV[m.disk.Label.PV]; uuid != "" {
			return uuid
		}
		if a := newest(func(a lvm.Archived) bool { return isOn(a, m) }); a != nil {
			return a.Group.UUID
		}
		if c, ok := m.metadata(true); ok && !couldBeData(m, c.Offset) {
			return c.Group.UUID
		}
		return ""
	}
	uuids, known := map[*member]string{}, []string{}
	for _, m := range members {
		uuids[m] = uuidOf(m)
		if uuids[m] != "" && !slices.Contains(known, uuids[m]) {
			known = append(known, uuids[m])
		}
	}
	var groups []*groupOnDisk
	byUUID := map[string]*groupOnDisk{}
	for _, m := range members {
		uuid := uuids[m]
		if uuid == "" && len(known) == 1 {
			uuid = known[0]
		}
		if byUUID[uuid] == nil {
			byUUID[uuid] = &groupOnDisk{name: name}
			groups = append(groups, byUUID[uuid])
		}
		byUUID[uuid].members = append(byUUID[uuid].members, m)
	}
	for uuid, g := range byUUID {
		g.decide(newest(func(a lvm.Archived) bool {
			return (uuid == "" || a.Group.UUID == uuid) && slices.ContainsFunc(g.members, func(m *member) bool { return isOn(a, m) })
		}))
	}
	return groups
}

// metadata returns the first readable copy on a device: one named by its label or, with guessed,
// one found where metadata could be.
func (m *member) metadata(guessed bool) (lvm.Copy, bool) {
	for _, c := range m.disk.Copies {
		if c.Text != nil && c.Guessed == guessed {
			return c, true
		}
	}
	return lvm.Copy{}, false
}

// isOn reports whether a change in the archive is of a group that contained this device, and not
// of a former one of that name.
func isOn(a lvm.Archived, m *member) bool {
	for _, uuid := range a.Devices {
		if uuid == m.UUID && m.UUID != "" {
			return true
		}
	}
	return false
}

func (s *Service) note(err error) {
	if s.Note != nil {
		s.Note(err)
	}
}

func (s *Service) readMember(n pmem.Namespace) *member {
	m := &member{Namespace: n}
	switch {
	case !n.Enabled():
		m.broken = "its namespace is disabled"
	case n.Mode != pmem.ModeFSDAX || isScrambled(n):
		m.broken, _ = whyNotUp(n)
	case n.Blockdev == "":
		m.broken = "its namespace has no block device"
	default:
		dev, err := s.Devices.Open(m.path())
		if err != nil {
			m.broken = "cannot be opened: " + err.Error()
			break
		}
		m.disk = lvm.ReadDisk(dev, dev.Size())
		dev.Close()
	}
	return m
}

// decide chooses the valid metadata, and determines which physical volume each member is and what
// is missing.
func (g *groupOnDisk) decide(archived *lvm.Archived) {
	consider := func(c source) {
		switch {
		case g.source == nil:
			g.source = &c
		case g.source.group.UUID != c.group.UUID:
			g.other = c.group.UUID
		case g.source.group.Seqno < c.group.Seqno:
			g.source = &c
		}
	}
	copies := func(guessed bool) {
		doubtful := guessed && g.source == nil
		for _, m := range g.members {
			for i, c := range m.disk.Copies {
				if c.Text != nil && c.Guessed == guessed {
					consider(source{text: c.Text, group: c.Group, where: copyOn(i, m), guessed: doubtful})
				}
			}
		}
	}
	copies(false)
	if archived != nil && !g.agree() { // somebody may have restored an older one
		consider(source{text: archived.Text, group: archived.Group, where: "the archive, " + archived.File, kept: true})
	}
	// Metadata in a place that no label names is believed only if that place is known to be
	// outside of the data: a tenant can write metadata to its volume.
	if g.source != nil {
		for _, m := range g.members {
			for i := range m.disk.Copies {
				if c := &m.disk.Copies[i]; c.Guessed && !g.outside(m, *c, archived) {
					c.Text, c.Damage = nil, "is not LVM's"
				}
			}
		}
	}
	copies(true)
	if g.source == nil {
		return
	}
	// If both are the same, the device is named as the source.
	for _, m := range g.members {
		for i, c := range m.disk.Copies {
			if g.source.kept && bytes.Equal(c.Text, g.source.text) {
				g.source.where, g.source.kept = copyOn(i, m), false
			}
		}
	}
	if archived != nil {
		g.source.archived = archived.Devices
	}
	g.assign()
}

func copyOn(i int, m *member) string { return fmt.Sprintf("copy %d on %s", i+1, m.path()) }

// agree reports whether no device is damaged and all have the same metadata.
func (g *groupOnDisk) agree() bool {
	return g.source != nil && !slices.ContainsFunc(g.members, func(m *member) bool {
		return m.broken != "" || m.disk.LabelDamage != "" || slices.ContainsFunc(m.disk.Copies, func(c lvm.Copy) bool {
			return !c.Unused && (c.Damage != "" || !bytes.Equal(c.Text, g.source.text))
		})
	})
}

// outside reports whether a copy is outside of the data of the physical volume that the device is,
// or could be.
func (g *groupOnDisk) outside(m *member, c lvm.Copy, archived *lvm.Archived) bool {
	return !slices.ContainsFunc(g.source.group.PVs, func(pv lvm.GroupPV) bool {
		if archived != nil {
			if uuid := archived.Devices[pv.UUID]; uuid != "" && uuid != m.UUID {
				return false
			}
		}
		return pv.DeviceSize == m.disk.Size && pv.DataEnd > c.Offset
	})
}

// assign determines the physical volume of each member: by its label, by the archive, or because
// only one of its size is left.
func (g *groupOnDisk) assign() {
	taken := map[string]bool{}
	take := func(m *member, uuid string) {
		if pv, ok := g.source.group.PV(uuid); ok && !taken[uuid] && m.pv.UUID == "" {
			m.pv, taken[uuid] = pv, true
		}
	}
	for _, m := range g.members {
		if m.disk.Label.Known() {
			take(m, m.disk.Label.PV)
		}
	}
	unknown := func(m *member) bool { return m.pv.UUID == "" && !m.disk.Label.Known() }
	for _, m := range g.members {
		for pv, uuid := range g.source.archived {
			if uuid == m.UUID && unknown(m) {
				take(m, pv)
			}
		}
	}
	for _, m := range g.members {
		if !unknown(m) || m.broken != "" {
			continue
		}
		var fits []string
		for _, pv := range g.source.group.PVs {
			if !taken[pv.UUID] && g.source.archived[pv.UUID] == "" && pv.DeviceSize == m.disk.Size {
				fits = append(fits, pv.UUID)
			}
		}
		alike := 0
		for _, other := range g.members {
			if unknown(other) && other.broken == "" && other.disk.Size == m.disk.Size {
				alike++
			}
		}
		if len(fits) == 1 && alike == 1 {
			take(m, fits[0])
		}
	}
	for _, pv := range g.source.group.PVs {
		if !taken[pv.UUID] {
			g.missing = append(g.missing, pv)
		}
	}
}

// parts returns the result rows.
func (g *groupOnDisk) parts() []VGPart {
	repair := "pmemctl vg repair " + g.name
	var parts []VGPart
	for _, m := range g.members {
		row := VGPart{VG: g.name, Namespace: m.Dev, State: PartOK, PVUUID: m.disk.Label.PV, VGUUID: g.uuid()}
		if m.Blockdev != "" {
			row.Device = m.path()
		}
		if m.broken != "" {
			row.Part, row.State, row.Reason, row.Next = "device", PartDamaged, m.broken, "see why: pmemctl namespace show "+m.Dev+"; dmesg | tail"
			if isScrambled(m.Namespace) {
				_, row.Next = whyNotUp(m.Namespace)
			}
			if m.Enabled() {
				row.PVUUID = ""
			} else {
				row.State = PartMissing
			}
			parts = append(parts, row)
			continue
		}
		damaged := func(p VGPart, reason string) VGPart {
			p.State, p.Reason, p.Next = PartDamaged, reason, repair
			if g.source == nil {
				p.Next = "nothing is left to restore it from; keep the device, and look for media errors: pmemctl region show " + m.Region
			}
			return p
		}
		if g.source != nil && m.pv.UUID == "" && len(g.missing) == 0 {
			// It was about to be added.
			row.Part, row.State, row.Reason, row.Next = "device", PartUnused, "the group is complete without this device", "see what would be lost: pmemctl vg remove "+g.name+"; then to add it: pmemctl vg init"
			parts = append(parts, row)
			continue
		}
		label := row
		label.Part, label.Size = "label", 4096
		switch {
		case m.disk.LabelDamage != "":
			label = damaged(label, m.disk.LabelDamage)
		case g.source != nil && m.pv.UUID == "":
			label = damaged(label, "the group does not contain this physical volume")
		case m.pv.UUID != "" && m.pv.DeviceSize != m.disk.Size:
			label = damaged(label, fmt.Sprintf("the group's metadata says that the device has %d bytes, but it has %d", m.pv.DeviceSize, m.disk.Size))
		}
		parts = append(parts, label)
		for i, c := range m.disk.Copies {
			if c.Guessed && c.Text == nil && (m.pv.UUID == "" || m.pv.DataEnd > c.Offset) {
				continue // there never was a second copy
			}
			copied := row
			copied.Part, copied.Offset, copied.Size, copied.Change, copied.VGUUID = fmt.Sprintf("copy %d", i+1), c.Offset, c.Size, c.Group.Seqno, c.Group.UUID
			switch {
			case c.Damage != "":
				copied = damaged(copied, c.Damage)
			case c.Unused:
				copied.State, copied.Reason = PartUnused, "LVM does not use this copy"
			case g.source != nil && c.Group.Seqno < g.source.group.Seqno:
				copied = damaged(copied, fmt.Sprintf("it is at change %d, but the group is at %d", c.Group.Seqno, g.source.group.Seqno))
			case g.source != nil && !bytes.Equal(c.Text, g.source.text):
				copied = damaged(copied, "it differs from "+g.source.where)
			}
			parts = append(parts, copied)
		}
	}
	if slices.ContainsFunc(parts, VGPart.Damaged) { // --force would remove the whole group
		for i := range parts {
			if parts[i].State == PartUnused && parts[i].Part == "device" {
				parts[i].Next = repair
			}
		}
	}
	for _, pv := range g.missing {
		if slices.ContainsFunc(g.members, func(m *member) bool { return m.pv.UUID == "" && m.broken == "" }) {
			continue // shown as damaged
		}
		parts = append(parts, VGPart{VG: g.name, Part: "device", State: PartMissing, PVUUID: pv.UUID, VGUUID: g.uuid(), Size: pv.DeviceSize,
			Reason: "physical volume " + pv.UUID + " of " + pmem.FormatSize(pv.DeviceSize) + " is missing", Next: "bring it back: pmemctl region list; pmemctl namespace list"})
	}
	return parts
}

// keepMetadata adds changed metadata to the archive. The host is locked. An error is noted once,
// and is not a failure: the change itself is done.
func (s *Service) keepMetadata() {
	if s.ArchiveDir == "" {
		return
	}
	namespaces := map[string][]pmem.Namespace{}
	for _, n := range s.NDCTL.EnabledFSDAX() {
		if mark, name := parseMark(n.Name); mark == markMember {
			namespaces[name] = append(namespaces[name], n)
		}
	}
	for name, of := range namespaces {
		last := s.archive().Last(name)
		holdsLast := func(n pmem.Namespace) bool {
			dev, err := s.Devices.Open("/dev/" + n.Blockdev)
			if err != nil {
				return false
			}
			defer dev.Close()
			return slices.ContainsFunc(last, func(sum uint32) bool { return lvm.Holds(dev, sum) })
		}
		if !slices.ContainsFunc(of, func(n pmem.Namespace) bool { return !holdsLast(n) }) {
			continue
		}
		var members []*member
		for _, n := range of {
			members = append(members, s.readMember(n))
		}
		for _, g := range splitByUUID(name, members, func(func(lvm.Archived) bool) *lvm.Archived { return nil }) {
			s.keepGroup(g)
		}
	}
}

func (s *Service) keepGroup(g *groupOnDisk) {
	if g.other != "" {
		s.note(errs.New(errs.Conflict, "volume group "+g.name, "its copies belong to two groups, so its metadata is not archived in "+s.ArchiveDir, "see: pmemctl vg check "+g.name+" -o wide"))
		return
	}
	if g.source == nil || g.source.guessed {
		return
	}
	// A damaged copy may be the newer one; the archive must not go back then.
	if slices.ContainsFunc(g.parts(), VGPart.Damaged) {
		later := func(a lvm.Archived) bool {
			return a.Group.UUID == g.source.group.UUID && a.Group.Seqno >= g.source.group.Seqno
		}
		if a, err := s.archive().Newest(g.name, later); err != nil || a != nil {
			return
		}
	}
	devices := map[string]string{}
	for _, m := range g.members {
		if m.disk.LabelDamage == "" && m.pv.UUID != "" && m.UUID != "" {
			devices[m.pv.UUID] = m.UUID
		}
	}
	if _, err := s.archive().Keep(g.name, g.source.text, g.source.group, devices); err != nil {
		s.note(errs.Wrap("", "volume group "+g.name, "its metadata is not archived in "+s.ArchiveDir+", so it can be restored only from the copies on the devices", "", err))
	}
}

// volumesOf returns the names of the volumes of a group.
func volumesOf(g lvm.Group) []string {
	names := []string{}
	for _, lv := range g.LVs {
		name := lv.Name
		if !slices.Contains(lv.Tags, tag) {
			name += " (not created by pmemctl)"
		}
		names = append(names, name)
	}
	return names
}
