// Package docker starts workers as containers of a Docker Engine: what Buildbot's DockerLatentWorker does, option for
// option. It is the sole importer of Docker's SDK.
//
// The table files hold the fields and their checks, refs.go and binds.go read image references and binds, convert.go makes
// a plan of checked fields, bind.go puts an identity into it, view.go reads a plan back for policy: all pure.
// connect.go, start.go, watch.go … speak to an engine.
//
// # The plan
//
// What a docker plan's parts hold (all values in the words of field.Value; absent = the zero value):
//
//	pull    {image: reference, policy: "never" | "missing" | "always", platform}
//	        "never": the image must be on the host (autopull off, or an image id). nil pull = the image is built.
//	        image is create's Image.
//	build   {dockerfile: text, context: path, sha256: hex, context_dockerfile: text, encoding: "gzip" | "bzip2", buildargs: map (values may be holes),
//	        target, platform, pull: bool (base images anew), tag: reference, temporary: bool, when: "absent" | "always",
//	        labels: map}
//	        context nil = the Dockerfile alone. sha256, and context_dockerfile where the context's own is built, are put in by
//	        SealBuild; the first is checked again before sending, and covers the second.
//	        encoding only with a context. when "absent": the image has a name of its own and is built where it is absent.
//	        temporary: the image goes when the instance goes; its tag, and create's Image, are made at Bind, from the identity.
//	        A built image is never pulled.
//	create  the body of POST /containers/create, with the call's two query parameters beside it: the container's name as
//	        "name", and "platform"; sent as it stands without those two. Image is in its familiar form with tag
//	        (alpine:latest), or an id; binds, ports, capabilities and paths are in one canonical form. Env is sorted by name,
//	        the reserved variables last.
//	after   {networks: list of {network, config: endpoint settings}, follow_startup_logs: bool, stop_timeout: seconds}
//	        networks beyond the first, for engines that take only one at creation.
package docker
