"""Four hosts around an image that runs in QEMU: network namespaces, bridges and TAP devices, without privileges.

    client 10.1.0.10 -- br0 -- tap0 [image] tap1 -- br1 --+-- a 10.2.0.20
                                                          +-- b 10.2.0.30
                                                          +-- c 10.2.0.40

The image with one port has both subnets on br0. Everything is a child of this process and dies with it; the namespaces
and what is in them go when their last process does.
"""

import ctypes
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time

PR_SET_PDEATHSIG = 1

HERE = os.path.dirname(os.path.abspath(__file__))
FIRMWARE = os.path.dirname(HERE)
ROOT = os.path.dirname(os.path.dirname(FIRMWARE))

# name: (bridge with two ports, address, router on its side)
HOSTS = {
    "client": (0, "10.1.0.10", "10.1.0.1"),
    "a": (1, "10.2.0.20", "10.2.0.1"),
    "b": (1, "10.2.0.30", "10.2.0.1"),
    "c": (1, "10.2.0.40", "10.2.0.1"),
}


def inside(*arguments):
    """Runs this program again with other arguments, in a user and network namespace of its own."""
    command = ["unshare", "--map-root-user", "--net", sys.executable, *sys.argv[:1], *arguments]
    subprocess.run(command, check=True, preexec_fn=die_with_parent)


def die_with_parent():
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def run(*command, timeout=60, check=True):
    """Runs a command and returns what it printed, on both channels."""
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=timeout,
        preexec_fn=die_with_parent,
    )
    if check and done.returncode != 0:
        raise AssertionError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}")
    return done.stdout


class Image:
    """How an image is built and started."""

    def __init__(self, package, qemu, ports, random=(), decoder=None):
        self.package, self.qemu, self.ports, self.random, self.decoder = package, qemu, ports, random, decoder

    def build(self):
        script = os.path.join(ROOT, "scripts", "firmware.sh")
        built = subprocess.run([script, self.package], check=True, text=True, stdout=subprocess.PIPE)
        return built.stdout.strip()

    def macs(self):
        """The image's link address on either side."""
        return [f"52:54:00:10:00:{min(side + 1, len(self.ports)):02x}" for side in (0, 1)]

    def command(self, elf, with_random=True):
        command = self.qemu + ["-kernel", elf, "-display", "none", "-monitor", "none"]
        command += self.random if with_random else ()
        for port, device in enumerate(self.ports):
            command += ["-netdev", f"tap,id=net{port},ifname=tap{port},script=no,downscript=no"]
            command += [option.format(port=port, mac=self.macs()[port]) for option in device]
        return command


IMAGES = {
    "qemu-riscv32": Image(
        "qemu-riscv32",
        # The image speaks both versions of virtio-mmio; QEMU offers the old one unless it is told otherwise.
        ["qemu-system-riscv32", "-machine", "virt", "-m", "32M", "-bios", "none", "-serial", "stdio"]
        + ["-global", "virtio-mmio.force-legacy=false"],
        [["-device", "virtio-net-device,netdev=net{port},mac={mac},bus=virtio-mmio-bus.{port}"]] * 2,
        random=["-device", "virtio-rng-device,bus=virtio-mmio-bus.2"],
    ),
    "mps2-an385": Image(
        "mps2-an385",
        # What the image logs comes out of semihosting, which writes to QEMU's standard output.
        ["qemu-system-arm", "-machine", "mps2-an385", "-serial", "null"]
        + ["-semihosting-config", "enable=on,target=native"],
        [["-net", "nic,model=lan9118,netdev=net{port},macaddr={mac}"]],
        decoder=["defmt-print", "--log-format", "{s}", "-e"],
    ),
}


