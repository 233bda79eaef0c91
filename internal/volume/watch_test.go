package volume

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestWatchUnerased: a record that another process makes or removes is seen; the channel is closed
// when the directory is removed or the context ends.
func TestWatchUnerased(t *testing.T) {
	s := &Service{RunDir: t.TempDir()}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	changed, err := s.WatchUnerased(ctx)
	require.NoError(t, err)
	sees := func(c <-chan struct{}, open bool) {
		t.Helper()
		for {
			select {
			case _, ok := <-c:
				if ok == open {
					return
				}
			case <-time.After(10 * time.Second):
				t.Fatal("nothing was seen")
			}
		}
	}
	other := &Service{RunDir: s.RunDir}
	other.keepErasure(Volume{UUID: "1"}, Erasure{Since: time.Now()})
	sees(changed, true)
	assert.Equal(t, []string{"1"}, s.Unerased())
	require.NoError(t, os.RemoveAll(s.RunDir))
	sees(changed, false)

	again, err := s.WatchUnerased(ctx)
	require.NoError(t, err)
	cancel()
	sees(again, false)

	_, err = (&Service{}).WatchUnerased(t.Context())
	assert.Error(t, err)
	require.NoError(t, os.RemoveAll(s.RunDir))
	require.NoError(t, os.WriteFile(s.RunDir, nil, 0o600))
	_, err = s.WatchUnerased(t.Context())
	assert.Error(t, err)
}
