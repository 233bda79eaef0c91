package ndctl

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pmemctl/pmemctl/internal/cxl"
	"github.com/pmemctl/pmemctl/internal/pmem"
)

// sysfsNVDIMM has a link for every device of the NVDIMM bus
// (Documentation/ABI/testing/sysfs-bus-nvdimm).
const sysfsNVDIMM = "/sys/bus/nd/devices/"

// fromSysfs takes a snapshot without libndctl, which takes several times as long. It returns false
// if something is selected that only the library can read (DIMM health), or if something could not
// be read.
func fromSysfs(sel Select) (pmem.System, bool) {
	if sel.DIMMs || sel.Health || sel.Namespaces && sel.Badblocks {
		return pmem.System{}, false
	}
	var r sysfsReader
	var s pmem.System
	for _, dev := range r.devices() {
		if strings.HasPrefix(dev, "ndbus") {
			r.attribute(dev, "wait_probe") // returns when the kernel has brought up all there is
			s.Buses = append(s.Buses, r.bus(dev))
		}
	}
	names := r.devices()
	for _, dev := range names {
		if !strings.HasPrefix(dev, "region") {
			continue
		}
		region, ok := r.region(dev, sel.Badblocks)
		if !ok {
			continue // it disappeared meanwhile
		}
		if sel.Namespaces && !region.Labels {
			return pmem.System{}, false
		}
		s.Regions = append(s.Regions, region)
	}
	if sel.Namespaces {
		for _, dev := range names {
			if n, ok := r.namespace(dev); ok {
				s.Namespaces = append(s.Namespaces, n)
			}
		}
	}
	sortSystem(&s)
	return s, r.err == nil
}

// sysfsReader reads sysfs. Missing files are empty; err is the first other error, such as too many
// open files, after which nothing may be taken for missing.
type sysfsReader struct{ err error }

func (r *sysfsReader) failed(err error) {
	gone := errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENXIO)
	if r.err == nil && !gone {
		r.err = err
	}
}

