package csi

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/volume"
)

// record is a log that can be read concurrently.
type record struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (r *record) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.Write(b)
}

func (r *record) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.String()
}

// inBackground runs Background until the test ends.
func inBackground(t *testing.T, s *Server) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- s.Background(ctx) }()
	t.Cleanup(func() { cancel(); assert.NoError(t, <-ended) })
}

// shortly shortens intervals.
func shortly(t *testing.T) {
	retry, patience := firstRetry, createPatience
	firstRetry, createPatience = time.Millisecond, 30*time.Millisecond
	t.Cleanup(func() { firstRetry, createPatience = retry, patience })
}

// TestServingDuringPreparation: a node can unmount while the preparation is blocked.
func TestServingDuringPreparation(t *testing.T) {
	shortly(t)
	f := newFakeVolumes()
	s := newServer(f)
	log := &record{}
	s.Log = slog.New(slog.NewTextHandler(log, nil))
	results := make(chan error)
	s.Prepare = func(ctx context.Context) error { return <-results }
	resumes := make(chan error, 3)
	resumes <- errors.New("stuck")
	resumes <- errors.New("stuck")
	resumes <- nil
	s.Resume = func(context.Context) ([]string, error) {
		err := <-resumes
		if err != nil {
			return nil, err
		}
		return []string{"db"}, nil
	}
	s.ControllerEndpoint = filepath.Join(t.TempDir(), "c.sock")
	socket := dial(t, serveFake(t, s))
	node, identity := csi.NewNodeClient(socket), csi.NewIdentityClient(socket)
	other := dial(t, "unix://"+s.ControllerEndpoint)
	controller := csi.NewControllerClient(other)
	inBackground(t, s)
	ready := func(c csi.IdentityClient) bool {
		answer, err := c.Probe(t.Context(), &csi.ProbeRequest{})
		require.NoError(t, err)
		return answer.GetReady().GetValue()
	}
	health := func() string {
		w := httptest.NewRecorder()
		s.healthz(w, httptest.NewRequest("GET", "/healthz", nil))
		assert.Equal(t, 200, w.Code)
		return w.Body.String()
	}
	create := func() error {
		_, err := controller.CreateVolume(t.Context(), &csi.CreateVolumeRequest{Name: "a", VolumeCapabilities: []*csi.VolumeCapability{mountCap}})
		return err
	}

	target := filepath.Join(t.TempDir(), "target")
	_, err := node.NodeUnpublishVolume(t.Context(), &csi.NodeUnpublishVolumeRequest{VolumeId: "old", TargetPath: target})
	assert.NoError(t, err)
	assert.True(t, ready(identity), "to mount and unmount")
	assert.False(t, ready(csi.NewIdentityClient(other)), "to make volumes")
	assert.Equal(t, "ok\npending: the PMEM is being prepared\n", health())
	err = create()
	assert.Equal(t, codes.Unavailable, status.Code(err), "%v", err)
	assert.ErrorContains(t, err, "is being prepared")
	_, err = controller.GetCapacity(t.Context(), &csi.GetCapacityRequest{})
	assert.Equal(t, codes.Unavailable, status.Code(err), "and no capacity is told that will not be: %v", err)
	assert.NotContains(t, f.called, "create")

	for range 3 {
		results <- errs.New(errs.Busy, "host", "is locked by flock (pid 1)", "wait for it to finish")
	}
	assert.True(t, ready(csi.NewIdentityClient(other)))
	assert.Contains(t, health(), "pending: the PMEM could not be prepared and will be retried: host: is locked by flock (pid 1)\n")
	f.mu.Lock()
	f.fail = errs.New(errs.NotFound, "", "there is no volume group for lvm volumes", "")
	f.mu.Unlock()
	err = create()
	assert.Equal(t, codes.ResourceExhausted, status.Code(err), "%v", err)
	assert.ErrorContains(t, err, "could not be prepared and will be retried: host: is locked by flock (pid 1); next: wait for it to finish")

	results <- nil
	assert.Eventually(t, func() bool { return health() == "ok\n" }, 5*time.Second, time.Millisecond)
	assert.NoError(t, create())
	assert.Eventually(t, func() bool { return strings.Contains(log.String(), "resumed volumes") }, 5*time.Second, time.Millisecond)
	assert.Equal(t, 1, strings.Count(log.String(), "the PMEM could not be prepared"), "once for one reason:\n%s", log)
	assert.Equal(t, 1, strings.Count(log.String(), "could not look for volumes left suspended"), log)
}

