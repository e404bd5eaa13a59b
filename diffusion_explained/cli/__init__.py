"""The command line: `main` defines most commands, `record` and `micro` their own, and `launch` starts the servers."""

from diffusion_explained.cli.main import app

__all__ = ["app"]
