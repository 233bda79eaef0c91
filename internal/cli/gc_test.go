package cli

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/model"
	"github.com/pmemctl/pmemctl/internal/mount"
	"github.com/pmemctl/pmemctl/internal/pmem"
	"github.com/pmemctl/pmemctl/internal/volume"
)

func TestGCFlags(t *testing.T) {
	testFlags(t, newGCCommand, []flagTest[gcOptions]{
		{args: "", want: gcOptions{rate: "max", kubeletDir: defaultKubeletDir, output: outputTable}},
		{args: "--erase-rate 500Mi", want: gcOptions{rate: "500Mi", kubeletDir: defaultKubeletDir, output: outputTable}},
		{args: "--background", want: gcOptions{rate: defaultEraseRate, background: true, kubeletDir: defaultKubeletDir, output: outputTable}},
		{args: "--background --erase-rate max", want: gcOptions{rate: "max", background: true, kubeletDir: defaultKubeletDir, output: outputTable}},
		{args: "--give-up u", want: gcOptions{rate: "max", giveUp: "u", kubeletDir: defaultKubeletDir, output: outputTable}},
		{args: "--dry-run --force --kubelet-dir /k -o json", want: gcOptions{rate: "max", dryRun: true, force: true, kubeletDir: "/k", output: outputJSON}},
		{args: "db", err: `unknown command "db"`},
	})
}

// fakeEraser is a service with deleted volumes.
type fakeEraser struct {
	service
	unerased []string
	later    []string // deleted during the first erasing
	runs     int
	rate     volume.EraseRate
	again    bool // failed ones too
	gaveUp   string
	err      error
}

func (f *fakeEraser) EraseAll(_ context.Context, rate volume.EraseRate, failedToo bool) (int, error) {
	f.rate, f.again = rate, failedToo
	f.runs++
	if f.err != nil {
		return 0, f.err
	}
	n := len(f.unerased)
	f.unerased, f.later = f.later, nil
	return n, nil
}

func (f *fakeEraser) Look(context.Context) (volume.View, error) { return volume.View{}, nil }
func (f *fakeEraser) RemoveAbandoned(context.Context) error     { return nil }

func (f *fakeEraser) Unerased() []string { return f.unerased }

func (f *fakeEraser) GiveUp(_ context.Context, uuid string) error {
	f.gaveUp = uuid
	return f.err
}

func TestGC(t *testing.T) {
	f := &fakeEraser{unerased: []string{"a", "b"}}
	sh := newShell(f, "")
	sh.ok(t, "gc --erase-rate 20%")
	assert.Equal(t, "volumes erased: 2\n", sh.stderr.String())
	assert.Equal(t, volume.EraseRate{Share: 0.2}, f.rate)
	assert.True(t, f.again)
	sh.ok(t, "gc --give-up u --erase-rate nonsense")
	assert.Equal(t, "u", f.gaveUp)
	assert.Equal(t, exitInvalid, sh.run("gc --erase-rate nonsense"))
	f.err = errs.New(errs.Damaged, "volume db", "cannot be erased", "pmemctl gc --give-up u")
	assert.Equal(t, exitDamaged, sh.run("gc"))
	assert.Equal(t, "pmemctl: volume db: cannot be erased\n  next: pmemctl gc --give-up u\n", sh.stderr.String())
}

