//go:build guest

package integration

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/pmemctl/pmemctl/internal/fault"
	"github.com/pmemctl/pmemctl/test/csitest"
	"github.com/pmemctl/pmemctl/test/testenv"
)

const (
	stressClients = 32
	stressNames   = 12
	stressLives   = 4 // clients that make the calls in order
	stressMetrics = "127.0.0.1:9098"
)

// stressCall is a call, and the codes that it may answer with beside OK.
type stressCall struct {
	name    string
	do      func(disk, *csiServer) error
	allowed []codes.Code
}

// stressCalls are the calls that clients make in any order.
var stressCalls = []stressCall{
	{"create", disk.createNew, []codes.Code{codes.Aborted, codes.AlreadyExists, codes.ResourceExhausted}},
	{"clone", disk.create, []codes.Code{codes.Aborted, codes.AlreadyExists, codes.ResourceExhausted, codes.OutOfRange, codes.NotFound, codes.FailedPrecondition}},
	{"stage", disk.stage, []codes.Code{codes.Aborted, codes.NotFound}},
	{"publish", disk.publish, []codes.Code{codes.Aborted, codes.NotFound, codes.FailedPrecondition}},
	{"stats", disk.stats, []codes.Code{codes.NotFound}},
	{"expand", disk.expand, []codes.Code{codes.Aborted, codes.NotFound, codes.FailedPrecondition, codes.ResourceExhausted, codes.OutOfRange}},
	{"expand on the node", disk.expandOnNode, []codes.Code{codes.Aborted, codes.NotFound, codes.FailedPrecondition, codes.ResourceExhausted, codes.OutOfRange}},
	{"get", disk.get, []codes.Code{codes.Aborted, codes.NotFound}},
	{"validate", disk.validate, []codes.Code{codes.Aborted, codes.NotFound}},
	{"list", disk.listAll, nil},
	{"capacity", disk.capacity, nil},
	// Stats holds a file system for a moment.
	{"unpublish", disk.unpublish, []codes.Code{codes.Aborted, codes.FailedPrecondition}},
	{"unstage", disk.unstage, []codes.Code{codes.Aborted, codes.FailedPrecondition}},
	{"delete", disk.delete, []codes.Code{codes.Aborted, codes.FailedPrecondition}},
}

func (d disk) createNew(s *csiServer) error {
	d.source = ""
	return d.create(s)
}

func (d disk) stats(s *csiServer) error {
	_, err := s.NodeGetVolumeStats(context.Background(), &csi.NodeGetVolumeStatsRequest{VolumeId: d.name, VolumePath: d.target()})
	return d.failed("stats", err)
}

func (d disk) get(s *csiServer) error {
	_, err := s.ControllerGetVolume(context.Background(), &csi.ControllerGetVolumeRequest{VolumeId: d.name})
	return d.failed("get", err)
}

func (d disk) validate(s *csiServer) error {
	_, err := s.ValidateVolumeCapabilities(context.Background(), &csi.ValidateVolumeCapabilitiesRequest{VolumeId: d.name, VolumeCapabilities: []*csi.VolumeCapability{mountCapability("ext4")}})
	return d.failed("validate", err)
}

func (d disk) capacity(s *csiServer) error {
	_, err := s.GetCapacity(context.Background(), &csi.GetCapacityRequest{Parameters: class(d.kind)})
	return err
}

// listAll lists by pages of one or of four, whose names only go up.
func (d disk) listAll(s *csiServer) error {
	last, token := "", ""
	for {
		page, err := s.ListVolumes(context.Background(), &csi.ListVolumesRequest{MaxEntries: int32(1 + 3*d.place), StartingToken: token})
		if err != nil {
			return err
		}
		for _, e := range page.GetEntries() {
			name := e.GetVolume().GetVolumeId()
			if name < last {
				return fmt.Errorf("%s is listed after %s", name, last)
			}
			last = name
		}
		if token = page.GetNextToken(); token == "" {
			return nil
		}
	}
}

// stress is a server and what its clients made of it.
type stress struct {
	server  *csiServer
	clients []*csiServer // connections only
	ended   atomic.Int64 // calls

	mu    sync.Mutex
	codes map[string]map[codes.Code]int // by call
}

