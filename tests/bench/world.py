"""What the benchmarks of runs need: a node to measure against, delays, trees of files, and a clock.

Without arguments the node is an sshd of this machine's own on loopback, started unprivileged in a temporary directory and
ended with the benchmark; delays are made by a small TCP proxy that hands on what comes half a round trip later. With
--ssh-config and --nodes the nodes are the user's, and so are their delays.
"""

import contextlib
import json
import multiprocessing
import os
import pathlib
import random
import selectors
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

CX_ROOT = pathlib.Path(__file__).resolve().parents[2]


def find_cx():
    built = [*CX_ROOT.glob("target/*/release/cx"), *CX_ROOT.glob("target/release/cx"), *CX_ROOT.glob("target/debug/cx")]
    return str(built[0]) if built else shutil.which("cx")


def add_arguments(parser, rtts="0,20,80", rounds=11):
    parser.add_argument("--cx", default=find_cx(), help="the program to measure (a release build)")
    parser.add_argument("--rounds", type=int, default=rounds, help=f"rounds of each measurement (default: {rounds})")
    parser.add_argument("--rtt", default=rtts, metavar="MS,MS", help=f"round trips to measure at (default: {rtts})")
    parser.add_argument("--ssh-config", metavar="FILE", help="ssh configuration that knows the nodes of --nodes")
    parser.add_argument("--nodes", metavar="MS=ALIAS,...", help="nodes to use instead of an own sshd, by their round trip in ms")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON, one line a claim")


class World:
    """A home for cx, a configuration that names the nodes, and a warm master to each for its peers."""

    def __init__(self, options):
        if not options.cx:
            sys.exit("there is no cx to measure: run ./install.sh, or name one with --cx PATH")
        self.cx = os.path.abspath(options.cx)
        self.closing = contextlib.ExitStack()
        self.top = pathlib.Path(self.closing.enter_context(tempfile.TemporaryDirectory(prefix="cxb-", dir="/tmp")))
        self.home = self.top / "home"
        (self.home / ".config/cx").mkdir(parents=True)
        self.node_home = None
        if options.nodes:
            pairs = [p.split("=", 1) for p in options.nodes.split(",")]
            self.nodes = {float(rtt): alias for rtt, alias in pairs}
            self.ssh_config = os.path.abspath(options.ssh_config or os.path.expanduser("~/.ssh/config"))
        else:
            self.nodes = self._own_nodes([float(r) for r in options.rtt.split(",")])
        tables = "".join(f"[node.{alias}]\nslots = 4\n" for alias in self.nodes.values())
        config = self.home / ".config/cx/config.toml"
        names = json.dumps(list(self.nodes.values()))
        config.write_text(f'nodes = {names}\n[ssh]\nconfig = "{self.ssh_config}"\n[policy]\nallow_overload = true\n{tables}')
        config.chmod(0o600)
        self.env = {"HOME": str(self.home), "PATH": os.environ["PATH"], "LANG": "C.UTF-8"}
        self.masters = {alias: self._master(alias) for alias in self.nodes.values()}

    def __enter__(self):
        return self

    def __exit__(self, *why):
        for alias in self.nodes.values():
            for ctl in [self.masters[alias], *(self.home / ".cache/cx/ctl").glob("*-[0-9]*")]:
                if pathlib.Path(ctl).is_socket():
                    subprocess.run(["ssh", "-S", str(ctl), "-O", "exit", alias], capture_output=True)
        self.closing.close()

    def _own_nodes(self, rtts):
        sshd = Sshd(self.top / "sshd")
        self.closing.callback(sshd.stop)
        self.node_home = sshd.home
        blocks, known, nodes = [], [], {}
        for rtt in rtts:
            port = sshd.port
            if rtt:
                port, proxy = start_proxy(sshd.port, rtt / 2000)
                self.closing.callback(end, proxy)
            alias = f"node{rtt:g}"
            nodes[rtt] = alias
            known.append(f"[127.0.0.1]:{port} {sshd.host_key}")
            blocks.append(
                f"Host {alias}\n  HostName 127.0.0.1\n  Port {port}\n  IdentityFile {sshd.dir}/key\n  IdentitiesOnly yes\n"
                f"  IdentityAgent none\n  UserKnownHostsFile {self.top}/known_hosts\n  StrictHostKeyChecking yes\n")
        (self.top / "known_hosts").write_text("".join(known))
        self.ssh_config = str(self.top / "ssh_config")
        pathlib.Path(self.ssh_config).write_text("\n".join(blocks))
        return nodes

    def _master(self, alias):
        path = str(self.top / f"m-{len(alias)}{abs(hash(alias)) % 10000}")
        subprocess.run(["ssh", "-F", self.ssh_config, "-M", "-N", "-f", "-S", path, "-o", "ControlPersist=600",
                        "-o", "BatchMode=yes", alias], check=True, stdout=subprocess.DEVNULL)
        return path

    def ssh(self, alias, *more):
        """The argv of plain ssh over the warm master."""
        return ["ssh", "-F", self.ssh_config, "-S", self.masters[alias], *more, alias]

    def on(self, alias, *command, flags=("-q",)):
        """The argv that runs a command on a node by cx."""
        return [self.cx, "run", *flags, "--on", alias, "--", *command]

    def run(self, argv, cwd, **more):
        """Runs a command to its end; seconds it took and what it used."""
        more.setdefault("stdin", subprocess.DEVNULL)
        more.setdefault("stdout", subprocess.DEVNULL)
        begin = time.perf_counter()
        child = subprocess.Popen(argv, cwd=cwd, env=self.env, **more)
        _, status, usage = os.wait4(child.pid, 0)
        took = time.perf_counter() - begin
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode != 0:
            sys.exit(f"{' '.join(map(str, argv))} ended with status {child.returncode}")
        return took, usage

    def last_run(self):
        """The history's account of the last run."""
        lines = (self.home / ".local/state/cx/history.jsonl").read_text().splitlines()
        return json.loads(lines[-1])["run"]

    def tree(self, name, files, total=None, seed=1):
        """A git workspace of so many files in directories of twenty, of `total` bytes in all, settled."""
        root = self.top / name
        make_tree(root, files, total or files * 2048, seed)
        return root


