package doctor

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pmemctl/pmemctl/internal/pmem"
	"github.com/pmemctl/pmemctl/internal/volume"
)

func checkBuses(r *report, v volume.View) {
	if len(v.PMEM.Regions) == 0 {
		r.failed("bus", "", volume.NoPMEM(v.PMEM))
	}
	for _, b := range v.PMEM.Buses {
		if b.ScrubState == "active" {
			r.add("bus", b.Dev, Note, b.Provider+", is being scrubbed: media errors are not all known yet", "")
			continue
		}
		if caveat := b.Caveat(); caveat != "" {
			r.add("bus", b.Dev, Note, b.Provider+": "+caveat, "")
			continue
		}
		r.ok("bus", b.Dev, b.Provider)
	}
}

func checkMemdevs(r *report, v volume.View) {
	for _, m := range v.PMEM.Memdevs {
		switch {
		case len(m.Regions) > 0:
			r.ok("memdev", m.Dev, fmt.Sprintf("serial %#x, %s, in CXL %s", m.Serial, pmem.FormatSize(m.Size), strings.Join(m.Regions, ", ")))
		case m.Decoder == "":
			r.add("memdev", m.Dev, Warning, fmt.Sprintf("serial %#x: is in no region, and no decoder can address persistent memory", m.Serial), "cxl list -D")
		default:
			r.add("memdev", m.Dev, Warning, fmt.Sprintf("serial %#x: is in no region, so that its memory is not visible", m.Serial), "pmemctl region restore, if its region was saved; else: "+m.CreateRegion())
		}
	}
}

// checkCXLRegions compares the CXL regions with those that are created at boot.
func (c Checker) checkCXLRegions(r *report) {
	if c.CXLRegions == nil {
		return
	}
	now, saved, err := c.CXLRegions()
	if err != nil {
		r.failed("cxl region", "", err)
		return
	}
	const restore = "pmemctl region restore"
	for _, was := range saved {
		i := slices.IndexFunc(now, was.Overlaps)
		if i < 0 {
			r.add("cxl region", was.Serials(), Fault, "is saved, and does not exist", restore)
		} else if diff := now[i].Differences(was); diff != "" {
			r.add("cxl region", now[i].Dev, Fault, "is not what was saved, so its content is scrambled or that of another region: it has "+diff, "write nothing to it; see what to do: "+restore)
		}
	}
	for _, is := range now {
		i := slices.IndexFunc(saved, is.Overlaps)
		switch {
		case i < 0:
			r.add("cxl region", is.Dev, Warning, "is not saved, so that it will be missing after a boot", "pmemctl region save")
		case is.Differences(saved[i]) == "":
			r.ok("cxl region", is.Dev, fmt.Sprintf("on %s, granularity %d, is saved", is.Serials(), is.Granularity))
		}
	}
}

// flagsOfDIMM are what a flag of a DIMM means (kernel drivers/acpi/nfit/core.c, flags_show).
var flagsOfDIMM = map[string]struct {
	state        State
	detail, next string
}{
	"failed_save":    {Fault, "could not save its data at the last power failure: data may be lost", "restore from a backup; have the DIMM or its battery replaced"},
	"failed_restore": {Fault, "could not restore its data at boot: data may be lost", "restore from a backup; have the DIMM replaced"},
	"failed_flush":   {Fault, "did not flush its buffers at the last shutdown: the last writes may be lost", "check the files and databases on it: pmemctl tree"},
	"failed_arm":     {Fault, "is not armed: it will not save its data at a power failure", "move the data away; have the DIMM or its battery replaced"},
	"failed_map":     {Fault, "could not be mapped by the firmware", "see the firmware's messages: dmesg | grep -i nfit"},
	"smart_event":    {Warning, "reports an event", "pmemctl dimm list -o wide"},
	"locked":         {Fault, "is locked: its regions cannot be used", "unlock it: ndctl list -D; keyctl, ndctl-load-keys(1)"},
}

func checkDIMMs(r *report, v volume.View) {
	for _, d := range v.PMEM.DIMMs {
		before := len(r.findings)
		problem := func(state State, detail, next string) { r.add("dimm", d.Dev, state, detail, next) }
		for _, flag := range d.Flags {
			f, known := flagsOfDIMM[flag]
			if !known {
				f.state, f.detail = Note, "has the flag "+flag
			}
			problem(f.state, f.detail, f.next)
		}
		if d.State != pmem.StateEnabled {
			problem(Warning, "is "+d.State+": its labels cannot be read", "see why: dmesg | grep "+d.Dev)
		}
		if d.Health != nil {
			checkHealth(d, problem)
		}
		if len(r.findings) == before {
			detail := "reports no health"
			if d.Health != nil {
				detail = "health " + d.Health.State
			}
			r.ok("dimm", d.Dev, detail)
		}
	}
}

