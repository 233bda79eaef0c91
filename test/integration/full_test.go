//go:build guest

package integration

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

// freeSlots REGION N: the label area of the region's DIMM has N free slots from now on, and
// is read anew, as after a reboot. The others are taken by labels that mean nothing, as a
// lost interleave set leaves them.
func freeSlots(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: freeslots REGION N")
	}
	keep, err := strconv.Atoi(args[1])
	ts.Check(err)
	mapping, err := os.ReadFile("/sys/bus/nd/devices/" + args[0] + "/mapping0")
	ts.Check(err)
	dimm, _, _ := strings.Cut(string(mapping), ",")
	file := filepath.Join(ts.Getenv("WORK"), "labels")
	ndctl := func(args ...string) { ts.Check(ts.Exec("ndctl", args...)) }
	ndctl("disable-region", args[0])
	ndctl("disable-dimm", dimm)
	ndctl("read-labels", "-o", file, dimm)
	area, err := os.ReadFile(file)
	ts.Check(err)
	ts.Check(takeSlots(area, keep))
	ts.Check(os.WriteFile(file, area, 0o600))
	ndctl("write-labels", "-i", file, dimm)
	ndctl("enable-dimm", dimm)
	ndctl("enable-region", args[0])
	ts.Defer(func() { // resetPMEM keeps labels that are there
		for _, args := range [][]string{{"disable-region", args[0]}, {"init-labels", "-f", dimm}, {"enable-region", args[0]}} {
			if out, err := exec.Command("ndctl", args...).CombinedOutput(); err != nil {
				ts.Logf("ndctl %v: %v: %s", args, err, out)
			}
		}
	})
}

// takeSlots takes all free slots of a label area but some (struct nd_namespace_index,
// kernel drivers/nvdimm/label.h).
func takeSlots(area []byte, keep int) error {
	const labelSizeAt, seqAt, sizeAt, labelsAt, slotsAt, sumAt, freeAt = 19, 20, 32, 48, 56, 64, 72
	le := binary.LittleEndian
	size := le.Uint64(area[sizeAt:])
	if !strings.HasPrefix(string(area), "NAMESPACE_INDEX\x00") || size < freeAt || 2*size > uint64(len(area)) {
		return fmt.Errorf("no index of labels")
	}
	blocks := [][]byte{area[:size], area[size : 2*size]}
	current, other := blocks[0], blocks[1]
	if le.Uint32(other[seqAt:]) == le.Uint32(current[seqAt:])%3+1 { // it goes 1, 2, 3, 1
		current, other = other, current
	}
	labels, labelSize := le.Uint64(current[labelsAt:]), uint64(128)<<current[labelSizeAt]
	for slot := range le.Uint32(current[slotsAt:]) {
		bit := byte(1) << (slot % 8)
		if at := freeAt + slot/8; current[at]&bit != 0 {
			if keep--; keep < 0 {
				current[at] &^= bit
				// A namespace that is gone must not come back with its slot; zeros would be a
				// label of slot 0.
				copy(area[labels+uint64(slot)*labelSize:][:labelSize], bytes.Repeat([]byte{0xff}, int(labelSize)))
			}
		}
	}
	copy(other[freeAt:], current[freeAt:])
	for _, b := range blocks {
		le.PutUint64(b[sumAt:], 0)
		var lo uint32
		var hi uint64
		for i := 0; i < len(b); i += 4 { // nd_fletcher64
			lo += le.Uint32(b[i:])
			hi += uint64(lo)
		}
		le.PutUint64(b[sumAt:], hi<<32|uint64(lo))
	}
	return nil
}

// fillMetadata VG BYTES: so many bytes are free of the group's metadata area from now on,
// or hardly more; with 0 not even those of the shortest tag.
func fillMetadata(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: fillmetadata VG BYTES")
	}
	leave, err := strconv.Atoi(args[1])
	ts.Check(err)
	free := func() int {
		out, err := exec.Command("vgs", "--noheadings", "--units", "b", "--nosuffix", "-o", "vg_mda_free", args[0]).Output()
		ts.Check(err)
		n, err := strconv.Atoi(strings.TrimSpace(string(out)))
		ts.Check(err)
		return n - leave
	}
	tags := 0
	add := func(count, length int) error {
		command := []string{args[0]}
		for range count {
			tags++
			name := fmt.Sprintf("t%d_%d_", leave, tags) // not those of an earlier call
			command = append(command, "--addtag", name+strings.Repeat("x", max(0, length-len(name))))
		}
		out, err := exec.Command("vgchange", command...).CombinedOutput()
		if err != nil && !strings.Contains(string(out), "exceeds maximum metadata size") {
			ts.Fatalf("vgchange: %v: %s", err, out)
		}
		return err
	}
	// The command itself is written beside what it adds, until the next one.
	const length, most = 1000, 250
	before := free() + 1
	for now := before - 1; now < before; now = free() {
		count := min(most, now/(2*length+100))
		if count < 1 {
			break
		}
		ts.Check(add(count, length))
		before = now
	}
	if leave > 0 {
		return
	}
	// LVM goes on while one of its copies has room.
	for length := 1000; length > 0; {
		if add(1, length) != nil {
			length /= 4
		}
	}
}