func TestCreateWaitsForPreparation(t *testing.T) {
	s := newServer(newFakeVolumes())
	results := make(chan error, 1)
	s.Prepare = func(context.Context) error { return <-results }
	client := csi.NewControllerClient(dial(t, serveFake(t, s)))
	inBackground(t, s)
	time.AfterFunc(20*time.Millisecond, func() { results <- nil })
	_, err := client.CreateVolume(t.Context(), &csi.CreateVolumeRequest{Name: "a", VolumeCapabilities: []*csi.VolumeCapability{mountCap}})
	assert.NoError(t, err)
}

// TestErasing: deleted volumes are erased, and no others, one at a time in each place. One that
// cannot be erased does not block the others, is retried later, and is logged once.
func TestErasing(t *testing.T) {
	f := newFakeVolumes()
	for name, state := range map[string]volume.State{"a": volume.Deleting, "b": volume.Deleting, "bad": volume.Deleting, "c": volume.Ready, "d": volume.Creating, "e": volume.Damaged} {
		f.volumes[name] = volume.Volume{Name: name, UUID: "uuid-" + name, State: state, Type: volume.TypeLVM, VG: "vg"}
	}
	f.failErase = map[string]error{"bad": errors.New("takes no write")}
	s := newServer(f)
	log := &record{}
	s.Log = slog.New(slog.NewTextHandler(log, nil))
	shortly(t)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { s.eraseDeleted(ctx); close(ended) }()
	assert.Eventually(t, func() bool { s.eraser.wake(); return f.timesCalled("erase bad") > 2 && len(f.Unerased()) == 1 }, 10*time.Second, time.Millisecond)
	cancel()
	<-ended
	assert.Equal(t, []string{"uuid-bad"}, f.Unerased())
	assert.Contains(t, f.volumes, "c")
	assert.Contains(t, f.volumes, "d")
	assert.Contains(t, f.volumes, "e")
	assert.Equal(t, 1, strings.Count(log.String(), "takes no write"), log.String())
}

// TestErasingWaitsForCalm: erasing waits while deletions arrive, up to a limit, but starts at once
// if a create waits for the space.
func TestErasingWaitsForCalm(t *testing.T) {
	var e eraser
	assert.Zero(t, e.calmIn())
	e.deleted()
	assert.InDelta(t, eraseCalm, e.calmIn(), float64(eraseCalm/2))
	e.firstDeleted = time.Now().Add(-eraseCalmAtMost)
	assert.Zero(t, e.calmIn(), "it has lasted long")
	e.deleted()
	assert.Zero(t, e.calmIn(), "and does not end")
	e.lastDeleted = time.Now().Add(-eraseCalm)
	assert.Zero(t, e.calmIn())
	e.deleted()
	assert.NotZero(t, e.calmIn(), "another burst")

	f := newFakeVolumes()
	f.volumes["a"] = volume.Volume{Name: "a", UUID: "uuid-a", State: volume.Deleting, Type: volume.TypeLVM, VG: "vg"}
	s := newServer(f)
	s.eraser.deleted()
	s.eraser.lastDeleted, s.eraser.firstDeleted = time.Now().Add(time.Hour), time.Now().Add(time.Hour)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { s.eraseDeleted(ctx); close(ended) }()
	time.Sleep(20 * time.Millisecond)
	assert.Zero(t, f.timesCalled("erase a"))
	f.spaceWanted.Store(true)
	assert.Eventually(t, func() bool { s.eraser.wake(); return f.timesCalled("erase a") == 1 }, 10*time.Second, time.Millisecond)
	cancel()
	<-ended
}

// TestErasingWatches: what another process deletes is erased at once, and an idle server does not
// wake up. Without a watch, or after its end, the server looks from time to time.
func TestErasingWatches(t *testing.T) {
	for name, c := range map[string]struct {
		failWatch error
		ends      bool
	}{"watched": {}, "failed": {failWatch: errors.New("too many open files")}, "ended": {ends: true}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFakeVolumes()
				f.failWatch = c.failWatch
				if c.failWatch == nil {
					f.changed = make(chan struct{}, 1)
				}
				s := newServer(f)
				s.Log = slog.New(slog.DiscardHandler)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				go s.eraseDeleted(ctx)
				synctest.Wait()
				if c.ends {
					close(f.changed)
				}
				f.mu.Lock()
				f.volumes["a"] = volume.Volume{Name: "a", UUID: "uuid-a", State: volume.Deleting, Type: volume.TypeLVM, VG: "vg"}
				f.mu.Unlock()
				polled := c.ends || c.failWatch != nil
				time.Sleep(eraseLookEvery + time.Second)
				synctest.Wait()
				assert.Equal(t, polled, f.timesCalled("erase a") == 1)
				if !polled {
					f.changed <- struct{}{}
					synctest.Wait()
					assert.Equal(t, 1, f.timesCalled("erase a"))
				}
				looks := f.timesCalled("deleted")
				time.Sleep(eraseLookAll)
				synctest.Wait()
				assert.Equal(t, looks+1, f.timesCalled("deleted"), "the regular look")
			})
		})
	}
}

