package ndctl

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pmemctl/pmemctl/internal/pmem"
)

// sysfsNVDIMM has a link for every device of the NVDIMM bus
// (Documentation/ABI/testing/sysfs-bus-nvdimm).
const sysfsNVDIMM = "/sys/bus/nd/devices/"

// fromSysfs is a snapshot without libndctl, which is fast but takes several times as
// long to read the same. It tells the same; false when something is selected that
// only the library knows: what DIMMs say.
func fromSysfs(sel Select) (s pmem.System, ok bool) {
	if sel.DIMMs || sel.Health || sel.Namespaces && sel.Badblocks {
		return s, false
	}
	names := devices()
	for _, dev := range names {
		if strings.HasPrefix(dev, "ndbus") {
			attribute(dev, "wait_probe") // returns when the kernel has brought up all there is
			s.Buses = append(s.Buses, sysfsBus(dev))
		}
	}
	if sel.Namespaces { // the probing may have made some
		names = devices()
	}
	for _, dev := range names {
		if !strings.HasPrefix(dev, "region") {
			continue
		}
		r, ok := sysfsRegion(dev, sel.Badblocks)
		if !ok {
			continue // it went while it was read
		}
		if sel.Namespaces && !r.Labels {
			return s, false
		}
		s.Regions = append(s.Regions, r)
	}
	if sel.Namespaces {
		for _, dev := range names {
			if n, ok := sysfsNamespace(dev, names); ok {
				s.Namespaces = append(s.Namespaces, n)
			}
		}
	}
	sortSystem(&s)
	return s, true
}

func devices() []string {
	entries, _ := os.ReadDir(sysfsNVDIMM)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func sysfsBus(dev string) pmem.Bus {
	bus := pmem.Bus{Dev: dev, Provider: attribute(dev, "provider")}
	switch scrub := attribute(dev, "nfit/scrub"); {
	case strings.HasSuffix(scrub, "+"):
		bus.ScrubState = "active"
	case scrub != "":
		bus.ScrubState = "idle"
	}
	return bus
}

// What the kernel has in nstype (include/uapi/linux/ndctl.h).
const (
	nstypeIO   = "4"
	nstypePMEM = "5"
)

func sysfsRegion(dev string, withBadblocks bool) (r pmem.Region, ok bool) {
	path, err := os.Readlink(sysfsNVDIMM + dev)
	size, ok := number(dev, "size")
	if err != nil || !ok {
		return r, false
	}
	nstype := attribute(dev, "nstype")
	r = pmem.Region{
		Dev: dev, Bus: filepath.Base(filepath.Dir(path)), Size: size, Type: "blk", State: driverState(dev),
		PersistenceDomain: attribute(dev, "persistence_domain"), NUMANode: nodeAttribute(dev, "numa_node"), TargetNode: nodeAttribute(dev, "target_node"),
		ReadOnly: attribute(dev, "read_only") == "1", Labels: nstype == nstypePMEM, Mappings: []pmem.Mapping{},
	}
	if nstype == nstypePMEM || nstype == nstypeIO {
		r.Type = "pmem"
	}
	if r.PersistenceDomain == "" {
		r.PersistenceDomain = "unknown"
	}
	if r.Labels { // or it cannot be divided
		r.AvailableSize, _ = number(dev, "available_size")
		if r.MaxAvailableExtent, ok = number(dev, "max_available_extent"); !ok { // an old kernel
			r.MaxAvailableExtent = r.AvailableSize
		}
		r.ISetID, _ = number(dev, "set_cookie")
	}
	r.Align, _ = number(dev, "align")
	ways, _ := number(dev, "mappings")
	r.InterleaveWays = uint(max(ways, 1))
	for i := range ways {
		if m, ok := parseMapping(attribute(dev, "mapping"+strconv.FormatUint(i, 10)), int(i)); ok {
			r.Mappings = append(r.Mappings, m)
		}
	}
	if withBadblocks {
		for line := range strings.Lines(attribute(dev, "badblocks")) {
			if b, ok := parseBadblock(line); ok {
				r.Badblocks = append(r.Badblocks, b)
				r.BadblockCount += b.Length
			}
		}
	}
	return r, true
}

// parseMapping reads "nmem0,0,4294967296,0": DIMM, offset, length, position. Old
// kernels leave out the position.
func parseMapping(text string, index int) (m pmem.Mapping, ok bool) {
	parts := strings.Split(text, ",")
	if len(parts) < 3 {
		return m, false
	}
	var errs [3]error
	m = pmem.Mapping{DIMM: parts[0], Position: index}
	m.Offset, errs[0] = strconv.ParseUint(parts[1], 0, 64)
	m.Length, errs[1] = strconv.ParseUint(parts[2], 0, 64)
	if len(parts) > 3 {
		m.Position, errs[2] = strconv.Atoi(parts[3])
	}
	return m, errs == [3]error{}
}

// parseBadblock reads "8 2": offset and length in sectors.
func parseBadblock(line string) (b pmem.Badblock, ok bool) {
	offset, length, _ := strings.Cut(strings.TrimSpace(line), " ")
	var err1, err2 error
	b.Offset, err1 = strconv.ParseUint(offset, 10, 64)
	b.Length, err2 = strconv.ParseUint(length, 10, 64)
	return b, err1 == nil && err2 == nil
}

// sysfsNamespace is false for what is none, and for the kernel's seeds.
func sysfsNamespace(dev string, devices []string) (n pmem.Namespace, ok bool) {
	region, ok := regionOf(dev)
	if !ok {
		return n, false
	}
	size, _ := number(dev, "size")
	if size == 0 {
		return n, false
	}
	n = pmem.Namespace{
		Dev: dev, Region: region, RawSize: size, UUID: attribute(dev, "uuid"), Name: attribute(dev, "alt_name"), State: driverState(dev),
		NUMANode: nodeAttribute(dev, "numa_node"), TargetNode: nodeAttribute(dev, "target_node"), Labels: attribute(dev, "nstype") == nstypePMEM,
	}
	holder := attribute(dev, "holder")
	if holder != "" {
		n.State = driverState(holder)
	}
	switch attribute(dev, "mode") {
	case "memory":
		n.Mode, n.Map, n.Size = pmem.ModeFSDAX, pmem.MapMem, size // without a holder, a legacy one
	case "dax":
		n.Mode = pmem.ModeDevDAX
	case "safe":
		n.Mode = pmem.ModeSector
	case "raw":
		n.Mode, n.Size = pmem.ModeRaw, size
	default:
		n.Mode = pmem.ModeUnknown
	}
	block := dev
	if holder != "" && slices.Contains(devices, holder) {
		block = holder
		n.Size, _ = number(holder, "size")
		switch n.Mode {
		case pmem.ModeFSDAX, pmem.ModeDevDAX:
			n.Map = map[string]pmem.Map{"ram": pmem.MapMem, "pmem": pmem.MapDev}[attribute(holder, "mode")]
			n.Align, _ = number(holder, "align")
		case pmem.ModeSector:
			n.SectorSize = selected(attribute(holder, "sector_size"))
		}
	}
	switch {
	case n.Mode == pmem.ModeDevDAX && n.Enabled():
		n.Chardev = child(block, "dax")
	case n.Enabled():
		n.Blockdev = child(block+"/block", "pmem")
	default:
		n.Size = 0
	}
	if n.SectorSize == 0 && n.Mode != pmem.ModeDevDAX {
		if n.SectorSize = selected(attribute(dev, "sector_size")); n.SectorSize == 0 {
			n.SectorSize = 512
		}
	}
	return n, true
}

// regionOf is the region of a namespace: the kernel numbers namespaces within theirs,
// as in namespace0.1 (namespace_devs.c).
func regionOf(dev string) (region string, ok bool) {
	numbers, ok := strings.CutPrefix(dev, "namespace")
	id, _, dotted := strings.Cut(numbers, ".")
	return "region" + id, ok && dotted
}

// selected is the one in brackets of a list such as "512 [4096]"; 0 when none is.
func selected(list string) uint {
	_, rest, _ := strings.Cut(list, "[")
	one, _, _ := strings.Cut(rest, "]")
	n, _ := strconv.ParseUint(one, 10, 32)
	return uint(n)
}

// child is the name of the first thing in a folder that begins so.
func child(dir, prefix string) string {
	entries, _ := os.ReadDir(sysfsNVDIMM + dir)
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), prefix) {
			return e.Name()
		}
	}
	return ""
}

