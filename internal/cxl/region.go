package cxl

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Region is an interleave set of CXL memory devices: all that is required to create it again with
// the same content.
type Region struct {
	// Dev is its name, which changes over a reboot.
	Dev string `json:"-"`
	// Decoder is the root decoder, and Window its first physical address, which identifies it.
	Decoder string `json:"decoder"`
	Window  Hex    `json:"window"`
	// Targets are the parts on memory devices, by position.
	Targets []Target `json:"targets"`
	// Granularity of the interleaving, and Size, in bytes.
	Granularity uint64 `json:"granularity"`
	Size        uint64 `json:"size"`
	UUID        string `json:"uuid"`
	// Cookie is that of the interleave set, as libnvdimm calculates it from serial numbers and
	// offsets.
	Cookie Hex `json:"set_cookie"`
}

// Target is the part of a region on a memory device.
type Target struct {
	Serial Hex `json:"serial"`
	// Offset of the part on the device (its DPA) in bytes.
	Offset uint64 `json:"offset"`
}

// Hex is a number that is written in hexadecimal.
type Hex uint64

func (h Hex) String() string { return fmt.Sprintf("%#x", uint64(h)) }

// MarshalText implements encoding.TextMarshaler.
func (h Hex) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (h *Hex) UnmarshalText(text []byte) error {
	n, err := parse(string(text))
	*h = Hex(n)
	return err
}

// Serials returns the serial numbers of its devices, by position.
func (r Region) Serials() string {
	var all []string
	for _, t := range r.Targets {
		all = append(all, t.Serial.String())
	}
	return strings.Join(all, ",")
}

// end returns the end of its part on each device in bytes.
func (r Region) end(t Target) uint64 { return t.Offset + r.Size/uint64(len(r.Targets)) }

// Overlaps reports whether two regions have a part of a device in common.
func (r Region) Overlaps(other Region) bool {
	for _, t := range r.Targets {
		for _, o := range other.Targets {
			if t.Serial == o.Serial && t.Offset < other.end(o) && o.Offset < r.end(t) {
				return true
			}
		}
	}
	return false
}

// sharesDevice reports whether two regions have a device in common.
func (r Region) sharesDevice(other Region) bool {
	return slices.ContainsFunc(r.Targets, func(t Target) bool {
		return slices.ContainsFunc(other.Targets, func(o Target) bool { return o.Serial == t.Serial })
	})
}

// Differences says how a region differs from what it was, as far as its content depends on it; ""
// if it does not.
func (r Region) Differences(was Region) string {
	var all []string
	differ := func(what string, is, was any) {
		if is != was {
			all = append(all, fmt.Sprintf("%s %v instead of %v", what, is, was))
		}
	}
	differ("devices", r.Serials(), was.Serials())
	if len(r.Targets) > 1 || len(was.Targets) > 1 {
		differ("granularity", r.Granularity, was.Granularity)
	}
	differ("size", r.Size, was.Size)
	if r.Serials() == was.Serials() {
		for i, t := range r.Targets {
			differ("offset on "+t.Serial.String(), t.Offset, was.Targets[i].Offset)
		}
	}
	if r.Cookie != 0 && was.Cookie != 0 {
		differ("set cookie", r.Cookie, was.Cookie)
	}
	return strings.Join(all, ", ")
}

// Regions lists the committed regions with persistent memory, sorted by name.
func (h Host) Regions() []Region {
	b := bus(h.CXL)
	serials := map[string]uint64{}
	for _, m := range Memdevs(h.CXL) {
		serials[m.Dev] = m.Serial
	}
	var all []Region
	for _, dev := range b.names() {
		if !numbered(dev, "region") || b.number(dev, "commit") != 1 {
			continue
		}
		r := Region{
			Dev: dev, Decoder: b.parent(dev), Granularity: b.number(dev, "interleave_granularity"), Size: b.number(dev, "size"),
			UUID: b.text(dev, "uuid"), Cookie: Hex(bus(h.NVDIMM).number(dev, "set_cookie")),
		}
		r.Window = Hex(b.number(r.Decoder, "start"))
		persistent := true
		for i := range b.number(dev, "interleave_ways") {
			decoder := b.text(dev, fmt.Sprintf("target%d", i))
			persistent = persistent && b.text(decoder, "mode") == "pmem"
			r.Targets = append(r.Targets, Target{Serial: Hex(serials[b.memdevOf(decoder)]), Offset: b.number(decoder, "dpa_resource")})
		}
		if persistent && len(r.Targets) > 0 {
			all = append(all, r)
		}
	}
	slices.SortFunc(all, func(x, y Region) int { return cmp.Or(cmp.Compare(len(x.Dev), len(y.Dev)), cmp.Compare(x.Dev, y.Dev)) })
	return all
}

// memdevOf returns the memory device of an endpoint's decoder.
func (b bus) memdevOf(decoder string) string { return b.uport(b.parent(decoder)) }
