package pmem

import (
	"fmt"
	"math"
	"math/bits"
)

const (
	// KiB and so on are bytes.
	KiB = 1 << 10
	MiB = 1 << 20
	GiB = 1 << 30

	// DefaultAlign is the alignment of fsdax and devdax namespaces in bytes: the huge page size of
	// x86.
	DefaultAlign = 2 * MiB

	// MinNamespace is the minimum size of a namespace in bytes (the kernel's ND_MIN_NAMESPACE_SIZE
	// is smaller; ndctl refuses less than 16 MiB).
	MinNamespace = 16 * MiB

	// regionAlign is the alignment of regions on x86, for kernels that do not show it
	// (memremap_compat_align, kernel arch/x86).
	regionAlign = 16 * MiB

	pageSize   = 4 * KiB
	infoBlock  = 8 * KiB // of nd_pfn, drivers/nvdimm/pfn.h
	structPage = 64      // size of struct page, per page
)

// RoundUp rounds up to a multiple, at most to the largest that fits.
func RoundUp(n, multiple uint64) uint64 {
	if multiple <= 1 || n%multiple == 0 {
		return n
	}
	if n > math.MaxUint64-multiple {
		return RoundDown(math.MaxUint64, multiple)
	}
	return RoundDown(n, multiple) + multiple
}

// RoundDown rounds down to a multiple.
func RoundDown(n, multiple uint64) uint64 {
	if multiple <= 1 {
		return n
	}
	return n - n%multiple
}

func gcd(a, b uint64) uint64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

func lcm(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a/gcd(a, b), b)
	if hi != 0 {
		return math.MaxUint64
	}
	return lo
}

// SizeAlign returns the granularity of the raw size of a namespace in the region, in bytes: the
// mapping alignment on each of the interleaved DIMMs, and the region's own alignment, which also
// keeps the start of the next namespace aligned.
func (r Region) SizeAlign(align uint64) uint64 {
	own := r.Align
	if own <= 1 {
		own = regionAlign
	}
	return lcm(align*uint64(max(r.InterleaveWays, 1)), own)
}

// Misaligned returns the number of bytes at the end of a region that its alignment makes unusable;
// 0 if there are none.
func (r Region) Misaligned() uint64 {
	own := r.Align
	if own <= 1 {
		own = regionAlign
	}
	return r.Size % own
}

// MaxRaw returns the maximum raw size in bytes of a new namespace.
func (r Region) MaxRaw(align uint64) uint64 {
	if !r.Labels || r.ReadOnly || !r.Enabled() {
		return 0
	}
	raw := RoundDown(min(r.MaxAvailableExtent, r.AvailableSize), r.SizeAlign(align))
	if raw < MinNamespace {
		return 0
	}
	return raw
}

// Usable returns the usable bytes of an fsdax or devdax namespace of a raw size. The info block is
// in the namespace and, with MapDev, the struct pages too (kernel drivers/nvdimm/pfn_devs.c,
// nd_pfn_init).
func Usable(raw uint64, m Map, align uint64) uint64 {
	overhead := uint64(infoBlock)
	if m == MapDev && raw > infoBlock {
		overhead += structPage * ((raw - infoBlock) / pageSize)
	}
	overhead = RoundUp(overhead, align)
	if raw <= overhead {
		return 0
	}
	return RoundDown(raw-overhead, align)
}

// RawFor returns the smallest raw size in bytes, a multiple of sizeAlign, for a usable size. It
// fails if that exceeds 64 bits.
func RawFor(usable uint64, m Map, align, sizeAlign uint64) (uint64, error) {
	if usable > math.MaxInt64/2 {
		return 0, fmt.Errorf("%d bytes exceed the maximum size of a namespace", usable)
	}
	raw := RoundUp(max(usable, MinNamespace), sizeAlign)
	if m == MapDev {
		// The struct pages take 1/64; a few more steps follow.
		raw = RoundUp(max(raw, usable/63*64), sizeAlign)
	}
	for raw > sizeAlign && raw-sizeAlign >= MinNamespace && Usable(raw-sizeAlign, m, align) >= usable {
		raw -= sizeAlign
	}
	for Usable(raw, m, align) < usable {
		raw += sizeAlign
	}
	return raw, nil
}
