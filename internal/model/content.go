package model

import "slices"

// content is the content of a medium: ordered extents that do not overlap. Bytes outside of them
// were never written, and read as old.
type content []extent

// old is the value of bytes that were never written: PMEM is never new.
const old = 0xA5

// extent is a range of bytes with their values; nil values are zeros, or old bytes.
type extent struct {
	from, to uint64
	data     []byte
	old      bool
}

func (e extent) part(from, to uint64) extent {
	if e.data != nil {
		e.data = e.data[from-e.from : to-e.from]
	}
	e.from, e.to = from, to
	return e
}

// put replaces the content of an extent's range.
func (c *content) put(e extent) {
	if e.from >= e.to {
		return
	}
	var kept content
	for _, have := range *c {
		if have.to <= e.from || have.from >= e.to {
			kept = append(kept, have)
			continue
		}
		if have.from < e.from {
			kept = append(kept, have.part(have.from, e.from))
		}
		if have.to > e.to {
			kept = append(kept, have.part(e.to, have.to))
		}
	}
	at, _ := slices.BinarySearchFunc(kept, e.from, func(have extent, from uint64) int {
		if have.from < from {
			return -1
		}
		return 1
	})
	*c = slices.Insert(kept, at, e)
}

// read reads bytes from an offset.
func (c content) read(from, count uint64) []byte {
	data := slices.Repeat([]byte{old}, int(count))
	for _, e := range c {
		if e.to <= from || e.from >= from+count {
			continue
		}
		part := e.part(max(e.from, from), min(e.to, from+count))
		if into := data[part.from-from : part.to-from]; !part.old {
			clear(into)
			copy(into, part.data)
		}
	}
	return data
}

// isZero reports whether all bytes of a range are zero.
func (c content) isZero(from, to uint64) bool {
	at := from
	for _, e := range c {
		if e.to <= at || e.from >= to {
			continue
		}
		if e.from > at || e.old || slices.ContainsFunc(e.part(max(e.from, at), min(e.to, to)).data, func(b byte) bool { return b != 0 }) {
			return false
		}
		at = e.to
	}
	return at >= to
}

// parts returns the content of a range, moved to an offset.
func (c content) parts(from, to, at uint64) []extent {
	all := []extent{{from: at, to: at + to - from, old: true}}
	for _, e := range c {
		if e.to <= from || e.from >= to {
			continue
		}
		part := e.part(max(e.from, from), min(e.to, to))
		part.from, part.to, part.data = part.from-from+at, part.to-from+at, slices.Clone(part.data)
		all = append(all, part)
	}
	return all
}
