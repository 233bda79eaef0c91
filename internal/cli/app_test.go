package cli

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pmemctl/pmemctl/internal/dax"
	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/model"
	"github.com/pmemctl/pmemctl/internal/pmem"
	"github.com/pmemctl/pmemctl/internal/volume"
)

// shell runs command lines and has the output of the last one.
type shell struct {
	*app
	stdout, stderr bytes.Buffer
	detached       []string // the last command started in the background
}

// newShell returns a shell of root on a service. Without answers there is no terminal.
func newShell(s service, answers ...string) *shell {
	sh := &shell{}
	sh.app = &app{
		stdin: bufio.NewReader(strings.NewReader(strings.Join(answers, "\n"))), stdout: &sh.stdout, stderr: &sh.stderr, interactive: len(answers) > 0, bars: len(answers) > 0,
		root: func() bool { return true }, detach: func(args ...string) { sh.detached = args }, dax: &fakeDAX{}, cxl: &fakeCXL{}, service: s, host: &volume.Service{StateDir: "/no/such/directory"},
	}
	return sh
}

// newModelShell returns a shell on a model of a host with two regions of 4 GiB.
func newModelShell(t *testing.T, answers ...string) *shell {
	s := model.New(t.TempDir(), 4*pmem.GiB, 4*pmem.GiB).Service()
	sh := newShell(s, answers...)
	sh.host, sh.ndctl = s, s.NDCTL
	return sh
}

// run runs a command line, without quotes, and returns its exit code.
func (sh *shell) run(line string) int {
	sh.stdout.Reset()
	sh.stderr.Reset()
	root := newRootCommand(sh.app)
	root.SetArgs(strings.Fields(line))
	err := root.ExecuteContext(context.Background())
	if err == nil {
		return exitOK
	}
	printError(sh.app, err)
	return exitCode(err)
}

// ok runs command lines that succeed.
func (sh *shell) ok(t *testing.T, lines ...string) {
	t.Helper()
	for _, line := range lines {
		require.Equal(t, exitOK, sh.run(line), "%s: %s", line, &sh.stderr)
	}
}

// flagTest has the arguments of a command, and the options or the error that they result in.
type flagTest[O any] struct {
	args string
	want O
	err  string
}

// testFlags parses the arguments of a command without running it.
func testFlags[O any](t *testing.T, newCommand func(*app, runFunc[O]) *cobra.Command, tests []flagTest[O]) {
	t.Helper()
	for _, c := range tests {
		var got *O
		cmd := newCommand(newShell(nil).app, func(_ context.Context, o *O) error { got = o; return nil })
		cmd.SilenceErrors, cmd.SilenceUsage = true, true
		cmd.SetFlagErrorFunc(usage)
		checkArgs(cmd)
		cmd.SetArgs(strings.Fields(c.args))
		err := cmd.ExecuteContext(context.Background())
		if c.err != "" {
			assert.ErrorContains(t, err, c.err, c.args)
			assert.Equal(t, exitInvalid, exitCode(err), c.args)
			assert.Nil(t, got, c.args)
			continue
		}
		if assert.NoError(t, err, c.args) && assert.NotNil(t, got, c.args) {
			assert.Equal(t, c.want, *got, c.args)
		}
	}
}

// TestRoot: commands that read or change devices require root, and do nothing before they check it.
func TestRoot(t *testing.T) {
	for line, what := range map[string]string{
		"volume create db --type lvm --size 1Gi":    "creating a volume",
		"volume list":                               "listing volumes",
		"volume show db":                            "reading volumes",
		"volume delete db --force":                  "deleting a volume",
		"volume expand db --size 0":                 "expanding a volume",
		"volume clone db copy --size 0":             "copying a volume",
		"volume mount db /mnt/db":                   "mounting a volume",
		"volume unmount db":                         "unmounting a volume",
		"capacity":                                  "reading capacities",
		"tree":                                      "reading all layers",
		"vg init --percent 0":                       "creating a volume group",
		"vg extend pmemvg":                          "extending a volume group",
		"vg list":                                   "reading volume groups",
		"vg show pmemvg":                            "reading volume groups",
		"vg remove pmemvg --force":                  "removing a volume group",
		"vg check":                                  "reading the devices of volume groups",
		"vg repair pmemvg --force":                  "repairing a volume group",
		"region init-labels --all --force":          "initializing labels",
		"region enable region0":                     "changing a region",
		"region disable region0":                    "changing a region",
		"region forget 1 --force":                   "forgetting a region",
		"namespace create --size 0":                 "creating a namespace",
		"namespace destroy namespace0.0 --force":    "destroying a namespace",
		"dax reconfigure dax0.0 --mode none":        "reconfiguring a dax device",
		"decommission --dry-run":                    "giving back regions",
		"adopt --dry-run":                           "taking over volumes",
		"gc --erase-rate none":                      "erasing volumes",
		"host check":                                "checking the host's configuration",
		"host setup --force":                        "setting up the host",
		"serve-csi --endpoint /x --nodeid a":        "serve-csi",
		"serve-csi --endpoint /x --nodeid a --init": "serve-csi",
	} {
		sh := newShell(nil)
		sh.root = func() bool { return false }
		sh.service = noneUnerased{}
		assert.Equal(t, exitPermission, sh.run(line), line)
		assert.Equal(t, "pmemctl: "+what+" requires root\n  next: run it again with sudo\n", sh.stderr.String(), line)
		assert.Empty(t, sh.stdout.String(), line)
	}
}

