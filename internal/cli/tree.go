package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pmemctl/pmemctl/internal/lvm"
	"github.com/pmemctl/pmemctl/internal/mount"
	"github.com/pmemctl/pmemctl/internal/pmem"
	"github.com/pmemctl/pmemctl/internal/volume"
)

// node is a node of the tree. Sizes are bytes.
type node struct {
	Kind     string  `json:"kind"`
	Name     string  `json:"name"`
	Size     uint64  `json:"size,omitempty"`
	Overhead uint64  `json:"overhead,omitempty"` // what the layer takes for itself
	Owner    string  `json:"owner,omitempty"`
	Note     string  `json:"note,omitempty"`
	Children []*node `json:"children,omitempty"`
}

func newTreeCommand(a *app) *cobra.Command {
	return hostListing(a, &cobra.Command{
		Use: "tree", Short: "Show all layers as a tree, from the bus to the mount",
		Long: `Shows bus, DIMM, region, namespace, physical volume, volume group, logical volume,
file system and mount, each with its size and the overhead of the layer. Objects that
pmemctl did not create are marked foreign.`,
		Example: `  pmemctl tree
  pmemctl tree -o json`,
		Args: cobra.NoArgs, PreRunE: a.asRoot("reading all layers"),
	}, func(ctx context.Context, o outputFlag, _ []string) error {
		v, err := a.service.LookAtEverything(ctx)
		if err != nil {
			return err
		}
		if len(v.PMEM.Buses) == 0 {
			return volume.NoPMEM(v.PMEM)
		}
		t := tree{v, a.service.MountsOn}
		nodes := t.buses()
		if o.structured() {
			return errors.Join(showObject(a.stdout, o, map[string]any{"tree": nodes}), a.damage(v, ""))
		}
		for _, n := range nodes {
			n.print(a.stdout, "", "")
		}
		return a.damage(v, "")
	})
}

func (n *node) print(w io.Writer, first, rest string) {
	var parts []string
	if n.Size > 0 {
		parts = append(parts, pmem.FormatSize(n.Size))
	}
	if n.Overhead > 0 {
		parts = append(parts, "takes "+pmem.FormatSize(n.Overhead))
	}
	if n.Note != "" {
		parts = append(parts, n.Note)
	}
	if n.Owner == volume.OwnerForeign {
		parts = append(parts, "foreign")
	}
	line := first + printable(n.Kind+" "+n.Name)
	if len(parts) > 0 {
		line += "  (" + printable(strings.Join(parts, ", ")) + ")"
	}
	fmt.Fprintln(w, line)
	for i, c := range n.Children {
		if i == len(n.Children)-1 {
			c.print(w, rest+"└─ ", rest+"   ")
		} else {
			c.print(w, rest+"├─ ", rest+"│  ")
		}
	}
}

type tree struct {
	view     volume.View
	mountsOn func(device string) []volume.Mounted
}

func (t tree) buses() []*node {
	var nodes []*node
	for _, b := range t.view.PMEM.Buses {
		bus := &node{Kind: "bus", Name: b.Dev, Note: strings.TrimSuffix(b.Provider+", "+b.Caveat(), ", ")}
		for _, d := range t.view.PMEM.DIMMs {
			if d.Bus == b.Dev {
				bus.Children = append(bus.Children, dimmNode(d))
			}
		}
		if b.Provider == pmem.ProviderCXL {
			for _, m := range t.view.PMEM.Memdevs {
				bus.Children = append(bus.Children, memdevNode(m))
			}
		}
		for _, r := range t.view.PMEM.Regions {
			if r.Bus == b.Dev {
				bus.Children = append(bus.Children, t.region(r))
			}
		}
		nodes = append(nodes, bus)
	}
	return nodes
}

func memdevNode(m pmem.Memdev) *node {
	note := "in no region"
	if len(m.Regions) > 0 {
		note = "in CXL " + strings.Join(m.Regions, ", ")
	}
	return &node{Kind: "memdev", Name: m.Dev, Size: m.Size, Note: fmt.Sprintf("serial %#x, %s", m.Serial, note)}
}

func dimmNode(d pmem.DIMM) *node {
	notes := []string{}
	if d.State != pmem.StateEnabled {
		notes = append(notes, d.State)
	}
	if d.Health != nil {
		notes = append(notes, "health "+d.Health.State)
	}
	notes = append(notes, d.Flags...)
	return &node{Kind: "dimm", Name: d.Dev, Note: strings.Join(notes, ", ")}
}

func (t tree) region(r pmem.Region) *node {
	notes := []string{pmem.FormatSize(r.AvailableSize) + " free"}
	if state := regionState(r); state != pmem.StateEnabled {
		notes = append(notes, state)
	}
	if r.BadblockCount > 0 {
		notes = append(notes, fmt.Sprintf("bad blocks: %d", r.BadblockCount))
	}
	if dimms := dimmsOf(r); len(dimms) > 0 {
		notes = append(notes, "on "+strings.Join(dimms, ", "))
	}
	region := &node{Kind: "region", Name: r.Dev, Size: r.Size, Note: strings.Join(notes, ", ")}
	for _, n := range t.view.PMEM.InRegion(r.Dev) {
		region.Children = append(region.Children, t.namespace(n))
	}
	return region
}

