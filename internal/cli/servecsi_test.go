package cli

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pmemctl/pmemctl/internal/csi"
	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/pmem"
	"github.com/pmemctl/pmemctl/internal/volume"
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

// withoutEnvironment unsets the variables from which serve-csi takes flags.
func withoutEnvironment(t *testing.T) {
	for _, name := range []string{"CSI_ENDPOINT", "KUBE_NODE_NAME"} {
		t.Setenv(name, "")
	}
}

func TestServeCSIFlags(t *testing.T) {
	withoutEnvironment(t)
	defaults := serveCSIOptions{driver: "csi.pmemctl.io", kind: "all", kubeletDir: "/var/lib/kubelet", inlineMaxSize: "1Gi", eraseRate: "20%", verbosity: 2}
	with := func(change func(*serveCSIOptions)) serveCSIOptions {
		o := defaults
		change(&o)
		return o
	}
	testFlags(t, newServeCSICommand, []flagTest[serveCSIOptions]{
		{args: "", want: defaults},
		{args: "--endpoint unix:///csi.sock --nodeid a --init --percent 50 --span --v 5", want: with(func(o *serveCSIOptions) {
			o.endpoint, o.nodeID, o.init, o.percent, o.span, o.verbosity = "unix:///csi.sock", "a", true, 50, true, 5
		})},
		{args: "--controller-endpoint /c --driver d --topology-key k --topology-regions --type lvm --node-expansion", want: with(func(o *serveCSIOptions) {
			o.controllerEndpoint, o.driver, o.topologyKey, o.topologyRegions, o.kind, o.nodeExpansion = "/c", "d", "k", true, "lvm", true
		})},
		{args: "--registration-dir /r --registration-endpoint /e --kubelet-dir /k --inline --inline-max-size 2Gi --erase-rate max", want: with(func(o *serveCSIOptions) {
			o.registrationDir, o.registrationEndpoint, o.kubeletDir, o.inline, o.inlineMaxSize, o.eraseRate = "/r", "/e", "/k", true, "2Gi", "max"
		})},
		{args: "--metrics-address :9090 --metrics-token-file /t --host-dir /host", want: with(func(o *serveCSIOptions) {
			o.metricsAddress, o.metricsTokenFile, o.hostDir = ":9090", "/t", "/host"
		})},
		{args: "now", err: `unknown command "now"`},
	})
	t.Setenv("KUBE_NODE_NAME", "node1")
	t.Setenv("CSI_ENDPOINT", "unix:///csi.sock")
	t.Setenv("PMEMCTL_INLINE", "true")
	testFlags(t, newServeCSICommand, []flagTest[serveCSIOptions]{
		{args: "--inline=false", want: with(func(o *serveCSIOptions) { o.nodeID, o.endpoint = "node1", "unix:///csi.sock" })},
		{args: "--nodeid a", want: with(func(o *serveCSIOptions) { o.nodeID, o.endpoint, o.inline = "a", "unix:///csi.sock", true })},
	})
	t.Setenv("PMEMCTL_V", "loud")
	testFlags(t, newServeCSICommand, []flagTest[serveCSIOptions]{{args: "", err: `environment variable PMEMCTL_V: "loud" is not a valid value for --v`}})
}

func TestServeFlags(t *testing.T) {
	long := strings.Repeat("a", 64)
	good := serveCSIOptions{endpoint: "unix:///csi.sock", nodeID: "a", driver: "csi.pmemctl.io", kind: "all", kubeletDir: "/var/lib/kubelet/", inlineMaxSize: "64Mi", eraseRate: "20%"}
	c, err := good.config()
	require.NoError(t, err)
	assert.Equal(t, "/var/lib/kubelet", c.KubeletDir)
	assert.EqualValues(t, 64<<20, c.InlineMaxSize)
	assert.False(t, c.Inline)
	assert.Equal(t, "csi.pmemctl.io/node", c.TopologyKey)
	assert.False(t, c.Only)
	direct := good
	direct.kind, direct.topologyKey = "direct", "key"
	c, err = direct.config()
	require.NoError(t, err)
	assert.True(t, c.Only)
	assert.Equal(t, volume.TypeDirect, c.Type)
	assert.Equal(t, "key", c.TopologyKey)
	for want, change := range map[string]func(*serveCSIOptions){
		`--endpoint: is missing`:                              func(f *serveCSIOptions) { f.endpoint = "" },
		`--nodeid: is missing`:                                func(f *serveCSIOptions) { f.nodeID = "" },
		`--nodeid: is 257 bytes long; the maximum is 256`:     func(f *serveCSIOptions) { f.nodeID = strings.Repeat("a", 257) },
		`--driver: "-x" is not a valid driver name`:           func(f *serveCSIOptions) { f.driver = "-x" },
		`--driver: "` + long + `" is not a valid driver name`: func(f *serveCSIOptions) { f.driver = long },
		`--type: "tape" is not a volume type`:                 func(f *serveCSIOptions) { f.kind = "tape" },
		`--kubelet-dir: "/" is not`:                           func(f *serveCSIOptions) { f.kubeletDir = "/" },
		`--kubelet-dir: "kubelet" is not`:                     func(f *serveCSIOptions) { f.kubeletDir = "kubelet" },
		`--kubelet-dir: "" is not`:                            func(f *serveCSIOptions) { f.kubeletDir = "" },
		`--inline-max-size: "0" is not`:                       func(f *serveCSIOptions) { f.inlineMaxSize = "0" },
		`--inline-max-size: "all" is not`:                     func(f *serveCSIOptions) { f.inlineMaxSize = "all" },
		`--erase-rate: "0%" is not`:                           func(f *serveCSIOptions) { f.eraseRate = "0%" },
	} {
		f := good
		change(&f)
		_, err := f.config()
		assert.ErrorContains(t, err, want)
		assert.True(t, errs.Is(err, errs.Invalid))
	}
}

