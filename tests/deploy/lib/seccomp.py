"""Runs a program under a seccomp profile in Docker's format, by libseccomp alone: what a container
runtime does, without a container.

  seccomp.py PROFILE [--without NAME,...] -- PROGRAM [ARGUMENT...]
"""
import ctypes
import json
import os
import sys

ACTIONS = {"SCMP_ACT_ALLOW": 0x7FFF0000, "SCMP_ACT_ERRNO": 0x00050000, "SCMP_ACT_KILL_PROCESS": 0x80000000}
OPERATORS = {"SCMP_CMP_NE": 1, "SCMP_CMP_EQ": 4, "SCMP_CMP_MASKED_EQ": 7}
NO_SUCH_CALL = -1  # __NR_SCMP_ERROR; names of other architectures are other negative numbers


class Comparison(ctypes.Structure):
    _fields_ = [("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64)]


def library():
    """libseccomp, or None where it is not installed."""
    try:
        lib = ctypes.CDLL("libseccomp.so.2", use_errno=True)
    except OSError:
        return None
    lib.seccomp_init.restype = ctypes.c_void_p
    lib.seccomp_init.argtypes = [ctypes.c_uint32]
    lib.seccomp_rule_add_array.argtypes = [ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint,
                                           ctypes.POINTER(Comparison)]
    lib.seccomp_load.argtypes = [ctypes.c_void_p]
    return lib


def action(name, errno):
    return ACTIONS[name] | (errno if name == "SCMP_ACT_ERRNO" else 0)


def unknown_names(profile):
    """Calls that a profile names and no architecture has."""
    lib = library()
    names = {name for rule in profile["syscalls"] for name in rule["names"]}
    return sorted(name for name in names if lib.seccomp_syscall_resolve_name(name.encode()) == NO_SUCH_CALL)


def load(profile, without=()):
    """From here on this process and all it becomes are held to the profile."""
    lib = library()
    context = lib.seccomp_init(action(profile["defaultAction"], profile.get("defaultErrnoRet", 1)))
    for rule in profile["syscalls"]:
        comparisons = [Comparison(a["index"], OPERATORS[a["op"]], a["value"], a.get("valueTwo", 0))
                       for a in rule.get("args", [])]
        array = (Comparison * max(len(comparisons), 1))(*comparisons)
        for name in rule["names"]:
            number = lib.seccomp_syscall_resolve_name(name.encode())
            if name in without or number < 0:
                continue
            result = lib.seccomp_rule_add_array(context, action(rule["action"], rule.get("errnoRet", 1)), number,
                                                len(comparisons), array)
            if result != 0:
                raise OSError(-result, f"{name}: {os.strerror(-result)}")
    result = lib.seccomp_load(context)  # sets no_new_privs, too
    if result != 0:
        raise OSError(-result, f"seccomp_load: {os.strerror(-result)}")


def main(words):
    split = words.index("--")
    without = words[2].split(",") if words[1] == "--without" else ()
    with open(words[0], encoding="utf-8") as file:
        profile = json.load(file)
    load(profile, without)
    os.execv(words[split + 1], words[split + 1:])


if __name__ == "__main__":
    main(sys.argv[1:])
