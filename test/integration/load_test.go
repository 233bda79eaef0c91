//go:build guest

package integration

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pmemctl/pmemctl/test/testenv"
)

// The two halves of the power cuts of test/guests: a load that runs until the guest
// is killed, and the check in the guest that is booted after it, which deletes the volumes
// of cuts before testenv.CutOldest.

var kinds = []string{"lvm", "direct"}

// disk is a volume as a provisioner and kubelet ask for it.
type disk struct {
	name, kind string
	size       int64
	source     string // of which it is a copy; "" for none
	place      int    // which of its staging and target paths
}

func (d disk) staging() string { return fmt.Sprintf("/mnt/csi/%s/staging%d", d.name, d.place) }
func (d disk) target() string  { return fmt.Sprintf("/mnt/csi/%s/target%d", d.name, d.place) }

func (d disk) create(s *csiServer) error {
	req := createRequest(d.name, d.kind, d.size, mountCapability("ext4", "dax"))
	if d.source != "" {
		req.VolumeContentSource = &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Volume{Volume: &csi.VolumeContentSource_VolumeSource{VolumeId: d.source}}}
	}
	_, err := s.CreateVolume(context.Background(), req)
	return d.failed("create", err)
}

func (d disk) stage(s *csiServer) error {
	if err := os.MkdirAll(d.staging(), 0o755); err != nil {
		return err
	}
	err := s.Stage(context.Background(), d.name, d.staging(), mountCapability("ext4", "dax"))
	return d.failed("stage", err)
}

func (d disk) publish(s *csiServer) error {
	err := s.Publish(context.Background(), d.name, d.staging(), d.target(), mountCapability("ext4", "dax"))
	return d.failed("publish", err)
}

func (d disk) unpublish(s *csiServer) error {
	return d.failed("unpublish", s.Unpublish(context.Background(), d.name, d.target()))
}

func (d disk) unstage(s *csiServer) error {
	return d.failed("unstage", s.Unstage(context.Background(), d.name, d.staging()))
}

func (d disk) delete(s *csiServer) error {
	_, err := s.DeleteVolume(context.Background(), &csi.DeleteVolumeRequest{VolumeId: d.name}) // and waits for its erasing
	return d.failed("delete", err)
}

// larger is the size that it is expanded to.
func (d disk) larger() int64 { return d.size + 16<<20 }

func (d disk) expand(s *csiServer) error {
	_, err := s.Expand(context.Background(), d.name, d.larger())
	return d.failed("expand", err)
}

func (d disk) expandOnNode(s *csiServer) error {
	return d.failed("expand on the node", s.ExpandOnNode(context.Background(), d.name, d.target(), d.larger()))
}

// failed leaves nil as it is. The gRPC code stays that of the call.
func (d disk) failed(call string, err error) error {
	if err != nil {
		err = fmt.Errorf("%s %s: %w", call, d.name, err)
	}
	return err
}

// inOrder makes calls until one fails.
func inOrder(s *csiServer, calls ...func(*csiServer) error) error {
	for _, call := range calls {
		if err := call(s); err != nil {
			return err
		}
	}
	return nil
}

// Records are what an application appends to a file, and must find again when it
// was told that they are on the medium.
const recordSize = 3000 // over the edges of pages and blocks

func record(name string, seq int) []byte {
	r := make([]byte, recordSize)
	binary.LittleEndian.PutUint64(r, uint64(seq))
	_, _ = rand.Read(r[8 : recordSize-sha256.Size])
	sum := recordSum(name, r)
	copy(r[recordSize-sha256.Size:], sum[:])
	return r
}

func recordSum(name string, r []byte) [sha256.Size]byte {
	return sha256.Sum256(append([]byte(name), r[:recordSize-sha256.Size]...))
}

// countRecords counts the records of a volume in a file up to the first that is not
// whole.
func countRecords(file, name string) (int, error) {
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	n := 0
	for r := range slices.Chunk(data, recordSize) {
		if len(r) < recordSize || binary.LittleEndian.Uint64(r) != uint64(n+1) {
			break
		}
		if sum := recordSum(name, r); !bytes.Equal(sum[:], r[recordSize-sha256.Size:]) {
			break
		}
		n++
	}
	return n, err
}

func (d disk) records() string { return d.target() + "/records" }

// origin is the volume whose records are on it.
func (d disk) origin() string { return cmp.Or(d.source, d.name) }

// What becomes of the volumes of a load. None but the passing ones is ever deleted by
// it, so that what the host heard of a volume is true whatever it did not hear: a line
// that was on its way is lost with the guest.
const (
	kept    = "keep"
	copied  = "copy" // of the kept one of the other kind with the same number
	written = "log"
	passing = "temp"
)

func cutName(role, kind string, number int) string {
	return fmt.Sprintf("cut%s-%s-%s-%d", os.Getenv(testenv.Cut), role, kind, number)
}

