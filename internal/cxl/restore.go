package cxl

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/pmem"
	"github.com/pmemctl/pmemctl/internal/run"
)

// Host creates regions with the command cxl.
type Host struct {
	// CXL and NVDIMM are the directories of the buses in sysfs.
	CXL, NVDIMM string
	// Run runs a program and returns its output.
	Run func(ctx context.Context, name string, args ...string) ([]byte, error)
}

// ThisHost is the host that pmemctl runs on.
func ThisHost() Host {
	return Host{CXL: Root, NVDIMM: "/sys/bus/nd/devices", Run: run.Change}
}

// Restored is what became of a saved region.
type Restored struct {
	Region
	// Exists: it was there, and is what was saved.
	Exists bool
	// Command is what created it, or would.
	Command []string
	Err     error
}

// plan is how a region can be created.
type plan struct {
	decoder string
	memdevs []string
}

// wait is how long libnvdimm may take to add its region to a CXL region.
const wait = 10 * time.Second

// Restore creates the saved regions that are missing, each with the devices, order, interleaving,
// size and place on the devices that it had. What cannot be created so is not created, and what
// exists in another form is left unchanged: its Err says why. With dry, it only returns what it would do.
func (h Host) Restore(ctx context.Context, regions []Region, dry bool) []Restored {
	// The kernel gives out a device's memory from its beginning.
	regions = slices.SortedStableFunc(slices.Values(regions), func(a, b Region) int {
		return slices.Compare(offsets(a), offsets(b))
	})
	var all []Restored
	for _, r := range regions {
		restored := Restored{Region: r}
		restored.Exists, restored.Command, restored.Err = h.restore(ctx, &restored.Region, dry)
		all = append(all, restored)
	}
	return all
}

func offsets(r Region) (all []uint64) {
	for _, t := range r.Targets {
		all = append(all, t.Offset)
	}
	return all
}

// restore sets the name of the region that exists or that it creates.
func (h Host) restore(ctx context.Context, r *Region, dry bool) (exists bool, command []string, err error) {
	what := "CXL region on " + r.Serials()
	before := h.Regions()
	for _, now := range before {
		if !now.Overlaps(*r) {
			continue
		}
		r.Dev = now.Dev
		if now.Cookie == 0 {
			return false, nil, errs.New(errs.Unsupported, what, "exists as "+now.Dev+", and the NVDIMM driver has no region for it", fmt.Sprintf("cxl enable-region %s; modprobe cxl_pmem; see why: dmesg | tail", now.Dev))
		}
		if diff := now.Differences(*r); diff != "" {
			return false, nil, errs.New(errs.Conflict, what, fmt.Sprintf("exists as %s with %s: its content is scrambled, or is that of another region", now.Dev, diff),
				fmt.Sprintf("write nothing to it; if nothing uses it, create it as it was: cxl disable-region %[1]s; cxl destroy-region %[1]s; pmemctl region restore; if what is saved is wrong: pmemctl region save --force", now.Dev))
		}
		return true, nil, nil
	}
	p, err := h.plan(*r)
	if err != nil {
		return false, nil, errs.Wrap("", what, "is not created", "", err)
	}
	command = slices.Concat([]string{"create-region", "-m", "-t", "pmem", "-d", p.decoder, "-w", strconv.Itoa(len(r.Targets)), "-g", strconv.FormatUint(r.Granularity, 10), "-s", strconv.FormatUint(r.Size, 10)},
		h.uuidFlag(ctx, r.UUID), p.memdevs)
	if dry {
		return false, command, nil
	}
	if _, err := h.Run(ctx, "cxl", command...); err != nil {
		return false, command, errs.Wrap("", what, "could not be created", cmp.Or(errs.NextStep(err), "see why: dmesg | tail"), err)
	}
	made, err := h.verify(ctx, *r, before)
	if err != nil {
		return false, command, errs.Wrap("", what, "was not created as it was", "see what is there: cxl list -RT", err)
	}
	r.Dev = made.Dev
	return false, command, nil
}

