package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pmemctl/pmemctl/test/lab/protocol"
)

// fakeEnv makes this program a QEMU. How it behaves at its first, second, … start is in
// the file that it names, a word each.
const fakeEnv = "PMEMLAB_FAKE_QEMU"

func TestMain(m *testing.M) {
	if script := os.Getenv(fakeEnv); script != "" {
		fakeQEMU(script, os.Args[1])
		return
	}
	os.Exit(m.Run())
}

func fakeQEMU(script, socket string) {
	var left []string
	data, _ := os.ReadFile(script)
	_ = json.Unmarshal(data, &left)
	how := left[0]
	data, _ = json.Marshal(left[1:])
	_ = os.WriteFile(script, data, 0o600)

	// As QEMU does: the socket is there before the guest.
	listener, err := net.Listen("unix", socket)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	conn := make(chan net.Conn, 1)
	go func() { c, _ := listener.Accept(); conn <- c }()
	fmt.Println("Booting from ROM..")
	switch how {
	case "hangs":
		time.Sleep(time.Hour)
	case "spins":
		for end := time.Now().Add(time.Hour); time.Now().Before(end); {
		}
	case "is slow":
		time.Sleep(600 * time.Millisecond)
	case "breaks off and panics":
		(<-conn).Close()
		time.Sleep(100 * time.Millisecond)
		os.Exit(3)
	case "panics":
		fmt.Println("[    0.000000] Linux version 6.1\n[    0.500000] Kernel panic - not syncing")
		os.Exit(3)
	case "speaks and hangs":
		fmt.Println("[    0.000000] Linux version 6.1")
		time.Sleep(time.Hour)
	}
	fmt.Println("[    0.000000] Linux version 6.1")
	time.Sleep(400 * time.Millisecond)
	_ = json.NewEncoder(<-conn).Encode(protocol.Reply{Ready: true})
	time.Sleep(time.Hour)
}

// TestBootWatched boots with a QEMU that behaves badly.
func TestBootWatched(t *testing.T) {
	short := limits{silence: 300 * time.Millisecond, work: 300 * time.Millisecond, starved: 3 * time.Second, agent: 5 * time.Second, attempts: 3}
	for name, c := range map[string]struct {
		starts        []string
		err           string
		boots, repeat int64
		atLeast       time.Duration
	}{
		"well":                      {starts: []string{"well"}, boots: 1},
		"slow, without a processor": {starts: []string{"is slow"}, boots: 1},
		"the kernel never speaks":   {starts: []string{"hangs", "well"}, boots: 2, repeat: 1, atLeast: 3 * time.Second},
		"and takes the processor":   {starts: []string{"spins", "well"}, boots: 2, repeat: 1},
		"hangs after its words":     {starts: []string{"speaks and hangs", "well"}, boots: 2, repeat: 1, atLeast: 5 * time.Second},
		"two hang":                  {starts: []string{"spins", "spins", "well"}, boots: 3, repeat: 2},
		"all hang":                  {starts: []string{"spins", "spins", "spins", "well"}, boots: 3, repeat: 2, err: "hangs at boot: no word of the kernel"},
		"a panic is no hang":        {starts: []string{"panics", "well"}, boots: 1, err: "QEMU ended: exit status 3"},
		"its connection first":      {starts: []string{"breaks off and panics", "well"}, boots: 1, err: "QEMU ended: exit status 3"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			script := filepath.Join(dir, "starts")
			data, err := json.Marshal(c.starts)
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(script, data, 0o600))
			t.Setenv(fakeEnv, script)
			socket := filepath.Join(dir, "agent.sock")
			boots.Store(0)
			repeated.Store(0)

			begun := time.Now()
			m, err := bootWatched(context.Background(), Config{Dir: dir}, []string{os.Args[0], socket}, socket, short)
			if c.err == "" {
				require.NoError(t, err)
				assert.NoError(t, m.qemu.Process.Signal(syscall.Signal(0)), "it lives")
				m.Kill()
			} else {
				assert.ErrorContains(t, err, c.err)
				assert.ErrorContains(t, err, "Booting from ROM", "the console's text is shown")
			}
			assert.GreaterOrEqual(t, time.Since(begun), c.atLeast)
			assert.Equal(t, "lab: "+strconv.Itoa(int(c.boots))+" boots, "+strconv.Itoa(int(c.repeat))+" boots repeated", Summary())
			var left []string
			data, err = os.ReadFile(script)
			require.NoError(t, err)
			require.NoError(t, json.Unmarshal(data, &left))
			assert.Len(t, left, len(c.starts)-int(c.boots))
		})
	}
}
