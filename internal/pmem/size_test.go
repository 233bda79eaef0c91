package pmem

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestParseSize(t *testing.T) {
	for text, want := range map[string]uint64{
		"1": 1, "10Gi": 10 * GiB, "10GiB": 10 * GiB, "10G": 10e9, "10GB": 10e9, "1.5Mi": 1536 * KiB, "512 Mi": 512 * MiB,
		"0": 0, "8Ei": 8 << 60, "9007199254740993": 9007199254740993, " 4Ki ": 4096,
	} {
		got, err := ParseSize(text)
		assert.NoError(t, err, text)
		assert.Equal(t, want, got, text)
	}
	for text, want := range map[string]string{
		"-5": "is negative", "-1Gi": "is negative", "10Q": "invalid size", "": "invalid size", "Gi": "invalid size",
		"1e9": "invalid size", "10 GiBs": "invalid size", "9Ei": "exceeds 8 EiB", "99999999999999999999": "exceeds 8 EiB", "NaN": "invalid size",
	} {
		_, err := ParseSize(text)
		assert.ErrorContains(t, err, want, text)
	}
}

func TestFormatSize(t *testing.T) {
	for n, want := range map[uint64]string{0: "0 B", 1023: "1023 B", 1024: "1 KiB", 1006 * MiB: "1006 MiB", 3*GiB/2 + 1: "1.5 GiB", 8 << 60: "8 EiB"} {
		assert.Equal(t, want, FormatSize(n))
	}
}

func FuzzParseSize(f *testing.F) {
	for _, s := range []string{"10Gi", "-1", "1.5M", "8Ei", "1..2", "９Gi"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if n, err := ParseSize(s); err == nil && n > 1<<63 {
			t.Errorf("%q is %d", s, n)
		}
	})
}