def make_tree(root, files, total, seed):
    """Text that compresses about as source does: words from a list, in lines."""
    rng = random.Random(seed)
    words = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz_", k=rng.randint(2, 12))) for _ in range(3000)]
    # Few words are frequent and many are rare, as in a language.
    weights = [1 / (i + 1) for i in range(len(words))]
    size = max(64, total // files)
    pool = []
    for _ in range(20_000):
        pool.append(" " * rng.choice([0, 4, 4, 8, 12]) + " ".join(rng.choices(words, weights, k=rng.randint(2, 10))) + "\n")
    for i in range(files):
        directory = root / f"src{i // 400}" / f"part{i // 20 % 20}"
        if i % 20 == 0:
            directory.mkdir(parents=True, exist_ok=True)
        want = int(size * rng.choice([0.3, 0.6, 1.0, 1.4, 1.7]))
        at = rng.randrange(len(pool))
        text, length = [], 0
        while length < want:
            text.append(pool[at % len(pool)])
            length += len(text[-1])
            at += 1
        (directory / f"file{i}.c").write_text(f"/* {i} */\n" + "".join(text))
    (root / ".gitignore").write_text("*.o\n/build/\n")
    # No collection of garbage in the background, which would go on while something is measured.
    git = ["git", "-c", "user.name=b", "-c", "user.email=b@example.org", "-c", "init.defaultBranch=main", "-c", "gc.auto=0",
           "-c", "maintenance.auto=false"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "one"]):
        subprocess.run([*git, *command], cwd=root, check=True, stdout=subprocess.DEVNULL)


