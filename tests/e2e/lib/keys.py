"""Keys and tokens: the ordinary ones by `gimlet jwt`, the odd ones by PyJWT with the same key."""
import functools
import pathlib
import subprocess
import time

import jwt

from lib.settings import GIMLET


class Keys:
    def __init__(self, directory: pathlib.Path, name: str = "gimlet"):
        self.private = directory / f"{name}.pem"
        self.public = directory / f"{name}.pub"
        self.agent("first", "first")  # makes the pair
        assert self.public.exists()

    def _make(self, *arguments) -> str:
        done = subprocess.run([GIMLET, "jwt", *arguments, "--private-key-file", str(self.private)],
                              capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, f"gimlet jwt {' '.join(arguments)}: {done.stderr}"
        return done.stdout

    @functools.lru_cache(maxsize=256)
    def agent(self, service: str, subject: str, duration: str = "1h") -> str:
        return self._make("agent", "--subject", subject, "--service", service, "--duration", duration)

    @functools.lru_cache(maxsize=256)
    def client(self, services: str = "*", subject: str = "tester", duration: str = "1h") -> str:
        return self._make("client", "--subject", subject, "--services", services, "--duration", duration)

    def forge(self, headers=None, algorithm="RS256", key=None, drop=(), **claims) -> str:
        """A client's token with whatever is asked for changed."""
        now = int(time.time())
        body = {"iss": "gimlet", "aud": "gimlet-client", "sub": "tester", "services": ["*"],
                "iat": now, "exp": now + 3600, "nbf": now, **claims}
        for name in drop:
            del body[name]
        return jwt.encode(body, key if key is not None else self.private.read_bytes(), algorithm=algorithm,
                          headers=headers)
