// Package demo holds the tests of `make demo`, which is scripts/demo.sh.
package demo
