//go:build lab

package guests

import (
	"os"
	"testing"

	"github.com/pmemctl/pmemctl/test/lab"
)

// TestStress has a guest of its own, so that it can be run alone and for long.
func TestStress(t *testing.T) {
	m := boot(t, lab.Config{DIMMs: lab.TwoEqualDIMMs()})
	runTests(t, m, "integration.test", []string{"PMEMCTL_STRESS=" + os.Getenv("PMEMCTL_STRESS")}, "-test.run", "^TestCSIStress$")
}