// Await waits until the memory devices of some regions are there, or until the context ends.
func (h Host) Await(ctx context.Context, regions []Region) {
	for ctx.Err() == nil && slices.ContainsFunc(regions, func(r Region) bool { _, err := h.plan(r); return err != nil }) {
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// plan finds the devices and the decoder of a region.
func (h Host) plan(r Region) (p plan, err error) {
	devices := Memdevs(h.CXL)
	for _, t := range r.Targets {
		with := slices.DeleteFunc(slices.Clone(devices), func(m pmem.Memdev) bool { return m.Serial != uint64(t.Serial) })
		what := fmt.Sprintf("memory device with serial %s", t.Serial)
		switch {
		case len(with) == 0:
			return p, errs.New(errs.NotFound, what, "is not there", "see which are: pmemctl dimm list")
		case len(with) > 1:
			return p, errs.New(errs.Conflict, what, "is there more than once: "+with[0].Dev+" and "+with[1].Dev, "see them: cxl list -M")
		case with[0].Decoder == "":
			return p, errs.New(errs.NotFound, what, "is not reached by a decoder for persistent memory", "see which there are: cxl list -DE; load the drivers: modprobe cxl_acpi cxl_port cxl_mem")
		}
		// Volatile memory comes first on a device.
		begin := bus(h.CXL).number(with[0].Dev, "ram/size")
		if end := begin + with[0].Size; t.Offset < begin || r.end(t) > end {
			return p, errs.New(errs.Conflict, what, fmt.Sprintf("has persistent memory from %d to %d, and the region is from %d to %d", begin, end, t.Offset, r.end(t)), "see its partitions: cxl list -MI -m "+with[0].Dev)
		}
		p.memdevs = append(p.memdevs, with[0].Dev)
	}
	b := bus(h.CXL)
	for _, dev := range b.names() {
		if b.isRootForPMEM(dev) && b.number(dev, "start") == uint64(r.Window) {
			p.decoder = dev
			return p, nil
		}
	}
	return p, errs.New(errs.Conflict, "root decoder "+r.Decoder, fmt.Sprintf("is gone: none for persistent memory begins at %s", r.Window), "see which there are: cxl list -D; if the firmware moved it: cxl create-region, then pmemctl region save --force")
}

// uuidFlag returns the flag for the UUID, which cxl 76 does not have, although its man page does. No
// content depends on it.
func (h Host) uuidFlag(ctx context.Context, id string) []string {
	options, _ := h.Run(ctx, "cxl", "create-region", "--list-opts") // ends with an error in any case
	if !strings.Contains(string(options), "--uuid") || uuid.Validate(id) != nil || uuid.MustParse(id) == uuid.Nil {
		return nil
	}
	return []string{"-U", id}
}

// verify compares the region that the kernel made, which is not among those before, with what was
// to be made, and destroys it if it differs.
func (h Host) verify(ctx context.Context, want Region, before []Region) (made Region, err error) {
	for begun := time.Now(); ; {
		for _, r := range h.Regions() {
			// Others may create regions meanwhile, on other devices.
			if !slices.ContainsFunc(before, func(b Region) bool { return b.Dev == r.Dev }) && r.sharesDevice(want) {
				made = r
			}
		}
		if made.Cookie != 0 || time.Since(begun) > wait {
			break
		}
		select {
		case <-ctx.Done():
			return made, ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
	if made.Dev == "" {
		return made, errs.New(errs.Internal, "", "cxl reported success, but there is no new region", "")
	}
	diff := made.Differences(want)
	if diff == "" && made.Cookie == 0 {
		return made, errs.New(errs.Internal, made.Dev, "has no region of the NVDIMM driver", "load it: modprobe cxl_pmem; see why: dmesg | tail")
	}
	if diff == "" {
		return made, nil
	}
	_, disabled := h.Run(ctx, "cxl", "disable-region", made.Dev)
	_, destroyed := h.Run(ctx, "cxl", "destroy-region", made.Dev)
	return made, errors.Join(errs.New(errs.Conflict, made.Dev, "came up with "+diff+", and was destroyed again", ""), disabled, destroyed)
}
