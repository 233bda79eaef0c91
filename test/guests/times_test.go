//go:build lab

package guests

import (
	"bytes"
	"fmt"
	"io"
	"regexp"
	"strings"
	"sync"
	"time"
)

// times is where the time of this run went: a line for each guest (depth 0), boot and test (1),
// and subtest.
var times struct {
	mu    sync.Mutex
	lines []timeLine
}

type timeLine struct {
	depth int
	name  string
	took  time.Duration
}

func took(depth int, name string, d time.Duration) {
	times.mu.Lock()
	defer times.mu.Unlock()
	times.lines = append(times.lines, timeLine{depth, name, d})
}

// printTimes prints what took a second or more. The line of a guest is kept after those of its
// tests, and printed before them.
func printTimes(out io.Writer) {
	fmt.Fprintln(out, "Where the time went, in seconds:")
	var tests []timeLine
	for _, l := range times.lines {
		if tests = append(tests, l); l.depth > 0 {
			continue
		}
		for _, l := range append([]timeLine{l}, tests[:len(tests)-1]...) {
			if l.took >= time.Second {
				fmt.Fprintf(out, "%6.0f  %s%s\n", l.took.Seconds(), strings.Repeat("  ", l.depth), l.name)
			}
		}
		tests = nil
	}
}

var testEnd = regexp.MustCompile(`^( *)--- (?:PASS|FAIL): (\S+) \(([0-9.]+)s\)`)

// timesIn passes on the output of a test binary, and keeps how long its tests took.
type timesIn struct {
	out     io.Writer
	partial []byte
	ended   []string // names of tests
}

func (w *timesIn) Write(p []byte) (int, error) {
	w.partial = append(w.partial, p...)
	for {
		line, rest, whole := bytes.Cut(w.partial, []byte("\n"))
		if !whole {
			return w.out.Write(p)
		}
		w.partial = rest
		if m := testEnd.FindSubmatch(line); m != nil {
			d, _ := time.ParseDuration(string(m[3]) + "s")
			name := string(m[2])
			took(1+len(m[1])/4, name[strings.LastIndex(name, "/")+1:], d)
			w.ended = append(w.ended, name)
		}
	}
}
