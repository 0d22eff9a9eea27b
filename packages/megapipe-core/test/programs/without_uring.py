"""Runs a command under a seccomp filter that answers io_uring_setup with an errno: without_uring.py ERRNO COMMAND [ARG ...]"""
import ctypes
import os
import struct
import sys

IO_URING_SETUP = 425
RET_ERRNO, RET_ALLOW = 0x00050000, 0x7FFF0000
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2

instructions = [
    (0x20, 0, 0, 0),  # load the system call's number
    (0x15, 0, 1, IO_URING_SETUP),
    (0x06, 0, 0, RET_ERRNO | int(sys.argv[1])),
    (0x06, 0, 0, RET_ALLOW),
]
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *one) for one in instructions))


class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]


libc = ctypes.CDLL(None, use_errno=True)
program = Program(len(instructions), ctypes.addressof(code))
if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0):
    sys.exit("prctl: " + os.strerror(ctypes.get_errno()))
os.execv(sys.argv[2], sys.argv[2:])
