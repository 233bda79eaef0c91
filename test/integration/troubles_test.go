//go:build guest

package integration

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/pmemctl/pmemctl/internal/fault"
	"github.com/pmemctl/pmemctl/test/csitest"
)

// begin makes a call at a server that logs its steps, and returns when it has come to a
// step.
func begin(t *testing.T, log, step string, call func() error) (ended chan error) {
	t.Helper()
	require.NoError(t, os.WriteFile(log, nil, 0o600))
	ended = make(chan error, 1)
	go func() { ended <- call() }()
	waitForPoint(t, log, step)
	return ended
}

func endsWell(t *testing.T, ended chan error, what string) {
	t.Helper()
	select {
	case err := <-ended:
		assert.NoError(t, err, what)
	case <-time.After(90 * time.Second):
		require.Fail(t, "the call does not end", what)
	}
}

// TestTroublesStopped stops the server, and its lvm, for a while in the middle of a call: the
// call ends well after it, and the volume is whole.
func TestTroublesStopped(t *testing.T) {
	resetCSI(t)
	stop := filepath.Join(t.TempDir(), "stop")
	s := startCSI(t, []string{fault.StopEnv + "=" + stop}, "--init", "--percent", "10")
	defer func() { s.stop(t); resetCSI(t) }()
	server := func() []string { return []string{fmt.Sprint(s.cmd.Process.Pid)} }
	lvmOfServer := func() []string { // one may be on its way out
		return strings.Fields(output(t, "pgrep", "-x", "-P", server()[0], "lvm"))
	}
	signal := func(pids []string, signal syscall.Signal) {
		for _, text := range pids {
			pid, err := strconv.Atoi(text)
			require.NoError(t, err)
			_ = syscall.Kill(pid, signal)
		}
	}
	for _, c := range []struct {
		name, kind, step string
		process          func() []string
	}{
		{"server", "lvm", "before lvcreate", server},
		{"server", "direct", "before set_size", server},
		{"lvm", "lvm", "before lvcreate", lvmOfServer},
	} {
		name := c.name + "-" + c.kind
		require.NoError(t, os.WriteFile(stop, []byte(c.step), 0o600))
		ended := make(chan error, 1)
		go func() {
			_, err := s.CreateVolume(context.Background(), createRequest(name, c.kind, 32<<20, mountCapability("ext4")))
			ended <- err
		}()
		require.Eventually(t, func() bool {
			stat, err := os.ReadFile("/proc/" + server()[0] + "/stat")
			return err == nil && strings.Contains(string(stat), ") T ")
		}, time.Minute, 10*time.Millisecond, "the server comes to %q and stops", c.step)
		stopped := c.process()
		require.NotEmpty(t, stopped)
		if c.name == "lvm" { // the server goes on, and waits for it
			signal(stopped, syscall.SIGSTOP)
			signal(server(), syscall.SIGCONT)
		}
		select {
		case err := <-ended:
			require.Fail(t, "the call ended while "+c.name+" stood still", "%v", err)
		case <-time.After(time.Second):
		}
		if c.name == "server" { // lvm's own lock holds up who wants to look
			for _, v := range volumes(t) {
				assert.False(t, v.Name == name && v.State == "ready", "%s is half made and ready", name)
			}
			// Another has its turn, or is told who has it.
			out, err := pmemctl(nil, "volume", "create", "other", "--type", "direct", "--size", "16Mi", "--timeout", "2s")
			if err == nil {
				out, err = pmemctl(nil, "volume", "delete", "other", "--force")
				assert.NoError(t, err, out)
			} else {
				assert.Contains(t, out, "(pid "+stopped[0]+")")
			}
		}
		signal(stopped, syscall.SIGCONT)
		endsWell(t, ended, name)
		isExt4(name)(t)
		_, err := s.DeleteVolume(context.Background(), &csi.DeleteVolumeRequest{VolumeId: name})
		require.NoError(t, err)
	}
	assert.Empty(t, volumes(t))
	nothingIsLeft(t)
}

