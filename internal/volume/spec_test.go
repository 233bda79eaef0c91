package volume

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/pmemctl/pmemctl/internal/errs"
)

func TestInlineNames(t *testing.T) {
	digits := strings.Repeat("0af9", 8)
	err := ValidateNotInline("ephemeral-" + digits)
	assert.EqualError(t, err, `volume name "ephemeral-`+digits+`": is reserved for inline volumes, which serve-csi deletes`)
	assert.True(t, errs.Is(err, errs.Invalid))
	for _, name := range []string{"", "db", "ephemeral-of-a-person", "ephemeral-" + digits[1:], "ephemeral-" + digits + "0", "ephemeral-" + strings.ToUpper(digits), "an-ephemeral-" + digits} {
		assert.NoError(t, ValidateNotInline(name), name)
	}
}
