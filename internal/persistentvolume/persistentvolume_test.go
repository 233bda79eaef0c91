package persistentvolume

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/volume"
)

var ours = Rewriting{From: []string{PMEMCSI, Alibaba}, Driver: "csi.pmemctl.io", TopologyKey: "csi.pmemctl.io/node"}

// TestRewrite: PersistentVolumes as the drivers write them become pmemctl's.
func TestRewrite(t *testing.T) {
	for _, name := range []string{"pmem-csi", "alibaba"} {
		in, err := os.Open(filepath.Join("testdata", name+".json"))
		require.NoError(t, err)
		defer in.Close()
		list, kept, err := ours.Rewrite(in)
		require.NoError(t, err)
		assert.Empty(t, kept)
		got, err := json.MarshalIndent(list, "", "  ")
		require.NoError(t, err)
		want, err := os.ReadFile(filepath.Join("testdata", name+".want.json"))
		require.NoError(t, err)
		assert.Equal(t, string(want), string(got)+"\n")
		for _, pv := range list.Items {
			assert.NoError(t, volume.ValidateName(text(pv, "spec", "csi", "volumeHandle")))
		}
	}
}

// TestRewriteKeeps: what cannot be pmemctl's is left out, with the reason.
func TestRewriteKeeps(t *testing.T) {
	const affinity = `"nodeAffinity":{"required":{"nodeSelectorTerms":[{"matchExpressions":[{"key":"pmem-csi.intel.com/node","operator":"In","values":["n"]}]}]}}`
	pv := func(spec string) string {
		return `{"kind":"PersistentVolume","metadata":{"name":"a"},"spec":{` + spec + `}}`
	}
	for in, reason := range map[string]string{
		`{"kind":"PersistentVolume","metadata":{"name":"a","deletionTimestamp":"2026-01-01T00:00:00Z"},"spec":{"csi":{"driver":"pmem-csi.intel.com"}}}`: "it is being deleted",
		pv(`"csi":{"driver":"pmem-csi.intel.com","volumeHandle":"a"}`):                                                                                  "it has no node affinity",
		pv(`"csi":{"driver":"pmem-csi.intel.com","volumeHandle":"a/b"},` + affinity):                                                                    `its volumeHandle "a/b" cannot be the name of a volume`,
		pv(`"csi":{"driver":"pmem-csi.intel.com"},` + affinity):                                                                                         `its volumeHandle "" cannot`,
		pv(`"csi":{"driver":"pmem-csi.intel.com","volumeHandle":"a"},` + strings.ReplaceAll(affinity, "pmem-csi.intel.com/node", "zone")):               `the key "zone"`,
		pv(`"csi":{"driver":"pmem-csi.intel.com","volumeHandle":"a"},` + strings.ReplaceAll(affinity, "matchExpressions", "matchFields")):               "is not a list of labels",
	} {
		list, kept, err := ours.Rewrite(strings.NewReader(in))
		require.NoError(t, err)
		assert.Empty(t, list.Items)
		if assert.Len(t, kept, 1, in) {
			assert.Equal(t, "a", kept[0].Name)
			assert.Contains(t, kept[0].Reason, reason)
		}
	}
	// Two handles with the same first 54 characters, and one that pmemctl has already.
	long := strings.Repeat("a", 54)
	object := func(driver, handle string) string {
		return strings.Replace(pv(`"csi":{"driver":"`+driver+`","volumeHandle":"`+handle+`"},`+affinity), `"metadata"`, `"status":{"phase":"Bound"},"metadata"`, 1)
	}
	for _, in := range []string{
		object(PMEMCSI, long+"1") + "," + object(PMEMCSI, long+"2"),
		object(PMEMCSI, "db") + "," + object("csi.pmemctl.io", "db"),
	} {
		in = `{"items":[` + in + `]}`
		list, kept, err := ours.Rewrite(strings.NewReader(in))
		require.NoError(t, err)
		assert.Empty(t, list.Items)
		if assert.NotEmpty(t, kept) {
			assert.Contains(t, kept[0].Reason, "there are several with the volume ")
		}
		renaming := ours
		renaming.Names = map[string]string{long + "1": "other", "db": "other"}
		list, _, err = renaming.Rewrite(strings.NewReader(in))
		require.NoError(t, err)
		assert.NotEmpty(t, list.Items)
	}
	for _, phase := range []string{"Released", "Failed"} {
		list, kept, err := ours.Rewrite(strings.NewReader(strings.Replace(object(PMEMCSI, "a"), "Bound", phase, 1)))
		require.NoError(t, err)
		assert.Empty(t, list.Items)
		assert.Contains(t, kept[0].Reason, "it is "+phase)
	}
	for _, in := range []string{
		pv(`"csi":{"driver":"csi.pmemctl.io","volumeHandle":"a"},` + affinity),
		pv(`"hostPath":{"path":"/"}`), `{"kind":"Pod"}`, `{}`, `{"items":[1,null]}`, `{"items":[]}`,
	} {
		list, kept, err := ours.Rewrite(strings.NewReader(in))
		require.NoError(t, err)
		assert.Empty(t, list.Items)
		assert.Empty(t, kept)
	}
	_, _, err := ours.Rewrite(strings.NewReader("NAME CAPACITY"))
	assert.True(t, errs.Is(err, errs.Invalid))
}

