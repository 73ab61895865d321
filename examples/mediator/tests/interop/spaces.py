"""Network namespaces: the clients' and the servers' own, with the mediator's between them.

    clients 198.51.100.2 -- 198.51.100.1 mediator 203.0.113.1 -- 203.0.113.* servers

Nothing is routed: what goes from one side to the other goes through the mediator. They belong to this process, which first
runs itself again as root of a user namespace, so it needs no rights, and end with it: nothing has to be removed.
"""
import contextlib
import ctypes
import os
import subprocess
import sys
import threading

CLIENT, MEDIATOR, MEDIATOR_THERE = "198.51.100.2", "198.51.100.1", "203.0.113.1"
INSIDE = "BYWAY_IN_NAMESPACE"
CLONE_NEWNET, PR_SET_PDEATHSIG, SIGKILL = 0x40000000, 1, 9
libc = ctypes.CDLL(None, use_errno=True)


def enter():
    """Runs this program again in namespaces of its own. Without a user namespace it takes root."""
    if os.environ.get(INSIDE):
        ip("link set lo up")
        return
    for unshare in (["unshare", "--user", "--map-root-user", "--net"], ["unshare", "--net"]):
        tried = subprocess.run([*unshare, "true"], capture_output=True)
        if tried.returncode == 0:
            os.execvpe(unshare[0], [*unshare, sys.executable, *sys.argv], {**os.environ, INSIDE: "1"})
    sys.exit(f"no network namespace: {tried.stderr.decode().strip()}; as root it works")


def ip(words):
    subprocess.run(["ip", *words.split()], check=True)


def dies_with_us():
    """For what is started in the main thread: no way of ending this program leaves it behind."""
    libc.prctl(PR_SET_PDEATHSIG, SIGKILL)


class Space:
    """A namespace, which a device connects with the one that this is made in."""

    def __init__(self, device, here, *there):
        made = []

        def make():
            if libc.unshare(CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "no network namespace")
            made.append(os.open("/proc/thread-self/ns/net", os.O_RDONLY))
            # The other end is where the main thread is.
            ip(f"link add proxy type veth peer name {device} netns {os.getpid()}")
            ip("link set lo up")
            ip("link set proxy up")
            for address in there:
                ip(f"address add {address}/24 dev proxy")

        thread = threading.Thread(target=make)
        thread.start()
        thread.join()
        (self.name,) = made
        ip(f"link set {device} up")
        ip(f"address add {here}/24 dev {device}")

    @contextlib.contextmanager
    def inside(self):
        """Sockets that are opened, and programs and threads that are started meanwhile, are in the namespace."""
        before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        try:
            change(self.name)
            yield
        finally:
            change(before)
            os.close(before)


def change(name):
    if libc.setns(name, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")
