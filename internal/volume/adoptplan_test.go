package volume

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pmemctl/pmemctl/internal/lvm"
	"github.com/pmemctl/pmemctl/internal/pmem"
)

const adoptText = `theirs {
id = "GGGGGG-GGGG-GGGG-GGGG-GGGG-GGGG-GGGGGG"
seqno = 3
format = "lvm2"
status = ["RESIZEABLE", "READ", "WRITE"]
extent_size = 8192
physical_volumes {
pv0 {
id = "AAAAAA-AAAA-AAAA-AAAA-AAAA-AAAA-AAAAAA"
dev_size = 1048576
pe_start = 2048
pe_count = 127
}
}
logical_volumes {
data {
id = "DDDDDD-DDDD-DDDD-DDDD-DDDD-DDDD-DDDDDD"
status = ["READ", "WRITE", "VISIBLE"]
segment_count = 1
segment1 {
start_extent = 0
extent_count = 5
type = "striped"
stripe_count = 1
stripes = [
"pv0", 0
]
}
}
}
}
`

// TestAdoptJudge: what lvm's report does not show is in the metadata.
func TestAdoptJudge(t *testing.T) {
	const snapshot = `snapshot0 {
id = "SSSSSS-SSSS-SSSS-SSSS-SSSS-SSSS-SSSSSS"
segment1 {
start_extent = 0
extent_count = 5
type = "snapshot"
chunk_size = 8
origin = "data"
cow_store = "snap"
}
}
data {`
	for _, test := range []struct{ old, new, reason string }{
		{"", "", ""},
		{"seqno = 3", "seqno = 3\nlock_type = \"none\"", ""},
		{"seqno = 3", "seqno = 3\nlock_type = \"sanlock\"", "is shared with other hosts or exported: lock type sanlock"},
		{"seqno = 3", "seqno = 3\nsystem_id = \"node7\"", "is shared with other hosts or exported: system ID node7"},
		{`"WRITE"]`, `"WRITE", "EXPORTED"]`, "is shared with other hosts or exported: exported"},
		{"data {", snapshot, "has snapshot0, which is neither linear nor striped"},
		{`type = "striped"`, `type = "raid1"`, "has data, which is neither linear nor striped"},
	} {
		g, err := lvm.ParseGroup([]byte(strings.Replace(adoptText, test.old, test.new, 1)))
		require.NoError(t, err)
		a := Adoption{Kind: groupToAdopt, Object: "theirs"}
		a.judge(g)
		assert.Equal(t, test.reason, a.Reason)
		assert.Equal(t, test.reason == "", a.Fits())
	}
	a := Adoption{Kind: groupToAdopt, Object: "theirs", namespaces: []pmem.Namespace{{Blockdev: "pmem0"}}}
	a.judge(lvm.Group{})
	assert.Equal(t, "has no metadata that can be read", a.Reason)
	assert.Contains(t, a.Next, "/dev/pmem0")
}

func TestMadeBy(t *testing.T) {
	for name, want := range map[string]string{
		"pmem-csi": "pmem-csi", "ndbus0region1fsdax": "pmem-csi", "pvc-7b-1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6": "pmem-csi",
		"pmemvgregion0": "Alibaba Cloud", "disk-0b7c6c4d-8a55-4a5e-9d0e-7b0f2c1e3a21": "Alibaba Cloud", "": "", "db": "", "pmemvg": "",
	} {
		assert.Equal(t, want, madeBy(name), name)
	}
}