// noneUnerased is a service without deleted volumes.
type noneUnerased struct{ service }

func (noneUnerased) Unerased() []string { return nil }

func TestConfirm(t *testing.T) {
	const question = "All data will be lost."
	for name, c := range map[string]struct {
		answers []string
		force   bool
		err     string
		prompt  bool
	}{
		"force":               {force: true},
		"force on a terminal": {force: true, answers: []string{"no"}},
		"yes":                 {answers: []string{"yes", ""}, prompt: true},
		"yes at the end":      {answers: []string{" yes "}, prompt: true},
		"no":                  {answers: []string{"no", ""}, prompt: true, err: "nothing was changed"},
		"y is not yes":        {answers: []string{"y", ""}, prompt: true, err: "nothing was changed"},
		"the end":             {answers: []string{""}, prompt: true, err: "nothing was changed"},
		"no terminal":         {err: question + " Cannot prompt: standard input or standard error is not a terminal"},
	} {
		sh := newShell(nil, c.answers...)
		err := sh.confirm(c.force, question)
		if c.err == "" {
			assert.NoError(t, err, name)
		} else {
			assert.EqualError(t, err, c.err, name)
			assert.Equal(t, exitAborted, exitCode(err), name)
		}
		want := ""
		if c.prompt {
			want = question + " Type yes to continue: "
		}
		assert.Equal(t, want, sh.stderr.String(), name)
	}
	sh := newShell(nil, "yes")
	sh.stdin = brokenReader{}
	assert.ErrorIs(t, sh.confirm(false, question), errBroken)
}

var errBroken = errors.New("broken")

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, errBroken }

func TestMessagesForTerminals(t *testing.T) {
	for _, answers := range [][]string{nil, {"yes"}} {
		sh := newShell(nil, answers...)
		sh.say("%s done", "db")
		sh.waiting("volume db", "pmemctl gc (PID 5)")
		step, done := sh.progress("erasing db")
		if answers == nil {
			assert.Nil(t, step)
			done()
			assert.Empty(t, sh.stderr.String())
			continue
		}
		assert.Equal(t, "db done\nwaiting for the lock of the volume db, held by pmemctl gc (PID 5)\n", sh.stderr.String())
		step(1<<20, 4<<20)
		done()
		assert.Contains(t, sh.stderr.String(), "erasing db")
		assert.Contains(t, sh.stderr.String(), "25%")
	}
}

func TestOnce(t *testing.T) {
	var told []string
	tell := once(func(err error) { told = append(told, err.Error()) })
	tell(errors.New("a"))
	tell(errors.New("b"))
	tell(errors.New("a"))
	assert.Equal(t, []string{"a", "b"}, told)
}

func TestJoinedErrors(t *testing.T) {
	sh := newShell(nil)
	printError(sh.app, errors.Join(errs.New(errs.Damaged, "volume db", "is damaged", "look at it"), errors.New("another\n")))
	assert.Equal(t, "pmemctl: volume db: is damaged\n  next: look at it\npmemctl: another\n", sh.stderr.String())
}

func TestTimeout(t *testing.T) {
	var hasDeadline bool
	sh := newShell(fakeLook{look: func(ctx context.Context) (volume.View, error) {
		_, hasDeadline = ctx.Deadline()
		return volume.View{}, ctx.Err()
	}})
	sh.ok(t, "vg list")
	assert.False(t, hasDeadline)
	sh.ok(t, "vg list --timeout 1h")
	assert.True(t, hasDeadline)
	assert.Equal(t, exitDeadline, sh.run("vg list --timeout 1ns"))
}

// fakeLook is a service that shows what a function returns, with damage.
type fakeLook struct {
	service
	look   func(context.Context) (volume.View, error)
	damage []volume.Damage
}

func (f fakeLook) MountsOn(string) []volume.Mounted              { return nil }
func (f fakeLook) Look(ctx context.Context) (volume.View, error) { return f.look(ctx) }
func (f fakeLook) Damage(volume.View) []volume.Damage            { return f.damage }

// fakeDAX has devices, and records how one was reconfigured.
type fakeDAX struct {
	devices []dax.Device
	device  string
	how     dax.Reconfigure
	err     error
}

func (f *fakeDAX) List() ([]dax.Device, error) { return f.devices, f.err }

func (f *fakeDAX) Reconfigure(chardev string, r dax.Reconfigure) (dax.Device, error) {
	f.device, f.how = chardev, r
	return dax.Device{Chardev: chardev, Mode: r.Mode, State: "enabled"}, f.err
}
