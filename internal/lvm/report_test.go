package lvm

import (
	"encoding/json"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pmemctl/pmemctl/internal/errs"
)

// fullReport is the output of lvm 2.03.16 for a group on two devices with a striped volume, and an
// orphan.
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
	s := parseReport(objects)
	assert.Empty(t, s.Problems)
	vg, ok := s.VG("pmemvg")
	require.True(t, ok)
	assert.Equal(t, uint64(3980394496), vg.Free)
	assert.True(t, vg.HasTag("pmemctl"))
	assert.Equal(t, []string{"/dev/pmem0", "/dev/pmem1"}, []string{vg.PVs[0].Name, vg.PVs[1].Name})
	require.Len(t, vg.LVs, 1)
	lv := vg.LVs[0]
	assert.Equal(t, LV{Name: "db", UUID: "L", VG: "pmemvg", VGUUID: "V", Size: 200 << 20, Tags: []string{"pmemctl", "pmemctl.making"}, Type: "striped", Stripes: 2, Ranges: []string{"/dev/pmem0:0-49", "/dev/pmem1:0-49"}}, lv)
	require.Len(t, s.Orphans, 1)
	assert.Equal(t, "/dev/pmem2", s.Orphans[0].Name)

	objects[0]["vg"] = json.RawMessage(`[{"vg_name":"pmemvg","vg_size":"many"}]`)
	s = parseReport(objects)
	assert.Empty(t, s.VGs)
	assert.Len(t, s.Orphans, 1, "what cannot be decoded hides nothing else")
	require.Len(t, s.Problems, 1)
	assert.Contains(t, s.Problems[0], "lvm's report of pmemvg")
}

// TestOddBytes: lvm may output bytes of a tag that are invalid in JSON.
func TestOddBytes(t *testing.T) {
	said := "{\"report\":[{\"vg\":[{\"vg_name\":\"v\",\n\"vg_tags\":\"a\x01b,\\\"\x02\\\\\"}]}]}"
	var a answer
	require.Error(t, json.Unmarshal([]byte(said), &a), "or this test shows nothing")
	require.NoError(t, json.NewDecoder(&controlFilter{from: iotest.OneByteReader(strings.NewReader(said))}).Decode(&a))
	s := parseReport(a.Report)
	require.Len(t, s.VGs, 1)
	assert.Equal(t, []string{"a?b", "\"?\\"}, s.VGs[0].Tags)
}

// TestNamesakes: with two groups of the same name, a command sees only the devices of its group.
func TestNamesakes(t *testing.T) {
	c := &Client{last: State{VGs: []VG{
		{Name: "a", UUID: "1", PVs: []PV{{Name: "/dev/pmem0"}}},
		{Name: "a", UUID: "2", PVs: []PV{{Name: "/dev/pmem1"}, {Name: "/dev/pmem2"}}},
		{Name: "b", UUID: "3", PVs: []PV{{Name: "/dev/pmem3"}}},
	}}}
	assert.Equal(t, []string{"/dev/pmem1", "/dev/pmem2"}, c.devicesOf(VGRef{"a", "2"}))
	assert.Equal(t, []string{"/dev/pmem0", "/dev/pmem9"}, c.devicesOf(VGRef{"a", "1"}, "/dev/pmem9"))
	assert.Nil(t, c.devicesOf(VGRef{"b", "3"}), "all")
	assert.Nil(t, c.devicesOf(VGRef{Name: "new"}, "/dev/pmem9"), "all")
}

func FuzzParseReport(f *testing.F) {
	f.Add([]byte(fullReport))
	f.Fuzz(func(_ *testing.T, data []byte) {
		var objects []map[string]json.RawMessage
		if json.Unmarshal(data, &objects) == nil {
			parseReport(objects)
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
