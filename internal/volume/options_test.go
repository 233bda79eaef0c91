package volume

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/pmem"
)

func TestMkfsOptions(t *testing.T) {
	for _, ok := range []string{"", "-i 65536", "-m 0 -N 1024", "-O ^has_journal", "-E stride=512,stripe_width=512"} {
		assert.NoError(t, validateMkfsOptions("ext4", strings.Fields(ok)), ok)
	}
	for _, bad := range []string{"/dev/sda", "sda", "-d root", "-J device=UUID", "-l list", "-i", "-F", "-n", "-z undo", "-E offset=4096", "-E fd=3", "-L ../x", "-L root", "-U clear", "-e panic", "-b 4096 extra", "--help", "-i8192"} {
		assert.True(t, errs.Is(validateMkfsOptions("ext4", strings.Fields(bad)), errs.Invalid), bad)
	}
	assert.NoError(t, validateMkfsOptions("xfs", strings.Fields("-d agcount=4 -l size=64m")))
	for _, bad := range []string{"-d name=x", "-d file=1,name=x", "-l logdev=x", "-r rtdev=x", "-p proto", "-c options=x", "-N", "-L root", "-m uuid=x"} {
		assert.True(t, errs.Is(validateMkfsOptions("xfs", strings.Fields(bad)), errs.Invalid), bad)
	}
	assert.Error(t, validateMkfsOptions("none", []string{"-i", "1"}))
	assert.Error(t, validateMkfsOptions("ext4", []string{"-i", "1 2"}))
}

func TestMountOptions(t *testing.T) {
	assert.NoError(t, validateOptions([]string{"noatime", "dax=always", "nofail", "x-systemd.automount"}))
	for _, bad := range []string{"", "a,b", "a b", "a\n", "bind", "rbind", "remount", "loop", "loop=/dev/loop0", "shared", "journal_dev=0x801", "journal_path=/dev/x", "logdev=/dev/x", "rtdev=/dev/x"} {
		assert.True(t, errs.Is(validateOptions([]string{"noatime", bad}), errs.Invalid), "%q", bad)
	}
}

func TestCopySource(t *testing.T) {
	source := "0b1b2c3d-0000-4000-8000-000000000001"
	var v View
	direct := Volume{Name: "b", Type: TypeDirect, UUID: v.copyUUID("b", source)}
	v.PMEM.Namespaces = []pmem.Namespace{{UUID: direct.UUID}} // deleted, and being erased
	second := Volume{Name: "b", Type: TypeDirect, UUID: v.copyUUID("b", source)}
	assert.NotEqual(t, direct.UUID, second.UUID)
	assert.True(t, second.isCopyOf(source))
	assert.True(t, direct.isCopyOf(source))
	assert.False(t, direct.isCopyOf("another"))
	assert.False(t, Volume{Name: "c", Type: TypeDirect, UUID: direct.UUID}.isCopyOf(source))
	assert.True(t, Volume{Name: "b", Type: TypeLVM, copyOf: source}.isCopyOf(source))
	assert.False(t, Volume{Name: "b", Type: TypeLVM}.isCopyOf(source))
	assert.Empty(t, v.copyUUID("b", ""), "a volume that is no copy has a UUID of its own")
}
