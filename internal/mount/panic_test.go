package mount

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestNoPanic(t *testing.T) {
	assert.Equal(t, []string{"dax", "errors=remount-ro"}, noPanic(Ext4, []string{"dax"}))
	assert.Equal(t, []string{"errors=continue"}, noPanic(Ext4, []string{"errors=continue"}))
	assert.Equal(t, []string{"dax"}, noPanic(XFS, []string{"dax"}), "XFS has no such option")
}
