//go:build guest

package integration

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pmemctl/pmemctl/internal/blockdev"
	"github.com/pmemctl/pmemctl/internal/volume"
	"github.com/pmemctl/pmemctl/internal/volume/volumetest"
)

// TestSuite runs the suite, which go test runs on a model of a host, on this one.
func TestSuite(t *testing.T) {
	volumetest.Run(t, func(t *testing.T) volumetest.Host {
		require.NoError(t, resetPMEM())
		h := &thisHost{t: t}
		return h
	})
	require.NoError(t, resetPMEM())
}

// thisHost is the guest.
type thisHost struct{ t *testing.T }

func (h *thisHost) Service() *volume.Service {
	s, end := volume.OnThisHost()
	h.t.Cleanup(end)
	return s
}

func (h *thisHost) ReadDevice(path string, offset, count uint64) ([]byte, error) {
	f, err := os.Open(blockdev.Node(path))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data := make([]byte, count)
	_, err = f.ReadAt(data, int64(offset))
	return data, err
}

func (h *thisHost) WriteDevice(path string, offset uint64, data []byte) error {
	f, err := os.OpenFile(blockdev.Node(path), os.O_WRONLY|os.O_SYNC, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteAt(data, int64(offset))
	return err
}

// FreeHolds looks through the devices of the groups, and through the first free bytes of each
// region, where a volume was.
func (h *thisHost) FreeHolds(data []byte) bool {
	const destroy = `for n in $(ndctl list -m raw | jq -r 'if type == "array" then .[] else . end | .dev'); do ndctl destroy-namespace -f $n >&2; done`
	defer shellf(h.t, "%s", destroy)
	devices := shellf(h.t, "%s", `pvs --noheadings -o pv_name 2>/dev/null
for r in region0 region1; do ndctl create-namespace -r $r -m raw -s 256M 2>/dev/null | jq -r '"/dev/" + .blockdev'; done`)
	for _, device := range strings.Fields(devices) {
		if found, err := deviceHolds(device, string(data)); found || err != nil {
			require.NoError(h.t, err)
			return true
		}
	}
	return false
}
