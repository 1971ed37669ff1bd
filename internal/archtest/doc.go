// Package archtest holds the code against the package table of ARCHITECTURE.md and the rules that no compiler checks:
// who may import whom, who alone imports which library, who alone makes an admitted plan, and the words that names avoid.
//
// It has tests only, and reads source files, not compiled packages, so that a rule holds for files of every platform.
package archtest