class Lab:
    """The network with the image in its middle. Used as `with Lab(image, elf) as lab`."""

    def __init__(self, image, elf, verbose=True):
        self.image, self.elf, self.verbose = image, elf, verbose
        self.children, self.console, self.arrived = [], [], threading.Condition()
        self.pids = {}
        self.scratch = tempfile.TemporaryDirectory()
        self.folder = self.scratch.name

    def __enter__(self):
        try:
            self.wire()
            self.boot()
            self.wait_for("ready", 20)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for child in reversed(self.children):
            child.kill()
        for child in self.children:
            child.wait()
        self.scratch.cleanup()

    def start(self, *command, **options):
        """Starts a program that is ended with the lab."""
        options.setdefault("stdin", subprocess.DEVNULL)
        child = subprocess.Popen(command, preexec_fn=die_with_parent, **options)
        self.children.append(child)
        return child

    def wire(self):
        run("ip", "link", "set", "lo", "up")
        # Where bridges hand packets to the firewall, they drop what is malformed before the image sees it.
        for kind in ("iptables", "arptables"):
            switch = f"/proc/sys/net/bridge/bridge-nf-call-{kind}"
            if os.path.exists(switch):
                with open(switch, "w", encoding="ascii") as file:
                    file.write("0")
        for port in range(len(self.image.ports)):
            run("ip", "link", "add", f"br{port}", "type", "bridge", "forward_delay", "0")
            run("ip", "link", "set", f"br{port}", "up")
            run("ip", "tuntap", "add", f"tap{port}", "mode", "tap")
            run("ip", "link", "set", f"tap{port}", "master", f"br{port}", "up")
        ours = os.readlink("/proc/self/ns/net")
        for name, (bridge, address, router) in HOSTS.items():
            child = self.start("unshare", "--net", "sleep", "3600")
            deadline = time.monotonic() + 5
            while os.readlink(f"/proc/{child.pid}/ns/net") == ours:
                assert time.monotonic() < deadline, "no namespace"
                time.sleep(0.01)
            self.pids[name] = str(child.pid)
            bridge = min(bridge, len(self.image.ports) - 1)
            run("ip", "link", "add", f"to-{name}", "type", "veth", "peer", "name", "eth0", "netns", self.pids[name])
            run("ip", "link", "set", f"to-{name}", "master", f"br{bridge}", "up")
            for command in (
                ["ip", "link", "set", "lo", "up"],
                ["ip", "address", "add", f"{address}/24", "dev", "eth0"],
                ["ip", "link", "set", "eth0", "up"],
                ["ip", "route", "add", "default", "via", router],
            ):
                self.on(name, *command)

    def boot(self, **how):
        command = self.image.command(self.elf, **how)
        self.qemu = self.start(*command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        output = self.qemu.stdout
        if self.image.decoder:
            output = self.start(*self.image.decoder, self.elf, stdin=output, stdout=subprocess.PIPE).stdout
        self.reader = threading.Thread(target=self.read, args=(output,), daemon=True)
        self.reader.start()

    def reboot(self, until="ready", **how):
        """Switches the image off and on again, and waits until it says this."""
        self.qemu.kill()
        self.reader.join(10)
        self.console = []
        self.boot(**how)
        self.wait_for(until, 20)

    def read(self, output):
        for line in output:
            line = line.decode(errors="replace").rstrip()
            if self.verbose:
                print(f"    [image] {line}", flush=True)
            with self.arrived:
                self.console.append(line)
                self.arrived.notify_all()
        with self.arrived:
            self.console.append(None)
            self.arrived.notify_all()

    def wait_for(self, text, timeout, start=0):
        """Waits for a line of the console that contains `text`, and returns it."""
        deadline = time.monotonic() + timeout
        with self.arrived:
            while True:
                for line in self.console[start:]:
                    if line is None:
                        raise AssertionError("the image has ended")
                    if text in line:
                        return line
                start = len(self.console)
                if not self.arrived.wait(deadline - time.monotonic()):
                    raise AssertionError(f"no {text!r} on the console within {timeout} s")

    def watchdog(self):
        """The next line of the watchdog, as counters by name."""
        with self.arrived:
            start = len(self.console)
        line = self.wait_for("watchdog", 5, start)
        return {name: int(value) for name, value in (word.split("=") for word in line.split() if "=" in word)}

    def on(self, host, *command, **options):
        """Runs a command on a host."""
        return run("nsenter", "--target", self.pids[host], "--net", *command, **options)

    def start_on(self, host, *command, **options):
        """Starts a program on a host."""
        return self.start("nsenter", "--target", self.pids[host], "--net", *command, **options)

    def serve(self, host, port, *command):
        """Starts a server on a host, and waits until it listens on a port."""
        self.start_on(host, *command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while not self.on(host, "ss", "-Hltun", f"sport = :{port}"):
            assert time.monotonic() < deadline, f"{command[0]} does not listen"
            time.sleep(0.05)
