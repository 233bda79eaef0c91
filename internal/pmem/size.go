package pmem

import (
	"fmt"
	"math/big"
	"regexp"
	"strings"

	"github.com/dustin/go-humanize"
)

var sizeSyntax = regexp.MustCompile(`^[0-9]+(\.[0-9]+)?\s*([KMGTPE]i?B?|B)?$`)

// ParseSize parses a size in bytes: 10Gi and 10GiB are binary, 10G and 10GB decimal, and 10 is
// bytes.
func ParseSize(s string) (uint64, error) {
	const want = "write a size such as 10Gi, 512Mi or 10G"
	trimmed := strings.TrimSpace(s)
	switch {
	case strings.HasPrefix(trimmed, "-"):
		return 0, fmt.Errorf("size %q is negative; %s", s, want)
	case !sizeSyntax.MatchString(trimmed):
		return 0, fmt.Errorf("invalid size %q; %s", s, want)
	}
	n, err := humanize.ParseBigBytes(trimmed)
	if err != nil {
		return 0, fmt.Errorf("invalid size %q; %s", s, want)
	}
	if n.Cmp(new(big.Int).SetUint64(1<<63)) > 0 {
		return 0, fmt.Errorf("size %q exceeds 8 EiB", s)
	}
	return n.Uint64(), nil
}

// FormatSize formats bytes in binary units, with a precision of one hundredth.
func FormatSize(n uint64) string {
	const units = "KMGTPE"
	if n < KiB {
		return fmt.Sprintf("%d B", n)
	}
	v, unit := float64(n), -1
	for v >= 1024 && unit < len(units)-1 {
		v /= 1024
		unit++
	}
	text := strings.TrimRight(strings.TrimRight(fmt.Sprintf("%.2f", v), "0"), ".")
	return text + " " + units[unit:unit+1] + "iB"
}
