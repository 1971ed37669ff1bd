// Package testenv gives integration tests real things to talk to: Docker Engines and a registry.
//
// Tests of any package call it; nothing that ships imports it. `install.sh` beside this file puts
// the programs in place that it starts. A test file that uses it carries `//go:build integration`:
//
//	func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }
//
//	func TestStart(t *testing.T) {
//		for _, e := range testenv.Engines(t) {
//			t.Run(e.Name, func(t *testing.T) {
//				e.LoadWorkerImage(t, "worker:test")
//				client, err := docker.New(e.Host())
//				…
//			})
//		}
//	}
//
// # What an engine is
//
// [Debian] is the distribution's dockerd, [Today] is Docker Engine 29 with the containerd image
// store, [TodayOverlay2] the same with its own store. Each has a dockerd and a containerd of its own, with its own data, sockets and bridge, so
// that it neither sees nor disturbs an engine that the machine runs. It is started when the first
// test of a test binary asks for it, shared by all tests of that binary, and ended by [Main]; a
// test that takes engines down gets some of its own from [OwnEngines]. If
// the test binary is killed, its daemons end too, and the next test binary removes what they left
// on the disk and on the network.
//
// Engines of two test binaries that run at once do not meet: each takes a numbered slot under a
// file lock, and with it a folder (below $LATENT_TEST_DIR, by default /var/tmp), a bridge, and a
// range of 198.18.0.0/15, the addresses that RFC 2544 sets aside for tests. The engines run with
// `--iptables=false`, because dockerd flushes the chains of every other dockerd when it starts.
// Published ports go through docker-proxy; containers reach each other and the host, and nothing
// beyond it.
//
// A folder on overlayfs, as in most containers, is taken too; image layers are copied there, which
// is slower.
//
// # Skipping
//
// What is missing skips the test and says why. $LATENT_TEST_REQUIRE turns that into a failure: a
// comma-separated list of `docker-debian`, `docker-today`, `registry`, `buildbot`.
package testenv
