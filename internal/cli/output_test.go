package cli

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"github.com/pmemctl/pmemctl/internal/pmem"
)

// TestOutputForms: each list is a table, a wide table with more columns, or one object under its
// plural name.
func TestOutputForms(t *testing.T) {
	sh := newModelShell(t)
	sh.dax = &fakeDAX{}
	sh.ok(t, "vg init --percent 50", "volume create db --type lvm --size 100Mi", "volume create cache --type direct --size 100Mi")
	for line, c := range map[string]struct {
		key        string
		titles     string
		wide       string // more columns
		alwaysWide bool
		rows       int
	}{
		"bus list":                    {key: "buses", titles: "BUS PROVIDER SCRUB", rows: 1},
		"dimm list":                   {key: "dimms", titles: "DIMM BUS STATE HEALTH FLAGS LABELS", wide: "ID HANDLE TEMPERATURE SPARES LIFE USED SHUTDOWN SECURITY", rows: 2},
		"region list":                 {key: "regions", titles: "REGION TYPE SIZE FREE LARGEST STATE", wide: "BUS ALIGN WAYS PERSISTENCE NUMA DIMMS BADBLOCKS", rows: 2},
		"namespace list":              {key: "namespaces", titles: "NAMESPACE REGION MODE SIZE RAW DEVICE STATE OWNER", wide: "MAP ALIGN SECTOR BADBLOCKS NAME UUID", rows: 3},
		"namespace list -r region1":   {key: "namespaces", titles: "NAMESPACE REGION MODE SIZE RAW DEVICE STATE OWNER", wide: "MAP ALIGN SECTOR BADBLOCKS NAME UUID", rows: 1},
		"namespace show namespace0.0": {key: "namespaces", titles: "NAMESPACE REGION MODE SIZE RAW DEVICE STATE OWNER", wide: "MAP ALIGN SECTOR BADBLOCKS NAME UUID", alwaysWide: true, rows: 1},
		"dax list":                    {key: "devices", titles: "DEVICE MODE SIZE STATE ONLINE", wide: "ALIGN TARGET NODE MOVABLE"},
		"vg list":                     {key: "vgs", titles: "VG SIZE FREE VOLUMES REGIONS STATE OWNER", wide: "DEVICES UUID", rows: 2},
		"vg show pmemvgregion1":       {key: "vgs", titles: "VG SIZE FREE VOLUMES REGIONS STATE OWNER", wide: "DEVICES UUID", alwaysWide: true, rows: 1},
		"volume list":                 {key: "volumes", titles: "VOLUME TYPE SIZE STATE DEVICE MOUNTED ON", wide: "RAW REGIONS VG NAMESPACE HEALTH UUID DAX", rows: 2},
		"volume show db":              {key: "volumes", titles: "VOLUME TYPE SIZE STATE DEVICE MOUNTED ON", wide: "RAW REGIONS VG NAMESPACE HEALTH UUID DAX", alwaysWide: true, rows: 1},
		"vg init --dry-run":           {key: "steps", titles: "REGION VG HAD ADDED NOTE", rows: 2},
	} {
		table := func(o, titles string) {
			sh.ok(t, line+o)
			lines := strings.Split(strings.TrimSuffix(sh.stdout.String(), "\n"), "\n")
			assert.Equal(t, titles, strings.Join(strings.Fields(lines[0]), " "), line+o)
			assert.Len(t, lines, 1+c.rows, line+o)
		}
		wide := strings.TrimSpace(c.titles + " " + c.wide)
		if table("", map[bool]string{false: c.titles, true: wide}[c.alwaysWide]); c.wide != "" || c.alwaysWide {
			table(" -o wide", wide)
		}
		sh.ok(t, line+" -o json")
		var object map[string][]map[string]any
		require.NoError(t, json.Unmarshal(sh.stdout.Bytes(), &object), line)
		assert.Len(t, object, 1, line)
		assert.Len(t, object[c.key], c.rows, line)
		assert.NotNil(t, object[c.key], "an empty list, and not null: %s", line)
		want := sh.stdout.String()
		sh.ok(t, line+" -o yaml")
		got, err := yaml.YAMLToJSONStrict(sh.stdout.Bytes())
		require.NoError(t, err, line)
		assert.JSONEq(t, want, string(got), line)
		assert.True(t, strings.HasPrefix(sh.stdout.String(), c.key+":"), line)
	}
	sh.ok(t, "capacity -o wide")
	assert.Regexp(t, `^TYPE +IN +TOTAL +FREE +ERASING +LARGEST VOLUME +LARGEST IN BYTES +NOTE\n`, sh.stdout.String())
	sh.ok(t, "region show region0 -o json")
	assert.Contains(t, sh.stdout.String(), "\"regions\": [\n    {\n")
	sh.ok(t, "region show region0 -o wide")
	assert.Contains(t, sh.stdout.String(), "Region:                      region0\n")
}

func TestOutputFlag(t *testing.T) {
	var o outputFlag
	assert.ErrorContains(t, o.Set("xml"), "use table, wide, json, yaml")
	for text, structured := range map[string]bool{"table": false, "wide": false, "json": true, "yaml": true} {
		require.NoError(t, o.Set(text))
		assert.Equal(t, text, o.String())
		assert.Equal(t, structured, o.structured(), text)
	}
	assert.Equal(t, outputWide, outputTable.detailed())
	assert.Equal(t, outputJSON, outputJSON.detailed())
}

func TestWriteErrors(t *testing.T) {
	sh := newShell(nil)
	sh.app.stdout = brokenWriter{}
	for _, o := range []outputFlag{outputTable, outputWide, outputJSON, outputYAML} {
		assert.ErrorIs(t, show(sh.app, o, "buses", []pmem.Bus{{Dev: "ndbus0"}}, []column[pmem.Bus]{{title: "BUS", cell: func(b pmem.Bus) string { return b.Dev }}}), errBroken, o)
	}
	assert.Error(t, showObject(&sh.stderr, outputJSON, func() {}), "what JSON cannot have")
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errBroken }

func TestSizeFlag(t *testing.T) {
	var s sizeFlag
	assert.Empty(t, s.String())
	require.NoError(t, s.Set("10Gi"))
	assert.Equal(t, "10 GiB", s.String())
	assert.Equal(t, "size", s.Type())
	assert.Error(t, s.Set("ten"))
}

func TestCellsWithoutValue(t *testing.T) {
	seven, degrees := 7, 20.5
	assert.Equal(t, "-", dash(""))
	assert.Equal(t, "x", dash("x"))
	assert.Equal(t, "-", nodeText(nil))
	assert.Equal(t, "7", nodeText(&seven))
	assert.Equal(t, "-", valueOf[float64](nil, "%.1f C"))
	assert.Equal(t, "20.5 C", valueOf(&degrees, "%.1f C"))
	assert.Equal(t, "-", healthOf(pmem.DIMM{}, func(*pmem.Health) string { return "ok" }))
}
