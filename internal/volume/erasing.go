package volume

import "github.com/pmemctl/pmemctl/internal/lvm"

// isIn reports whether a volume is where a plan has one: in its region, or in its group, of whose
// name there may be two.
func (vol Volume) isIn(p Plan) bool {
	return vol.Type == p.Type && vol.vgUUID == p.vgUUID && (p.Region == "" || p.Region == first(vol.Regions))
}

// erasingFor returns the deleted volumes in the places where a new volume would fit without them.
func (v View) erasingFor(spec Spec, failed func(Volume) bool) []Volume {
	spec.Limit = 0
	places, err := layoutOf(spec.Type).places(v, spec)
	if err != nil {
		return nil
	}
	var all []Volume
	for _, p := range places {
		var here []Volume
		var bytes uint64
		for _, vol := range inState(v.Volumes(), Deleting) {
			if vol.isIn(p.plan) && !failed(vol) {
				here = append(here, vol)
				bytes += vol.RawSize
			}
		}
		if p.rawFree+bytes >= p.plan.Raw {
			all = append(all, here...)
		}
	}
	return all
}

// erasingIn returns the deleted volumes of a group that would have room for some bytes without
// them.
func (v View) erasingIn(g lvm.VGRef, bytes uint64, failed func(Volume) bool) []Volume {
	var here []Volume
	vg, _ := v.LVM.Find(g)
	free := vg.Free
	for _, vol := range inState(v.Volumes(), Deleting) {
		if vol.group() == g && !failed(vol) {
			here = append(here, vol)
			free += vol.RawSize
		}
	}
	if free < bytes {
		return nil
	}
	return here
}
