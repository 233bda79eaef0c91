package cxl

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/google/uuid"

	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/pmem"
)

// SavedFile is the default file of the saved regions.
const SavedFile = "/etc/pmemctl/cxl-regions.json"

// saved is the content of the file.
type saved struct {
	Comment string   `json:"comment"`
	Regions []Region `json:"regions"`
}

const comment = "Written by: pmemctl region save. A region that is created with other values than these has scrambled content."

// Load reads the saved regions; none if there is no file.
func Load(file string) ([]Region, error) {
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, errs.Wrap("", file, "cannot be read", "", err)
	}
	regions, err := Parse(data)
	if err != nil {
		return nil, errs.Wrap(errs.Invalid, file, "is not what pmemctl region save wrote", "create the regions as they were (cxl create-region), and save them again: pmemctl region save --force", err)
	}
	return regions, nil
}

// Parse parses and validates the content of the file.
func Parse(data []byte) ([]Region, error) {
	var s saved
	if err := json.Unmarshal(data, &s); err != nil {
		return nil, err
	}
	for i, r := range s.Regions {
		if err := r.validate(); err != nil {
			return nil, fmt.Errorf("region %d: %w", i, err)
		}
		for j, other := range s.Regions[:i] {
			if r.Overlaps(other) {
				return nil, fmt.Errorf("regions %d and %d overlap on a device", j, i)
			}
		}
	}
	return s.Regions, nil
}

// maxWays is the maximum number of devices of a region (CXL 3.0, section 8.2.4.19.7).
const maxWays = 16

func (r Region) validate() error {
	ways := uint64(len(r.Targets))
	switch {
	case ways == 0 || ways > maxWays:
		return fmt.Errorf("it has %d devices", ways)
	case r.Granularity < pmem.MinGranularity || r.Granularity > pmem.MaxGranularity || r.Granularity&(r.Granularity-1) != 0:
		return fmt.Errorf("its granularity is %d bytes", r.Granularity)
	case r.Size == 0 || r.Size%ways != 0:
		return fmt.Errorf("its size is %d bytes", r.Size)
	}
	seen := map[Hex]bool{}
	for _, t := range r.Targets {
		if t.Serial == 0 || seen[t.Serial] {
			return fmt.Errorf("the serial number %s does not identify one of its devices", t.Serial)
		}
		if t.Offset+r.Size < t.Offset {
			return fmt.Errorf("its offset is %d", t.Offset)
		}
		seen[t.Serial] = true
	}
	if r.Cookie == 0 {
		return errors.New("it has no set cookie: the NVDIMM driver had no region for it")
	}
	if err := uuid.Validate(r.UUID); err != nil && r.UUID != "" {
		return fmt.Errorf("its UUID is %q", r.UUID)
	}
	return nil
}

// Save replaces the file atomically; without regions, it removes it. Every region must be one that
// Load accepts.
func Save(file string, regions []Region) error {
	if len(regions) == 0 {
		if err := os.Remove(file); !errors.Is(err, fs.ErrNotExist) {
			return errs.Wrap("", file, "could not be removed", "", err)
		}
		return nil
	}
	data, err := json.MarshalIndent(saved{comment, regions}, "", "  ")
	if err == nil {
		_, err = Parse(data)
	}
	if err != nil {
		return errs.Wrap(errs.Unsupported, "the CXL regions", "cannot be saved", "see them: cxl list -RT", err)
	}
	fail := func(err error) error { return errs.Wrap("", file, "could not be written", "", err) }
	data = append(data, '\n')
	if old, err := os.ReadFile(file); err == nil && !bytes.Equal(old, data) {
		if err := os.WriteFile(file+".old", old, 0o644); err != nil {
			return fail(err)
		}
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return fail(err)
	}
	temp, err := os.CreateTemp(filepath.Dir(file), ".cxl-regions.*")
	if err != nil {
		return fail(err)
	}
	defer os.Remove(temp.Name())
	_, err = temp.Write(data)
	err = errors.Join(err, temp.Chmod(0o644), temp.Sync(), temp.Close())
	if err == nil {
		err = os.Rename(temp.Name(), file)
	}
	if err == nil {
		err = syncDir(filepath.Dir(file))
	}
	if err != nil {
		return fail(err)
	}
	return nil
}

// Changed returns an error if a saved region is missing, or exists with other values.
func Changed(now, saved []Region) error {
	const next = "create it as it was: pmemctl region restore; if what was saved is no longer needed: pmemctl region save --force"
	for _, was := range saved {
		what := "saved region on " + was.Serials()
		i := slices.IndexFunc(now, was.Overlaps)
		if i < 0 {
			return errs.New(errs.Conflict, what, "does not exist", next)
		}
		if diff := now[i].Differences(was); diff != "" {
			return errs.New(errs.Conflict, what, "exists as "+now[i].Dev+" with "+diff, "see what to do: pmemctl region restore")
		}
	}
	return nil
}

// syncDir makes a rename in a directory outlive a power cut.
func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
