package volume

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/lvm"
	"github.com/pmemctl/pmemctl/internal/mount"
	"github.com/pmemctl/pmemctl/internal/pmem"
)

// AdoptRequest names what to adopt: a volume group by its name, or a namespace by its device, UUID
// or name.
type AdoptRequest struct {
	Object string
	// Name is the name of the volume that a namespace becomes; "" is the name of the namespace.
	Name string
	// Raw: volumes with a file system become raw block volumes too.
	Raw bool
}

// Adoption is what Adopt does with a volume group or a namespace that pmemctl did not create.
type Adoption struct {
	Object  string    `json:"object"`
	Kind    string    `json:"kind"`    // volume group or namespace
	MadeBy  string    `json:"made_by"` // the program that uses such names; "" if unknown
	Regions []string  `json:"regions"`
	Size    uint64    `json:"size"` // bytes
	Volumes []Adopted `json:"volumes"`
	Done    bool      `json:"adopted"`
	// Reason says why it cannot be adopted; "" if it can.
	Reason string `json:"reason,omitempty"`
	Next   string `json:"next,omitempty"`

	raw        bool
	uuid       string
	group      lvm.VG
	namespaces []pmem.Namespace
	err        error
}

// Adopted is a volume of an Adoption.
type Adopted struct {
	Name    string `json:"name"`
	OldName string `json:"old_name"` // of the logical volume or namespace
	UUID    string `json:"uuid"`
	Size    uint64 `json:"size"` // bytes
	// Content is a file system, other content, "" for none, or Unread.
	Content string `json:"content"`
	lv      lvm.LV
}

// Kinds of an Adoption.
const (
	groupToAdopt     = "volume group"
	namespaceToAdopt = "namespace"
)

// Unread is the content of a logical volume that is not active.
const Unread = "unread"

// Fits reports whether it can be adopted.
func (a Adoption) Fits() bool { return a.err == nil }

func (a Adoption) subject() string { return a.Kind + " " + a.Object }

func (a *Adoption) refuse(kind errs.Kind, reason, next string) {
	if a.err == nil {
		a.Reason, a.Next = reason, next
		a.err = errs.New(kind, a.subject(), "cannot be adopted: it "+reason, next)
	}
}

