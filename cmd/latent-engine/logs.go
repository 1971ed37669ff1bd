package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/latent-engine/latent-engine/backends"
)

func (a *app) logsCommand() *cobra.Command {
	var o backends.LogOptions
	cmd := &cobra.Command{
		Use:   "logs ID",
		Short: "Print an instance's log",
		Long:  idHelp("logs prints what the worker wrote, both streams as one. -o json prints a JSON line for each of its lines."),
		Example: `  latent-engine logs linux-k3m9q2 --tail 20
  latent-engine logs linux-k3m9q2 --follow --timestamps`,
		Args:              exactly("ID"),
		ValidArgsFunction: a.completeInstances,
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.Tail < 0 {
				return &usageError{message: "--tail takes a number of lines"}
			}
			return a.logs(cmd.Context(), args[0], o)
		},
	}
	cmd.Flags().BoolVar(&o.Follow, "follow", false, "go on until the instance ends")
	cmd.Flags().IntVar(&o.Tail, "tail", 0, "only the last `N` lines")
	cmd.Flags().BoolVar(&o.Timestamps, "timestamps", false, "the time (RFC 3339) before each line")
	a.definitionFlag(cmd)
	a.stateFlag(cmd)
	return cmd
}

func (a *app) logs(ctx context.Context, id string, o backends.LogOptions) error {
	_, e, err := a.engine()
	if err != nil {
		return err
	}
	defer e.Close()
	if a.json() {
		o.Timestamps = true
	}
	stream, err := e.Logs(ctx, id, o)
	if err != nil {
		return err
	}
	defer stream.Close()
	if a.json() {
		err = lines(stream, func(line string) { a.jsonLine(a.stdout, stamped(line)) })
	} else {
		_, err = io.Copy(a.stdout, stream)
	}
	if ctx.Err() != nil && o.Follow {
		return nil // Ctrl-C is how following ends
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("cannot read the log of %q: %w", id, err)
	}
	return nil
}

// maxLine bounds a log line that is held in memory; a longer one is given in pieces.
const maxLine = 64 << 10

// lines calls f for each line of r, without its line break.
func lines(r io.Reader, f func(string)) error {
	b := bufio.NewReaderSize(r, maxLine)
	for {
		line, err := b.ReadSlice('\n')
		if len(line) > 0 {
			f(strings.TrimRight(string(line), "\r\n"))
		}
		switch {
		case err == nil, errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF):
			return nil
		default:
			return err
		}
	}
}

// stamped takes the time off a line that begins with one.
func stamped(line string) logLine {
	if at, rest, ok := strings.Cut(line, " "); ok {
		if t, err := time.Parse(time.RFC3339Nano, at); err == nil {
			return logLine{Time: t, Line: rest}
		}
	}
	return logLine{Line: line}
}
