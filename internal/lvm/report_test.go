package lvm

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pmemctl/pmemctl/internal/errs"
)

// fullReport is what lvm 2.03.16 answers for a group on two devices with a striped
// volume, and a device in no group.
const fullReport = `[
{"vg":[{"vg_name":"pmemvg","vg_uuid":"V","vg_size":"4190109696","vg_free":"3980394496","vg_extent_size":"2097152","vg_tags":"pmemctl","vg_missing_pv_count":"0"}],
 "pv":[{"pv_name":"/dev/pmem1","pv_uuid":"P1","dev_size":"2097152000","pv_size":"2095054848","pv_free":"1990197248","pe_start":"2097152"},
       {"pv_name":"/dev/pmem0","pv_uuid":"P0","dev_size":"2097152000","pv_size":"2095054848","pv_free":"1990197248","pe_start":"2097152"}],
 "lv":[{"lv_name":"db","lv_uuid":"L","lv_size":"209715200","lv_tags":"pmemctl,pmemctl.making"}],
 "pvseg":[],
 "seg":[{"lv_uuid":"L","segtype":"striped","stripes":"2","seg_pe_ranges":"/dev/pmem0:0-49 /dev/pmem1:0-49"}]},
{"vg":[],"pv":[{"pv_name":"/dev/pmem2","pv_uuid":"P2","dev_size":"1","pv_size":"","pv_free":"","pe_start":""}],"lv":[],"pvseg":[],"seg":[]}]`

func TestParseReport(t *testing.T) {
	var objects []map[string]json.RawMessage
	require.NoError(t, json.Unmarshal([]byte(fullReport), &objects))
	s, err := parseReport(objects)
	require.NoError(t, err)
	vg, ok := s.VG("pmemvg")
	require.True(t, ok)
	assert.Equal(t, uint64(3980394496), vg.Free)
	assert.True(t, vg.HasTag("pmemctl"))
	assert.Equal(t, []string{"/dev/pmem0", "/dev/pmem1"}, []string{vg.PVs[0].Name, vg.PVs[1].Name})
	require.Len(t, vg.LVs, 1)
	lv := vg.LVs[0]
	assert.Equal(t, LV{Name: "db", UUID: "L", VG: "pmemvg", Size: 200 << 20, Tags: []string{"pmemctl", "pmemctl.making"}, Type: "striped", Stripes: 2, Ranges: []string{"/dev/pmem0:0-49", "/dev/pmem1:0-49"}}, lv)
	require.Len(t, s.Orphans, 1)
	assert.Equal(t, "/dev/pmem2", s.Orphans[0].Name)

	objects[0]["vg"] = json.RawMessage(`[{"vg_name":"pmemvg","vg_size":"many"}]`)
	_, err = parseReport(objects)
	assert.ErrorContains(t, err, "lvm's report of pmemvg")
}

func FuzzParseReport(f *testing.F) {
	f.Add([]byte(fullReport))
	f.Fuzz(func(_ *testing.T, data []byte) {
		var objects []map[string]json.RawMessage
		if json.Unmarshal(data, &objects) == nil {
			_, _ = parseReport(objects)
		}
	})
}

func TestMapperNames(t *testing.T) {
	const ids = "LVM-" + "VVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVV" + "abcdefGHIJKLMNOPqrstuvWXYZ012345"
	for _, c := range []struct{ vg, lv, mapped string }{
		{"pmemvgregion0", "db", "pmemvgregion0-db"},
		{"pmemvgregion0", "disk-1", "pmemvgregion0-disk--1"},
		{"my-vg", "a--b", "my--vg-a----b"},
	} {
		assert.Equal(t, "/dev/mapper/"+c.mapped, MapperPath(c.vg, c.lv))
		vg, lv, uuid, ok := ParseMapper(c.mapped, ids)
		assert.True(t, ok)
		assert.Equal(t, []string{c.vg, c.lv}, []string{vg, lv})
		assert.Equal(t, "abcdef-GHIJ-KLMN-OPqr-stuv-WXYZ-012345", uuid)
	}
	for _, uuid := range []string{"", "CRYPT-abc", "LVM-short", ids + "-real"} {
		_, _, _, ok := ParseMapper("pmemvgregion0-db", uuid)
		assert.False(t, ok, uuid)
	}
}

func FuzzParseMapper(f *testing.F) {
	f.Add("pmemvgregion0-disk--1", "LVM-"+"VVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVabcdefGHIJKLMNOPqrstuvWXYZ012345")
	f.Fuzz(func(_ *testing.T, name, uuid string) { ParseMapper(name, uuid) })
}

func TestClassify(t *testing.T) {
	for reason, kind := range map[string]errs.Kind{
		`Volume group "pmemvg" has insufficient free space (3 extents): 5 required.`: errs.NoSpace,
		`Logical Volume "db" already exists in volume group "pmemvg"`:                errs.Conflict,
		`Logical volume pmemvg/db contains a filesystem in use.`:                     errs.InUse,
		`Failed to find logical volume "pmemvg/db"`:                                  errs.NotFound,
		`something new`: errs.Internal,
	} {
		err := classify("lvcreate", reason)
		assert.Equal(t, kind, errs.KindOf(err), reason)
		assert.ErrorContains(t, err, "lvm lvcreate: "+reason)
	}
}