// The names that other programs use: pmem-csi gives its volumes at most six characters of the name
// and a SHA-224, and its groups the names of bus and region; the driver of Alibaba Cloud calls its
// groups as pmemctl does, and its volumes as the external-provisioner calls PersistentVolumes.
var (
	pmemCSIVolume = regexp.MustCompile(`^.{0,6}-[0-9a-f]{56}$`)
	pmemCSIGroup  = regexp.MustCompile(`^ndbus\d+region\d+fsdax$`)
	alibabaGroup  = regexp.MustCompile(`^pmemvgregion\d+$`)
	provisioned   = regexp.MustCompile(`^[a-z]+-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)
)

const pmemCSIName = "pmem-csi" // of the namespaces of its groups

func madeBy(name string) string {
	switch {
	case name == pmemCSIName, pmemCSIVolume.MatchString(name), pmemCSIGroup.MatchString(name):
		return "pmem-csi"
	case alibabaGroup.MatchString(name), provisioned.MatchString(name):
		return "Alibaba Cloud"
	}
	return ""
}

// AdoptedName returns the name of a volume whose logical volume or namespace has a name that may
// be longer than pmemctl allows.
func AdoptedName(name string) string { return name[:min(len(name), MaxName)] }

// planAdopt lists what can be adopted, and what cannot with the reason: what the requests name, or
// everything that pmemctl did not create. all is what LVM has on all namespaces but volumes, and
// content returns what is on a device.
func (v View) planAdopt(all lvm.State, requests []AdoptRequest, content func(device string) (string, error)) ([]Adoption, error) {
	p := adoptPlanner{view: v, all: all, requests: requests, content: content, names: map[string]string{}, matches: make([]int, len(requests))}
	for _, vol := range v.Volumes() {
		p.names[vol.Name] = vol.UUID
	}
	for _, vg := range all.VGs {
		if err := p.addGroup(vg); err != nil {
			return nil, err
		}
	}
	for _, n := range v.PMEM.Namespaces {
		if err := p.addNamespace(n); err != nil {
			return nil, err
		}
	}
	for i, q := range requests {
		switch {
		case p.matches[i] == 0 && len(all.Problems) > 0:
			return nil, errs.New(errs.Damaged, quote(q.Object), "is not found, but lvm could not read everything: "+all.Problems[0], "see what LVM reports: pvs -a")
		case p.matches[i] == 0:
			return nil, errs.New(errs.NotFound, quote(q.Object), "is neither a volume group on PMEM nor a namespace", "see what there is: pmemctl tree")
		case p.matches[i] > 1:
			return nil, errs.New(errs.Invalid, quote(q.Object), "is the name of several volume groups or namespaces", "use the UUID of one of them: pmemctl vg list -o wide; pmemctl namespace list -o wide")
		}
	}
	return p.plan, nil
}

type adoptPlanner struct {
	view     View
	all      lvm.State
	requests []AdoptRequest
	content  func(device string) (string, error)
	names    map[string]string // UUIDs of the volumes that exist or are planned, by name
	matches  []int             // how many objects each request names
	plan     []Adoption
}

// wanted reports whether something that has these names is requested.
func (p *adoptPlanner) wanted(names ...string) (q AdoptRequest, named, wanted bool) {
	for i, r := range p.requests {
		if r.Object != "" && slices.Contains(names, r.Object) {
			p.matches[i]++
			q, named = r, true
		}
	}
	return q, named, named || len(p.requests) == 0
}

// isAdopted reports whether a group is pmemctl's already, with all of its devices.
func (v View) isAdopted(vg lvm.VG) bool {
	return vg.HasTag(tag) && !vg.PartialPVMissing && !slices.ContainsFunc(vg.PVs, func(pv lvm.PV) bool {
		n, ok := v.namespaceOf(pv.Name)
		mark, name := parseMark(n.Name)
		return !ok || mark != markMember && mark != markJoining || name != vg.Name
	})
}

func (p *adoptPlanner) addGroup(vg lvm.VG) error {
	q, named, wanted := p.wanted(vg.Name, vg.UUID)
	if !wanted || p.view.isAdopted(vg) {
		return nil
	}
	a := Adoption{Object: vg.Name, Kind: groupToAdopt, MadeBy: madeBy(vg.Name), Regions: []string{}, Size: vg.Size, Volumes: []Adopted{}, uuid: vg.UUID, group: vg, raw: q.Raw}
	if q.Name != "" {
		return errs.New(errs.Invalid, a.subject(), "keeps its name", "omit ="+q.Name+"; to give it another: vgrename "+vg.Name+" "+q.Name)
	}
	if vg.PartialPVMissing {
		next := "bring it back: pmemctl region list; pvs -a"
		for _, n := range p.view.PMEM.Namespaces {
			if !n.Enabled() {
				next = "if it is " + n.Dev + ", which is disabled: ndctl enable-namespace " + n.Dev + "; " + next
			}
		}
		a.refuse(errs.Damaged, "is missing a device", next)
	}
	if len(p.all.Problems) > 0 {
		a.refuse(errs.Damaged, "may not be what it seems, because lvm could not read everything: "+p.all.Problems[0], "see what LVM reports: pvs -a")
	}
	for _, pv := range vg.PVs {
		p.addMember(&a, pv)
	}
	switch {
	case ValidateName(vg.Name) != nil:
		a.refuse(errs.Unsupported, "has a name that pmemctl cannot use", "rename it: vgrename "+vg.Name+" NEWNAME")
	case slices.ContainsFunc(p.all.VGs, func(o lvm.VG) bool { return o.Name == vg.Name && o.UUID != vg.UUID }):
		a.refuse(errs.Conflict, "has the name of another volume group", "rename one of them: vgrename "+vg.UUID+" NEWNAME")
	case MetadataFull(vg) != "":
		a.refuse(errs.NoSpace, "has no room left in its metadata area", "remove what is not needed: lvs "+vg.Name)
	}
	if reason, next := incomplete(vg); reason != "" {
		a.refuse(errs.Damaged, reason, next)
	}
	for _, lv := range vg.LVs {
		p.addVolume(&a, lv, named)
	}
	p.plan = append(p.plan, a)
	return nil
}

// addMember checks a physical volume of a group.
func (p *adoptPlanner) addMember(a *Adoption, pv lvm.PV) {
	n, ok := p.view.namespaceOf(pv.Name)
	if !ok {
		a.refuse(errs.Unsupported, "has "+pv.Name+", which is no namespace but a part of one, or another disk", "take it out of the group: pvmove "+pv.Name+"; vgreduce "+a.Object+" "+pv.Name)
		return
	}
	a.namespaces = append(a.namespaces, n)
	if !slices.Contains(a.Regions, n.Region) {
		a.Regions = append(a.Regions, n.Region)
	}
	p.checkNamespace(a, n)
	mark, owner := parseMark(n.Name)
	switch {
	case mark == markMember && owner == a.Object:
	case mark != "":
		a.refuse(errs.Conflict, "has the namespace "+n.Dev+", which pmemctl created for "+owner, "see what it is: pmemctl tree; pmemctl vg check")
	case pv.DeviceSize != n.Size:
		a.refuse(errs.Damaged, fmt.Sprintf("records %s with %d bytes, but it has %d", pv.Name, pv.DeviceSize, n.Size), "see what LVM reports: pvs -a")
	}
	if n.Name == pmemCSIName {
		a.MadeBy = madeBy(n.Name)
	}
}

// checkNamespace checks what any namespace of pmemctl must be.
func (p *adoptPlanner) checkNamespace(a *Adoption, n pmem.Namespace) {
	r, _ := p.view.PMEM.Region(n.Region)
	what := ""
	if a.Kind == groupToAdopt {
		what = "has the namespace " + n.Dev + ", which "
	}
	switch {
	case !r.Labels || !n.Labels:
		a.refuse(errs.Unsupported, what+"is in "+n.Region+", which has no labels: its mark would be written in front of its data, which a power failure could lose", "copy its data to a volume in a region with labels")
	case !n.Enabled():
		a.refuse(errs.Unsupported, what+"is disabled", "ndctl enable-namespace "+n.Dev)
	case n.Mode != pmem.ModeFSDAX:
		a.refuse(errs.Unsupported, what+"is in mode "+string(n.Mode)+", not fsdax", "copy its data to a volume")
	case n.Blockdev == "":
		a.refuse(errs.Unsupported, what+"has no block device", "see why: dmesg | tail")
	}
}

// judge refuses a group whose metadata has what lvm's report does not show: snapshots, parts of
// other volumes, and what other hosts share.
func (a *Adoption) judge(g lvm.Group) {
	switch {
	case g.Seqno == 0:
		a.refuse(errs.Damaged, "has no metadata that can be read", "see what it is: pvck --dump headers "+blockPath(a.namespaces[0]))
	case g.Shared != "":
		a.refuse(errs.Unsupported, "is shared with other hosts or exported: "+g.Shared, "make it a group of this host alone: vgchange(8), vgimport(8)")
	}
	for _, lv := range g.LVs {
		if _, plain := g.Table(lv, nil); !plain {
			a.refuse(errs.Unsupported, "has "+lv.Name+", which is neither linear nor striped", "remove snapshots, thin pools, caches and mirrors: lvs -a "+a.Object)
		}
	}
}

// addVolume adds a logical volume of a group.
func (p *adoptPlanner) addVolume(a *Adoption, lv lvm.LV, named bool) {
	vol := Adopted{Name: AdoptedName(lv.Name), OldName: lv.Name, UUID: lv.UUID, Size: lv.Size, Content: Unread, lv: lv}
	mark, _ := parseMark(lv.Name)
	marked := slices.ContainsFunc(lv.Tags, func(t string) bool { return strings.HasPrefix(t, tag+".") && t != tagForFS })
	rename := "rename it: lvrename " + a.Object + " " + lv.Name + " NEWNAME"
	taken, exists := p.names[vol.Name]
	switch {
	case mark != "" || marked || lv.HasTag(tagForFS) && !lv.HasTag(tag):
		a.refuse(errs.Conflict, "has the logical volume "+lv.Name+" with a mark that a pmemctl made for an unfinished or deleted volume", "see what it is: lvs -o+lv_tags "+a.Object+"; remove it, or its tags")
	case ValidateName(vol.Name) != nil:
		a.refuse(errs.Unsupported, "has the logical volume "+lv.Name+", whose name pmemctl cannot use", rename)
	case exists && taken != lv.UUID: // the same UUID: an interrupted call marked it
		a.refuse(errs.Conflict, "has the logical volume "+lv.Name+", and there is already a volume "+vol.Name, rename)
	case lv.Type != "linear" && lv.Type != "striped":
		a.refuse(errs.Unsupported, "has the logical volume "+lv.Name+" of type "+lv.Type+"; pmemctl knows linear and striped", "convert it (lvconvert), or copy its data and remove it: lvremove "+a.Object+"/"+lv.Name)
	case !lv.Active && !lv.HasTag(tag) && !named:
		a.refuse(errs.Unsupported, "has the logical volume "+lv.Name+", which is not active, so its content is unknown", "lvchange -ay "+a.Object+"/"+lv.Name)
	}
	if a.err == nil {
		p.names[vol.Name] = lv.UUID
	}
	if lv.Active && a.err == nil {
		vol.Content = p.read(a, lv.MapperPath())
		if !isFilesystem(vol.Content) && !named && !lv.HasTag(tag) {
			a.refuse(errs.Unsupported, "has the logical volume "+lv.Name+" with "+cmp.Or(vol.Content, "nothing that is recognized")+", not ext4 or xfs", "if that is to be a raw block volume: pmemctl adopt "+a.Object)
		}
	}
	a.Volumes = append(a.Volumes, vol)
}

// read returns the content of a device.
func (p *adoptPlanner) read(a *Adoption, device string) string {
	content, err := p.content(device)
	if err != nil {
		a.refuse(errs.Damaged, "has a device that cannot be read: "+err.Error(), "see why: dmesg | tail")
	}
	return content
}

func (p *adoptPlanner) addNamespace(n pmem.Namespace) error {
	names := []string{n.Dev, n.UUID, n.Name}
	_, own := Owned(n.Name)
	if vol, ok := directVolume(n); ok { // perhaps adopted by the same command line
		for _, r := range p.requests {
			if AdoptedName(r.Object) == vol.Name {
				names = append(names, r.Object)
			}
		}
	}
	q, named, wanted := p.wanted(names...)
	inGroup := slices.ContainsFunc(p.all.VGs, func(vg lvm.VG) bool {
		return slices.ContainsFunc(vg.PVs, func(pv lvm.PV) bool { return pv.Name == blockPath(n) })
	})
	if !wanted || own || inGroup && !named {
		return nil
	}
	a := Adoption{Object: n.Dev, Kind: namespaceToAdopt, MadeBy: madeBy(n.Name), Regions: []string{n.Region}, Size: n.Size, Volumes: []Adopted{}, uuid: n.UUID, namespaces: []pmem.Namespace{n}, raw: q.Raw}
	name := cmp.Or(q.Name, AdoptedName(n.Name))
	if q.Name != "" {
		if err := ValidateName(q.Name); err != nil {
			return err
		}
	}
	give := "pmemctl adopt " + n.Dev + "=NAME"
	p.checkNamespace(&a, n)
	switch {
	case inGroup:
		a.refuse(errs.Conflict, "is a device of a volume group", "adopt the group: pmemctl vg list")
	case n.Name == pmemCSIName && q.Name == "":
		a.refuse(errs.Unsupported, "was created by pmem-csi for a volume group, and is in none", "see what it is: pvck --dump headers "+blockPath(n))
	case name == "":
		a.refuse(errs.Invalid, "has no name", "give it one: "+give)
	case ValidateName(name) != nil:
		a.refuse(errs.Invalid, "has a name that pmemctl cannot use", "give it another: "+give)
	case p.names[name] != "":
		a.refuse(errs.Conflict, "would be a second volume "+name, "give it another name: "+give)
	}
	if a.err == nil {
		vol := Adopted{Name: name, OldName: n.Name, UUID: n.UUID, Size: n.Size, Content: p.read(&a, blockPath(n))}
		switch {
		case vol.Content == "LVM2_member":
			a.refuse(errs.Damaged, "has the label of a physical volume, and is in no group that can be read", "see what it is: pvck --dump headers "+blockPath(n))
		case !isFilesystem(vol.Content) && !named:
			a.refuse(errs.Unsupported, "has "+cmp.Or(vol.Content, "nothing that is recognized")+", not ext4 or xfs", "if it is to be a raw block volume: "+strings.TrimSuffix(give, "NAME")+name)
		}
		if a.err == nil {
			p.names[name] = n.UUID
		}
		a.Volumes = append(a.Volumes, vol)
	}
	p.plan = append(p.plan, a)
	return nil
}

// forFS reports whether a volume with a content gets the mark that its file system hides old bytes.
func (a Adoption) forFS(content string) bool { return isFilesystem(content) && !a.raw }

// command is the command line that adopts it.
func (a Adoption) command() string {
	command := "pmemctl adopt " + a.Object
	if a.Kind == namespaceToAdopt && len(a.Volumes) > 0 {
		command += "=" + a.Volumes[0].Name
	}
	if a.raw {
		command += " --raw"
	}
	return command
}

// looksLikeVolume reports whether a namespace has a name that other drivers give to volumes: its
// content is a tenant's.
func looksLikeVolume(n pmem.Namespace) bool { return n.Name != pmemCSIName && madeBy(n.Name) != "" }

// isFilesystem reports whether a content is a file system that pmemctl mounts.
func isFilesystem(content string) bool { return content == mount.Ext4 || content == mount.XFS }

// errorsOf returns the reasons why something of a plan cannot be adopted.
func errorsOf(plan []Adoption) (all []error) {
	for _, a := range plan {
		all = append(all, a.err)
	}
	return all
}
