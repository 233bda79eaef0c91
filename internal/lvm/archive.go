package lvm

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pmemctl/pmemctl/internal/fault"
)

// Archive stores the metadata of volume groups on the host, one file for each change, in a
// directory for each group. LVM's own archive is not suitable: it refuses a change if it cannot be
// written, is limited only by age, and does not record which device had a lost label. The files
// are compatible with vgcfgrestore(8).
type Archive struct{ Dir string }

// Archived is a change stored in the archive.
type Archived struct {
	File    string
	Text    []byte
	Group   Group
	Devices map[string]string // the caller's name for the device of each physical volume, by UUID
}

// Limits of the archive of a group.
const (
	maxArchived      = 100
	maxArchivedBytes = 32 << 20
	maxOverwritten   = 10
	maxNamesakes     = 8 // groups of the same name whose newest change is always kept
)

const (
	archiveExt     = ".vg"
	overwrittenExt = ".overwritten.gz"
	archiveDevice  = "# device "
	archiveSum     = "# checksum "
)

// archiveName returns the file name of a change. Its number increases even if the clock does not.
// The UUID distinguishes groups of the same name.
func archiveName(number, seqno uint64, sum uint32, made time.Time, uuid string) string {
	return fmt.Sprintf("%010d-%d-%08x-%s-%s%s", number, seqno, sum, made.UTC().Format("20060102T150405Z"), uuid, archiveExt)
}

// parseArchiveName returns the checksum and the UUID of the group in a file name.
func parseArchiveName(name string) (sum uint32, uuid string, ok bool) {
	parts := strings.SplitN(strings.TrimSuffix(name, archiveExt), "-", 5)
	if len(parts) != 5 {
		return 0, "", false
	}
	n, err := strconv.ParseUint(parts[2], 16, 32)
	return uint32(n), parts[4], err == nil
}

// next returns the number after that of the newest file.
func next(names []string) uint64 {
	if len(names) == 0 {
		return 1
	}
	digits, _, _ := strings.Cut(names[0], "-")
	last, _ := strconv.ParseUint(digits, 10, 64)
	return last + 1
}

func (a Archive) dir(vg string) string { return filepath.Join(a.Dir, vg) }

// names lists the files of a kind for a group, newest first.
func (a Archive) names(vg, ext string) ([]string, error) {
	entries, err := os.ReadDir(a.dir(vg))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ext) && !strings.HasPrefix(e.Name(), ".") {
			names = append(names, e.Name())
		}
	}
	slices.Reverse(names)
	return names, nil
}

// Last returns the checksums of the newest change of each group of a name.
func (a Archive) Last(vg string) []uint32 {
	names, err := a.names(vg, archiveExt)
	if err != nil {
		return nil
	}
	var sums []uint32
	seen := map[string]bool{}
	for _, name := range names {
		if sum, uuid, ok := parseArchiveName(name); ok && !seen[uuid] {
			seen[uuid] = true
			sums = append(sums, sum)
		}
	}
	return sums
}

// Newest returns the newest change of a group that fits; nil if there is none. Damaged files are
// skipped.
func (a Archive) Newest(vg string, fits func(Archived) bool) (*Archived, error) {
	names, err := a.names(vg, archiveExt)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		one, err := readArchived(filepath.Join(a.dir(vg), name))
		if err == nil {
			one.Group, err = ParseGroup(one.Text)
		}
		if err == nil && fits(one) {
			return &one, nil
		}
	}
	return nil, nil
}

// readArchived reads a file without parsing the metadata.
func readArchived(file string) (Archived, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return Archived{}, err
	}
	a := Archived{File: file, Devices: map[string]string{}}
	sum := uint64(1 << 32)
	for {
		line, rest, found := bytes.Cut(data, []byte("\n"))
		if !found || !bytes.HasPrefix(line, []byte("#")) {
			break
		}
		data = rest
		if value, ok := strings.CutPrefix(string(line), archiveDevice); ok {
			pv, device, _ := strings.Cut(value, " ")
			a.Devices[pv] = device
		}
		if value, ok := strings.CutPrefix(string(line), archiveSum); ok {
			if sum, err = strconv.ParseUint(value, 16, 32); err != nil {
				return a, err
			}
			break // the metadata follows
		}
	}
	a.Text = append(data, 0) // as on the device
	if uint64(crc(a.Text)) != sum {
		return a, errMetadata
	}
	return a, nil
}

