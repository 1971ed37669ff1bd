// Command latent-engine renders, starts and watches build workers. README.md and `latent-engine help` say how it is used.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() { os.Exit(runMain()) }

func runMain() int {
	ctx, cancel := interrupted(context.Background())
	defer cancel()
	return run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
}

// interrupted is a context that ends with the first Ctrl-C (or SIGTERM). A second one closes the channel that [again]
// gives; a third one ends the process.
func interrupted(parent context.Context) (context.Context, context.CancelFunc) {
	second := make(chan struct{})
	ctx, cancel := context.WithCancel(context.WithValue(parent, againKey{}, (<-chan struct{})(second)))
	signals := make(chan os.Signal, 3)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	done := make(chan struct{})
	go func() {
		for n := 0; ; n++ {
			select {
			case <-done:
				return
			case <-signals:
			}
			switch n {
			case 0:
				cancel()
			case 1:
				close(second)
				signal.Stop(signals)
				return
			}
		}
	}()
	return ctx, func() {
		close(done)
		signal.Stop(signals)
		cancel()
	}
}

type againKey struct{}

// again is closed by a second Ctrl-C.
func again(ctx context.Context) <-chan struct{} {
	c, _ := ctx.Value(againKey{}).(<-chan struct{})
	return c
}
