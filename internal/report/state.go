// Package report writes what is to be known of a host to an archive, and shows a host as an archive
// has it.
package report

import (
	"context"
	"time"

	"github.com/pmemctl/pmemctl/internal/doctor"
	"github.com/pmemctl/pmemctl/internal/hostlock"
	"github.com/pmemctl/pmemctl/internal/lvm"
	"github.com/pmemctl/pmemctl/internal/pmem"
	"github.com/pmemctl/pmemctl/internal/volume"
)

// format is the version of State. It changes when an older pmemctl could not read it.
const format = 1

// State is the state of a host when the archive was made.
type State struct {
	Format  int       `json:"format"`
	Version string    `json:"version"` // of pmemctl
	Time    time.Time `json:"time"`

	PMEM pmem.System `json:"pmem"`
	// Hidden has what the output of commands omits.
	Hidden     hidden             `json:"hidden"`
	LVM        lvm.State          `json:"lvm"`
	Foreign    lvm.State          `json:"foreign"`
	LookErr    string             `json:"look_error,omitempty"` // in place of the above
	Volumes    []volume.Volume    `json:"volumes"`
	Conditions []volume.Condition `json:"conditions"`
	// ConditionsErr is the reason why Conditions could not be read.
	ConditionsErr string                      `json:"conditions_error,omitempty"`
	Mounted       map[string][]volume.Mounted `json:"mounted"` // by device
	Damage        []volume.Damage             `json:"damage"`
	Deleted       []volume.Volume             `json:"deleted"`
	Stranded      []volume.Stranded           `json:"stranded"`
	Locks         []hostlock.Held             `json:"locks"`
	Parts         []volume.VGPart             `json:"vg_parts"`
	Findings      []doctor.Finding            `json:"findings"`
	ReadErrors    []string                    `json:"read_errors,omitempty"`
}

// hidden are fields of regions and namespaces that are not printed, by device name.
type hidden struct {
	LabelsFull []string          `json:"labels_full,omitempty"`
	InfoUUIDs  map[string]string `json:"info_uuids,omitempty"`
}

// Source is what is read of the host; *volume.Service implements it.
type Source interface {
	doctor.Host
	MountsOn(device string) []volume.Mounted
	CheckVGs(ctx context.Context, name string) ([]volume.VGPart, error)
}

// Read reads the state of a host. What cannot be read is recorded, and does not prevent the rest.
func Read(ctx context.Context, from Source, checker doctor.Checker, version string) State {
	s := State{Format: format, Version: version, Time: time.Now().UTC().Truncate(time.Second), Mounted: map[string][]volume.Mounted{}}
	failed := func(err error) {
		if err != nil {
			s.ReadErrors = append(s.ReadErrors, err.Error())
		}
	}
	v, err := from.LookAtEverything(ctx)
	if err != nil {
		s.LookErr = err.Error()
		failed(err)
		s.Findings = checker.CheckView(ctx, v, err)
		return s
	}
	s.PMEM, s.LVM, s.Foreign, s.Volumes = v.PMEM, v.LVM, v.Foreign, v.Examined()
	s.Hidden = hidingPlace(v.PMEM)
	s.Damage, s.Deleted = from.Damage(v), from.DeletedIn(v)
	for _, device := range devices(v) {
		if mounted := from.MountsOn(device); len(mounted) > 0 {
			s.Mounted[device] = mounted
		}
	}
	if s.Conditions, err = from.Conditions(ctx, v, true); err != nil {
		s.ConditionsErr = err.Error()
		failed(err)
	}
	s.Stranded, err = from.Stranded()
	failed(err)
	s.Locks, err = from.HeldLocks()
	failed(err)
	s.Parts, err = from.CheckVGs(ctx, "")
	failed(err)
	checker.Host = NewHost(s) // which was read once
	s.Findings = checker.CheckView(ctx, v, nil)
	return s
}

func hidingPlace(sys pmem.System) hidden {
	h := hidden{InfoUUIDs: map[string]string{}}
	for _, r := range sys.Regions {
		if r.LabelsFull {
			h.LabelsFull = append(h.LabelsFull, r.Dev)
		}
	}
	for _, n := range sys.Namespaces {
		if n.InfoUUID != "" {
			h.InfoUUIDs[n.Dev] = n.InfoUUID
		}
	}
	return h
}

// devices lists the block devices of a view that may be mounted.
func devices(v volume.View) (paths []string) {
	for _, n := range v.PMEM.Namespaces {
		if n.Blockdev != "" {
			paths = append(paths, "/dev/"+n.Blockdev)
		}
	}
	for _, state := range []lvm.State{v.LVM, v.Foreign} {
		for _, vg := range state.VGs {
			for _, lv := range vg.LVs {
				if lv.Active {
					paths = append(paths, lv.MapperPath())
				}
			}
		}
	}
	return paths
}
