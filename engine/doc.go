// Package engine ties the phases together: load, render, bind, admit, start, inspect, stop, list, gc. It holds the
// [Store], the journal of every intent, so that no instance is lost or left behind.
//
// An [Engine] is safe for concurrent use, and several processes may share one state folder.
package engine