// TestGCAbandoned: what is abandoned is listed and removed, and nothing else.
func TestGCAbandoned(t *testing.T) {
	h := model.New(t.TempDir(), 4*pmem.GiB, 4*pmem.GiB)
	ctx := context.Background()
	create := func(s *volume.Service, name string) error {
		_, _, err := s.Create(ctx, volume.Spec{Name: name, Type: volume.TypeDirect, Size: 16 * pmem.MiB, FS: mount.Ext4})
		return err
	}
	one, two := volume.InlinePrefix+strings.Repeat("1", 32), volume.InlinePrefix+strings.Repeat("2", 32)
	s := h.Service()
	for _, name := range []string{"db", "gone", one, two, "atwork"} {
		require.NoError(t, create(s, name))
	}
	_, err := s.Delete(ctx, "gone", true)
	require.NoError(t, err)
	h.DieAt(5)
	require.Error(t, create(s, "half"))
	require.True(t, h.Died())
	s = h.Service()
	sh := newShell(s)
	sh.host, sh.ndctl = s, s.NDCTL
	kubelet := t.TempDir()
	gc := "gc --kubelet-dir " + kubelet

	// Without kubelet's pods, inline volumes are not judged.
	sh.ok(t, gc+" --dry-run")
	const head, deleted, half = "KIND         VOLUME   TYPE     SIZE\n", "deleted      gone     direct   ", "unfinished   half     direct   "
	assert.Contains(t, sh.stdout.String(), head)
	assert.Contains(t, sh.stdout.String(), deleted)
	assert.Contains(t, sh.stdout.String(), half)
	assert.NotContains(t, sh.stdout.String(), volume.InlinePrefix)
	assert.Contains(t, sh.stderr.String(), "inline volumes are kept: ")

	// A pod whose volume is another one.
	dir := filepath.Join(kubelet, "pods", "p", "volumes", "kubernetes.io~csi", "v")
	require.NoError(t, os.MkdirAll(dir, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "vol_data.json"), []byte(`{"volumeHandle":"pvc-1"}`), 0o600))
	sh.ok(t, gc+" --dry-run -o json")
	assert.Contains(t, sh.stdout.String(), `"kind": "inline"`)
	assert.Contains(t, sh.stdout.String(), one)
	sh.ok(t, gc)
	assert.Contains(t, sh.stderr.String(), "volume "+one+": is an inline volume without a pod, and is kept; to delete it: pmemctl gc --force")
	names := func() (names []string) {
		list, err := s.List(ctx)
		require.NoError(t, err)
		for _, vol := range list {
			names = append(names, vol.Name)
		}
		return names
	}
	assert.Equal(t, []string{"atwork", "db", one, two}, names())
	ask := newShell(s, "no", "yes")
	ask.host, ask.ndctl = s, s.NDCTL
	ask.ok(t, gc)
	assert.Equal(t, []string{"atwork", "db", one}, names())
	sh.ok(t, gc+" --force", gc+" --dry-run -o json")
	assert.Contains(t, sh.stdout.String(), `"abandoned": []`)
	assert.Equal(t, []string{"atwork", "db"}, names())
}

// TestBackground: deleting without waiting starts a gc, unless another process erases.
func TestBackground(t *testing.T) {
	sh := newModelShell(t)
	sh.ok(t, "volume create db --type direct --size 16Mi")
	assert.Nil(t, sh.detached, "nothing is to be erased")

	eraser, err := sh.host.Locks.Try(eraserLock)
	require.NoError(t, err)
	sh.ok(t, "volume delete db --force --wait=false")
	assert.Nil(t, sh.detached, "another process erases")
	sh.ok(t, "gc --background")
	assert.Len(t, sh.service.Unerased(), 1, "another process erases")
	eraser.Release()

	assert.Equal(t, exitNotFound, sh.run("volume expand db --size 1Gi"))
	assert.Equal(t, []string{"gc", "--background"}, sh.detached, "also after an error")
	sh.ok(t, "gc --background")
	assert.Empty(t, sh.service.Unerased())
}

func TestHoldEraser(t *testing.T) {
	sh := newModelShell(t)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); sh.holdEraser(ctx) }()
	assert.Eventually(t, func() bool {
		lock, err := sh.host.Locks.Try(eraserLock)
		lock.Release()
		return lock == nil && err == nil
	}, 30*time.Second, 100*time.Millisecond)
	cancel()
	<-done
	lock, err := sh.host.Locks.Try(eraserLock)
	require.NoError(t, err)
	require.NotNil(t, lock)
	lock.Release()
}

func TestDetachedGCErasesAtTheDefaultRate(t *testing.T) {
	f := &fakeEraser{}
	sh := newModelShell(t)
	sh.service = f
	sh.ok(t, "gc --background")
	assert.Equal(t, volume.EraseRate{Share: 0.2}, f.rate)
	assert.False(t, f.again)
	sh.ok(t, "gc --background --erase-rate 500Mi")
	assert.Equal(t, volume.EraseRate{Bytes: 500 * pmem.MiB}, f.rate)
	assert.Equal(t, 2, f.runs)

	f.unerased, f.later = []string{"a"}, []string{"b"}
	sh.ok(t, "gc --background")
	assert.Empty(t, f.unerased, "it looks again for what was deleted meanwhile")
	assert.Equal(t, 4, f.runs)
	f.unerased, f.err = []string{"a"}, errs.New(errs.Damaged, "volume db", "cannot be erased", "")
	assert.Equal(t, exitDamaged, sh.run("gc --background"), "it does not try forever")
}