// TestCSIStress has many clients at once make calls on the same few volumes: each is
// answered as the CSI spec has it, none hangs, and in the end nothing is left of it,
// neither on the PMEM nor in the server.
func TestCSIStress(t *testing.T) {
	length := 20 * time.Second
	if text := os.Getenv(testenv.Stress); text != "" {
		var err error
		length, err = time.ParseDuration(text)
		require.NoError(t, err, testenv.Stress)
	}
	resetCSI(t)
	t.Cleanup(func() { assert.NoError(t, resetPMEM()) }) // also what a failure left mounted
	// So little for lvm volumes that they do not all fit.
	s := startCSI(t, []string{"GOTRACEBACK=all"}, "--init", "--percent", "5", "--inline", "--metrics-address", stressMetrics)
	defer func() { s.stop(t) }()
	free := capacities(t, s)

	st := &stress{server: s, codes: map[string]map[codes.Code]int{}}
	for range stressClients {
		client := connectCSI(t)
		defer client.conn.Close()
		st.clients = append(st.clients, client)
	}
	st.run(t, length/4)
	warm := s.usage(t)
	st.run(t, length)

	// The runtime gives memory back to the kernel when it was idle for a while.
	now := s.usage(t)
	for begun := time.Now(); !now.within(warm) && time.Since(begun) < 3*time.Minute; now = s.usage(t) {
		time.Sleep(5 * time.Second)
	}
	assert.True(t, now.within(warm), "the server was %v after a quarter of the time, and is %v", warm, now)
	list, err := s.ListVolumes(context.Background(), &csi.ListVolumesRequest{})
	require.NoError(t, err)
	assert.Empty(t, list.GetEntries())
	assert.Empty(t, volumes(t), "half made or half deleted")
	assert.Equal(t, free, capacities(t, s))
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	require.NoError(t, err)
	assert.NotContains(t, string(mounts), " /mnt/csi")
	for _, call := range stressCalls {
		t.Logf("%s: %v", call.name, st.codes[call.name])
	}
	for _, call := range stressCalls {
		if length >= time.Minute || call.name == "create" { // in a short time few get to it
			assert.Positive(t, st.codes[call.name][codes.OK], "%s was never done, so that this shows nothing", call.name)
		}
	}
	t.Logf("%d calls; warm: %v, at the end: %v", st.ended.Load(), warm, now)
}