func TestEraserOnePerPlace(t *testing.T) {
	var e eraser
	one, two, other := volume.Volume{UUID: "1", Type: volume.TypeLVM, VG: "a"}, volume.Volume{UUID: "2", Type: volume.TypeLVM, VG: "a"}, volume.Volume{UUID: "3", Type: volume.TypeDirect, Regions: []string{"a"}}
	assert.True(t, e.begin(one))
	assert.False(t, e.begin(one))
	assert.False(t, e.begin(two))
	assert.True(t, e.begin(other))
	assert.False(t, e.idle([]string{"1", "2", "3"}), "the one that waits has its place taken")
	assert.True(t, e.idle([]string{"1", "new"}))
	again, news := e.end(one, errors.New("no"))
	assert.Equal(t, firstRetry, again)
	assert.True(t, news)
	assert.False(t, e.begin(one), "not before its time")
	assert.True(t, e.begin(two))
}

// deaf is a host that never responds and ignores contexts.
type deaf struct {
	*fakeVolumes
	goOn chan struct{}
}

func (d deaf) Create(context.Context, volume.Spec) (volume.Volume, bool, error) {
	<-d.goOn
	return volume.Volume{}, false, errors.New("late")
}

func (d deaf) List(context.Context) ([]volume.Volume, error) { <-d.goOn; return nil, nil }
func (d deaf) CheckHost(context.Context) error               { <-d.goOn; return nil }

// DeleteAsCreated respects the context.
func (d deaf) DeleteAsCreated(ctx context.Context, _ string) error {
	<-ctx.Done()
	return ctx.Err()
}

func TestEveryCallHasADeadline(t *testing.T) {
	d := deaf{newFakeVolumes(), make(chan struct{})}
	s := newServer(d.fakeVolumes)
	s.Volumes = d
	s.deadline = func(string) time.Duration { return 100 * time.Millisecond }
	endpoint := serveFake(t, s)
	client := csi.NewControllerClient(dial(t, endpoint))
	_, err := client.ListVolumes(t.Context(), &csi.ListVolumesRequest{})
	assert.Equal(t, codes.DeadlineExceeded, status.Code(err), "%v", err)
	create := &csi.CreateVolumeRequest{Name: "a", VolumeCapabilities: []*csi.VolumeCapability{mountCap}}
	_, err = client.CreateVolume(t.Context(), create)
	assert.Equal(t, codes.DeadlineExceeded, status.Code(err), "%v", err)
	assert.ErrorContains(t, err, "CreateVolume: did not finish within 100ms")
	_, err = client.CreateVolume(t.Context(), create)
	assert.Equal(t, codes.Aborted, status.Code(err), "it is still at work: %v", err)

	// This call ends, although its caller has gone.
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err = client.DeleteVolume(ctx, &csi.DeleteVolumeRequest{VolumeId: "b"})
	assert.Equal(t, codes.DeadlineExceeded, status.Code(err))
	assert.Eventually(t, func() bool {
		free := s.work.begin("b")
		if free {
			s.work.end("b")
		}
		return free
	}, 5*time.Second, 5*time.Millisecond)

	// livez does not depend on the host.
	live := func() int {
		w := httptest.NewRecorder()
		s.livez(w, httptest.NewRequest("GET", "/livez", nil))
		return w.Code
	}
	assert.Equal(t, 200, live())
	close(d.goOn)
	require.NoError(t, os.Remove(strings.TrimPrefix(endpoint, "unix://")))
	assert.Equal(t, 503, live(), "nobody can call it any more")
}

// TestDeadlines: every call that changes something has a deadline.
func TestDeadlines(t *testing.T) {
	for _, m := range csi.Controller_ServiceDesc.Methods {
		if m.MethodName == "CreateVolume" || m.MethodName == "DeleteVolume" || m.MethodName == "ControllerExpandVolume" {
			assert.Equal(t, longDeadline, deadlineOf(m.MethodName))
		} else {
			assert.Equal(t, readDeadline, deadlineOf(m.MethodName), m.MethodName)
		}
	}
	for _, m := range csi.Node_ServiceDesc.Methods {
		if strings.Contains(m.MethodName, "Get") {
			assert.Equal(t, readDeadline, deadlineOf(m.MethodName), m.MethodName)
		} else {
			assert.GreaterOrEqual(t, deadlineOf(m.MethodName), mountDeadline, m.MethodName)
		}
	}
}
