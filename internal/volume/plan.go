package volume

import (
	"fmt"
	"slices"

	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/mount"
	"github.com/pmemctl/pmemctl/internal/pmem"
)

// Plan is the place of a volume and the space it takes. Sizes are bytes.
type Plan struct {
	Name   string `json:"name"`
	Type   Type   `json:"type"`
	Region string `json:"region,omitempty"`
	VG     string `json:"vg,omitempty"`
	// Asked is the requested size, Usable the size that the volume will have.
	Asked  uint64 `json:"asked"`
	Usable uint64 `json:"usable"`
	// Raw is what the volume takes of its region or volume group, and Overhead the part of it that
	// is not usable.
	Raw      uint64 `json:"raw"`
	Overhead uint64 `json:"overhead"`
	// FreeAfter is the free raw space that remains there.
	FreeAfter uint64 `json:"free_after"`
	// Largest is the usable size of the largest volume that could be created there instead.
	Largest uint64 `json:"largest_possible"`
	Stripes int    `json:"stripes,omitempty"`
	// Exists says that the volume already exists as requested.
	Exists bool `json:"exists"`

	vgUUID  string
	devices []string // devices to allocate extents from; none means any
	copyOf  string   // UUID of the source if it is a copy
	uuid    string   // UUID for the namespace; "" is any
	forFS   bool     // a file system hides what is not zeroed
}

// place is a place in which a volume could be created.
type place struct {
	name string // "region0", "volume group pmemvgregion0"
	plan Plan
	// Usable bytes: free is the free space, largest and smallest the limits for a volume.
	free, largest, smallest uint64
	// rawFree is the free raw space in bytes.
	rawFree uint64
	// full says why no volume can be created there despite free space; "" if one can.
	full string
	// below is the next smaller size than that of the plan; 0 if there is none.
	below uint64
}

// plan chooses the place with the least sufficient room, so that large volumes remain possible.
func (v View) plan(spec Spec) (Plan, error) {
	places, err := layoutOf(spec.Type).places(v, spec)
	if err != nil {
		return Plan{}, err
	}
	best, aboveLimit := -1, -1
	var largest place
	for i, p := range places {
		if p.largest > largest.largest || i == 0 {
			largest = p
		}
		if p.full != "" || p.plan.Usable > p.largest {
			continue
		}
		if spec.Limit != 0 && p.plan.Usable > spec.Limit {
			if aboveLimit < 0 || p.plan.Usable < places[aboveLimit].plan.Usable {
				aboveLimit = i
			}
			continue
		}
		if best < 0 || p.largest < places[best].largest {
			best = i
		}
	}
	switch {
	case best < 0 && aboveLimit >= 0:
		usable, below := places[aboveLimit].plan.Usable, places[aboveLimit].below
		next := fmt.Sprintf("raise the limit to %d bytes", usable)
		if below > 0 {
			next += fmt.Sprintf(", or request %d bytes, the next smaller size", below)
		}
		return Plan{}, errs.New(errs.OutOfRange, subject(spec.Name),
			fmt.Sprintf("the smallest possible size of at least %s is %s, above the limit of %s", pmem.FormatSize(spec.Size), pmem.FormatSize(usable), pmem.FormatSize(spec.Limit)),
			next)
	case best < 0:
		return Plan{}, v.noSpace(spec, places, largest)
	}
	plan := places[best].plan
	plan.Largest = places[best].largest
	return plan, nil
}

func (v View) noSpace(spec Spec, places []place, largest place) error {
	if i := slices.IndexFunc(places, func(p place) bool { return p.full != "" }); i >= 0 && largest.largest == 0 {
		return errs.New(errs.NoSpace, subject(spec.Name), "no volume fits in "+places[i].name+": "+places[i].full, "delete volumes that are not needed: pmemctl volume list; or use another region or group: pmemctl capacity")
	}
	next := "see what is free: pmemctl capacity"
	switch {
	case len(v.erasingFor(spec, func(Volume) bool { return false })) > 0:
		next = "reclaim the space of deleted volumes: pmemctl gc"
	case largest.largest > 0 && spec.FS == mount.XFS && largest.largest < mount.MinXFS:
	case largest.largest > 0:
		next = fmt.Sprintf("use --size %d or less, or free space: pmemctl volume list", largest.largest)
	}
	return errs.New(errs.NoSpace, subject(spec.Name),
		fmt.Sprintf("%s does not fit; the largest possible %s volume is %s, in %s", pmem.FormatSize(spec.Size), spec.Type, pmem.FormatSize(largest.largest), largest.name), next)
}
