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

// Archive keeps the metadata of volume groups on the host, a file for each change, in
// a directory for each group. LVM's own archive would not do: it refuses a change when
// it cannot be written, is bounded by days only, and does not know whose a device is
// that has lost its head. A file is a text that vgcfgrestore(8) takes too.
type Archive struct{ Dir string }

// Archived is a change in the archive.
type Archived struct {
	File    string
	Text    []byte
	Group   Group
	Devices map[string]string // what the caller calls the device of a physical volume, by its UUID
}

// The archive of a group is bounded by both.
const (
	maxArchived      = 100
	maxArchivedBytes = 32 << 20
	maxOverwritten   = 10
	maxNamesakes     = 8 // of which the newest stays in any case
)

const (
	archiveExt     = ".vg"
	overwrittenExt = ".overwritten.gz"
	archiveDevice  = "# device "
	archiveSum     = "# checksum "
)

// archiveName is the file of the change with a number in the archive, which counts on
// when the clock does not. Groups of one name are told apart by their UUID.
func archiveName(number, seqno uint64, sum uint32, made time.Time, uuid string) string {
	return fmt.Sprintf("%010d-%d-%08x-%s-%s%s", number, seqno, sum, made.UTC().Format("20060102T150405Z"), uuid, archiveExt)
}

// parseArchiveName is the checksum and the UUID of the group in a file's name.
func parseArchiveName(name string) (sum uint32, uuid string, ok bool) {
	parts := strings.SplitN(strings.TrimSuffix(name, archiveExt), "-", 5)
	if len(parts) != 5 {
		return 0, "", false
	}
	n, err := strconv.ParseUint(parts[2], 16, 32)
	return uint32(n), parts[4], err == nil
}

// next is the number after that of the newest of some files.
func next(names []string) uint64 {
	if len(names) == 0 {
		return 1
	}
	digits, _, _ := strings.Cut(names[0], "-")
	last, _ := strconv.ParseUint(digits, 10, 64)
	return last + 1
}

func (a Archive) dir(vg string) string { return filepath.Join(a.Dir, vg) }

// names lists the files of a group of a kind, the newest first.
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

// Last are the checksums of the last change of each group of a name in the archive.
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

// Newest is the last change of a group in the archive that fits; nil when there is none.
// Files that are damaged are passed over.
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

// readArchived reads all of a file but what group its text is of.
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
			break // what follows is the text
		}
	}
	a.Text = append(data, 0) // as on the device
	if uint64(crc(a.Text)) != sum {
		return a, errMetadata
	}
	return a, nil
}

// Keep adds a change of a group, unless it is the last one there already, and returns
// its file. The devices that the text names and that are not given are taken over from
// the change before.
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

// KeepOverwritten keeps bytes that are about to be overwritten, in a file that says
// where they were.
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

// write makes a file that is there whole or not at all, also after a power cut.
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

// Sync has what was kept of a group outlive a power cut.
func (a Archive) Sync(vg string) error {
	dir, err := os.Open(a.dir(vg))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// prune removes the oldest files of a kind, never the newest one of the last few groups
// of the name, and what a killed write left. The caller has the host's lock.
func (a Archive) prune(vg, ext string, most int) {
	names, err := a.names(vg, ext)
	if err != nil {
		return
	}
	var bytes int64
	newest := map[string]bool{} // UUIDs of groups; a former group of the name goes some day
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