// connectCSI is a connection of its own to the server.
func connectCSI(t *testing.T) *csiServer {
	t.Helper()
	conn, err := grpc.NewClient("unix://"+csiSocket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	return &csiServer{conn: conn, Client: csitest.NewClient(conn)}
}

// run has all clients make calls for some time, and then takes everything away.
func (st *stress) run(t *testing.T, length time.Duration) {
	t.Helper()
	var wg sync.WaitGroup
	seed, until := rand.Uint64(), time.Now().Add(length)
	for i, client := range st.clients {
		r := rand.New(rand.NewPCG(seed, uint64(i)))
		if i < stressLives {
			wg.Go(func() { st.makeLives(t, client, r, until) })
			continue
		}
		wg.Go(func() { st.makeCalls(t, client, r, until) })
	}
	st.watch(t, &wg)
	for i := range stressNames {
		wg.Go(func() { st.takeAway(t, disk{name: stressName(i)}) })
	}
	st.watch(t, &wg)
	if t.Failed() {
		t.FailNow()
	}
}

func stressName(i int) string { return fmt.Sprintf("stress-%d", i) }

func (st *stress) makeCalls(t *testing.T, s *csiServer, r *rand.Rand, until time.Time) {
	for time.Now().Before(until) && !t.Failed() {
		call := stressCalls[r.IntN(len(stressCalls))]
		i := r.IntN(stressNames)
		d := disk{
			name: stressName(i), kind: kinds[r.IntN(len(kinds))], size: int64(16+16*r.IntN(3)) << 20, place: r.IntN(2),
			source: stressName((i + 1 + r.IntN(stressNames-1)) % stressNames),
		}
		st.make(t, call, func() error { return call.do(d, s) })
	}
}

// makeLives makes the calls in the order of kubelet's, on a volume that others use too, and repeats
// those that are aborted: on a busy machine, random calls seldom get to the last ones.
func (st *stress) makeLives(t *testing.T, s *csiServer, r *rand.Rand, until time.Time) {
	order := []string{"create", "stage", "publish", "stats", "expand", "expand on the node", "unpublish", "unstage", "delete"}
	for time.Now().Before(until) && !t.Failed() {
		d := disk{name: stressName(r.IntN(stressNames)), kind: kinds[0], size: 16 << 20, place: r.IntN(2)}
		for _, name := range order {
			call := stressCalls[slices.IndexFunc(stressCalls, func(c stressCall) bool { return c.name == name })]
			st.make(t, call, func() error { return untilNotAborted(func() error { return call.do(d, s) }) })
		}
	}
}

// make makes a call and counts its code.
func (st *stress) make(t *testing.T, call stressCall, do func() error) {
	err := do()
	st.ended.Add(1)
	code := status.Code(err)
	if code != codes.OK && !slices.Contains(call.allowed, code) {
		t.Errorf("%s: %v", call.name, err)
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.codes[call.name] == nil {
		st.codes[call.name] = map[codes.Code]int{}
	}
	st.codes[call.name][code]++
}

// takeAway ends a volume, wherever it is.
func (st *stress) takeAway(t *testing.T, d disk) {
	elsewhere := d
	elsewhere.place = 1
	for _, call := range []func(*csiServer) error{d.unpublish, elsewhere.unpublish, d.unstage, elsewhere.unstage, d.delete} {
		err := untilNotAborted(func() error { return call(st.server) })
		st.ended.Add(1)
		assert.NoError(t, err)
	}
}

// untilNotAborted repeats a call while another one is at work on the volume, for a
// minute at most.
func untilNotAborted(call func() error) error {
	for begun := time.Now(); ; time.Sleep(100 * time.Millisecond) {
		if err := call(); status.Code(err) != codes.Aborted || time.Since(begun) > time.Minute {
			return err
		}
	}
}

// watch waits for clients. When no call ends for a minute it has the server write down
// where its goroutines are, which ends it.
func (st *stress) watch(t *testing.T, clients *sync.WaitGroup) {
	t.Helper()
	const patience = time.Minute
	done := make(chan struct{})
	go func() { clients.Wait(); close(done) }()
	for ended, since := st.ended.Load(), time.Now(); ; {
		select {
		case <-done:
			return
		case <-time.After(time.Second):
		}
		if now := st.ended.Load(); now != ended {
			ended, since = now, time.Now()
		}
		if time.Since(since) < patience {
			continue
		}
		t.Errorf("no call has ended for %v", patience)
		_ = st.server.cmd.Process.Signal(syscall.SIGQUIT)
		select {
		case <-done: // their calls fail
		case <-time.After(10 * time.Second):
		}
		t.FailNow() // stop shows the log
	}
}

// usage is what a server has of what may leak.
type usage struct{ goroutines, files, rssKiB int }

func (u usage) String() string {
	return fmt.Sprintf("%d goroutines, %d open files, %d KiB resident", u.goroutines, u.files, u.rssKiB)
}

func (u usage) within(warm usage) bool {
	return u.goroutines <= warm.goroutines+5 && u.files <= warm.files+3 && u.rssKiB <= warm.rssKiB+8<<10
}

func (s *csiServer) usage(t *testing.T) usage {
	t.Helper()
	number := func(text []byte, line string) int {
		found := regexp.MustCompile(line).FindSubmatch(text)
		require.NotNil(t, found, line)
		n, err := strconv.Atoi(string(found[1]))
		require.NoError(t, err)
		return n
	}
	once := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := once.Get("http://" + stressMetrics + "/metrics")
	require.NoError(t, err)
	defer answer.Body.Close()
	metrics, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	proc := fmt.Sprintf("/proc/%d/", s.cmd.Process.Pid)
	files, err := os.ReadDir(proc + "fd")
	require.NoError(t, err)
	memory, err := os.ReadFile(proc + "status")
	require.NoError(t, err)
	return usage{goroutines: number(metrics, `(?m)^go_goroutines (\d+)$`), files: len(files), rssKiB: number(memory, `(?m)^VmRSS:\s+(\d+) kB$`)}
}

// capacities is what is free for each kind of volume.
func capacities(t *testing.T, s *csiServer) map[string]int64 {
	t.Helper()
	free := map[string]int64{}
	for _, kind := range kinds {
		c, err := s.GetCapacity(context.Background(), &csi.GetCapacityRequest{Parameters: class(kind)})
		require.NoError(t, err)
		free[kind] = c.GetAvailableCapacity()
	}
	return free
}

// TestCSIEraseDoesNotBlock makes and deletes small volumes while a large one is being
// erased. That is slowed down, so that it cannot end by itself before.
func TestCSIEraseDoesNotBlock(t *testing.T) {
	ctx := context.Background()
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			resetCSI(t)
			log := filepath.Join(t.TempDir(), "steps")
			s := startCSI(t, nil, "--init", "--percent", "50")
			_, err := s.CreateVolume(ctx, createRequest("big", kind, 1536<<20, blockCapability()))
			require.NoError(t, err)
			s.stop(t)
			s = startCSI(t, []string{fault.LogEnv + "=" + log})
			defer func() { s.stop(t) }()
			limit := limitWrites(t, s.cmd.Process.Pid)
			deleted := make(chan error, 1)
			go func() {
				_, err := s.DeleteVolume(ctx, &csi.DeleteVolumeRequest{VolumeId: "big"})
				deleted <- err
			}()
			waitForPoint(t, log, "before zero")
			again := s.ControllerClient // which does not wait until it is erased
			device := deviceBeingErased(t, "big")
			require.NoError(t, limit(device, "1048576"))
			defer func() { _ = limit(device, "max") }()

			begun := time.Now()
			for _, small := range kinds {
				d := disk{name: "small-" + small, kind: small, size: 16 << 20}
				require.NoError(t, inOrder(s, d.createNew, d.stage, d.publish, d.unpublish, d.unstage))
				_, err := again.DeleteVolume(ctx, &csi.DeleteVolumeRequest{VolumeId: d.name})
				require.NoError(t, err)
				require.NoError(t, d.capacity(s))
			}
			list, err := s.ListVolumes(ctx, &csi.ListVolumesRequest{})
			require.NoError(t, err)
			assert.Empty(t, list.GetEntries(), "what is being erased is no volume any more")
			_, err = again.DeleteVolume(ctx, &csi.DeleteVolumeRequest{VolumeId: "big"})
			assert.NoError(t, err, "it is deleted")
			// Its name is free.
			_, err = s.CreateVolume(ctx, createRequest("big", kind, 16<<20, mountCapability("ext4")))
			assert.NoError(t, err)
			_, err = again.DeleteVolume(ctx, &csi.DeleteVolumeRequest{VolumeId: "big"})
			assert.NoError(t, err)
			t.Logf("small volumes came and went in %.1f s", time.Since(begun).Seconds())
			select {
			case err := <-deleted:
				require.Fail(t, "the erasing ended before, so that this shows nothing", "%v", err)
			default:
			}
			require.NoError(t, limit(device, "max"))
			select {
			case err := <-deleted:
				require.NoError(t, err)
			case <-time.After(time.Minute):
				require.Fail(t, "the erasing does not end")
			}
			assert.Eventually(t, func() bool { return len(volumes(t)) == 0 }, time.Minute, 100*time.Millisecond)
		})
	}
	resetCSI(t)
}

