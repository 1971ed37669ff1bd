"""A latent worker for Buildbot whose instances latent-engine starts."""

from .worker import LatentEngineWorker

__all__ = ["LatentEngineWorker"]
