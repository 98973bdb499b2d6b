"""Functions of a profile, as the report names them."""
import re

COPIES = re.compile(r"\.(lto_priv|part|isra|constprop|cold)\.?\d*|'\d+")


def plain_name(symbol: str) -> str:
    """Without what the compiler, or callgrind for a recursion, has hung on to it."""
    return COPIES.sub("", symbol)