func driverState(dev string) string {
	if unix.Access(sysfsNVDIMM+dev+"/driver", unix.F_OK) == nil {
		return pmem.StateEnabled
	}
	return pmem.StateDisabled
}

func nodeAttribute(dev, name string) *int {
	n, err := strconv.Atoi(attribute(dev, name))
	if err != nil || n < 0 {
		return nil
	}
	return &n
}

func number(dev, name string) (uint64, bool) {
	n, err := strconv.ParseUint(attribute(dev, name), 0, 64)
	return n, err == nil
}

// attribute is "" when it cannot be read.
func attribute(dev, name string) string { return readLine(sysfsNVDIMM + dev + "/" + name) }

// EnabledFSDAX lists the fsdax namespaces whose block device is up. Of each it has
// the device, region, name, UUID, block device and size. It does not wait for the
// kernel to bring up others, as Snapshot does.
func (Lib) EnabledFSDAX() []pmem.Namespace {
	var found []pmem.Namespace
	for _, holder := range devices() {
		if !strings.HasPrefix(holder, "pfn") {
			continue
		}
		block := child(holder+"/block", "pmem")
		dev := attribute(holder, "namespace")
		region, ok := regionOf(dev)
		sectors, sized := number(holder, "block/"+block+"/size")
		if block == "" || !ok || !sized {
			continue
		}
		found = append(found, pmem.Namespace{
			Dev: dev, Region: region, Mode: pmem.ModeFSDAX, State: pmem.StateEnabled, Blockdev: block, Size: sectors * 512,
			Name: attribute(dev, "alt_name"), UUID: attribute(dev, "uuid"),
		})
	}
	return found
}

// BusNode is the device node of the first NVDIMM bus, "" where there is none.
func BusNode() string {
	nodes, _ := filepath.Glob("/dev/ndctl[0-9]*")
	return append(nodes, "")[0]
}

// readLine reads a file of sysfs, which is never longer than a page. Go's own way
// would ask first whether the file can be polled.
func readLine(file string) string {
	fd, err := unix.Open(file, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return ""
	}
	defer unix.Close(fd)
	var buf [4096]byte
	n, err := unix.Read(fd, buf[:])
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(buf[:n]))
}