func (t tree) namespace(n pmem.Namespace) *node {
	owner, ours := volume.Owned(n.Name)
	notes := []string{string(n.Mode)}
	if !n.Enabled() {
		notes = append(notes, n.State)
	}
	if n.BadblockCount > 0 {
		notes = append(notes, fmt.Sprintf("bad blocks: %d", n.BadblockCount))
	}
	ns := &node{Kind: "namespace", Name: n.Dev, Size: n.RawSize, Owner: volume.OwnerForeign}
	if ours {
		ns.Owner = volume.OwnerPmemctl
		notes = append(notes, owner)
		notes = append(notes, t.unfinished(n.UUID)...)
		if slices.ContainsFunc(t.view.Damage(), func(d volume.Damage) bool { return d.VG != "" && d.Namespace == n.Dev }) {
			notes = append(notes, string(volume.Damaged))
		}
	}
	ns.Note = strings.Join(notes, ", ")
	if n.Size > 0 && n.RawSize > n.Size {
		ns.Overhead = n.RawSize - n.Size
	}
	switch {
	case n.Chardev != "":
		ns.Children = append(ns.Children, &node{Kind: "chardev", Name: "/dev/" + n.Chardev, Size: n.Size})
	case n.Blockdev != "":
		ns.Children = append(ns.Children, t.blockDevice(n))
	}
	return ns
}

// unfinished returns the state of a volume that is not ready, by the UUID of its device.
func (t tree) unfinished(uuid string) []string {
	for _, vol := range t.view.Examined() {
		if uuid != "" && vol.UUID == uuid && vol.State != volume.Ready {
			return []string{string(vol.State)}
		}
	}
	return nil
}

func (t tree) blockDevice(n pmem.Namespace) *node {
	path := "/dev/" + n.Blockdev
	for _, vg := range slices.Concat(t.view.LVM.VGs, t.view.Foreign.VGs) {
		for _, pv := range vg.PVs {
			if pv.Name == path {
				return t.physicalVolume(n, vg, pv)
			}
		}
	}
	device := &node{Kind: "device", Name: path, Size: n.Size}
	device.Children = t.mounts(path, !t.view.PMEM.MapSync(n.Region))
	return device
}

func (t tree) physicalVolume(n pmem.Namespace, vg lvm.VG, pv lvm.PV) *node {
	owner := volume.OwnerForeign
	if t.view.Owns(vg) {
		owner = volume.OwnerPmemctl
	}
	device := &node{Kind: "pv", Name: pv.Name, Size: n.Size, Overhead: n.Size - min(n.Size, pv.Size), Owner: owner}
	group := &node{Kind: "vg", Name: vg.Name, Size: vg.Size, Owner: owner, Note: pmem.FormatSize(vg.Free) + " free"}
	device.Children = []*node{group}
	for _, lv := range vg.LVs {
		if !slices.ContainsFunc(lv.Ranges, func(r string) bool { return strings.HasPrefix(r, pv.Name+":") }) {
			continue
		}
		logical := &node{Kind: "lv", Name: lv.Name, Size: lv.Size, Owner: volume.OwnerForeign}
		notes := t.unfinished(lv.UUID)
		if lv.HasTag("pmemctl") && owner == volume.OwnerPmemctl {
			logical.Owner = volume.OwnerPmemctl
		}
		if lv.Active {
			logical.Children = t.mounts(lv.MapperPath(), !t.view.PMEM.MapSync(n.Region) || t.noMapSync(lv.UUID))
		} else {
			notes = append(notes, "inactive")
		}
		logical.Note = strings.Join(notes, ", ")
		group.Children = append(group.Children, logical)
	}
	return device
}

// noMapSync reports whether a volume, given by its UUID, is also in a region without MAP_SYNC.
func (t tree) noMapSync(uuid string) bool {
	return slices.ContainsFunc(t.view.Examined(), func(vol volume.Volume) bool { return vol.UUID == uuid && vol.NoMapSync })
}

// mounts returns the mounted file systems of a device, with their size as in df.
func (t tree) mounts(device string, noMapSync bool) []*node {
	var nodes []*node
	for _, m := range t.mountsOn(device) {
		nodes = append(nodes, &node{Kind: m.FSType, Name: "on " + m.Path, Size: m.Size, Note: daxText(m.Point, noMapSync)})
	}
	return nodes
}

// daxText says what the mount options and the medium permit; "" if DAX is off.
func daxText(p mount.Point, noMapSync bool) string {
	switch {
	case !mount.HasDAXOption(p):
		return ""
	case noMapSync:
		return "dax, no map_sync"
	}
	return "dax"
}