// Keep stores a change of a group, unless it is already the newest one, and returns its file.
// Devices in the text that are not given are copied from the previous change.
func (a Archive) Keep(vg string, text []byte, g Group, devices map[string]string) (string, error) {
	names, err := a.names(vg, archiveExt)
	if err != nil {
		return "", err
	}
	known := map[string]string{}
	if i := slices.IndexFunc(names, func(name string) bool { _, uuid, ok := parseArchiveName(name); return ok && uuid == g.UUID }); i >= 0 {
		if last, err := readArchived(filepath.Join(a.dir(vg), names[i])); err == nil {
			known = last.Devices
			if bytes.Equal(last.Text, text) && covers(known, devices) {
				return last.File, nil
			}
		}
	}
	plain := bytes.TrimSuffix(text, []byte{0})
	if bytes.IndexByte(plain, 0) >= 0 || len(plain) == len(text) {
		return "", errMetadata
	}
	var file bytes.Buffer
	fmt.Fprintf(&file, "# Volume group %s, change %d, kept by pmemctl. To restore it: pmemctl vg repair %s\n", g.Name, g.Seqno, vg)
	for _, pv := range g.PVs {
		device := devices[pv.UUID]
		if device == "" {
			device = known[pv.UUID]
		}
		if device != "" {
			fmt.Fprintf(&file, "%s%s %s\n", archiveDevice, pv.UUID, device)
		}
	}
	fmt.Fprintf(&file, "%s%08x\n", archiveSum, crc(text))
	file.Write(plain)
	name := archiveName(next(names), g.Seqno, crc(text), time.Now(), g.UUID)
	if err := a.write(vg, name, file.Bytes()); err != nil {
		return "", err
	}
	a.prune(vg, archiveExt, maxArchived)
	return filepath.Join(a.dir(vg), name), nil
}

func covers(known, devices map[string]string) bool {
	for pv, device := range devices {
		if known[pv] != device {
			return false
		}
	}
	return true
}

// KeepOverwritten saves data that is about to be overwritten, in a file whose name says where it
// was.
func (a Archive) KeepOverwritten(vg, device string, offset uint64, gz []byte) (string, error) {
	names, err := a.names(vg, overwrittenExt)
	if err != nil {
		return "", err
	}
	name := fmt.Sprintf("%010d-%s-%d%s", next(names), device, offset, overwrittenExt)
	if err := a.write(vg, name, gz); err != nil {
		return "", err
	}
	a.prune(vg, overwrittenExt, maxOverwritten)
	return filepath.Join(a.dir(vg), name), nil
}

// write creates a file atomically, also with respect to a power failure.
func (a Archive) write(vg, name string, data []byte) error {
	if err := os.MkdirAll(a.dir(vg), 0o700); err != nil {
		return err
	}
	temp, err := os.CreateTemp(a.dir(vg), ".new-")
	if err != nil {
		return err
	}
	defer os.Remove(temp.Name())
	_, err = temp.Write(data)
	err = errors.Join(err, temp.Sync(), temp.Close())
	if err != nil {
		return err
	}
	fault.Step("before keep")
	err = os.Rename(temp.Name(), filepath.Join(a.dir(vg), name))
	fault.Step("after keep")
	return err
}

// Sync makes the stored files of a group survive a power failure.
func (a Archive) Sync(vg string) error {
	dir, err := os.Open(a.dir(vg))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// prune removes the oldest files of a kind, except the newest one of each of the last few groups
// of the name, and the temporary files of killed writes. The caller holds the host lock.
func (a Archive) prune(vg, ext string, most int) {
	names, err := a.names(vg, ext)
	if err != nil {
		return
	}
	var bytes int64
	newest := map[string]bool{} // UUIDs of groups; former groups of the name are removed eventually
	for i, name := range names {
		file := filepath.Join(a.dir(vg), name)
		if info, err := os.Stat(file); err == nil {
			bytes += info.Size()
		}
		_, uuid, ok := parseArchiveName(name)
		if ok && !newest[uuid] && len(newest) < maxNamesakes {
			newest[uuid] = true
			continue
		}
		if i > 0 && (i >= most || bytes > maxArchivedBytes) {
			_ = os.Remove(file)
		}
	}
	left, _ := filepath.Glob(filepath.Join(a.dir(vg), ".new-*"))
	for _, file := range left {
		_ = os.Remove(file)
	}
}
