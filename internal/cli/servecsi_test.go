package cli

import (
	"testing"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pmemctl/pmemctl/internal/errs"
)

func TestFlagsFromEnvironment(t *testing.T) {
	var init bool
	var percent int
	var address string
	flags := pflag.NewFlagSet("serve-csi", pflag.ContinueOnError)
	flags.BoolVar(&init, "init", false, "")
	flags.IntVar(&percent, "percent", 0, "")
	flags.StringVar(&address, "metrics-address", "", "")
	require.NoError(t, flags.Parse([]string{"--percent", "10"}))
	t.Setenv("PMEMCTL_INIT", "true")
	t.Setenv("PMEMCTL_PERCENT", "50")
	t.Setenv("PMEMCTL_METRICS_ADDRESS", ":9090")
	require.NoError(t, flagsFromEnvironment(flags))
	assert.True(t, init)
	assert.Equal(t, 10, percent, "the command line counts more")
	assert.Equal(t, ":9090", address)

	t.Setenv("PMEMCTL_INIT", "perhaps")
	flags = pflag.NewFlagSet("serve-csi", pflag.ContinueOnError)
	flags.BoolVar(&init, "init", false, "")
	err := flagsFromEnvironment(flags)
	assert.True(t, errs.Is(err, errs.Invalid))
	assert.ErrorContains(t, err, `environment variable PMEMCTL_INIT: "perhaps" is not a valid value for --init`)
}

func TestServeFlags(t *testing.T) {
	good := serveCSIOptions{endpoint: "unix:///csi.sock", nodeID: "a", driver: "csi.pmemctl.io", kind: "all", kubeletDir: "/var/lib/kubelet/", inlineMaxSize: "64Mi", eraseRate: "20%"}
	c, err := good.config()
	require.NoError(t, err)
	assert.Equal(t, "/var/lib/kubelet", c.KubeletDir)
	assert.EqualValues(t, 64<<20, c.InlineMaxSize)
	assert.False(t, c.Inline)
	for want, change := range map[string]func(*serveCSIOptions){
		`--kubelet-dir: "/" is not`:       func(f *serveCSIOptions) { f.kubeletDir = "/" },
		`--kubelet-dir: "kubelet" is not`: func(f *serveCSIOptions) { f.kubeletDir = "kubelet" },
		`--kubelet-dir: "" is not`:        func(f *serveCSIOptions) { f.kubeletDir = "" },
		`--inline-max-size: "0" is not`:   func(f *serveCSIOptions) { f.inlineMaxSize = "0" },
		`--inline-max-size: "all" is not`: func(f *serveCSIOptions) { f.inlineMaxSize = "all" },
		`--erase-rate: "0%" is not`:       func(f *serveCSIOptions) { f.eraseRate = "0%" },
	} {
		f := good
		change(&f)
		_, err := f.config()
		assert.ErrorContains(t, err, want)
		assert.True(t, errs.Is(err, errs.Invalid))
	}
}