class Sshd:
    """An sshd on loopback whose logins get a home in its own directory."""

    def __init__(self, directory):
        self.dir = directory
        self.home = directory / "home"
        self.home.mkdir(parents=True)
        places = ["/usr/sbin/sshd", "/usr/local/sbin/sshd", "/opt/homebrew/sbin/sshd"]
        program = next((p for p in places if os.path.exists(p)), None)
        if not program:
            sys.exit("there is no sshd on this machine: install openssh-server, or give --ssh-config and --nodes")
        for name in ("host", "key"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", directory / name], check=True)
        shutil.copy(directory / "key.pub", directory / "authorized_keys")
        self.host_key = (directory / "host.pub").read_text()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        (directory / "config").write_text(
            f"ListenAddress 127.0.0.1:{self.port}\nHostKey {directory}/host\nAuthorizedKeysFile {directory}/authorized_keys\n"
            f'PidFile none\nSetEnv "HOME={self.home}"\nUsePAM no\nStrictModes no\nPasswordAuthentication no\n'
            "KbdInteractiveAuthentication no\nPrintMotd no\nPrintLastLog no\nUseDNS no\nMaxStartups 200\n")
        if os.geteuid() == 0:
            os.makedirs("/run/sshd", exist_ok=True)
        with open(directory / "log", "wb") as log:
            self.child = subprocess.Popen([program, "-D", "-e", "-f", directory / "config"], stdin=subprocess.DEVNULL,
                                          stdout=log, stderr=log)
        for _ in range(2000):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 5) as s:
                if s.recv(4) == b"SSH-":
                    return
            time.sleep(0.005)
        sys.exit(f"sshd did not start: {(directory / 'log').read_text()}")

    def stop(self):
        end(self.child)
        # What a session left running still has this HOME in its environment.
        for pid in processes_with(f"HOME={self.home}"):
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)


def processes_with(entry):
    """Processes whose environment holds this entry."""
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if entry.encode() in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
    return found


def end(child):
    child.terminate()
    (child.join if hasattr(child, "join") else child.wait)()


def start_proxy(to, delay):
    """A process that hands on, both ways, what comes to its port, `delay` seconds later."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    process = multiprocessing.get_context("fork").Process(target=proxy, args=(listener, to, delay), daemon=True)
    process.start()
    port = listener.getsockname()[1]
    listener.close()
    return port, process


def proxy(listener, to, delay):
    """One thread, one selector: each piece waits in a queue until its time."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    selector = selectors.DefaultSelector()
    selector.register(listener, selectors.EVENT_READ, None)
    queues = []  # (when, from, to, bytes), in order of time: the delay is the same for all
    peers = {}
    first = 0

    def close(sock):
        for s in (sock, peers.pop(sock, None)):
            if s is not None:
                with contextlib.suppress(KeyError, ValueError):
                    selector.unregister(s)
                s.close()
                peers.pop(s, None)

    while True:
        now = time.monotonic()
        while first < len(queues) and queues[first][0] <= now:
            _, source, target, data = queues[first]
            queues[first] = None
            first += 1
            if data:
                with contextlib.suppress(OSError):
                    target.setblocking(True)
                    target.sendall(data)
            else:
                close(source)
        if first > 1000:
            del queues[:first]
            first = 0
        wait = max(0, queues[first][0] - time.monotonic()) if first < len(queues) else None
        for key, _ in selector.select(wait):
            if key.fileobj is listener:
                here, _ = listener.accept()
                there = socket.create_connection(("127.0.0.1", to))
                for s, p in ((here, there), (there, here)):
                    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    selector.register(s, selectors.EVENT_READ, p)
                    peers[s] = p
                continue
            try:
                data = key.fileobj.recv(1 << 18)
            except OSError:
                data = b""
            if not data:
                selector.unregister(key.fileobj)
            queues.append((time.monotonic() + delay, key.fileobj, key.data, data))


def median(values):
    return statistics.median(values)


def line(points):
    """Slope and intercept of the straight line nearest to (x, y) points."""
    slope, intercept = statistics.linear_regression(*zip(*points))
    return slope, intercept


class Report:
    """Prints claims with what was measured; the status says whether all hold."""

    def __init__(self, as_json):
        self.as_json = as_json
        self.held = True

    def claim(self, what, value, limit, unit="", at_least=False):
        holds = value >= limit if at_least else value <= limit
        self.held &= holds
        if self.as_json:
            print(json.dumps({"claim": what, "value": round(value, 4), "limit": limit, "unit": unit, "holds": holds}), flush=True)
        else:
            sign = ">=" if at_least else "<="
            print(f"  {'ok ' if holds else 'NOT'} {what}: {value:.2f}{unit} (claim: {sign} {limit:g}{unit})", flush=True)

    def say(self, text):
        if not self.as_json:
            print(text, flush=True)
