package volume

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/pmem"
)

// EraseRate is the share of the memory bandwidth that erasing may use. The zero value is no limit.
type EraseRate struct {
	// Share is the fraction of the time spent writing; 0 is all of it.
	Share float64
	// Bytes is the maximum of bytes per second; 0 is no limit.
	Bytes uint64
}

// ParseEraseRate reads "20%", a size in bytes per second such as "500Mi", or "max".
func ParseEraseRate(text string) (EraseRate, error) {
	invalid := func() (EraseRate, error) {
		return EraseRate{}, errs.New(errs.Invalid, "--erase-rate", quote(text)+" is not a rate", "use a share of the time (for example 20%), bytes per second (for example 500Mi) or max")
	}
	if text == "max" {
		return EraseRate{}, nil
	}
	if number, ok := strings.CutSuffix(text, "%"); ok {
		percent, err := strconv.ParseFloat(number, 64)
		if err != nil || !(percent >= 0.1 && percent <= 100) {
			return invalid()
		}
		return EraseRate{Share: percent / 100}, nil
	}
	size, err := pmem.ParseSize(text)
	if err != nil || size < pmem.MiB {
		return invalid()
	}
	return EraseRate{Bytes: size}, nil
}

func (r EraseRate) String() string {
	switch {
	case r.Share > 0:
		return fmt.Sprintf("%g%%", r.Share*100)
	case r.Bytes > 0:
		return pmem.FormatSize(r.Bytes) + "/s"
	}
	return "max"
}

// pause returns how long to sleep after n bytes were written in some time.
func (r EraseRate) pause(busy time.Duration, bytes uint64) time.Duration {
	switch {
	case r.Share > 0:
		return time.Duration(float64(busy) * (1 - r.Share) / r.Share)
	case r.Bytes > 0:
		return time.Duration(float64(bytes)/float64(r.Bytes)*float64(time.Second)) - busy
	}
	return 0
}

// A create that lacks space waits for volumes being erased, and makes their erasing use the full
// bandwidth. That may happen in another process.

// wantedFor is how long one call of want has effect.
const wantedFor = 30 * time.Second

func (s *Service) wantedFile(vol Volume) string {
	return filepath.Join(s.RunDir, "space-wanted", strings.ReplaceAll(vol.Place(), " ", "-"))
}

// want requests the full rate for erasing a deleted volume.
func (s *Service) want(vol Volume) {
	file := s.wantedFile(vol)
	if s.RunDir != "" && os.MkdirAll(filepath.Dir(file), 0o700) == nil {
		_ = os.WriteFile(file, nil, 0o600)
	}
}

func (s *Service) isWanted(vol Volume) bool {
	info, err := os.Stat(s.wantedFile(vol))
	return err == nil && s.RunDir != "" && time.Since(info.ModTime()) < wantedFor
}

// SpaceWanted reports whether a create is waiting for the space of a deleted volume.
func (s *Service) SpaceWanted() bool {
	files, _ := os.ReadDir(filepath.Dir(s.wantedFile(Volume{})))
	return slices.ContainsFunc(files, func(f os.DirEntry) bool {
		info, err := f.Info()
		return err == nil && time.Since(info.ModTime()) < wantedFor
	})
}