// limitWrites puts a process into a control group, and returns how to limit what
// it writes to a block device ("259:0") in a second, in bytes or "max".
func limitWrites(t *testing.T, pid int) func(device, bytes string) error {
	t.Helper()
	const root, group = "/sys/fs/cgroup", "/sys/fs/cgroup/pmemctl-test"
	if _, err := os.Stat(root + "/cgroup.procs"); err != nil {
		require.NoError(t, unix.Mount("cgroup2", root, "cgroup2", 0, ""))
	}
	require.NoError(t, os.WriteFile(root+"/cgroup.subtree_control", []byte("+io"), 0))
	require.NoError(t, os.MkdirAll(group, 0o755))
	require.NoError(t, os.WriteFile(group+"/cgroup.procs", []byte(strconv.Itoa(pid)), 0))
	return func(device, bytes string) error {
		return os.WriteFile(group+"/io.max", []byte(device+" wbps="+bytes), 0)
	}
}

// waitForPoint waits until a server has passed a fault point.
func waitForPoint(t *testing.T, log, point string) {
	t.Helper()
	for begun := time.Now(); time.Since(begun) < 30*time.Second; time.Sleep(time.Millisecond) {
		data, _ := os.ReadFile(log)
		if strings.Contains(string(data), point+"\n") {
			return
		}
	}
	require.Fail(t, "the server did not come to: "+point)
}

