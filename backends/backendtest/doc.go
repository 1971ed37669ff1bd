// Package backendtest is the conformance suite that every backend passes.
//
// A backend's own test says how to reach a real service and what a worker looks like there; the suite does the rest, always the
// whole way: fields through the backend's table, Convert, SealBuild, Bind and policy.Judge, so that what is started is
// what the engine would start.
//
//	func TestConformance(t *testing.T) {
//		for _, e := range testenv.Engines(t) {
//			t.Run(e.Name, func(t *testing.T) {
//				backendtest.Suite{Kind: docker.Kind{}, New: func(t *testing.T) *backendtest.Env { … }}.Run(t)
//			})
//		}
//	}
//
// # What it holds a backend to
//
//   - Start is idempotent by instance id, also side by side; the zero Admitted is refused; the status tells what was started.
//   - Stop of what is absent succeeds; after a Stop nothing of the instance is left, of whatever kind ([Env.Left]).
//   - List finds everything of this engine id, and nothing of another's; two engine ids share a backend without touching.
//   - Watch lists first, tells each change, and after a cut in its stream tells what happened in between.
//   - Logs stream while the worker runs, and end when it does.
//   - A worker that ends by itself is a Failure of class crashed with exit code and last lines, one that the kernel killed for
//     memory of class oom.
//   - A start that is cancelled, in whatever phase ([Env.Phases]), leaves nothing.
//   - Sent = judged: a recording transport keeps every call of a start that changes something, and [Env.Judged] holds each of
//     them against the Bound that policy judged, secrets restored to holes ([Secrets.Restore]).
//
// A case that a backend does not have is nil in the Env, and is skipped with a word.
package backendtest
