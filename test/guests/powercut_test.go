//go:build lab

package guests

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pmemctl/pmemctl/test/lab"
	"github.com/pmemctl/pmemctl/test/testenv"
)

// powerCut cuts the power of a guest while the CSI server is at work and
// applications write, again and again, and each time checks in the next guest on the
// same DIMMs that what the last one told is true.
func powerCut(t *testing.T) {
	cuts := int(number(t, testenv.Cuts, 1))
	seed := number(t, testenv.Seed, time.Now().UnixNano())
	times := rand.New(rand.NewPCG(uint64(seed), 0))
	dir, err := lab.TempDir()
	require.NoError(t, err)
	cfg := lab.Config{Dir: dir, DIMMs: lab.TwoEqualDIMMs()}
	told := &acks{newest: map[string]string{}}
	where := fmt.Sprintf("before the first cut, seed %d", seed)
	t.Cleanup(func() {
		if !t.Failed() {
			os.RemoveAll(dir)
			return
		}
		t.Logf("%s; the DIMM files are kept in %s; the guest's last words:\n%s", where, dir, strings.Join(told.last, "\n"))
	})
	t.Logf("%s=%d", testenv.Seed, seed)

	m := boot(t, cfg)
	guestOutput(t, m, "pmemctl", "region", "init-labels", "--all", "--force")
	for cut := 1; cut <= cuts; cut++ {
		after := 300*time.Millisecond + time.Duration(times.Int64N(int64(4*time.Second)))
		where = fmt.Sprintf("cut %d of %d, %d ms after the load began, seed %d", cut, cuts, after.Milliseconds(), seed)
		env := []string{testenv.Cut + "=" + strconv.Itoa(cut)}

		ctx, now := context.WithTimeout(context.Background(), 5*time.Minute)
		// Every second time, and in the last load, there is a record first, however slow
		// the machine is.
		told.first, told.begun = "begun", func() { time.AfterFunc(after, now) }
		if cut%2 == 0 || cut == cuts {
			told.first = "record"
		}
		err := runTold(ctx, t, m, told, env, "TestPowerCutLoad")
		require.ErrorIs(t, ctx.Err(), context.Canceled, "the load did not begin, or ended by itself: %v", err)
		m.Kill()

		m = boot(t, cfg)
		// The volumes of a load live through the next one, and none is left at the end.
		oldest := cut
		if cut == cuts {
			oldest = cut + 1
		}
		volumes, records := told.volumes, told.records
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Minute)
		err = runTold(ctx, t, m, told, append(env, testenv.CutOldest+"="+strconv.Itoa(oldest)), "TestPowerCutCheck")
		cancel()
		require.NoError(t, err, "kernel:\n%s", m.ConsoleTail())
		told.forgetDeleted()
		t.Logf("cut %d, %d ms after the load began: %d volumes and %d records checked", cut, after.Milliseconds(), told.volumes-volumes, told.records-records)
	}
	assert.Positive(t, told.volumes, "volumes")
	assert.Positive(t, told.records, "records")
	t.Logf("%d cuts, %d volumes and %d records checked", cuts, told.volumes, told.records)
}

// runTold runs a test in the guest that tells the host things, and gives it what the
// host was told before.
func runTold(ctx context.Context, t *testing.T, m *lab.Machine, told *acks, env []string, test string) error {
	t.Helper()
	told.partial = nil // of a guest that was killed
	return m.Run(ctx, lab.Command{
		Args:   []string{filepath.Join(repo(t), "build/guest/integration.test"), "-test.v", "-test.count=1", "-test.run", "^" + test + "$"},
		Env:    env,
		Stdin:  told.text(),
		Stdout: told, Stderr: os.Stderr,
	})
}

// acks is what a guest tells, in lines that begin with "ack"; its other output goes
// on. Of each kind the newest line for each volume is kept.
type acks struct {
	first            string            // kind of line with which the load has begun
	begun            func()            // called once for each load
	newest           map[string]string // by kind and volume
	last             []string
	volumes, records int // checked

	partial []byte
}

func (a *acks) Write(p []byte) (int, error) {
	a.partial = append(a.partial, p...)
	for {
		line, rest, whole := bytes.Cut(a.partial, []byte("\n"))
		if !whole {
			return len(p), nil
		}
		a.partial = rest
		a.hear(string(line))
	}
}

func (a *acks) hear(line string) {
	words := strings.Fields(line)
	if len(words) < 2 || words[0] != "ack" {
		fmt.Println(line)
		return
	}
	const keep = 30
	a.last = append(a.last, line)
	a.last = a.last[max(0, len(a.last)-keep):]
	if words[1] == a.first && a.begun != nil {
		a.begun()
		a.begun = nil
	}
	switch kind := words[1]; kind {
	case "begun":
	case "checked":
		var volumes, records int
		_, _ = fmt.Sscan(line, new(string), new(string), &volumes, &records)
		a.volumes += volumes
		a.records += records
	case "deleted":
		for _, other := range []string{"created", "expanded", "record"} {
			delete(a.newest, other+" "+words[2])
		}
		fallthrough
	default:
		a.newest[kind+" "+words[2]] = line
	}
}

func (a *acks) text() []byte {
	var lines []string
	for _, line := range a.newest {
		lines = append(lines, line+"\n")
	}
	slices.Sort(lines)
	return []byte(strings.Join(lines, ""))
}

// forgetDeleted is for when it was checked that what is deleted is gone.
func (a *acks) forgetDeleted() {
	for key := range a.newest {
		if strings.HasPrefix(key, "deleted ") {
			delete(a.newest, key)
		}
	}
}

// number reads a number from the environment.
func number(t *testing.T, name string, otherwise int64) int64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseInt(text, 10, 64)
	require.NoError(t, err, name)
	return n
}
