//go:build !cgo

package ndctl

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestWithoutCgo(t *testing.T) {
	_, err := Lib{}.Snapshot(Everything)
	assert.ErrorIs(t, err, ErrUnsupported)
	assert.ErrorContains(t, err, "CGO_ENABLED=0")
	assert.ErrorIs(t, Lib{}.InitLabels("region0"), ErrUnsupported)
}
