package volume

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/lvm"
	"github.com/pmemctl/pmemctl/internal/pmem"
)

// Damage describes something of pmemctl's that cannot be read or used: its content is not visible,
// but must not be taken for absent or empty.
type Damage struct {
	// VG or Volume is the owner.
	VG        string `json:"vg,omitempty"`
	Volume    string `json:"volume,omitempty"`
	Namespace string `json:"namespace,omitempty"`
	Device    string `json:"device,omitempty"` // path of the block device
	Region    string `json:"region,omitempty"`
	// Volumes are the volumes that the group had, if that is known from elsewhere.
	Volumes []string `json:"volumes,omitempty"`
	Reason  string   `json:"reason"`
	Next    string   `json:"next,omitempty"`
}

// someOf names the first few of many.
func someOf(names []string) string {
	const few = 5
	if len(names) <= few {
		return strings.Join(names, ", ")
	}
	return strings.Join(names[:few], ", ") + ", …"
}

// Error is the damage as an error.
func (d Damage) Error() error {
	what := subject(d.Volume)
	switch {
	case d.VG != "":
		what = "volume group " + d.VG
	case d.Volume == "":
		what = "region " + d.Region
	}
	return errs.New(errs.Damaged, what, d.Reason, d.Next)
}

// Damage lists what is damaged on the host.
func (v View) Damage() []Damage {
	all := []Damage{}
	for _, n := range v.PMEM.Namespaces {
		d, damaged := v.memberDamage(n)
		if mark, vg := parseMark(n.Name); mark == markMember && !n.Enabled() {
			d, damaged = Damage{VG: vg, Namespace: n.Dev, Region: n.Region, Reason: "its namespace " + n.Dev + " is disabled", Next: "ndctl enable-namespace " + n.Dev}, true
		}
		if damaged {
			all = append(all, d)
		}
		if vol, ok := directVolume(n); ok && vol.State == Damaged {
			all = append(all, Damage{Volume: vol.Name, Namespace: n.Dev, Device: blockPath(n), Region: n.Region,
				Reason: vol.damage, Next: "keep it if you need its data, and " + vol.next})
		}
	}
	for _, r := range v.PMEM.Regions {
		if r.HiddenSize > 0 {
			d := Damage{Region: r.Dev}
			d.Reason, d.Next = hiddenSpace(r)
			all = append(all, d)
		}
	}
	for _, vg := range v.OwnVGs() {
		if reason, next := v.incomplete(vg); reason != "" {
			all = append(all, Damage{VG: vg.Name, Reason: reason, Next: next})
		}
	}
	for _, p := range v.LVM.Problems {
		all = append(all, Damage{VG: "unknown", Reason: "lvm could not read everything: " + p, Next: "pmemctl vg check"})
	}
	return all
}

func blockPath(n pmem.Namespace) string {
	if n.Blockdev == "" {
		return ""
	}
	return "/dev/" + n.Blockdev
}

// memberDamage reports whether a namespace that is marked as a member of a volume group is in no
// readable group. It was in one when it got its mark.
func (v View) memberDamage(n pmem.Namespace) (Damage, bool) {
	mark, vg := parseMark(n.Name)
	if mark != markMember || !n.Enabled() {
		return Damage{}, false
	}
	d := Damage{VG: vg, Namespace: n.Dev, Device: blockPath(n), Region: n.Region, Next: "pmemctl vg check " + vg}
	switch {
	case n.Mode != pmem.ModeFSDAX || isScrambled(n):
		d.Reason, d.Next = whyNotUp(n)
	case n.Blockdev == "":
		d.Reason = "its namespace " + n.Dev + " has no block device"
		d.Next = "see why: dmesg | tail"
	default:
		if _, in := v.groupOf(d.Device); in {
			return Damage{}, false
		}
		d.Reason = "its metadata on " + d.Device + " cannot be read: its volumes are not visible"
	}
	return d, true
}

// groupOf returns the volume group that lvm finds on a device.
func (v View) groupOf(device string) (lvm.VG, bool) {
	for _, vg := range v.LVM.VGs {
		if slices.ContainsFunc(vg.PVs, func(pv lvm.PV) bool { return pv.Name == device }) {
			return vg, true
		}
	}
	return lvm.VG{}, false
}

// incomplete is the function incomplete, which does not know that devices may be foreign yet.
func (v View) incomplete(vg lvm.VG) (reason, next string) {
	if _, partly := v.Foreign.Find(lvm.VGRef{UUID: vg.UUID}); partly && vg.PartialPVMissing && vg.UUID != "" {
		return "is only partly adopted", "continue: pmemctl adopt " + vg.Name
	}
	if vg.PartialPVMissing { // it is there, and back once its region is what it was
		for _, n := range v.membersOf(vg.Name) {
			if reason, next := notUp(n); reason != "" && (n.Granularity != 0 || isScrambled(n)) {
				return "cannot be changed: " + reason, next
			}
		}
	}
	return incomplete(vg)
}

// incomplete says why a volume group must not be changed: LVM would then write metadata without
// the missing device, or claim bytes that a device does not have.
func incomplete(vg lvm.VG) (reason, next string) {
	if vg.PartialPVMissing {
		return "is missing a device and cannot be changed without it",
			"bring it back: pmemctl region list; if it is lost for good, with the volumes on it: vgreduce --removemissing --force " + vg.Name
	}
	for _, pv := range vg.PVs {
		if end := pv.DataStart + pv.Size; pv.DeviceSize != 0 && end > pv.DeviceSize {
			return fmt.Sprintf("claims %d bytes of %s, which has only %d", end, pv.Name, pv.DeviceSize),
				"copy its volumes to another group: pmemctl volume clone NAME NEWNAME; delete them, then remove it: pmemctl vg remove " + vg.Name
		}
	}
	return "", ""
}

// whole returns an error if nothing may be created in a volume group.
func (v View) whole(g lvm.VGRef) error {
	if err := v.present(g); err != nil {
		return err
	}
	vg, readable := v.LVM.Find(g)
	if reason, next := v.incomplete(vg); reason != "" {
		return errs.New(errs.Damaged, "volume group "+g.Name, reason, next)
	}
	if readable { // and complete: other namespaces with its mark are not part of it
		return nil
	}
	for _, n := range v.membersOf(g.Name) {
		if d, damaged := v.memberDamage(n); damaged {
			return d.Error()
		}
	}
	return nil
}

// present returns an error if a volume group is missing a device. Nothing may be removed from it
// either: LVM would write metadata without that device.
func (v View) present(g lvm.VGRef) error {
	vg, _ := v.LVM.Find(g)
	if !vg.PartialPVMissing {
		return nil
	}
	reason, next := v.incomplete(vg)
	return errs.New(errs.Unsupported, "volume group "+g.Name, reason, next)
}

// strays returns the damaged namespaces that have the mark of a volume group which is complete
// without them: an older pmemctl was killed before it added them, or LVM removed them.
func (v View) strays(vg lvm.VG) []pmem.Namespace {
	var strays []pmem.Namespace
	for _, n := range v.membersOf(vg.Name) {
		if _, damaged := v.memberDamage(n); damaged && v.present(vg.Ref()) == nil {
			strays = append(strays, n)
		}
	}
	return strays
}
