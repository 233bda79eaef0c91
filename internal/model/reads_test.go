package model_test

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/model"
	"github.com/pmemctl/pmemctl/internal/pmem"
	"github.com/pmemctl/pmemctl/internal/volume"
	"github.com/pmemctl/pmemctl/internal/volume/volumetest"
)

// TestFailReads has each read of the host fail once, from each line that it is done for: nothing
// is lost or shown as ready that is half made, an operation that succeeds has done all of it, and
// the same operation again leads to where it leads without a failure.
func TestFailReads(t *testing.T) {
	seen := map[string]bool{}
	for _, op := range operations(t) {
		if strings.HasSuffix(op.name, " xfs") { // as ext4
			continue
		}
		t.Run(op.name, func(t *testing.T) {
			h, s := prepared(t, op)
			var sites []string
			h.FailReads(func(read, lines string) error {
				if site := read + " for " + lines; !seen[site] {
					seen[site] = true
					sites = append(sites, site)
				}
				return nil
			})
			require.NoError(t, op.do(h, s))
			h.FailReads(nil)
			want := volumetest.State(t, s)
			for _, site := range sites {
				failReadAt(t, op, site, want)
			}
			t.Logf("%d reads", len(sites))
		})
	}
}

func failReadAt(t *testing.T, op operation, site string, want []string) {
	t.Helper()
	h, s := prepared(t, op)
	failed := 0
	failFirst(h, site, &failed)
	err := op.do(h, s)
	h.FailReads(nil)
	require.Equal(t, 1, failed, site)
	readyIsWhole(t, h, s, site)
	if err == nil { // it did without
		require.Equal(t, want, volumetest.State(t, s), site)
	} else if !strings.HasPrefix(site, "list of mapped devices ") { // FindMapped returns no error
		require.ErrorContains(t, err, syscall.EIO.Error(), site)
	}
	again(t, h, s, op, want, site)
}

// failFirst has the first read of a site fail.
func failFirst(h *model.Host, site string, failed *int) {
	h.FailReads(func(read, lines string) error {
		if read+" for "+lines != site || *failed > 0 {
			return nil
		}
		*failed++
		return syscall.EIO
	})
}

// TestUnmountUnread: a volume is not reported as unmounted because it cannot be read where it is
// mounted.
func TestUnmountUnread(t *testing.T) {
	forKinds(t, func(t *testing.T, h *model.Host, s *volume.Service, kind volume.Type) {
		require.NoError(t, volumetest.Create(volumetest.Spec("db", kind, 64*pmem.MiB))(h, s))
		path := filepath.Join(t.TempDir(), "db")
		require.NoError(t, volumetest.Mounted("db", path)(h, s))
		want := volumetest.State(t, s)
		for _, at := range []string{"", path} {
			for _, read := range []string{"identify", "table of mounts"} {
				h.FailReads(func(name, lines string) error {
					if name == read && strings.Contains(lines, "mount.go") {
						return syscall.EIO
					}
					return nil
				})
				paths, err := s.Unmount(ctx, "db", at)
				h.FailReads(nil)
				require.ErrorIs(t, err, syscall.EIO, read)
				assert.Equal(t, errs.Internal, errs.KindOf(err), read)
				assert.NotEmpty(t, errs.NextStep(err), read)
				assert.Empty(t, paths, read)
				assert.Equal(t, want, volumetest.State(t, s), "it is mounted still")
			}
		}
		paths, err := s.Unmount(ctx, "db", path)
		require.NoError(t, err)
		assert.Equal(t, []string{path}, paths)
	})
}
