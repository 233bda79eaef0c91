package volume

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pmemctl/pmemctl/internal/errs"
)

// target is a path that another program chose, with its directory held open, so that replacing a
// part of the path with a link later has no effect.
type target struct {
	path string // as given
	dir  *os.File
	// at is the path through the descriptor of its directory. It is passed only to the kernel.
	at string
}

// maxPath is PATH_MAX of Linux without the terminating zero.
const maxPath = 4095

// openTarget opens the directory of a path, which must be below TargetRoot without a symbolic link
// in between. NotFound if there is no such directory. Opening the parts one by one without
// following links stays below the root on every kernel; openat2(2) requires 5.6.
func (s *Service) openTarget(path string) (*target, error) {
	root := s.TargetRoot
	if root == "" {
		root = "/"
	}
	below, err := belowRoot(root, path)
	if err != nil {
		return nil, err
	}
	noParent := func() error {
		return errs.New(errs.NotFound, "directory "+quote(filepath.Dir(path)), "does not exist", "create it: mkdir -p "+filepath.Dir(path))
	}
	const flags = unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC
	dir, err := unix.Open(root, flags, 0)
	for _, part := range below[:len(below)-1] {
		if err != nil {
			break
		}
		above := dir
		dir, err = unix.Openat(above, part, flags|unix.O_NOFOLLOW, 0)
		if err != nil && isLink(above, part) {
			err = errLink
		}
		unix.Close(above)
	}
	if err == nil && isLink(dir, below[len(below)-1]) {
		unix.Close(dir)
		err = errLink
	}
	switch {
	case errors.Is(err, errLink):
		return nil, errs.New(errs.Invalid, "path "+quote(path), "leads elsewhere through a symbolic link", "use the path that it resolves to")
	case errors.Is(err, unix.ENOENT):
		return nil, noParent()
	case err != nil:
		return nil, &os.PathError{Op: "open", Path: filepath.Dir(path), Err: err}
	}
	return &target{path: path, dir: os.NewFile(uintptr(dir), filepath.Dir(path)), at: fmt.Sprintf("/proc/self/fd/%d/%s", dir, below[len(below)-1])}, nil
}

var errLink = errors.New("is a symbolic link")

func isLink(dir int, name string) bool {
	var st unix.Stat_t
	return unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW) == nil && st.Mode&unix.S_IFMT == unix.S_IFLNK
}

// belowRoot returns the parts of a path below a root.
func belowRoot(root, path string) ([]string, error) {
	const next = "use an absolute path without . and .."
	switch {
	case path == "":
		return nil, errs.New(errs.Invalid, "path", "is empty", next)
	case len(path) > maxPath:
		return nil, errs.New(errs.Invalid, "path "+quote(path), fmt.Sprintf("is %d bytes long; the maximum is %d", len(path), maxPath), "use a shorter name")
	case !filepath.IsAbs(path) || filepath.Clean(path) != path || path == "/":
		return nil, errs.New(errs.Invalid, "path "+quote(path), "is not absolute and clean", next)
	case strings.ContainsFunc(path, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return nil, errs.New(errs.Invalid, "path "+quote(path), "has a control character", next)
	}
	parts := slices.Collect(strings.SplitSeq(strings.Trim(root, "/"), "/"))
	if root == "/" {
		parts = nil
	}
	below := strings.Split(path[1:], "/")
	if len(below) <= len(parts) || !slices.Equal(below[:len(parts)], parts) {
		return nil, errs.New(errs.Invalid, "path "+quote(path), fmt.Sprintf("is not below kubelet's directory %s", root), "if kubelet has another --root-dir, start the server with it as --kubelet-dir")
	}
	return below[len(parts):], nil
}

// done closes the target. In the returned error, the path as given replaces that through the
// descriptor.
func (t *target) done(err error) error {
	t.dir.Close()
	if err == nil {
		return nil
	}
	asGiven := func(s string) string { return strings.ReplaceAll(s, t.at, t.path) }
	if text := err.Error(); asGiven(text) != text {
		return errs.New(errs.KindOf(err), "", asGiven(text), asGiven(errs.NextStep(err)))
	}
	return err
}

// asPrecondition is for calls that create only the last part of a path: a missing directory does
// not mean that the volume is missing.
func asPrecondition(err error) error {
	var e *errs.Error
	if errs.Is(err, errs.NotFound) && errors.As(err, &e) {
		changed := *e
		changed.Kind = errs.Unsupported
		return &changed
	}
	return err
}

// pathToMountOn returns a path without symbolic links.
func (s *Service) pathToMountOn(m MountSpec) (string, error) {
	if m.opened != nil {
		return m.opened.at, nil
	}
	return s.Mounts.RealPath(m.Path)
}
