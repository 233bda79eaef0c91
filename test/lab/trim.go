package lab

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"time"

	"golang.org/x/sys/unix"
)

// trimmer makes holes again of the zeros that a guest wrote to its DIMM files. The guest
// stands still for the second that it takes, and notices nothing.
type trimmer struct {
	end   context.CancelFunc
	ended chan struct{}
}

func startTrimmer(guest *os.Process, cfg Config) *trimmer {
	const interval = 5 * time.Second
	var files []string
	for i := range cfg.DIMMs {
		files = append(files, cfg.dimmFile(i))
	}
	ctx, end := context.WithCancel(context.Background())
	t := &trimmer{end: end, ended: make(chan struct{})}
	go func() {
		defer close(t.ended)
		for last := allocated(files); ; {
			select {
			case <-ctx.Done():
				return
			case <-time.After(interval):
			}
			if allocated(files) < last+cfg.TrimAfter {
				continue
			}
			if err := trim(guest, files); err != nil {
				fmt.Fprintln(os.Stderr, "lab:", err)
			}
			last = allocated(files)
		}
	}()
	return t
}

// stop returns when the files are left alone.
func (t *trimmer) stop() {
	if t != nil {
		t.end()
		<-t.ended
	}
}

func trim(guest *os.Process, files []string) error {
	if err := guest.Signal(unix.SIGSTOP); err != nil {
		return nil // it has ended
	}
	defer func() { _ = guest.Signal(unix.SIGCONT) }()
	for _, file := range files {
		if out, err := exec.Command("fallocate", "--dig-holes", file).CombinedOutput(); err != nil {
			return fmt.Errorf("fallocate --dig-holes %s: %w: %s", file, err, out)
		}
	}
	return nil
}

// allocated is the memory that files take, in bytes.
func allocated(files []string) (bytes int64) {
	for _, file := range files {
		var st unix.Stat_t
		if unix.Stat(file, &st) == nil {
			bytes += st.Blocks * 512
		}
	}
	return bytes
}
