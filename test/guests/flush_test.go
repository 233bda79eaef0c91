//go:build lab

package guests

import (
	"os"
	"testing"

	"github.com/pmemctl/pmemctl/test/lab"
)

// TestFlush has a guest of its own, so that it can be run alone and in full.
func TestFlush(t *testing.T) {
	m := boot(t, lab.Config{DIMMs: lab.TwoEqualDIMMs()})
	runTests(t, m, "integration.test", []string{"PMEMCTL_FLUSH=" + os.Getenv("PMEMCTL_FLUSH")}, "-test.run", "^TestFlush")
}
