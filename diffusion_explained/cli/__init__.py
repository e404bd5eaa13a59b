"""The command line: `main` has its commands, `record` and `micro` their own, `launch` starts the servers."""

from diffusion_explained.cli.main import app

__all__ = ["app"]
