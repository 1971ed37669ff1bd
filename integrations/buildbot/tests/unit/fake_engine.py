"""A latent-engine that does what a test says. Run as: fake_engine.py FOLDER COMMAND…

FOLDER/scenario.json maps a command to a list of steps. Every call is recorded in FOLDER/calls.jsonl.
"""

import json
import os
import signal
import sys
import time

DIGEST = "v1:" + "a" * 64


class Call:
    def __init__(self, folder, args):
        self.folder, self.args = folder, args
        self.command = args[0]
        self.record = {"args": args, "pid": os.getpid()}
        self.got = []
        signal.signal(signal.SIGTERM, lambda *_: self.got.append("TERM"))

    def option(self, name):
        return self.args[self.args.index(name) + 1] if name in self.args else None

    def read(self):
        if self.option("--build") == "-":
            self.record["document"] = json.loads(sys.stdin.read())
        path = self.option("--password-file")
        if path:
            with open(path) as f:
                self.record["password"] = f.read()
        with open(os.path.join(self.folder, "calls.jsonl"), "a") as f:
            f.write(json.dumps(self.record) + "\n")

    def status(self, state, **more):
        return {
            "instance": self.option("--id"), "worker": self.args[1], "worker_name": self.option("--as"), "backend": "docker",
            "target": "local", "object": "o", "native_id": "", "digest": DIGEST, "state": state, **more,
        }  # fmt: skip

    def event(self, event, **more):
        print(json.dumps({"event": event, **more}), flush=True)

    def gone(self):
        instance = self.option("--id") or next(a for a in self.args[1:] if not a.startswith("-"))
        return os.path.join(self.folder, "gone-" + instance)

    def run(self):
        with open(os.path.join(self.folder, "scenario.json")) as f:
            scenario = json.load(f)
        steps = scenario.get(self.command)
        if isinstance(steps, dict):  # by how often the command was called
            with open(os.path.join(self.folder, "calls.jsonl")) as f:
                n = sum(1 for line in f if json.loads(line)["args"][0] == self.command)
            steps = steps.get(str(n), steps["else"])
        for step in steps or []:
            getattr(self, "do_" + step[0])(*step[1:])

    def do_accept(self, digest=DIGEST):
        self.event("accepted", instance={**self.status("starting"), "digest": digest})

    def do_start(self):
        self.event("started", instance=self.status("running"))

    def do_log(self, *lines):
        for line in lines:
            self.event("log", line=line)

    def do_fail(self, failure, violations=()):
        self.event("failed", failure=failure, violations=list(violations))

    def do_exited(self, failure=None, code=1):
        more = {"failure": failure} if failure else {}
        self.event("exited", instance=self.status("exited", exit_code=code, **more))

    def do_removed(self):
        self.event("removed", instance=self.status("gone"))

    def do_serve(self):
        """Run until a signal, or until somebody else stops the instance."""
        while not self.got and not os.path.exists(self.gone()):
            time.sleep(0.01)
        self.record_end()
        if os.path.exists(self.gone()):
            self.do_exited({"class": "lost", "retryable": True, "message": "gone"})
        self.do_removed()

    def do_pull(self):
        """Pull until a signal: a start that is cancelled leaves nothing."""
        while not self.got:
            self.do_progress("pulling", "a:1", "", 1_000_000, 5_000_000)
            time.sleep(0.02)
        self.record_end()
        self.do_fail({"class": "cancelled", "retryable": True, "message": "the start was cancelled"})
        sys.exit(1)

    def do_hang(self):
        while not self.got:
            time.sleep(0.01)
        self.record_end()
        sys.exit(1)

    def do_deaf(self):
        time.sleep(60)
        while True:
            time.sleep(60)

    def record_end(self):
        with open(os.path.join(self.folder, "ends.jsonl"), "a") as f:
            f.write(json.dumps({"args": self.args, "got": self.got}) + "\n")

    def do_progress(self, phase, subject, message="", done=0, total=0):
        line = {"event": "progress", "phase": phase, "subject": subject, "message": message, "done": done, "total": total}
        print(json.dumps(line), file=sys.stderr, flush=True)

    def do_diagnostic(self, diagnostic):
        print(json.dumps(diagnostic), file=sys.stderr, flush=True)

    def do_raw(self, text):
        sys.stdout.write(text)
        sys.stdout.flush()

    def do_huge(self, size):
        sys.stdout.write('{"event":"log","line":"' + "x" * size + '"}\n')
        sys.stdout.flush()

    def do_print(self, value):
        print(json.dumps(value), flush=True)

    def do_echo(self):
        """Print what a start was asked for, the password with it: what a worker's own log might hold."""
        self.do_log("my password is " + self.record["password"])

    def do_gone(self):
        open(self.gone(), "w").close()

    def do_until(self, name):
        while not os.path.exists(os.path.join(self.folder, name)):
            if self.got:
                self.do_removed()
                sys.exit(0)
            time.sleep(0.01)

    def do_sleep(self, seconds):
        time.sleep(seconds)

    def do_kill(self):
        os.kill(os.getpid(), signal.SIGKILL)

    def do_exit(self, code):
        sys.exit(code)


if __name__ == "__main__":
    call = Call(sys.argv[1], sys.argv[2:])
    call.read()
    call.run()
