package volume

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/mount"
)

func TestTargets(t *testing.T) {
	dir := t.TempDir()
	outside := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "pods"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "file"), nil, 0o600))
	require.NoError(t, os.Symlink("/etc", filepath.Join(dir, "link")))
	require.NoError(t, os.Symlink("pods", filepath.Join(dir, "inside")))
	inKubelet, anywhere := &Service{Devices: KernelDevices{}, Mounts: KernelMounts{}, TargetRoot: dir}, &Service{}
	open := func(s *Service, path string) error {
		target, err := s.openTarget(path)
		if err == nil {
			err = target.done(nil)
		}
		return err
	}
	for _, ok := range []string{filepath.Join(dir, "new"), filepath.Join(dir, "pods", "new"), filepath.Join(dir, "file")} {
		assert.NoError(t, open(inKubelet, ok), ok)
		assert.NoError(t, open(anywhere, ok), ok)
	}
	for _, bad := range []string{"", "/", "a", "./a", dir + "/../x", dir + "//x", dir + "/x/", dir + "/link", dir + "/link/x", dir + "/inside/x", dir + "/a\nb", "/" + strings.Repeat("x", maxPath), dir + "/."} {
		for _, s := range []*Service{inKubelet, anywhere} {
			assert.True(t, errs.Is(open(s, bad), errs.Invalid), "%q: %v", bad, open(s, bad))
		}
	}
	for _, elsewhere := range []string{dir, dir + "2/x", outside + "/x", "/usr/local/sbin", "/etc"} {
		err := open(inKubelet, elsewhere)
		assert.True(t, errs.Is(err, errs.Invalid), "%q: %v", elsewhere, err)
		assert.ErrorContains(t, err, "is not below kubelet's directory "+dir)
		assert.Contains(t, errs.NextStep(err), "--kubelet-dir")
	}
	for _, s := range []*Service{inKubelet, anywhere} {
		err := open(s, dir+"/not/there")
		assert.True(t, errs.Is(err, errs.NotFound), "%v", err)
		assert.True(t, errs.Is(asPrecondition(err), errs.Unsupported))
		assert.Error(t, open(s, dir+"/file/x"))
	}
}

// TestSwappedTarget: an operation affects the target as it was when it was opened.
func TestSwappedTarget(t *testing.T) {
	dir, elsewhere := t.TempDir(), t.TempDir()
	pod := filepath.Join(dir, "pod")
	require.NoError(t, os.Mkdir(pod, 0o755))
	target, err := (&Service{Devices: KernelDevices{}, Mounts: KernelMounts{}, TargetRoot: dir}).openTarget(filepath.Join(pod, "mount"))
	require.NoError(t, err)
	require.NoError(t, os.Rename(pod, filepath.Join(dir, "away")))
	require.NoError(t, os.Symlink(elsewhere, pod))
	require.NoError(t, os.Mkdir(target.at, 0o750))
	assert.DirExists(t, filepath.Join(dir, "away", "mount"))
	assert.NoDirExists(t, filepath.Join(elsewhere, "mount"))
	real, err := mount.RealPath(target.at)
	require.NoError(t, err)
	assert.Equal(t, filepath.Join(dir, "away", "mount"), real, "as the kernel's table of mounts has it")

	err = errs.New(errs.Conflict, target.at, "has something else mounted on it", "umount "+target.at)
	err = target.done(fmt.Errorf("volume a: %w", err))
	assert.EqualError(t, err, "volume a: "+pod+"/mount: has something else mounted on it")
	assert.Equal(t, "umount "+pod+"/mount", errs.NextStep(err))
	assert.True(t, errs.Is(err, errs.Conflict))
}

// TestMountingOnALink: the last part of a path may be replaced until it is open, too.
func TestMountingOnALink(t *testing.T) {
	dir := t.TempDir()
	link := filepath.Join(dir, "link")
	require.NoError(t, os.Symlink("/etc", link))
	assert.ErrorContains(t, mount.Mount("/dev/null", link, "ext4", nil), "mount on "+link+": too many levels of symbolic links")
	assert.ErrorContains(t, mount.Bind(dir, link, false, nil), "too many levels of symbolic links")
}
