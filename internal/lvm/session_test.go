package lvm

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pmemctl/pmemctl/internal/errs"
)

// TestSessionNotStarted: an lvm that is installed but does not start is not reported as missing.
func TestSessionNotStarted(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "lvm"), []byte("no program"), 0o700))
	t.Setenv("PATH", dir)
	_, err := startSession(t.TempDir(), nil)
	assert.ErrorContains(t, err, "cannot be started")
	assert.Equal(t, "run it by hand to see why: lvm version", errs.NextStep(err))
}
