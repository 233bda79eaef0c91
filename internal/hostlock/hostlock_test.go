package hostlock

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pmemctl/pmemctl/internal/errs"
)

func TestAcquire(t *testing.T) {
	dir := t.TempDir()
	shared := filepath.Join(dir, "node")
	require.NoError(t, os.WriteFile(shared, nil, 0o600))
	host := Locks{Dir: filepath.Join(dir, "host"), Shared: func() string { return shared }}
	for what, other := range map[string]Locks{
		"the same directory":                 {Dir: host.Dir, Shared: host.Shared},
		"a container with a /run of its own": {Dir: filepath.Join(dir, "container"), Shared: host.Shared},
	} {
		t.Run(what, func(t *testing.T) {
			held, err := host.Try("volume a")
			require.NoError(t, err)
			require.NotNil(t, held)
			again, err := other.Try("volume a")
			require.NoError(t, err)
			assert.Nil(t, again, "it is held")
			another, err := other.Try("volume b")
			require.NoError(t, err)
			require.NotNil(t, another, "another name is free")
			another.Release()

			ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
			defer cancel()
			_, err = other.Acquire(ctx, "volume a")
			assert.True(t, errs.Is(err, errs.Busy), "%v", err)
			assert.ErrorContains(t, err, "volume a: is locked by ")

			held.Release()
			held.Release()
			now, err := other.Try("volume a")
			require.NoError(t, err)
			require.NotNil(t, now, "it was released")
			now.Release()
			for _, l := range []Locks{host, other} {
				left, err := os.ReadDir(l.Dir)
				require.NoError(t, err)
				assert.Empty(t, left)
			}
		})
	}
}
