// Command gendocs writes the man pages and completions of the command tree.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"github.com/pmemctl/pmemctl/internal/cli"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: gendocs MAN-FOLDER COMPLETION-FOLDER")
		os.Exit(2)
	}
	if err := Generate(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "gendocs:", err)
		os.Exit(1)
	}
}

// Generate replaces all files in the two directories, so that removed commands leave no page
// behind.
func Generate(man, completions string) error {
	for _, dir := range []string{man, completions} {
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	root := cli.NewRootCommand()
	root.DisableAutoGenTag = true
	disableTags(root)
	// A fixed date keeps the files the same from day to day.
	date := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	header := &doc.GenManHeader{Section: "8", Source: "pmemctl", Manual: "pmemctl", Date: &date}
	if err := doc.GenManTree(root, header, man); err != nil {
		return err
	}
	if err := root.GenBashCompletionFileV2(filepath.Join(completions, "pmemctl.bash"), true); err != nil {
		return err
	}
	if err := root.GenZshCompletionFile(filepath.Join(completions, "_pmemctl")); err != nil {
		return err
	}
	return root.GenFishCompletionFile(filepath.Join(completions, "pmemctl.fish"), true)
}

func disableTags(cmd *cobra.Command) {
	cmd.DisableAutoGenTag = true
	cmd.Long = strings.TrimSpace(cmd.Long)
	for _, c := range cmd.Commands() {
		disableTags(c)
	}
}
