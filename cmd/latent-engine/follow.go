package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/latent-engine/latent-engine/backends"
	"github.com/latent-engine/latent-engine/engine"
	"github.com/latent-engine/latent-engine/engine/config"
)

// session is a started instance that is followed.
type session struct {
	app         *app
	engine      *engine.Engine
	status      backends.Status
	worker      string
	build       *config.Build
	passwordOut string
}

// follow shows the log until the worker ends, or until Ctrl-C ends it.
func (s *session) follow(ctx context.Context) error {
	s.event(startEvent{Event: "started", Instance: &s.status, PasswordOut: s.passwordOut})
	// The log is read to its end even where the wait is over first.
	reading, stopReading := context.WithCancel(ctx)
	defer stopReading()
	read := make(chan struct{})
	go func() {
		defer close(read)
		if err := s.showLog(reading, ""); err != nil && reading.Err() == nil {
			s.app.note("cannot show the log: " + err.Error())
		}
	}()
	ended, err := s.engine.Wait(ctx, s.status.Instance)
	if ctx.Err() != nil {
		stopReading()
		<-read
		return s.interrupted(ctx)
	}
	if err != nil {
		stopReading()
		<-read
		s.app.note(fmt.Sprintf("%s is left as it is", handle(s.status)))
		s.event(startEvent{Event: "left", Instance: &s.status})
		return err
	}
	select {
	case <-read:
	case <-ctx.Done():
		<-read
	case <-time.After(10 * time.Second):
		stopReading()
		<-read
	}
	s.event(startEvent{Event: "exited", Instance: &ended})
	if f := ended.Failure; f != nil && !s.app.json() {
		// Its last lines were shown.
		shown := *f
		shown.Log, ended.Failure = nil, &shown
	}
	result := s.app.ended(ended, func(field string) *setting { return setAt(provenance(ctx, s.engine, s.worker, s.build), field) })
	if err := s.removeEnded(ctx); err != nil {
		return err
	}
	return result
}

// removeLimit is how long a backend that went away may take to come back, for the removal of an instance that ended.
const removeLimit = time.Minute

// removeEnded removes an instance that ended, which may have been because its backend was ended: then when it is back.
func (s *session) removeEnded(ctx context.Context) error {
	until := time.Now().Add(removeLimit)
	for told := false; ; told = true {
		err := s.remove(ctx, backends.StopOptions{})
		var f *backends.Failure
		if !errors.As(err, &f) || f.Class != backends.ClassInfra || !f.Retryable || time.Now().After(until) {
			return err
		}
		if !told {
			s.app.note(fmt.Sprintf("cannot remove %s yet: %s", handle(s.status), f.Error()))
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return err
		}
	}
}

// interrupted stops the instance; a second Ctrl-C leaves it.
func (s *session) interrupted(ctx context.Context) error {
	if !s.app.json() {
		fmt.Fprintf(s.app.stderr, "  (stopping %s; once more to leave it running)\n", handle(s.status))
	}
	stopping, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- s.remove(stopping, backends.StopOptions{}) }()
	select {
	case err := <-done:
		return err
	case <-again(ctx):
	}
	cancel()
	if err := <-done; err == nil {
		return nil // it had ended in the same moment
	}
	s.event(startEvent{Event: "left", Instance: &s.status})
	if !s.app.json() {
		fmt.Fprintf(s.app.stderr, "%s was asked to end and may be running; latent-engine stop %s removes it\n", handle(s.status), handle(s.status))
	}
	return &reported{exitFailed}
}

func (s *session) remove(ctx context.Context, o backends.StopOptions) error {
	status, err := s.engine.Stop(ctx, s.status.Instance, o)
	if err != nil {
		return err
	}
	s.event(startEvent{Event: "removed", Instance: &status})
	if !s.app.json() {
		fmt.Fprintln(s.app.stderr, "removed")
	}
	return nil
}

func (s *session) event(e startEvent) {
	if s.app.json() {
		s.app.event(e)
	}
}

// event prints one line of start --follow -o json.
func (a *app) event(e startEvent) {
	if e.Time.IsZero() {
		e.Time = time.Now().UTC()
	}
	a.jsonLine(a.stdout, e)
}

var errSeen = errors.New("seen")

// showLog prints the log as it comes, until it ends or, where until is not "", a line holds that.
func (s *session) showLog(ctx context.Context, until string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := s.engine.Logs(ctx, s.status.Instance, backends.LogOptions{Follow: true, Timestamps: s.app.json()})
	if err != nil {
		return err
	}
	defer stream.Close()
	seen := false
	err = lines(stream, func(line string) {
		if seen {
			return
		}
		if s.app.json() {
			l := stamped(line)
			s.event(startEvent{Event: "log", Time: l.Time, Line: &l.Line})
		} else {
			fmt.Fprintln(s.app.stdout, "  | "+visible(line))
		}
		if until != "" && strings.Contains(line, until) {
			seen = true
			cancel()
		}
	})
	if seen {
		return errSeen
	}
	return err
}

// attached is what Buildbot's worker writes when it is connected: the end of its startup log.
const attached = "worker is ready"

// startupLimit is how long a startup log is shown at the most.
const startupLimit = time.Minute

// startupLog is the worker's followStartupLogs: its log from the start until it is connected.
func (s *session) startupLog(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, startupLimit)
	defer cancel()
	if err := s.showLog(ctx, attached); errors.Is(err, errSeen) {
		return
	}
	if ctx.Err() != nil {
		s.app.note(fmt.Sprintf("%s runs on; latent-engine logs %s --follow shows more", handle(s.status), handle(s.status)))
	}
}
