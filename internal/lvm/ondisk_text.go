package lvm

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Group is a volume group according to a copy of its metadata.
type Group struct {
	Name, UUID string
	Seqno      uint64    // sequence number of the change
	Time       time.Time // of the change
	ExtentSize uint64    // bytes
	// Shared says why the group is not this host's alone: a lock type, a system ID, or exported; ""
	// if it is.
	Shared string
	PVs    []GroupPV
	LVs    []GroupLV
}

// GroupPV is a physical volume of a Group. Sizes are bytes.
type GroupPV struct {
	UUID       string
	DeviceSize uint64
	DataStart  uint64
	DataEnd    uint64 // end of the last extent
	key        string // pv0, …
}

// GroupLV is a logical volume of a Group.
type GroupLV struct {
	Name, UUID string
	Tags       []string
	segments   []segment
}

type segment struct {
	kind       string
	count      uint64 // extents
	stripeSize uint64 // sectors
	stripes    []stripe
}

type stripe struct {
	pv     string // key
	extent uint64
}

// PV finds a physical volume by UUID.
func (g Group) PV(uuid string) (GroupPV, bool) {
	i := slices.IndexFunc(g.PVs, func(p GroupPV) bool { return p.UUID == uuid })
	if i < 0 {
		return GroupPV{}, false
	}
	return g.PVs[i], true
}

// MapperUUID returns the device mapper's UUID of a logical volume of the group.
func (g Group) MapperUUID(lv GroupLV) string {
	return "LVM-" + strings.ReplaceAll(g.UUID+lv.UUID, "-", "")
}

// Table returns the device mapper table of a logical volume (kernel
// Documentation/admin-guide/device-mapper, linear and striped), given the device of each physical
// volume as MAJOR:MINOR by its UUID; false if it has segments other than linear and striped.
func (g Group) Table(lv GroupLV, devices map[string]string) (string, bool) {
	var lines []string
	var start uint64 // sectors
	for _, s := range lv.segments {
		if s.kind != "striped" || len(s.stripes) == 0 {
			return "", false
		}
		length := s.count * g.ExtentSize / sectorSize
		line := fmt.Sprintf("%d %d ", start, length)
		if len(s.stripes) == 1 {
			line += "linear"
		} else {
			line += fmt.Sprintf("striped %d %d", len(s.stripes), s.stripeSize)
		}
		for _, on := range s.stripes {
			i := slices.IndexFunc(g.PVs, func(p GroupPV) bool { return p.key == on.pv })
			if i < 0 {
				return "", false
			}
			line += fmt.Sprintf(" %s %d", devices[g.PVs[i].UUID], (g.PVs[i].DataStart+on.extent*g.ExtentSize)/sectorSize)
		}
		lines = append(lines, line)
		start += length
	}
	return strings.Join(lines, "\n"), true
}

// ParseGroup parses the metadata of a volume group.
func ParseGroup(text []byte) (Group, error) {
	top, err := parseTree(strings.TrimRight(string(text), "\x00"))
	if err != nil {
		return Group{}, err
	}
	for _, e := range top {
		if e.section == nil {
			continue
		}
		var n numbers
		made := n.parse(top.text("creation_time"))
		s := e.section
		g := Group{Name: e.key, UUID: s.text("id"), Seqno: n.parse(s.text("seqno")), ExtentSize: n.parse(s.text("extent_size")), Time: time.Unix(int64(min(made, maxNumber)), 0)}
		switch lock, system := s.text("lock_type"), s.text("system_id"); {
		case lock != "" && lock != "none":
			g.Shared = "lock type " + lock
		case system != "":
			g.Shared = "system ID " + system
		case slices.Contains(s.list("status"), "EXPORTED"):
			g.Shared = "exported"
		}
		for _, p := range s.at("physical_volumes") {
			pv := GroupPV{key: p.key, UUID: p.section.text("id"), DeviceSize: n.parse(p.section.text("dev_size")), DataStart: n.parse(p.section.text("pe_start"))}
			count := n.parse(p.section.text("pe_count"))
			// A device without a label has no UUID either, so an empty UUID must not match.
			if !validUUID(pv.UUID) || max(g.ExtentSize, count, pv.DataStart, pv.DeviceSize) > maxNumber {
				return Group{}, errMetadata
			}
			pv.DataEnd = (pv.DataStart + count*g.ExtentSize) * sectorSize
			pv.DataStart *= sectorSize
			pv.DeviceSize *= sectorSize
			g.PVs = append(g.PVs, pv)
		}
		g.ExtentSize *= sectorSize
		for _, l := range s.at("logical_volumes") {
			lv := GroupLV{Name: l.key, UUID: l.section.text("id"), Tags: l.section.list("tags")}
			for _, seg := range l.section {
				if strings.HasPrefix(seg.key, "segment") && seg.section != nil {
					parsed, err := parseSegment(seg.section)
					if err != nil {
						return Group{}, err
					}
					lv.segments = append(lv.segments, parsed)
				}
			}
			g.LVs = append(g.LVs, lv)
		}
		if n.err != nil || !validUUID(g.UUID) || g.Seqno == 0 || len(g.PVs) == 0 {
			return Group{}, errMetadata
		}
		return g, nil
	}
	return Group{}, errMetadata
}

