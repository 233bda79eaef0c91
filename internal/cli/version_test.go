package cli

import (
	"encoding/json"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestVersion(t *testing.T) {
	sh := newShell(nil)
	sh.ok(t, "version")
	assert.Regexp(t, `^pmemctl    `+Version+`.*
go         go1\..*
libndctl   .+
libdaxctl  .+
lvm        .+
kernel     .+
$`, sh.stdout.String())
	sh.ok(t, "version -o json")
	var v versions
	require.NoError(t, json.Unmarshal(sh.stdout.Bytes(), &v))
	assert.Equal(t, runtime.Version(), v.Go)
	assert.Equal(t, kernelVersion(), v.Kernel)
}

func TestLVMVersion(t *testing.T) {
	assert.Equal(t, "2.03.16(2) (2022-05-18)", lvmVersion("  LVM version:     2.03.16(2) (2022-05-18)\n  Library version: 1.02.185\n"))
	assert.Equal(t, "unknown", lvmVersion("nothing"))
}
