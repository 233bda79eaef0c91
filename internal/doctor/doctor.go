// Package doctor checks everything between the kernel's NVDIMM driver and a mounted volume, and
// says what is wrong and what to do.
package doctor

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/pmemctl/pmemctl/internal/cxl"
	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/hostconf"
	"github.com/pmemctl/pmemctl/internal/hostlock"
	"github.com/pmemctl/pmemctl/internal/mount"
	"github.com/pmemctl/pmemctl/internal/volume"
)

// State is the result of a check.
type State string

// The states, from good to bad. A note needs no action; a warning is something that will or may
// fail; a fault is something that does not work, or data that is not reachable.
const (
	OK      State = "ok"
	Note    State = "note"
	Warning State = "warning"
	Fault   State = "fault"
)

var states = []State{OK, Note, Warning, Fault}

// Rank is 0 for OK, and greater for what is worse.
func (s State) Rank() int { return slices.Index(states, s) }

// Finding is the result of one check.
type Finding struct {
	Check  string `json:"check"`            // what was checked: dimm
	Object string `json:"object,omitempty"` // which one: nmem0
	State  State  `json:"state"`
	Detail string `json:"detail"`
	Next   string `json:"next,omitempty"` // what to do
}

// Worst returns the worst state of the findings.
func Worst(findings []Finding) State {
	worst := OK
	for _, f := range findings {
		if f.State.Rank() > worst.Rank() {
			worst = f.State
		}
	}
	return worst
}

// Host is what the checks read of the host; *volume.Service implements it.
type Host interface {
	LookAtEverything(context.Context) (volume.View, error)
	Damage(volume.View) []volume.Damage
	DeletedIn(volume.View) []volume.Volume
	Conditions(ctx context.Context, v volume.View, content bool) ([]volume.Condition, error)
	Stranded() ([]volume.Stranded, error)
	HeldLocks() ([]hostlock.Held, error)
	MapFile(path string) (mount.Mapped, error)
}

// Checker checks a host.
type Checker struct {
	Host   Host
	Kernel func() Kernel
	// CheckHost returns an error if no volume can be created on this host, as in a container that
	// lacks something.
	CheckHost func(context.Context) error
	// HostConf checks the configuration of udev and LVM; nil omits it.
	HostConf func(context.Context) ([]hostconf.Finding, error)
	// CXLRegions returns the CXL regions that exist, and those that are saved; nil omits them.
	CXLRegions func() (now, saved []cxl.Region, err error)
	// Installed returns an error if a program is not installed.
	Installed func(program string) error
	// RunDir is the directory of the records that are valid until the next boot.
	RunDir string
	// Server is where a CSI server on this host may be; nil omits it.
	Server *Server
	// Content also looks at the content of volumes that are not mounted.
	Content bool
	// Touch also writes a temporary file to each volume that is mounted writable, to show how the
	// kernel maps it.
	Touch bool
}

// Check reads the host and runs all checks. What cannot be read is a fault, and does not prevent
// the other checks.
func (c Checker) Check(ctx context.Context) []Finding {
	v, err := c.Host.LookAtEverything(ctx)
	return c.CheckView(ctx, v, err)
}

// CheckView is Check with the answer of LookAtEverything.
func (c Checker) CheckView(ctx context.Context, v volume.View, err error) []Finding {
	r := &report{}
	c.checkKernel(r)
	c.checkPrograms(r)
	c.checkHost(ctx, r)
	if err != nil {
		r.failed("host", "", err)
	} else {
		c.checkPMEM(ctx, r, v)
		c.checkErasing(r, c.Host.DeletedIn(v), time.Now())
	}
	c.checkCXLRegions(r)
	c.checkMapper(r)
	c.checkLocks(r, time.Now())
	c.checkRunDir(r)
	c.checkHostConf(ctx, r)
	c.checkServer(ctx, r)
	return r.findings
}

// checkPMEM runs the checks that depend only on the view and the condition of its volumes.
func (c Checker) checkPMEM(ctx context.Context, r *report, v volume.View) {
	checkDamage(r, c.Host.Damage(v))
	checkBuses(r, v)
	checkDIMMs(r, v)
	checkMemdevs(r, v)
	checkRegions(r, v)
	checkNamespaces(r, v)
	checkGroups(r, v)
	c.checkVolumes(ctx, r, v)
}

// CheckAgain returns the earlier findings of a host, with those about its PMEM found again from
// what was recorded of it.
func CheckAgain(ctx context.Context, recorded Host, earlier []Finding) []Finding {
	v, err := recorded.LookAtEverything(ctx)
	if err != nil {
		return earlier
	}
	var again report
	Checker{Host: recorded}.checkPMEM(ctx, &again, v)
	ofPMEM := func(f Finding) bool {
		return slices.Contains([]string{"bus", "dimm", "region", "namespace", "namespaces", "volume group", "volume", "volumes"}, f.Check)
	}
	first := slices.IndexFunc(earlier, ofPMEM)
	if first < 0 {
		return append(again.findings, earlier...)
	}
	kept := slices.DeleteFunc(slices.Clone(earlier), ofPMEM)
	return slices.Insert(kept, first, again.findings...)
}

// report collects findings.
type report struct{ findings []Finding }

func (r *report) add(check, object string, state State, detail, next string) {
	r.findings = append(r.findings, Finding{check, object, state, detail, next})
}

func (r *report) ok(check, object, detail string) { r.add(check, object, OK, detail, "") }

// failed adds a fault for something that could not be read.
func (r *report) failed(check, object string, err error) {
	r.add(check, object, Fault, err.Error(), cmp.Or(errs.NextStep(err), "see the kernel's messages: dmesg | tail"))
}

// has reports whether there is a finding about an object that is worse than a note.
func (r *report) has(check, object string) bool {
	return slices.ContainsFunc(r.findings, func(f Finding) bool {
		return f.Check == check && f.Object == object && f.State.Rank() > Note.Rank()
	})
}