func checkHealth(d pmem.DIMM, problem func(state State, detail, next string)) {
	const replace = "back up what is on it, and have it replaced"
	h := d.Health
	switch h.State {
	case "non-critical":
		problem(Warning, "reports health non-critical", "pmemctl dimm list -o wide")
	case "critical", "fatal":
		problem(Fault, "reports health "+h.State, replace)
	}
	if h.AlarmSpares != nil && *h.AlarmSpares {
		problem(Warning, "has few spare blocks left", replace)
	}
	if h.AlarmTemperature != nil && *h.AlarmTemperature {
		problem(Warning, "is too hot", "check the cooling")
	}
	if h.ShutdownState == "dirty" {
		problem(Warning, "was not shut down cleanly: the last writes may be lost", "check the files and databases on it: pmemctl tree")
	}
	if h.LifeUsedPercentage != nil && *h.LifeUsedPercentage >= 90 {
		problem(Warning, fmt.Sprintf("has used %d%% of its life", *h.LifeUsedPercentage), replace)
	}
}

func checkRegions(r *report, v volume.View) {
	for _, region := range v.PMEM.Regions {
		if r.has("region", region.Dev) {
			continue
		}
		before := len(r.findings)
		if reason, next := v.UnusableForGroups(region); reason != "" {
			state := Warning
			if region.Type != "pmem" || !region.Labels && region.Enabled() {
				state = Note // it may be meant so
			}
			r.add("region", region.Dev, state, reason, next)
		}
		if region.BadblockCount > 0 {
			r.add("region", region.Dev, Warning, fmt.Sprintf("has media errors, in blocks of 512 bytes: %d", region.BadblockCount), "pmemctl region show "+region.Dev)
		}
		if region.LabelsFull {
			r.add("region", region.Dev, Warning, "has no free label, so no namespace can be created in it", "use lvm volumes, or delete a direct volume")
		}
		if region.PersistenceDomain == "unknown" && region.Labels {
			r.add("region", region.Dev, Note, "the firmware does not say what a power failure preserves", "")
		}
		if fragmented(region) {
			r.add("region", region.Dev, Note, fmt.Sprintf("its free space of %s is in pieces of at most %s, which limits direct volumes", pmem.FormatSize(region.AvailableSize), pmem.FormatSize(region.MaxAvailableExtent)), "")
		}
		if owner := v.WholeOwner(region); owner != "" && len(r.findings) == before {
			r.ok("region", region.Dev, fmt.Sprintf("%s, without labels, in volume group %s", pmem.FormatSize(region.Size), owner))
		}
		if len(r.findings) == before {
			r.ok("region", region.Dev, fmt.Sprintf("%s, %s free, %s", pmem.FormatSize(region.Size), pmem.FormatSize(region.AvailableSize), interleaving(region)))
		}
	}
}

// fragmented reports whether less than half of the free space is in one piece.
func fragmented(r pmem.Region) bool {
	return r.AvailableSize >= pmem.GiB && r.MaxAvailableExtent < r.AvailableSize/2
}

func interleaving(r pmem.Region) string {
	if r.InterleaveWays < 2 {
		return "not interleaved"
	}
	return fmt.Sprintf("interleaved over %d DIMMs", r.InterleaveWays)
}

func checkNamespaces(r *report, v volume.View) {
	var foreign []string
	for _, n := range v.PMEM.Namespaces {
		owner, own := volume.Owned(n.Name)
		if !own {
			foreign = append(foreign, fmt.Sprintf("%s (%s)", n.Dev, n.Mode))
			continue
		}
		// A volume is deleted or unfinished as long as its namespace is disabled or raw.
		if n.Enabled() && n.Mode == pmem.ModeFSDAX && n.Align != 0 && n.Align < 2*pmem.MiB {
			r.add("namespace", n.Dev, Warning, owner+": is aligned to "+pmem.FormatSize(n.Align)+", so faults map pages of that size", "copy its data to a new volume: pmemctl volume clone")
		}
	}
	slices.Sort(foreign)
	detail := fmt.Sprintf("of pmemctl: %d", len(v.PMEM.Namespaces)-len(foreign))
	if len(foreign) > 0 {
		r.add("namespaces", "", Note, detail+"; left alone: "+strings.Join(foreign, ", "), "")
		return
	}
	r.ok("namespaces", "", detail)
}
