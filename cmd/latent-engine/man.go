package main

import (
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// manCommand is for who packages the program, so help does not list it.
func (a *app) manCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "man FOLDER",
		Short:  "Write the manual pages",
		Hidden: true,
		Example: `  latent-engine man /usr/local/share/man/man1
  man latent-engine-start`,
		Args: exactly("FOLDER"),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
			return nil, cobra.ShellCompDirectiveFilterDirs
		},
		RunE: func(cmd *cobra.Command, args []string) error { return writeMan(cmd.Root(), args[0]) },
	}
}

// writeMan writes a page for each command. The pages of one commit are the same bytes whenever they are made: their date is
// the commit's.
func writeMan(root *cobra.Command, folder string) error {
	v := buildVersion()
	date, err := time.Parse(time.RFC3339, v.Date)
	if err != nil {
		date = time.Unix(0, 0).UTC()
	}
	if err := os.MkdirAll(folder, 0o755); err != nil { //nolint:gosec // manual pages are for everybody
		return fmt.Errorf("cannot make folder %q: %w", folder, cause(err))
	}
	root.DisableAutoGenTag = true
	header := &doc.GenManHeader{Title: "LATENT-ENGINE", Section: "1", Source: "latent-engine " + v.Version, Manual: "latent-engine manual", Date: &date}
	if err := doc.GenManTree(root, header, folder); err != nil {
		return fmt.Errorf("cannot write manual pages to %q: %w", folder, cause(err))
	}
	return nil
}
