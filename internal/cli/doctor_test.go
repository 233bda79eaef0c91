package cli

import (
	"context"
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pmemctl/pmemctl/internal/doctor"
)

func TestDoctorFlags(t *testing.T) {
	var got doctorOptions
	cmd := newDoctorCommand(newShell(nil).app, func(_ context.Context, o *doctorOptions) error {
		got = *o
		return nil
	})
	cmd.SetArgs([]string{})
	require.NoError(t, cmd.Execute())
	assert.Equal(t, doctorOptions{kubeletDir: "/var/lib/kubelet", driver: "csi.pmemctl.io", output: outputTable}, got)
	cmd.SetArgs([]string{"--touch", "--root", "/host", "--kubelet-dir", "/k", "--driver", "d", "-o", "json"})
	require.NoError(t, cmd.Execute())
	assert.True(t, got.touch)
	assert.Equal(t, []string{"/host", "/k", "d", "json"}, []string{got.host.Root, got.kubeletDir, got.driver, string(got.output)})
}

// TestFindings: each finding is printed, and the exit code says the worst.
func TestFindings(t *testing.T) {
	ok := doctor.Finding{Check: "kernel", State: doctor.OK, Detail: "6.1.0"}
	note := doctor.Finding{Check: "namespaces", State: doctor.Note, Detail: "left alone: namespace0.1"}
	warning := doctor.Finding{Check: "dimm", Object: "nmem0", State: doctor.Warning, Detail: "is too hot", Next: "check the cooling"}
	fault := doctor.Finding{Check: "volume", Object: "db", State: doctor.Fault, Detail: "is damaged", Next: "pmemctl volume show db"}
	for _, c := range []struct {
		findings []doctor.Finding
		code     int
		err      string
	}{
		{[]doctor.Finding{ok, note}, exitOK, ""},
		{[]doctor.Finding{ok, warning, note}, exitWarning, "warnings: 1"},
		{[]doctor.Finding{fault, warning, ok, warning}, exitFault, "faults: 1, warnings: 2"},
	} {
		sh := newShell(nil)
		err := sh.showFindings(outputTable, c.findings)
		if c.err == "" {
			assert.NoError(t, err)
		} else if assert.EqualError(t, err, c.err) {
			assert.Equal(t, c.code, exitCode(err))
		}
		for _, f := range c.findings {
			assert.Contains(t, sh.stdout.String(), string(f.State))
			assert.Contains(t, sh.stdout.String(), f.Detail)
			assert.Contains(t, sh.stdout.String(), f.Next)
		}
	}
}

// TestDoctor: the command checks the service's host, and says what it finds as JSON.
func TestDoctor(t *testing.T) {
	sh := newModelShell(t)
	require.Equal(t, exitOK, sh.run("vg init --percent 50"))
	require.Equal(t, exitOK, sh.run("volume create db --type lvm --size 1Gi"))
	sh.run("doctor -o json --kubelet-dir " + t.TempDir() + "/missing") // this machine may lack PMEM
	var out struct{ Findings []doctor.Finding }
	require.NoError(t, json.Unmarshal(sh.stdout.Bytes(), &out), sh.stdout.String())
	found := map[string]doctor.State{}
	for _, f := range out.Findings {
		found[f.Check+" "+f.Object] = f.State
	}
	for _, object := range []string{"volume db", "region region0", "region region1", "volume group pmemvgregion0", "csi ", "erasing ", "device mapper "} {
		assert.Equal(t, doctor.OK, found[object], "%s: %v", object, out.Findings)
	}
	sh.root = func() bool { return false }
	assert.Equal(t, exitPermission, sh.run("doctor"))
}
