package backends

import (
	"errors"
	"strings"
)

// Class is the verdict on an instance or a start. The list is closed.
type Class string

// The classes.
const (
	ClassConfig    Class = "config"    // the definition asks for what cannot be
	ClassPolicy    Class = "policy"    // denied
	ClassImage     Class = "image"     // pull or build failed
	ClassCapacity  Class = "capacity"  // no room now
	ClassInfra     Class = "infra"     // the backend or the way to it
	ClassOOM       Class = "oom"       // the worker itself was killed for memory
	ClassCrashed   Class = "crashed"   // the worker ended by itself
	ClassTimeout   Class = "timeout"   // a limit in time was reached
	ClassCancelled Class = "cancelled" // the caller gave up
	ClassLost      Class = "lost"      // the instance is not there any more
	ClassUnknown   Class = "unknown"   // fits nothing; never a guess
)

// Failure is why a start did not come about or an instance is not well. Its JSON form is part of the command line's contract.
type Failure struct {
	Class     Class  `json:"class"`
	Retryable bool   `json:"retryable"`
	Message   string `json:"message"`
	Container string `json:"container,omitempty"`
	Image     string `json:"image,omitempty"`
	Reason    string `json:"reason,omitempty"` // the backend's own word
	// Log are the last lines of the instance's or the build's output.
	Log []string `json:"log,omitempty"`
	// Field is the definition's field to look at: "hostconfig.mem_limit", "image"; "" = none.
	Field string `json:"field,omitempty"`
	// Hint says what to do.
	Hint string `json:"hint,omitempty"`
	// Err is the cause, where a caller may act on it (context.Canceled).
	Err error `json:"-"`
}

func (f *Failure) Error() string { return strings.TrimSpace(f.Message) }

func (f *Failure) Unwrap() error { return f.Err }

// AsFailure is err as a *Failure; what is none becomes one of class unknown.
func AsFailure(err error) *Failure {
	if err == nil {
		return nil
	}
	var f *Failure
	if errors.As(err, &f) {
		return f
	}
	return &Failure{Class: ClassUnknown, Message: err.Error(), Err: err}
}

// CallKind says what became of one call to a backend; [CallKind.Class] is the one table from it to the verdict.
type CallKind uint8

// The kinds of a call's outcome.
const (
	CallInternal CallKind = iota
	CallInvalid
	CallDenied
	CallNotFound
	CallExists
	CallUnavailable
	CallCanceled
)

// Class is the verdict that follows from a call's outcome alone, and whether trying again can help.
func (k CallKind) Class() (Class, bool) {
	switch k {
	case CallInvalid:
		return ClassConfig, false
	case CallDenied:
		return ClassInfra, false
	case CallNotFound:
		return ClassLost, true
	case CallExists:
		return ClassInfra, true
	case CallUnavailable:
		return ClassInfra, true
	case CallCanceled:
		return ClassCancelled, true
	case CallInternal:
	}
	return ClassUnknown, true
}
