//go:build cgo

package ndctl

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestFunctionOfNewerLibrary(t *testing.T) {
	assert.NoError(t, supported("ndctl_region_get_size"))
	assert.ErrorIs(t, supported("ndctl_of_the_future"), ErrUnsupported)
}
