package hostlock

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestHeld: held locks are listed with their holders, the files that a killed process left are
// not, and nothing is locked by listing.
func TestHeld(t *testing.T) {
	l := Locks{Dir: t.TempDir()}
	held, err := l.Held()
	require.NoError(t, err)
	assert.Empty(t, held)
	lock, err := l.Try("volume db")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(l.Dir, "host.lock"), []byte("pmemctl (pid 1)"), 0o600))
	held, err = l.Held()
	require.NoError(t, err)
	require.Len(t, held, 1)
	assert.Equal(t, "volume-db", held[0].Name)
	assert.Contains(t, held[0].Holder, "(pid ")
	assert.WithinDuration(t, time.Now(), held[0].Since, time.Minute)
	host, err := l.Try("host")
	require.NoError(t, err)
	assert.NotNil(t, host)
	host.Release()
	lock.Release()
	held, err = l.Held()
	require.NoError(t, err)
	assert.Empty(t, held)
}