// TestTroublesClock sets the clock back and forth during calls.
func TestTroublesClock(t *testing.T) {
	resetCSI(t)
	log := filepath.Join(t.TempDir(), "steps")
	s := startCSI(t, []string{fault.LogEnv + "=" + log}, "--init", "--percent", "10")
	defer func() { s.stop(t); resetCSI(t) }()
	begun, now := time.Now(), time.Now().Unix()
	defer func() { // by the monotonic clock
		shell(t, fmt.Sprintf("date -s @%d", now+int64(time.Since(begun).Seconds())))
	}()
	for i, by := range []string{"+ 400 days", "- 800 days", "+ 1 hour", "- 2 hours"} {
		name, kind := fmt.Sprint("clock", i), kinds[i%2]
		step := map[string]string{"lvm": "before lvcreate", "direct": "before set_size"}[kind]
		ended := begin(t, log, step, func() error {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			_, err := s.CreateVolume(ctx, createRequest(name, kind, 16<<20, mountCapability("ext4")))
			return err
		})
		shell(t, `date -s "$(date -R) `+by+`"`)
		endsWell(t, ended, name+" "+by)
		isExt4(name)(t)
		d := disk{name: name, kind: kind}
		require.NoError(t, inOrder(s, d.stage, d.publish, d.unpublish, d.unstage, d.delete), by)
	}
	assert.Empty(t, volumes(t))
}

// TestTroublesRunFull has no room in /run/pmemctl: a change is refused in words and leaves
// nothing, or is done whole, and what is mounted can be found and unmounted.
func TestTroublesRunFull(t *testing.T) {
	require.NoError(t, resetPMEM())
	for _, args := range [][]string{
		{"vg", "init", "--percent", "10", "region0"},
		{"volume", "create", "l", "--type", "lvm", "--size", "16Mi", "--mount", "/mnt/l"},
		{"volume", "create", "d", "--type", "direct", "--size", "16Mi", "--mount", "/mnt/d"},
	} {
		out, err := pmemctl(nil, args...)
		require.NoError(t, err, out)
	}
	before := state(t)
	shell(t, "mkdir -p /run/pmemctl; mount -t tmpfs -o size=64k tmpfs /run/pmemctl; dd if=/dev/zero of=/run/pmemctl/full bs=4k 2>/dev/null || true")
	defer func() { _ = exec.Command("umount", "-l", "/run/pmemctl").Run() }()
	require.Error(t, os.WriteFile("/run/pmemctl/more", make([]byte, 1), 0o600))
	for _, kind := range kinds {
		out, err := pmemctl(nil, "volume", "create", "new", "--type", kind, "--size", "16Mi")
		if err == nil { // it may need nothing there
			isExt4("new")(t)
			out, err = pmemctl(nil, "volume", "delete", "new", "--force")
			assert.NoError(t, err, out)
			continue
		}
		assert.Error(t, err, kind)
		assert.Contains(t, out, "no space left on device", kind)
	}
	assert.Equal(t, before, state(t), "nothing was made")
	for _, v := range []string{"l", "d"} {
		out, err := pmemctl(nil, "volume", "unmount", v)
		assert.NoError(t, err, out)
	}
	mounts, err := os.ReadFile("/proc/mounts")
	require.NoError(t, err)
	assert.NotRegexp(t, ` /mnt/[ld] `, string(mounts))
	shell(t, "umount /run/pmemctl")
	out, err := pmemctl(nil, "volume", "delete", "l", "d", "--force")
	assert.NoError(t, err, out)
	require.NoError(t, resetPMEM())
}

// TestTroublesNoFiles runs with few file descriptors: each command is done or fails, and what
// failed is done when there are enough.
func TestTroublesNoFiles(t *testing.T) {
	require.NoError(t, resetPMEM())
	out, err := pmemctl(nil, "vg", "init", "--percent", "10", "region0")
	require.NoError(t, err, out)
	refused := 0
	for _, kind := range kinds {
		for _, files := range []int{4, 7, 9, 12, 16} {
			where := fmt.Sprintf("%s with %d files", kind, files)
			script := fmt.Sprintf("ulimit -n %d; exec %s volume create v --type %s --size 16Mi", files, faultpointsBinary(), kind)
			out, err := exec.Command("sh", "-c", script).CombinedOutput()
			nothingHalfMadeIsReady(t, where)
			if err != nil {
				refused++
				assert.NotEmpty(t, out, where)
			}
			text, err := pmemctl(nil, "volume", "create", "v", "--type", kind, "--size", "16Mi")
			require.NoError(t, err, "%s, and after it: %s", where, text)
			isExt4("v")(t)
			text, err = pmemctl(nil, "volume", "delete", "v", "--force")
			require.NoError(t, err, "%s, and after it: %s", where, text)
		}
	}
	assert.Positive(t, refused, "there were enough files each time, so that this shows nothing")
	assert.Empty(t, volumes(t))
	nothingIsLeft(t)
}