// cutDisk tells all about a volume of a load from its name, as the check has to for
// one of which the host heard nothing.
func cutDisk(name string) (d disk, cut int, role string, err error) {
	var number int
	_, err = fmt.Sscanf(strings.ReplaceAll(name, "-", " "), "cut%d %s %s %d", &cut, &role, &d.kind, &number)
	d.name, d.size = name, int64(16+16*(number%3))<<20
	if role == copied {
		other := kinds[1-slices.Index(kinds, d.kind)]
		d.source = fmt.Sprintf("cut%d-%s-%s-%d", cut, kept, other, number)
	}
	return d, cut, role, err
}

func loadDisk(role, kind string, number int) disk {
	d, _, _, err := cutDisk(cutName(role, kind, number))
	if err != nil {
		panic(err) // the cut is no number
	}
	return d
}

// say tells the host something, in one write.
func say(words ...any) { fmt.Print("ack ", fmt.Sprintln(words...)) }

// TestPowerCutLoad works until the guest is killed. It ends by itself only when a call
// fails.
func TestPowerCutLoad(t *testing.T) {
	s := startCSI(t, nil, "--init", "--percent", "50")
	failed := make(chan error)
	say("begun")
	for _, kind := range kinds {
		for _, work := range []func(*csiServer, string) error{writeRecords, keepVolumes, passVolumes} {
			go func() { failed <- work(s, kind) }()
		}
	}
	t.Fatal(<-failed, "\n", s.log.String())
}

