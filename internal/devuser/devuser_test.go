package devuser

import (
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestOf(t *testing.T) {
	const device = "/dev/zero"
	f, err := os.Open(device)
	require.NoError(t, err)
	assert.Contains(t, Of(device), os.Getpid())
	require.NoError(t, f.Close())
	assert.NotContains(t, Of(device), os.Getpid())
	assert.Empty(t, Of("/dev/nosuch"))
}
