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

	// DefaultAlign is what fsdax and devdax namespaces are aligned to: the huge
	// page of x86.
	DefaultAlign = 2 * MiB

	// MinNamespace is the smallest namespace that the kernel subdivides a region
	// into (ND_MIN_NAMESPACE_SIZE is less; ndctl refuses below 16 MiB).
	MinNamespace = 16 * MiB

	// regionAlign is what regions are aligned to on x86, for kernels that do not
	// tell (memremap_compat_align, kernel arch/x86).
	regionAlign = 16 * MiB

	pageSize   = 4 * KiB
	infoBlock  = 8 * KiB // of nd_pfn, drivers/nvdimm/pfn.h
	structPage = 64      // bytes of struct page for each page
)

// RoundUp rounds up to a multiple; it stops at the largest multiple there is.
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

// SizeAlign is what the raw size of a namespace in the region must be a
// multiple of: the mapping align on each of the interleaved DIMMs, and the
// region's own align, which also keeps the start of the next one aligned.
func (r Region) SizeAlign(align uint64) uint64 {
	own := r.Align
	if own <= 1 {
		own = regionAlign
	}
	return lcm(align*uint64(max(r.InterleaveWays, 1)), own)
}

// Misaligned tells by how many bytes the region's size is off its align, 0 when
// it is not. Such a region takes no namespace up to its end.
func (r Region) Misaligned() uint64 {
	own := r.Align
	if own <= 1 {
		own = regionAlign
	}
	return r.Size % own
}

// MaxRaw is the largest raw size of a namespace that can still be made.
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

// Usable is what an fsdax or devdax namespace of a raw size offers. The info
// block is in the namespace, and with MapDev the struct pages too (kernel
// drivers/nvdimm/pfn_devs.c, nd_pfn_init).
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

// RawFor is the smallest raw size, a multiple of sizeAlign, that offers at least
// the usable size. It fails when that is beyond what 64 bits hold.
func RawFor(usable uint64, m Map, align, sizeAlign uint64) (uint64, error) {
	if usable > math.MaxInt64/2 {
		return 0, fmt.Errorf("%d bytes exceed the maximum size of a namespace", usable)
	}
	raw := RoundUp(max(usable, MinNamespace), sizeAlign)
	if m == MapDev {
		// The struct pages take a 64th; what is left to find is a step or two.
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
