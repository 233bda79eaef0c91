package csi

import (
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/stretchr/testify/assert"
	"google.golang.org/grpc/status"

	"github.com/pmemctl/pmemctl/internal/volume"
)

func TestParameters(t *testing.T) {
	all := &Server{Config: Config{Type: volume.TypeLVM}}
	direct := &Server{Config: Config{Type: volume.TypeDirect, Only: true}}
	for name, c := range map[string]struct {
		server *Server
		params map[string]string
		want   volume.Spec
		err    string
	}{
		"none":             {all, nil, volume.Spec{Type: volume.TypeLVM}, ""},
		"the seed's lvm":   {all, map[string]string{"volumeType": "PMEM", "pmemType": "lvm", "nodeAffinity": "true"}, volume.Spec{Type: volume.TypeLVM}, ""},
		"direct":           {all, map[string]string{"volumeType": "PMEM", "pmemType": "direct", "pmemRegion": "region1"}, volume.Spec{Type: volume.TypeDirect, Region: "region1"}, ""},
		"LVM with a VG":    {all, map[string]string{"volumeType": "LVM", "vgName": "pmemvgregion0", "lvmType": "striping"}, volume.Spec{Type: volume.TypeLVM, VG: "pmemvgregion0", Stripe: true}, ""},
		"file system":      {all, map[string]string{"fsType": "xfs", "csi.storage.k8s.io/fstype": "xfs", "mkfsOptions": "-i 8192  -m 0"}, volume.Spec{Type: volume.TypeLVM, FS: "xfs", MkfsOptions: []string{"-i", "8192", "-m", "0"}}, ""},
		"kept":             {all, map[string]string{"eraseAfterDelete": "false"}, volume.Spec{Type: volume.TypeLVM, NoErase: true}, ""},
		"MAP_SYNC":         {all, map[string]string{"mapSync": "required"}, volume.Spec{Type: volume.TypeLVM, MapSync: true}, ""},
		"any":              {all, map[string]string{"mapSync": "any"}, volume.Spec{Type: volume.TypeLVM}, ""},
		"MAP_SYNC wanted":  {all, map[string]string{"mapSync": "true"}, volume.Spec{}, "neither required nor any"},
		"metadata":         {all, map[string]string{"csi.storage.k8s.io/pvc/name": "a"}, volume.Spec{Type: volume.TypeLVM}, ""},
		"only direct":      {direct, nil, volume.Spec{Type: volume.TypeDirect}, ""},
		"wrong node":       {direct, map[string]string{"pmemType": "lvm"}, volume.Spec{}, "this node serves direct volumes only, not lvm"},
		"two systems":      {all, map[string]string{"fsType": "xfs", "csi.storage.k8s.io/fstype": "ext4"}, volume.Spec{}, "differ"},
		"LVM and direct":   {all, map[string]string{"volumeType": "LVM", "pmemType": "direct"}, volume.Spec{}, "exclude each other"},
		"case":             {all, map[string]string{"pmemtype": "lvm"}, volume.Spec{}, `unknown parameter "pmemtype"; did you mean pmemType?`},
		"misspelt":         {all, map[string]string{"eraseAfterDeleted": "true"}, volume.Spec{}, "did you mean eraseAfterDelete?"},
		"size is inline's": {all, map[string]string{"size": "1Gi"}, volume.Spec{}, `unknown parameter "size"`},
		"neither":          {all, map[string]string{"nodeAffinity": "perhaps"}, volume.Spec{}, "neither true nor false"},
		"SSD":              {all, map[string]string{"volumeType": "SSD"}, volume.Spec{}, "neither PMEM nor LVM"},
		"ntfs":             {all, map[string]string{"fsType": "ntfs"}, volume.Spec{}, "neither ext4 nor xfs"},
	} {
		got, err := c.server.spec(c.params)
		if c.err != "" {
			assert.Contains(t, status.Convert(err).Message(), c.err, name)
			continue
		}
		assert.NoError(t, err, name)
		c.want.OrLarger = true
		assert.Equal(t, c.want, got, name)
	}
}

func TestVolumeContext(t *testing.T) {
	params := map[string]string{"pmemType": "lvm", "mapSync": "any"}
	for want, vol := range map[string]volume.Volume{"supported": {}, "refused": {NoMapSync: true}} {
		assert.Equal(t, map[string]string{"pmemType": "lvm", "mapSync": want}, volumeContext(params, vol, volume.Spec{FS: "ext4"}))
	}
	assert.Equal(t, map[string]string{"pmemType": "lvm"}, volumeContext(params, volume.Volume{}, volume.Spec{FS: "none"}))
}

func TestNames(t *testing.T) {
	assert.Equal(t, "disk-1", volumeName("disk-1"))
	assert.Equal(t, "pvc-0d6b5f80-6f3c-4d0e-a8a5-0c8f0ad9a1b7", volumeName("pvc-0d6b5f80-6f3c-4d0e-a8a5-0c8f0ad9a1b7"))
	seen := map[string]string{}
	for _, name := range []string{"a b", "../x", "-rf", strings.Repeat("x", 128), strings.Repeat("x", 127), "ephemeral-x", "csi-name-x", "名", "snapshot1", "a/b", "a\x00b"} {
		got := volumeName(name)
		assert.NoError(t, volume.ValidateName(got), name)
		assert.False(t, volume.IsInline(got), name)
		assert.Empty(t, seen[got], "%q and %q are one volume", name, seen[got])
		seen[got] = name
	}
	assert.NoError(t, volume.ValidateName(ephemeralName("csi-"+strings.Repeat("a", 64))))
	assert.True(t, volume.IsInline(ephemeralName("a")))
}

func TestSizeRange(t *testing.T) {
	for name, c := range map[string]struct {
		r           *csi.CapacityRange
		size, limit uint64
		bad         bool
	}{
		"none":        {nil, defaultSize, 0, false},
		"required":    {&csi.CapacityRange{RequiredBytes: 5}, 5, 0, false},
		"both":        {&csi.CapacityRange{RequiredBytes: 5, LimitBytes: 9}, 5, 9, false},
		"large limit": {&csi.CapacityRange{LimitBytes: 2 * defaultSize}, defaultSize, 2 * defaultSize, false},
		"small limit": {&csi.CapacityRange{LimitBytes: 100}, 1, 100, false},
		"backwards":   {&csi.CapacityRange{RequiredBytes: 9, LimitBytes: 5}, 0, 0, true},
		"negative":    {&csi.CapacityRange{RequiredBytes: -1}, 0, 0, true},
	} {
		size, limit, err := sizeRange(c.r)
		assert.Equal(t, c.bad, err != nil, name)
		assert.Equal(t, [2]uint64{c.size, c.limit}, [2]uint64{size, limit}, name)
	}
}

func TestNearest(t *testing.T) {
	assert.Equal(t, 3, distance("kitten", "sitting"))
	assert.Equal(t, 0, distance("", ""))
	assert.Equal(t, paramVGName, nearest("vg", parameters))
	assert.Equal(t, paramFSType, nearest("fstype", parameters))
}
