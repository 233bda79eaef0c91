package hostconf

import (
	"errors"
	"os"
	"slices"
	"strings"

	"github.com/pmemctl/pmemctl/internal/errs"
)

// fstabType is the file system type in fstab(5) for which mount(8) runs MountHelper. The name of a
// volume stays the same across reboots; the names of its devices do not.
const fstabType = "pmemctl"

// fstabPrefix is before the name of a volume. mount(8) takes a name that exists in its working
// directory, "/" at boot, for a path.
const fstabPrefix = fstabType + ":"

// FstabVolume returns the name of the volume in the first field of a line.
func FstabVolume(source string) string { return strings.TrimPrefix(source, fstabPrefix) }

// MountHelper is the name under which mount(8) runs pmemctl, and helperDir where it looks for it
// (util-linux, FS_SEARCH_PATH).
const (
	MountHelper = "mount." + fstabType
	helperDir   = "sbin"
)

// FstabEntry is a line of /etc/fstab that mounts a volume.
type FstabEntry struct {
	Volume, Path string
	Options      []string
}

// MayPersist returns an error if Persist would fail.
func (h Host) MayPersist(e FstabEntry) error {
	helper := h.path(helperDir, MountHelper)
	if _, err := os.Stat(helper); err != nil {
		return errs.Wrap(errs.NotFound, helper, "does not exist, so nothing would mount a volume at boot", "ln -s "+self()+" "+helper, err)
	}
	_, _, err := h.fstabWith(e)
	return err
}

func self() string {
	if path, err := os.Executable(); err == nil {
		return path
	}
	return "/usr/local/sbin/pmemctl"
}

// Persist adds a line to /etc/fstab, so that the volume is mounted at boot; false if it is there.
func (h Host) Persist(e FstabEntry) (added bool, err error) {
	text, changed, err := h.fstabWith(e)
	if err != nil || !changed {
		return false, err
	}
	return true, write(h.path("etc/fstab"), text, 0o644)
}

// fstabWith returns /etc/fstab with an entry, and whether that is a change.
func (h Host) fstabWith(e FstabEntry) (text string, changed bool, err error) {
	if text, err = h.readFstab(); err != nil {
		return "", false, err
	}
	for line := range strings.Lines(text) {
		fields, ok := fstabFields(line)
		if !ok || fields[1] != e.Path {
			continue
		}
		if FstabVolume(fields[0]) == e.Volume && fields[2] == fstabType && fields[3] == strings.Join(e.options(), ",") {
			return text, false, nil
		}
		return "", false, errs.New(errs.Conflict, h.path("etc/fstab"), "already has a line for "+e.Path+": "+strings.TrimSpace(line), "remove it, or choose another directory")
	}
	if text != "" && !strings.HasSuffix(text, "\n") {
		text += "\n"
	}
	return text + strings.Join([]string{fstabPrefix + e.Volume, fstabEscapes.Replace(e.Path), fstabType, strings.Join(e.options(), ","), "0", "0"}, " ") + "\n", true, nil
}

// options begin with nofail: the host boots without the volume.
func (e FstabEntry) options() []string { return append([]string{"nofail"}, e.Options...) }

// Unpersist removes the lines of a volume from /etc/fstab, or only that for a path, and returns the
// paths.
func (h Host) Unpersist(volume, path string) (paths []string, err error) {
	text, err := h.readFstab()
	if err != nil {
		return nil, err
	}
	var kept strings.Builder
	for line := range strings.Lines(text) {
		if fields, ok := fstabFields(line); ok && FstabVolume(fields[0]) == volume && fields[2] == fstabType && (path == "" || path == fields[1]) {
			paths = append(paths, fields[1])
			continue
		}
		kept.WriteString(line)
	}
	if len(paths) == 0 {
		return nil, nil
	}
	return paths, write(h.path("etc/fstab"), kept.String(), 0o644)
}

// Persisted returns the paths at which /etc/fstab mounts a volume.
func (h Host) Persisted(volume string) (paths []string) {
	text, _ := h.readFstab()
	for line := range strings.Lines(text) {
		if fields, ok := fstabFields(line); ok && FstabVolume(fields[0]) == volume && fields[2] == fstabType && !slices.Contains(paths, fields[1]) {
			paths = append(paths, fields[1])
		}
	}
	return paths
}

func (h Host) readFstab() (string, error) {
	file := h.path("etc/fstab")
	// Replacing a link would leave the file that it points to unchanged.
	if info, err := os.Lstat(file); err == nil && info.Mode()&os.ModeSymlink != 0 {
		return "", errs.New(errs.Unsupported, file, "is a symbolic link", "change the file that it points to, as the program that manages it requires")
	}
	data, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", errs.Wrap("", file, "could not be read", "", err)
	}
	return string(data), nil
}

// fstabEscapes are the characters that fstab(5) has as octal numbers.
var (
	fstabEscapes   = strings.NewReplacer(`\`, `\134`, " ", `\040`, "\t", `\011`, "\n", `\012`)
	fstabUnescapes = strings.NewReplacer(`\134`, `\`, `\040`, " ", `\011`, "\t", `\012`, "\n")
)

// fstabFields returns the first four fields of a line; false if it is no entry.
func fstabFields(line string) (fields []string, ok bool) {
	fields = strings.Fields(line)
	if len(fields) < 4 || strings.HasPrefix(fields[0], "#") {
		return nil, false
	}
	for i := range fields {
		fields[i] = fstabUnescapes.Replace(fields[i])
	}
	return fields[:4], true
}