// deviceBeingErased is the number of the block device of a volume that is being
// erased, from sysfs alone, which is fast: the raw namespace, or the logical volume.
func deviceBeingErased(t *testing.T, name string) string {
	t.Helper()
	for names, numbers := range map[string]string{"/sys/bus/nd/devices/namespace*/alt_name": "block/*/dev", "/sys/block/dm-*/dm/name": "../dev"} {
		files, err := filepath.Glob(names)
		require.NoError(t, err)
		for _, file := range files {
			// "pmemctl+-big", or "pmemvgregion0-pmemctl+--big+abcdef".
			if data, _ := os.ReadFile(file); !strings.HasSuffix(strings.TrimSpace(string(data)), "pmemctl+-"+name) && !strings.Contains(string(data), "pmemctl+--"+name+"+") {
				continue
			}
			devices, _ := filepath.Glob(filepath.Join(filepath.Dir(file), numbers))
			for _, dev := range devices {
				number, err := os.ReadFile(dev)
				require.NoError(t, err)
				return strings.TrimSpace(string(number))
			}
		}
	}
	require.Fail(t, "no device of "+name)
	return ""
}

// TestCSIIdempotence makes each call of a volume's life again, and many times at
// once: there is no difference to making it once.
func TestCSIIdempotence(t *testing.T) {
	for _, kind := range kinds {
		calls := csiCalls(kind)
		// life makes the calls, each in some way, and returns what there is after each.
		life := func(t *testing.T, how func(t *testing.T, s *csiServer, do func(*csiServer) error)) map[string]string {
			t.Helper()
			resetCSI(t)
			s := startCSI(t, nil, "--init", "--percent", "10", "--inline")
			defer func() { s.stop(t) }()
			states := map[string]string{}
			for _, call := range calls {
				how(t, s, call.do)
				require.False(t, t.Failed(), call.name)
				untilErased(t)
				states[call.name] = state(t)
			}
			return states
		}
		want := life(t, func(t *testing.T, s *csiServer, do func(*csiServer) error) { require.NoError(t, do(s)) })
		t.Run(kind+" twice", func(t *testing.T) {
			assert.Equal(t, want, life(t, func(t *testing.T, s *csiServer, do func(*csiServer) error) {
				require.NoError(t, do(s))
				require.NoError(t, do(s), "again")
			}))
		})
		const count = 5
		t.Run(fmt.Sprintf("%s %d at once", kind, count), func(t *testing.T) {
			assert.Equal(t, want, life(t, func(t *testing.T, s *csiServer, do func(*csiServer) error) {
				var wg sync.WaitGroup
				for range count {
					wg.Go(func() { assert.NoError(t, untilNotAborted(func() error { return do(s) })) })
				}
				wg.Wait()
			}))
		})
	}
	resetCSI(t)
}

// shortForm are the ways of TestCSINoOldData that make test tries; make test-crash
// tries all of them.
var shortForm = map[string]bool{
	"lvm not erased, then lvm": true, "lvm killed while erasing, then direct": true,
	"direct not erased, then direct": true, "direct killed while erasing, then lvm": true,
}

// TestCSINoOldData looks for the content of a deleted volume in new ones of either
// kind that have its space.
func TestCSINoOldData(t *testing.T) {
	for _, kind := range kinds {
		for _, end := range []string{"erased", "not erased", "killed while erasing"} {
			for _, next := range kinds {
				if name := kind + " " + end + ", then " + next; shortForm[name] || testenv.All(testenv.Crash) {
					t.Run(name, func(t *testing.T) { noOldData(t, kind, end, next) })
				}
			}
		}
	}
	resetCSI(t)
}

