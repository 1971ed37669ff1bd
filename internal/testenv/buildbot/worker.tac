# The worker that worker-entrypoint runs; its folder is the working directory.
import os

from buildbot_worker.bot import Worker
from twisted.application import service

base = os.getcwd()
with open("password", encoding="utf-8") as file:
    password = file.read()
os.remove("password")

application = service.Application("buildbot-worker")
Worker(
    os.environ["BUILDMASTER"],
    int(os.environ.get("BUILDMASTER_PORT", "9989")),
    os.environ["WORKERNAME"],
    password,
    base,
    keepalive=600,
    umask=None,
    maxdelay=300,
    maxRetries=10,
    protocol=os.environ.get("BUILDMASTER_PROTOCOL", "pb"),
).setServiceParent(application)
