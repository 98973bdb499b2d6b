#!/usr/bin/python3
"""Replays deploy/docker/Dockerfile in a Debian below a folder: see lib/dockerfile.py."""
import sys

from lib import dockerfile

if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(dockerfile.__doc__)
    print(f"image: {dockerfile.replay(sys.argv[1])}")