func noOldData(t *testing.T, kind, end, next string) {
	const secret = "OLD-SECRET"
	ctx := context.Background()
	command := func(script string) {
		t.Helper()
		out, err := exec.Command("sh", "-ec", script).CombinedOutput()
		require.NoError(t, err, "%s: %s", script, out)
	}
	own := func(args ...string) {
		t.Helper()
		out, err := pmemctl(nil, args...)
		require.NoError(t, err, "%v: %s", args, out)
	}
	request := func(name, kind string, size int64) *csi.CreateVolumeRequest {
		req := createRequest(name, kind, size, blockCapability())
		req.Parameters["pmemRegion"] = "region0"
		req.Parameters["eraseAfterDelete"] = strconv.FormatBool(end != "not erased")
		return req
	}
	resetCSI(t)
	// The rest of the region is somebody else's, so that new volumes get the same space.
	command("ndctl create-namespace -r region0 -m raw -s $((4096 - 384))M")
	if kind == "lvm" {
		own("vg", "init", "region0")
	}
	s := startCSI(t, nil)
	defer func() { s.stop(t) }()
	largest := func(kind string) int64 {
		t.Helper()
		c, err := s.GetCapacity(ctx, &csi.GetCapacityRequest{Parameters: request("", kind, 0).Parameters, VolumeCapabilities: []*csi.VolumeCapability{blockCapability()}})
		require.NoError(t, err)
		return c.GetMaximumVolumeSize().GetValue()
	}

	whole := largest(kind)
	require.Greater(t, whole, int64(300<<20))
	_, err := s.CreateVolume(ctx, request("old", kind, whole))
	require.NoError(t, err)
	_, err = s.NodePublishVolume(ctx, &csi.NodePublishVolumeRequest{VolumeId: "old", StagingTargetPath: csiStaging, TargetPath: csiTarget, VolumeCapability: blockCapability()})
	require.NoError(t, err)
	command(fmt.Sprintf("yes %s | dd of=%s bs=1M iflag=fullblock oflag=direct conv=notrunc count=%d status=none", secret, csiTarget, whole>>20))
	isThere(t, csiTarget, secret, true)
	_, err = s.NodeUnpublishVolume(ctx, &csi.NodeUnpublishVolumeRequest{VolumeId: "old", TargetPath: csiTarget})
	require.NoError(t, err)

	if end != "killed while erasing" {
		_, err = s.DeleteVolume(ctx, &csi.DeleteVolumeRequest{VolumeId: "old"})
		require.NoError(t, err)
	} else {
		s.stop(t)
		killedWhileErasing(t, "old")
		half := volumes(t)
		require.Len(t, half, 1)
		require.Equal(t, "deleting", half[0].State)
		isThere(t, half[0].Device, secret, true)
		if next != kind { // its space is given to others as it is
			own("gc", "--give-up", half[0].UUID)
		}
		s = startCSI(t, nil) // which goes on with the erasing
	}
	switch {
	case next == kind:
	case kind == "lvm":
		own("vg", "remove", "pmemvgregion0")
	default:
		own("vg", "init", "region0")
	}

	// Three volumes have all of the space; the first has the name of the old one, and
	// with it what may be left of that.
	whole = max(largest(next), whole-16<<20)
	for _, v := range []struct {
		name string
		size int64
	}{{"old", whole / 2}, {"new-1", whole / 4}, {"new-2", 0}} {
		if v.size == 0 {
			v.size = largest(next)
		}
		require.NoError(t, untilNotAborted(func() error {
			_, err := s.CreateVolume(ctx, request(v.name, next, v.size))
			return err
		}))
	}
	assert.Less(t, largest(next), int64(16<<20), "the space is used")
	list := volumes(t)
	require.Len(t, list, 3)
	for _, v := range list {
		isThere(t, v.Device, secret, false)
	}
}

func isThere(t *testing.T, device, text string, want bool) {
	t.Helper()
	found, err := deviceHolds(device, text)
	require.NoError(t, err)
	require.Equal(t, want, found, "%s holds %s", device, text)
}

// killedWhileErasing kills a server in the middle of a delete.
func killedWhileErasing(t *testing.T, name string) {
	t.Helper()
	log := filepath.Join(t.TempDir(), "steps")
	s := startCSI(t, []string{fault.LogEnv + "=" + log})
	defer s.conn.Close()
	deleted := make(chan error, 1)
	go func() {
		_, err := s.ControllerClient.DeleteVolume(context.Background(), &csi.DeleteVolumeRequest{VolumeId: name})
		deleted <- err
	}()
	waitForPoint(t, log, "before zero")
	require.NoError(t, s.cmd.Process.Kill())
	require.True(t, wasKilled(<-s.ended))
	require.NoError(t, <-deleted)
}