// TestTogether: when one part ends, the others are stopped, and all errors are returned.
func TestTogether(t *testing.T) {
	late := errors.New("late")
	err := together(context.Background(), []func(context.Context) error{
		func(context.Context) error { return errBroken },
		func(ctx context.Context) error { <-ctx.Done(); return late },
		func(ctx context.Context) error { <-ctx.Done(); return nil },
	})
	assert.ErrorIs(t, err, errBroken)
	assert.ErrorIs(t, err, late)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	assert.NoError(t, together(ctx, []func(context.Context) error{func(ctx context.Context) error { <-ctx.Done(); return nil }}))
}

func TestLogLevel(t *testing.T) {
	for v, want := range map[int]slog.Level{-1: slog.LevelError, 0: slog.LevelError, 1: slog.LevelInfo, 2: slog.LevelInfo, 4: slog.LevelDebug, 5: csi.LevelRequests, 9: csi.LevelRequests} {
		assert.Equal(t, want, logLevel(v), v)
	}
}

func TestPrepare(t *testing.T) {
	f := newFakeVGs()
	f.steps = []volume.VGInitStep{{Region: "region0", VG: "pmemvg", Add: pmem.GiB}}
	f.initErr = errs.New(errs.Damaged, "volume group pmemvgregion1", "is damaged", "")
	sh := newShell(f)
	log := slog.New(slog.NewTextHandler(&sh.stderr, nil))
	assert.ErrorIs(t, sh.prepare(context.Background(), &serveCSIOptions{percent: 50, span: true}, log), f.initErr)
	assert.Equal(t, volume.VGInitSpec{Percent: 50, Span: true}, *f.done)
	assert.Contains(t, sh.stderr.String(), "msg=prepared region=region0 vg=pmemvg raw_had=0 raw_added=1073741824", "also if another group is damaged")
}

func (f *fakeVGs) RememberRegions(context.Context) error { return f.initErr }

func TestTellDamage(t *testing.T) {
	f := newFakeVGs()
	sh := newShell(f)
	log := slog.New(slog.NewTextHandler(&sh.stderr, nil))
	sh.tellDamage(context.Background(), log)
	assert.Empty(t, sh.stderr.String())

	f.damage = []volume.Damage{{Volume: "db", Reason: "is gone", Next: "look"}}
	f.parts = []volume.VGPart{{VG: "pmemvg", Device: "/dev/pmem0", Part: "label", State: volume.PartOK}, {VG: "pmemvg", Device: "/dev/pmem0", Part: "copy 1", State: volume.PartDamaged, Reason: "its checksum is wrong"}}
	f.err, f.initErr = errBroken, errBroken
	sh.tellDamage(context.Background(), log)
	for _, want := range []string{
		`msg="cannot record the regions" error=broken`, `msg=damaged error="volume db: is gone" next=look`,
		`msg="could not check the volume groups" error=broken`, `msg=damaged vg=pmemvg device=/dev/pmem0 part="copy 1" reason="its checksum is wrong"`,
	} {
		assert.Contains(t, sh.stderr.String(), want)
	}
	assert.NotContains(t, sh.stderr.String(), "part=label")

	f.look = func(context.Context) (volume.View, error) {
		return volume.View{}, errs.New(errs.Unsupported, "lvm", "is not installed", "apt-get install lvm2")
	}
	sh.stderr.Reset()
	sh.tellDamage(context.Background(), log)
	assert.Contains(t, sh.stderr.String(), `msg="could not check for damage" error="lvm: is not installed" next="apt-get install lvm2"`)
}
