package blockdev

import (
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestIdentifyMissingDevice(t *testing.T) {
	for _, path := range []string{"/dev/no-such-device", "/dev/", ""} {
		_, err := Identify(path)
		assert.ErrorIs(t, err, os.ErrNotExist, path)
	}
}