// writeRecords appends to a published volume.
func writeRecords(s *csiServer, kind string) error {
	d := loadDisk(written, kind, 2)
	if err := inOrder(s, d.create, d.stage, d.publish); err != nil {
		return err
	}
	say("created", d.name, d.size)
	f, err := os.OpenFile(d.records(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	for seq := 1; ; seq++ {
		if err := appendRecords(f, d.name, seq, 1); err != nil {
			return err
		}
		say("record", d.name, seq)
		time.Sleep(5 * time.Millisecond) // the calls need the processors too
	}
}

func appendRecords(f *os.File, name string, seq, count int) error {
	for i := range count {
		if _, err := f.Write(record(name, seq+i)); err != nil {
			return err
		}
	}
	return f.Sync()
}

// keepVolumes makes volumes with records, expands them where that is possible, and
// copies them to volumes of the other kind.
func keepVolumes(s *csiServer, kind string) error {
	for number := 0; ; number++ {
		d := loadDisk(kept, kind, number)
		if err := d.create(s); err != nil {
			return err
		}
		say("created", d.name, d.size)
		if err := inOrder(s, d.stage, d.publish); err != nil {
			return err
		}
		const count = 20
		f, err := os.Create(d.records())
		if err != nil {
			return err
		}
		if err := errors.Join(appendRecords(f, d.name, 1, count), f.Close()); err != nil {
			return err
		}
		say("record", d.name, count)
		if kind == "lvm" {
			if err := inOrder(s, d.expand, d.expandOnNode); err != nil {
				return err
			}
			say("expanded", d.name, d.larger())
		}
		duplicate := loadDisk(copied, kinds[1-slices.Index(kinds, kind)], number)
		if err := inOrder(s, d.unpublish, d.unstage, duplicate.create); err != nil {
			return err
		}
		say("created", duplicate.name, duplicate.size)
	}
}

// passVolumes takes volumes through a whole life.
func passVolumes(s *csiServer, kind string) error {
	for number := 0; ; number++ {
		d := loadDisk(passing, kind, number)
		if err := inOrder(s, d.create, d.stage, d.publish); err != nil {
			return err
		}
		if err := os.WriteFile(d.target()+"/file", make([]byte, 1<<20), 0o600); err != nil {
			return err
		}
		if err := inOrder(s, d.unpublish, d.unstage, d.delete); err != nil {
			return err
		}
		say("deleted", d.name)
	}
}

// heard is what the host heard of a volume before the power went.
type heard struct {
	size    uint64 // at least
	records int    // at least
	deleted bool
}

// readHeard reads the lines of say, which the host gives back.
func readHeard(t *testing.T) map[string]heard {
	t.Helper()
	data, err := io.ReadAll(os.Stdin)
	require.NoError(t, err)
	all := map[string]heard{}
	for line := range strings.Lines(string(data)) {
		var verb, name string
		var number uint64
		_, err := fmt.Sscan(line, new(string), &verb, &name, &number)
		require.True(t, err == nil || verb == "deleted", "%q: %v", line, err)
		h := all[name]
		switch verb {
		case "created", "expanded":
			h.size = max(h.size, number)
		case "record":
			h.records = int(number)
		case "deleted":
			h.deleted = true
		}
		all[name] = h
	}
	return all
}

// TestPowerCutCheck looks at what a load left when its guest was killed: what the host
// heard is true, what was half made or half deleted is not shown as ready, and calls
// that nobody heard the end of can be repeated.
func TestPowerCutCheck(t *testing.T) {
	told := readHeard(t)
	cut, err := strconv.Atoi(os.Getenv(testenv.Cut))
	require.NoError(t, err, testenv.Cut)
	oldest, err := strconv.Atoi(os.Getenv(testenv.CutOldest))
	require.NoError(t, err, testenv.CutOldest)

	found := map[string][]listed{}
	for _, v := range volumes(t) {
		found[v.Name] = append(found[v.Name], v)
	}
	for name, h := range told {
		ready := slices.IndexFunc(found[name], func(v listed) bool { return v.State == "ready" })
		if h.deleted {
			assert.False(t, slices.ContainsFunc(found[name], func(v listed) bool { return v.State != "deleting" }), "%s was deleted, and is %v", name, found[name])
		} else if assert.GreaterOrEqual(t, ready, 0, "%s was made, and is %v", name, found[name]) {
			assert.GreaterOrEqual(t, found[name][ready].Size, h.size, name)
		}
	}
	if t.Failed() {
		t.FailNow() // nothing that may be wrong is touched
	}

	var flags []string
	if cut%2 == 0 { // as the entry point of a DaemonSet, which also clears up
		flags = []string{"--init", "--percent", "50"}
	}
	s := startCSI(t, nil, flags...)
	defer func() { s.stop(t) }()
	for _, name := range slices.Sorted(maps.Keys(found)) {
		d, of, role, err := cutDisk(name)
		require.NoError(t, err, name)
		_, known := told[name]
		require.True(t, known || of == cut, "%s is back: %v", name, found[name])
		if slices.ContainsFunc(found[name], func(v listed) bool { return v.State == "deleting" }) {
			require.True(t, role == passing || told[name].deleted, "%v: nobody deleted it", found[name])
			// The server may be at it already.
			require.NoError(t, untilNotAborted(func() error { return d.delete(s) }), "deleted again")
			continue
		}
		require.NoError(t, untilNotAborted(func() error { return d.create(s) }), "created again, after %v", found[name])
		if len(found[name]) > 1 {
			require.NoError(t, d.expand(s), "expanded again, after %v", found[name])
		}
	}

	untilErased(t) // also a copy that was half made, whose name the new one has
	records := 0
	after := volumes(t)
	for _, v := range after {
		d, of, role, err := cutDisk(v.Name)
		require.NoError(t, err, v.Name)
		require.Equal(t, "ready", v.State, v.Name)
		n := sound(t, s, d, v.Device, max(told[v.Name].records, told[d.source].records))
		records += n
		if role == passing || of < oldest {
			require.NoError(t, d.delete(s))
			say("deleted", d.name)
			continue
		}
		say("created", d.name, v.Size)
		say("record", d.name, n)
	}
	if oldest > cut {
		nothingIsLeft(t)
	}
	say("checked", len(after), records)
}

// sound looks at a volume as the next pod finds it, and returns how many records it
// holds.
func sound(t *testing.T, s *csiServer, d disk, device string, atLeast int) int {
	t.Helper()
	// Before it is mounted, which would make a missing file system. A journal that is to
	// be replayed then explains what e2fsck would find now.
	out, err := exec.Command("dumpe2fs", "-h", device).CombinedOutput()
	require.NoError(t, err, "%s is ready, and has no file system: %s", d.name, out)
	if !strings.Contains(string(out), "needs_recovery") {
		isClean(t, d.name, device)
	}
	require.NoError(t, inOrder(s, d.stage, d.publish))
	mounts, err := os.ReadFile("/proc/mounts")
	require.NoError(t, err)
	assert.Regexp(t, " "+d.target()+` ext4 \S*dax=always`, string(mounts))
	n, err := countRecords(d.records(), d.origin())
	require.NoError(t, err)
	require.GreaterOrEqual(t, n, atLeast, "records of %s, all of which were on the medium", d.name)
	require.NoError(t, inOrder(s, d.unpublish, d.unstage))
	isClean(t, d.name, device)
	return n
}

func isClean(t *testing.T, name, device string) {
	t.Helper()
	out, err := exec.Command("e2fsck", "-f", "-n", device).CombinedOutput()
	require.NoError(t, err, "%s on %s: %s", name, device, out)
}

// nothingIsLeft: of no half-made volume, whatever it is called, either.
func nothingIsLeft(t *testing.T) {
	t.Helper()
	out, err := exec.Command("sh", "-ec", `
ndctl list -N | jq -r '.[].name' | grep -v '^pmemctl=' || true
lvs --noheadings
vgs --noheadings -o vg_name,vg_size,vg_free --units b | awk '$2 != $3'
`).CombinedOutput()
	require.NoError(t, err, "%s", out)
	assert.Empty(t, strings.TrimSpace(string(out)), "beside empty volume groups")
}