// TestCSIDAX maps a file on a published volume as an application does, and has the
// kernel tell how: by huge pages of the PMEM itself.
func TestCSIDAX(t *testing.T) {
	const length = 64 << 20
	ctx := context.Background()
	for _, kind := range kinds {
		for _, fs := range []string{"ext4", "xfs"} {
			t.Run(kind+" "+fs, func(t *testing.T) {
				resetCSI(t)
				s := startCSI(t, nil, "--init", "--percent", "50")
				defer func() { s.stop(t) }()
				c := mountCapability(fs, "dax")
				_, err := s.CreateVolume(ctx, createRequest("app", kind, 320<<20, c))
				require.NoError(t, err)
				_, err = s.NodeStageVolume(ctx, &csi.NodeStageVolumeRequest{VolumeId: "app", StagingTargetPath: csiStaging, VolumeCapability: c})
				require.NoError(t, err)
				_, err = s.NodePublishVolume(ctx, &csi.NodePublishVolumeRequest{VolumeId: "app", StagingTargetPath: csiStaging, TargetPath: csiTarget, VolumeCapability: c})
				require.NoError(t, err)

				trace, ends := touchMapped(t, csiTarget+"/file", length)
				assert.NotContains(t, trace, "FALLBACK")
				assert.Equal(t, length/hugePage, strings.Count(trace, "dax_pmd_fault_done"), trace)
				var offsets []int
				for offset, end := range ends {
					offsets = append(offsets, offset)
					assert.Regexp(t, `(^|\|)NOPAGE$`, end, "at %d", offset)
				}
				slices.Sort(offsets)
				var want []int
				for offset := 0; offset < length; offset += hugePage {
					want = append(want, offset)
				}
				assert.Equal(t, want, offsets, trace)
			})
		}
	}
	resetCSI(t)
}

const hugePage = 2 << 20

// touchMapped writes to each 2 MiB of a new file through a mapping with MAP_SYNC. It
// returns what the kernel traced of the file's page faults, and how the last one ended
// at each offset.
func touchMapped(t *testing.T, file string, length int) (trace string, ends map[int]string) {
	t.Helper()
	f, err := os.Create(file)
	require.NoError(t, err)
	defer f.Close()
	require.NoError(t, unix.Fallocate(int(f.Fd()), 0, 0, int64(length)))
	require.NoError(t, f.Sync())
	var st unix.Stat_t
	require.NoError(t, unix.Fstat(int(f.Fd()), &st))

	// A huge page is mapped only where address and offset are alike within it.
	reserved, err := unix.MmapPtr(-1, 0, nil, uintptr(length+hugePage), unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	require.NoError(t, err)
	defer func() { assert.NoError(t, unix.MunmapPtr(reserved, uintptr(length+hugePage))) }()
	aligned := unsafe.Add(reserved, -uintptr(reserved)%hugePage)
	mapped, err := unix.MmapPtr(int(f.Fd()), 0, aligned, uintptr(length), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED_VALIDATE|unix.MAP_SYNC|unix.MAP_FIXED)
	require.NoError(t, err, "with MAP_SYNC, which the kernel grants for DAX alone")
	require.Zero(t, uintptr(mapped)%hugePage)

	const tracing = "/sys/kernel/tracing"
	if _, err := os.Stat(tracing + "/trace"); err != nil {
		require.NoError(t, unix.Mount("tracefs", tracing, "tracefs", 0, ""))
	}
	// A fault for which the file system has to write its metadata first ends as
	// NEEDDSYNC, and the page is mapped after that, by the second of these. The lab has
	// them traced from boot on.
	events := []string{"dax_pmd_fault_done", "dax_insert_pfn_mkwrite"}
	require.NoError(t, os.WriteFile(tracing+"/trace", nil, 0)) // which empties it
	for offset := 0; offset < length; offset += hugePage {
		*(*byte)(unsafe.Add(mapped, offset)) = 1
	}

	data, err := os.ReadFile(tracing + "/trace")
	require.NoError(t, err)
	line := regexp.MustCompile(fmt.Sprintf(`(?m)^.* (?:%s): dev %d:%d ino %#x shared .* pgoff (\S+) (?:max_pgoff \S+ )?(\S*)$`, strings.Join(events, "|"), unix.Major(st.Dev), unix.Minor(st.Dev), st.Ino))
	ends = map[int]string{}
	for _, found := range line.FindAllStringSubmatch(string(data), -1) {
		page, err := strconv.ParseInt(found[1], 0, 64)
		require.NoError(t, err)
		trace += found[0] + "\n"
		ends[int(page)*os.Getpagesize()] = found[2]
	}
	return trace, ends
}