// maxNumber exceeds the sectors or extents of any device, and the product of two still fits.
const maxNumber = 1 << 45

func parseSegment(s tree) (segment, error) {
	var n numbers
	seg := segment{kind: s.text("type"), count: n.parse(s.text("extent_count")), stripeSize: n.parse(s.text("stripe_size"))}
	words := s.list("stripes")
	for i := 0; i+1 < len(words); i += 2 {
		seg.stripes = append(seg.stripes, stripe{words[i], n.parse(words[i+1])})
	}
	return seg, n.err
}

// tree is a section in the format of lvm.conf(5).
type tree []entry

type entry struct {
	key     string
	values  []string
	section tree // not nil for a section
}

func (c tree) list(key string) []string {
	for _, e := range c {
		if e.key == key {
			return e.values
		}
	}
	return nil
}

func (c tree) text(key string) string {
	if v := c.list(key); len(v) == 1 {
		return v[0]
	}
	return ""
}

// at returns the subsections of a section.
func (c tree) at(key string) (sections tree) {
	for _, e := range c {
		if e.key != key {
			continue
		}
		for _, inner := range e.section {
			if inner.section != nil {
				sections = append(sections, inner)
			}
		}
	}
	return sections
}

const maxDepth = 16

func parseTree(text string) (tree, error) {
	t := tokens{text: text}
	c, err := t.section(0)
	if err == nil && t.next != "" {
		err = errMetadata
	}
	return c, err
}

type tokens struct {
	text   string
	next   string // the current token; "" at the end
	quoted bool
}

// read reads the next token: a word, a string without its quotes, or one of {}[]=,.
func (t *tokens) read() error {
	t.next, t.quoted = "", false
	for {
		t.text = strings.TrimLeft(t.text, " \t\r\n")
		if !strings.HasPrefix(t.text, "#") {
			break
		}
		_, t.text, _ = strings.Cut(t.text, "\n")
	}
	if t.text == "" {
		return nil
	}
	const alone = "{}[]=,"
	switch {
	case strings.ContainsRune(alone, rune(t.text[0])):
		t.next, t.text = t.text[:1], t.text[1:]
	case t.text[0] == '"':
		var word strings.Builder
		for i := 1; i < len(t.text); i++ {
			switch t.text[i] {
			case '"':
				t.next, t.quoted, t.text = word.String(), true, t.text[i+1:]
				return nil
			case '\\':
				if i++; i == len(t.text) {
					return errMetadata
				}
			}
			word.WriteByte(t.text[i])
		}
		return errMetadata
	default:
		end := strings.IndexAny(t.text, alone+" \t\r\n#\"")
		if end < 0 {
			end = len(t.text)
		}
		t.next, t.text = t.text[:end], t.text[end:]
	}
	return nil
}

func (t *tokens) is(token string) bool { return !t.quoted && t.next == token }

// section reads entries up to the closing brace, or to the end.
func (t *tokens) section(depth int) (tree, error) {
	c := tree{}
	for {
		if err := t.read(); err != nil {
			return nil, err
		}
		if t.is("") || t.is("}") {
			if depth == 0 != t.is("") {
				return nil, errMetadata
			}
			return c, nil
		}
		e := entry{key: t.next}
		if t.quoted || strings.ContainsAny(e.key, "{}[]=,") || depth > maxDepth {
			return nil, errMetadata
		}
		err := t.read()
		switch {
		case err != nil:
		case t.is("{"):
			e.section, err = t.section(depth + 1)
		case t.is("="):
			e.values, err = t.value()
		default:
			err = errMetadata
		}
		if err != nil {
			return nil, err
		}
		c = append(c, e)
	}
}

// value reads a word, a string or a list of them.
func (t *tokens) value() ([]string, error) {
	if err := t.read(); err != nil {
		return nil, err
	}
	if !t.is("[") {
		if !t.quoted && strings.Contains("{}]=,", t.next) {
			return nil, errMetadata
		}
		return []string{t.next}, nil
	}
	values := []string{}
	for {
		if err := t.read(); err != nil {
			return nil, err
		}
		switch {
		case t.is("]"):
			return values, nil
		case t.is(","):
		case !t.quoted && (t.next == "" || strings.Contains("{}[=", t.next)):
			return nil, errMetadata
		default:
			values = append(values, t.next)
		}
	}
}