// TestTroublesServerNoFiles takes all of a server's file descriptors: it lives, and serves again
// when they are back.
func TestTroublesServerNoFiles(t *testing.T) {
	resetCSI(t)
	script := fmt.Sprintf("ulimit -n 40; exec %s %s", faultpointsBinary(), strings.Join(serveArgs("--init", "--percent", "10"), " "))
	s := startServer(t, exec.Command("sh", "-c", script))
	defer func() { s.stop(t); resetCSI(t) }()
	_, err := s.CreateVolume(context.Background(), createRequest("before", "lvm", 16<<20, mountCapability("ext4")))
	require.NoError(t, err)
	var conns []net.Conn
	for range 60 {
		c, err := net.Dial("unix", csiSocket)
		if err != nil {
			break
		}
		conns = append(conns, c)
	}
	time.Sleep(time.Second) // for the server to accept what it can
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.cmd.Process.Pid))
	require.NoError(t, err)
	require.Greater(t, len(files), 35, "the server has files left, so that this shows nothing")
	for _, kind := range kinds {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		_, err := s.CreateVolume(ctx, createRequest("during-"+kind, kind, 16<<20, mountCapability("ext4")))
		cancel()
		assert.Error(t, err, kind)
		nothingHalfMadeIsReady(t, "without files")
	}
	for _, c := range conns {
		c.Close()
	}
	for _, kind := range kinds {
		create := func() error {
			_, err := s.CreateVolume(context.Background(), createRequest("during-"+kind, kind, 16<<20, mountCapability("ext4")))
			return err
		}
		assert.Eventually(t, func() bool { return create() == nil }, time.Minute, time.Second, kind)
		assert.NoError(t, create())
		isExt4("during-" + kind)(t)
	}
	for _, v := range volumes(t) {
		assert.Equal(t, "ready", v.State, v.Name)
		_, err := s.DeleteVolume(context.Background(), &csi.DeleteVolumeRequest{VolumeId: v.Name})
		assert.NoError(t, err)
	}
	assert.Empty(t, volumes(t))
}

// TestTroublesTwoServers has two servers on one node, as when a DaemonSet is replaced too
// early: the second one on the same socket is refused, and on another socket both work,
// also on the same volumes.
func TestTroublesTwoServers(t *testing.T) {
	ctx := context.Background()
	resetCSI(t)
	s := startCSI(t, nil, "--init", "--percent", "10")
	defer func() { s.stop(t); resetCSI(t) }()
	out, err := pmemctl(nil, serveArgs()...)
	assert.Error(t, err)
	assert.Contains(t, out, "is served by another process")
	_, err = s.Probe(ctx, &csi.ProbeRequest{})
	assert.NoError(t, err, "the first one goes on")

	const socket = "/run/csi-test/second.sock"
	second := exec.Command(faultpointsBinary(), "serve-csi", "--endpoint", "unix://"+socket, "--nodeid", nodeID, "--init", "--percent", "10")
	var log strings.Builder
	second.Stderr = &log
	require.NoError(t, second.Start())
	ended := make(chan error, 1)
	go func() { ended <- second.Wait() }()
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	defer conn.Close()
	other := &csiServer{conn: conn, Client: csitest.NewClient(conn)}
	ready, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	_, err = other.Probe(ready, &csi.ProbeRequest{}, grpc.WaitForReady(true))
	require.NoError(t, err)

	var wg sync.WaitGroup
	for i := range 4 {
		d := disk{name: fmt.Sprint("both", i), kind: kinds[i%2], size: 16 << 20}
		for _, server := range []*csiServer{s, other} {
			wg.Go(func() {
				assert.NoError(t, untilNotAborted(func() error { return d.createNew(server) }), d.name)
			})
		}
	}
	wg.Wait()
	list := volumes(t)
	assert.Len(t, list, 4)
	for _, v := range list {
		assert.Equal(t, "ready", v.State, v.Name)
		isExt4(v.Name)(t)
		for _, server := range []*csiServer{s, other} {
			wg.Go(func() {
				assert.NoError(t, untilNotAborted(func() error { return disk{name: v.Name}.delete(server) }), v.Name)
			})
		}
	}
	wg.Wait()
	assert.Empty(t, volumes(t))
	nothingIsLeft(t)
	require.NoError(t, second.Process.Signal(syscall.SIGTERM))
	select {
	case err := <-ended:
		assert.NoError(t, err, log.String())
	case <-time.After(40 * time.Second):
		_ = second.Process.Kill()
		assert.Fail(t, "the second server did not end")
	}
}