func (r *sysfsReader) list(dir string) []string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		r.failed(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func (r *sysfsReader) devices() []string { return r.list(sysfsNVDIMM) }

func (r *sysfsReader) bus(dev string) pmem.Bus {
	bus := pmem.Bus{Dev: dev, Provider: r.attribute(dev, "provider")}
	switch scrub := r.attribute(dev, "nfit/scrub"); {
	case strings.HasSuffix(scrub, "+"):
		bus.ScrubState = "active"
	case scrub != "":
		bus.ScrubState = "idle"
	}
	return bus
}

// Values of the kernel's nstype (include/uapi/linux/ndctl.h).
const (
	nstypeIO   = "4"
	nstypePMEM = "5"
)

func (r *sysfsReader) region(dev string, withBadblocks bool) (region pmem.Region, ok bool) {
	path, err := os.Readlink(sysfsNVDIMM + dev)
	size, ok := r.number(dev, "size")
	if err != nil || !ok {
		return region, false
	}
	nstype := r.attribute(dev, "nstype")
	region = pmem.Region{
		Dev: dev, Bus: filepath.Base(filepath.Dir(path)), Size: size, Type: "blk", State: r.driverState(dev),
		PersistenceDomain: r.attribute(dev, "persistence_domain"), NUMANode: r.node(dev, "numa_node"), TargetNode: r.node(dev, "target_node"),
		ReadOnly: r.attribute(dev, "read_only") == "1", Labels: nstype == nstypePMEM, Mappings: []pmem.Mapping{},
	}
	if nstype == nstypePMEM || nstype == nstypeIO {
		region.Type = "pmem"
	}
	if region.PersistenceDomain == "" {
		region.PersistenceDomain = "unknown"
	}
	if region.Labels { // or it cannot be divided
		region.AvailableSize, _ = r.number(dev, "available_size")
		if region.MaxAvailableExtent, ok = r.number(dev, "max_available_extent"); !ok { // an old kernel
			region.MaxAvailableExtent = region.AvailableSize
		}
		region.ISetID, _ = r.number(dev, "set_cookie")
	}
	region.Align, _ = r.number(dev, "align")
	ways, _ := r.number(dev, "mappings")
	region.InterleaveWays = uint(max(ways, 1))
	region.Granularity = cxl.Granularity(cxl.Root, dev)
	for i := range ways {
		if m, ok := parseMapping(r.attribute(dev, "mapping"+strconv.FormatUint(i, 10)), int(i)); ok {
			region.Mappings = append(region.Mappings, m)
		}
	}
	region.LabelsFull = region.Labels && r.labelsFull(region.Mappings)
	if withBadblocks {
		for line := range strings.Lines(r.attribute(dev, "badblocks")) {
			if b, ok := parseBadblock(line); ok {
				region.Badblocks = append(region.Badblocks, b)
				region.BadblockCount += b.Length
			}
		}
	}
	return region, true
}

// labelsFull reports whether a DIMM has no slot for another label. The kernel does not count the
// slot that it reserves (available_slots); if even that is used, it logs a warning once.
func (r *sysfsReader) labelsFull(mappings []pmem.Mapping) bool {
	return slices.ContainsFunc(mappings, func(m pmem.Mapping) bool { return r.attribute(m.DIMM, "available_slots") == "0" })
}

func labelsFull(mappings []pmem.Mapping) bool { return (&sysfsReader{}).labelsFull(mappings) }

// parseMapping parses "nmem0,0,4294967296,0": DIMM, offset, length, position. Old kernels omit the
// position.
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

// parseBadblock parses "8 2": offset and length in sectors.
func parseBadblock(line string) (b pmem.Badblock, ok bool) {
	offset, length, _ := strings.Cut(strings.TrimSpace(line), " ")
	var err1, err2 error
	b.Offset, err1 = strconv.ParseUint(offset, 10, 64)
	b.Length, err2 = strconv.ParseUint(length, 10, 64)
	return b, err1 == nil && err2 == nil
}

// namespace returns false for a device that is not a namespace, and for the kernel's seeds. One
// that is disabled and enabled meanwhile is read again.
func (r *sysfsReader) namespace(dev string) (n pmem.Namespace, ok bool) {
	region, ok := regionOf(dev)
	if !ok {
		return n, false
	}
	for range 5 {
		holder := r.attribute(dev, "holder")
		n, ok = r.namespaceOn(dev, holder)
		if r.attribute(dev, "holder") == holder {
			break
		}
	}
	n.Region, n.Granularity = region, cxl.Granularity(cxl.Root, region)
	return n, ok
}

// namespaceOn reads a namespace and the pfn, dax or btt device that holds it; "" is none.
func (r *sysfsReader) namespaceOn(dev, holder string) (n pmem.Namespace, ok bool) {
	size, _ := r.number(dev, "size")
	if size == 0 {
		return n, false
	}
	n = pmem.Namespace{
		Dev: dev, RawSize: size, UUID: r.attribute(dev, "uuid"), Name: r.attribute(dev, "alt_name"), State: r.driverState(dev),
		NUMANode: r.node(dev, "numa_node"), TargetNode: r.node(dev, "target_node"), Labels: r.attribute(dev, "nstype") == nstypePMEM,
	}
	switch r.attribute(dev, "mode") {
	case "memory":
		n.Mode, n.Map, n.Size = pmem.ModeFSDAX, pmem.MapMem, size // a legacy one if it has no holder
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
	if holder != "" {
		block = holder
		n.State = r.driverState(holder)
		n.Size, _ = r.number(holder, "size")
		switch n.Mode {
		case pmem.ModeFSDAX, pmem.ModeDevDAX:
			n.Map = map[string]pmem.Map{"ram": pmem.MapMem, "pmem": pmem.MapDev}[r.attribute(holder, "mode")]
			n.Align, _ = r.number(holder, "align")
			if n.Mode == pmem.ModeFSDAX {
				n.InfoUUID = r.attribute(holder, "uuid")
			}
		case pmem.ModeSector:
			n.SectorSize = selected(r.attribute(holder, "sector_size"))
		}
	}
	switch {
	case n.Mode == pmem.ModeDevDAX && n.Enabled():
		n.Chardev = r.child(block, "dax")
	case n.Enabled():
		n.Blockdev = r.child(block+"/block", "pmem")
	default:
		n.Size = 0
	}
	if n.SectorSize == 0 && n.Mode != pmem.ModeDevDAX {
		if n.SectorSize = selected(r.attribute(dev, "sector_size")); n.SectorSize == 0 {
			n.SectorSize = 512
		}
	}
	return n, true
}

// regionOf returns the region of a namespace: the kernel numbers namespaces within their region,
// as in namespace0.1 (namespace_devs.c).
func regionOf(dev string) (region string, ok bool) {
	numbers, ok := strings.CutPrefix(dev, "namespace")
	id, _, dotted := strings.Cut(numbers, ".")
	return "region" + id, ok && dotted
}

// selected returns the number in brackets of a list such as "512 [4096]"; 0 if there is none.
func selected(list string) uint {
	_, rest, _ := strings.Cut(list, "[")
	one, _, _ := strings.Cut(rest, "]")
	n, _ := strconv.ParseUint(one, 10, 32)
	return uint(n)
}

// child returns the first directory entry that has a prefix followed by a number.
func (r *sysfsReader) child(dir, prefix string) string {
	for _, name := range r.list(sysfsNVDIMM + dir) {
		if number, ok := strings.CutPrefix(name, prefix); ok && number != "" && number[0] >= '0' && number[0] <= '9' {
			return name
		}
	}
	return ""
}

func (r *sysfsReader) driverState(dev string) string {
	err := unix.Access(sysfsNVDIMM+dev+"/driver", unix.F_OK)
	if err == nil {
		return pmem.StateEnabled
	}
	r.failed(err)
	return pmem.StateDisabled
}

func (r *sysfsReader) node(dev, name string) *int {
	n, err := strconv.Atoi(r.attribute(dev, name))
	if err != nil || n < 0 {
		return nil
	}
	return &n
}

func (r *sysfsReader) number(dev, name string) (uint64, bool) {
	n, err := strconv.ParseUint(r.attribute(dev, name), 0, 64)
	return n, err == nil
}

func (r *sysfsReader) attribute(dev, name string) string {
	text, err := readFile(sysfsNVDIMM + dev + "/" + name)
	if err != nil {
		r.failed(err)
	}
	return text
}

// EnabledFSDAX lists the fsdax namespaces whose block device is enabled, with device, region,
// name, both UUIDs, block device and size. Unlike Snapshot, it does not wait for the kernel to
// enable others.
func (Lib) EnabledFSDAX() []pmem.Namespace {
	var r sysfsReader
	var found []pmem.Namespace
	for _, holder := range r.devices() {
		if !strings.HasPrefix(holder, "pfn") {
			continue
		}
		block := r.child(holder+"/block", "pmem")
		dev := r.attribute(holder, "namespace")
		region, ok := regionOf(dev)
		sectors, sized := r.number(holder, "block/"+block+"/size")
		if block == "" || !ok || !sized {
			continue
		}
		found = append(found, pmem.Namespace{
			Dev: dev, Region: region, Mode: pmem.ModeFSDAX, State: pmem.StateEnabled, Blockdev: block, Size: sectors * 512,
			Name: r.attribute(dev, "alt_name"), UUID: r.attribute(dev, "uuid"), InfoUUID: r.attribute(holder, "uuid"),
			Granularity: cxl.Granularity(cxl.Root, region),
		})
	}
	return found
}

// Granularity returns the interleave granularity of a CXL region in bytes; 0 for any other region,
// or one that is not interleaved.
func (Lib) Granularity(region string) uint64 { return cxl.Granularity(cxl.Root, region) }

// BusNode returns the device node of the first NVDIMM bus; "" if there is none.
func BusNode() string {
	nodes, _ := filepath.Glob("/dev/ndctl[0-9]*")
	return append(nodes, "")[0]
}

// readLine returns "" if the file cannot be read.
func readLine(file string) string {
	text, _ := readFile(file)
	return text
}

// readFile reads a file of sysfs, which is at most one page. os.ReadFile would first try to poll
// the file.
func readFile(file string) (string, error) {
	fd, err := unix.Open(file, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	buf := make([]byte, os.Getpagesize())
	n, err := unix.Read(fd, buf)
	if err != nil {
		return "", err
	}
	return strings.TrimSpace(string(buf[:n])), nil
}
