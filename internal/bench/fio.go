package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/pmemctl/pmemctl/internal/errs"
)

// hasEngine reports whether fio has the engine that maps files with MAP_SYNC.
func hasEngine(list []byte) bool {
	for name := range strings.FieldsSeq(string(list)) {
		if name == "libpmem" {
			return true
		}
	}
	return false
}

// fileSize is the size of the file that is read and written: most of a volume.
func (b *Bench) fileSize() uint64 { return b.Size / 4 * 3 }

// job returns the arguments of fio for one job on a file. It is a thread: a process of its own
// would be in a session of its own, outlive fio when that is killed, and keep the volume mounted.
func (b *Bench) job(file, rw, blocks, engine string, more ...string) []string {
	return append([]string{
		"--name=bench", "--filename=" + file, fmt.Sprintf("--size=%d", b.fileSize()), "--rw=" + rw, "--bs=" + blocks, "--ioengine=" + engine,
		"--direct=1", "--thread", "--output-format=json",
	}, more...)
}

func (b *Bench) run(ctx context.Context, file, failure string, args []string) ([]byte, error) {
	out, err := b.Run(ctx, "fio", args...)
	if err != nil && errors.Is(ctx.Err(), context.Canceled) {
		return nil, errs.New(errs.Canceled, "", "interrupted", "")
	}
	return out, errs.Wrap("", file, failure, "", err)
}

// layOut writes a file once, so that reads find data and writes no unwritten extents.
func (b *Bench) layOut(ctx context.Context, file string) error {
	_, err := b.run(ctx, file, "cannot be written by fio", b.job(file, "write", "1M", "psync", "--end_fsync=1"))
	return err
}

func (b *Bench) fio(ctx context.Context, file string, access Access, rw, cpus string) (Measure, error) {
	engine := "psync"
	if access == Mapped {
		engine = "libpmem"
	}
	args := b.job(file, rw, "4k", engine, fmt.Sprintf("--runtime=%dms", b.Time.Milliseconds()), "--time_based", "--norandommap", "--invalidate=0")
	if cpus != "" {
		args = append(args, "--cpus_allowed="+cpus)
	}
	ctx, cancel := context.WithTimeout(ctx, b.Time+time.Minute)
	defer cancel()
	out, err := b.run(ctx, file, "cannot be measured by fio", args)
	if err != nil {
		return Measure{}, err
	}
	m, err := parse(out, rw)
	return m, errs.Wrap("", "fio", "gave an answer that cannot be read", "report this, with: fio --version", err)
}

// parse reads fio's JSON (fio(1), JSON OUTPUT). Warnings may precede it.
func parse(out []byte, rw string) (m Measure, err error) {
	type direction struct {
		IOPS float64 `json:"iops"`
		BW   uint64  `json:"bw_bytes"`
		CLat struct {
			Percentile map[string]uint64 `json:"percentile"`
		} `json:"clat_ns"`
	}
	var answer struct {
		Jobs []struct {
			Error       int `json:"error"`
			Read, Write direction
		} `json:"jobs"`
	}
	text := string(out)
	if start := strings.Index(text, "{"); start > 0 {
		text = text[start:]
	}
	if err := json.Unmarshal([]byte(text), &answer); err != nil {
		return m, err
	}
	if len(answer.Jobs) != 1 || answer.Jobs[0].Error != 0 {
		return m, fmt.Errorf("%d jobs, or an error of one", len(answer.Jobs))
	}
	d := answer.Jobs[0].Read
	if rw == "randwrite" {
		d = answer.Jobs[0].Write
	}
	median, p99 := d.CLat.Percentile["50.000000"], d.CLat.Percentile["99.000000"]
	if median == 0 || p99 == 0 || d.IOPS <= 0 {
		return m, fmt.Errorf("it has no latencies of %s", rw)
	}
	return Measure{MedianNS: median, P99NS: p99, PerSecond: d.IOPS, BytesASecond: d.BW}, nil
}
