package cli

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/assert"
)

// TestExamples: each command has examples with valid flags and arguments.
func TestExamples(t *testing.T) {
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		if cmd.Hidden || cmd.Name() == "help" {
			return
		}
		assert.NotEmpty(t, cmd.Example, cmd.CommandPath())
		own := false
		for line := range strings.Lines(cmd.Example) {
			line, _, _ = strings.Cut(strings.TrimSpace(line), " #")
			line, _, _ = strings.Cut(line, " > ")
			words := strings.Fields(strings.TrimSuffix(strings.TrimPrefix(line, "source <("), ")"))
			root := newRootCommand(&app{})
			found, rest, err := root.Find(words[1:])
			if !assert.NoError(t, err, line) || !assert.NoError(t, found.ParseFlags(rest), line) {
				continue
			}
			if found.Args != nil {
				if found.Args != nil {
					assert.NoError(t, found.Args(found, found.Flags().Args()), line)
				}
			}
			own = own || found.CommandPath() == cmd.CommandPath()
		}
		assert.True(t, own || cmd.HasSubCommands(), cmd.CommandPath())
		for _, c := range cmd.Commands() {
			walk(c)
		}
	}
	walk(newRootCommand(&app{}))
}