// TestRewriteForTheSameDriver: with the overlay ack, those of Alibaba Cloud's driver get pmemctl's
// topology key, and those of pmemctl stay as they are.
func TestRewriteForTheSameDriver(t *testing.T) {
	ack := Rewriting{From: []string{PMEMCSI, Alibaba}, Driver: Alibaba, TopologyKey: Alibaba + "/node"}
	old, err := os.ReadFile(filepath.Join("testdata", "alibaba.json"))
	require.NoError(t, err)
	list, kept, err := ack.Rewrite(strings.NewReader(string(old)))
	require.NoError(t, err)
	assert.Empty(t, kept)
	require.Len(t, list.Items, 1)
	assert.Equal(t, []string{Alibaba + "/node"}, affinityKeys(list.Items[0]))
	assert.Equal(t, Alibaba, text(list.Items[0], "spec", "csi", "driver"))

	again, err := json.Marshal(list)
	require.NoError(t, err)
	list, kept, err = ack.Rewrite(strings.NewReader(string(again)))
	require.NoError(t, err)
	assert.Empty(t, kept)
	assert.Empty(t, list.Items, "they are pmemctl's now")

	// One of pmemctl's with the segments of --topology-regions, and none at all.
	for _, own := range []string{
		strings.ReplaceAll(string(old), `{"key": "kubernetes.io/hostname",`, `{"key": "`+Alibaba+`/region0", "operator": "In", "values": ["true"]}, {"key": "`+Alibaba+`/node",`),
		strings.ReplaceAll(string(old), "nodeAffinity", "none"),
	} {
		require.NotEqual(t, string(old), own)
		list, kept, err := ack.Rewrite(strings.NewReader(own))
		require.NoError(t, err)
		assert.Empty(t, kept)
		assert.Empty(t, list.Items)
	}
	ack.TopologyKey = alibabaKey
	list, kept, err = ack.Rewrite(strings.NewReader(string(old)))
	require.NoError(t, err)
	assert.Empty(t, kept)
	assert.Empty(t, list.Items, "the server has the same key")

}

func FuzzRewrite(f *testing.F) {
	for _, name := range []string{"pmem-csi", "alibaba"} {
		in, err := os.ReadFile(filepath.Join("testdata", name+".json"))
		require.NoError(f, err)
		f.Add(string(in))
	}
	f.Fuzz(func(t *testing.T, in string) {
		list, _, err := ours.Rewrite(strings.NewReader(in))
		if err != nil {
			return
		}
		for _, pv := range list.Items {
			assert.NoError(t, volume.ValidateName(text(pv, "spec", "csi", "volumeHandle")))
			assert.Equal(t, "csi.pmemctl.io", text(pv, "spec", "csi", "driver"))
		}
	})
}
