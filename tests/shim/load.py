# SPDX-License-Identifier: Apache-2.0
#
# load.py: what a program does to its system: files, memory maps, locks, threads, processes, sockets, signals.
# Run in a container by debian.sh; prints a line for each, the same wherever it is run.

import concurrent.futures, fcntl, hashlib, mmap, multiprocessing, os, random, select, shutil, signal, socket, sqlite3
import stat, subprocess, sys, tarfile, tempfile, threading, time, zipfile

FILES = 200


def digest(data):
    return hashlib.sha256(data).hexdigest()[:16]


def many_files(top):
    r = random.Random(1)
    for i in range(FILES):
        d = os.path.join(top, str(i % 20), str(i % 7))
        os.makedirs(d, exist_ok=True)
        with open(os.path.join(d, "file %d" % i), "wb") as f:
            f.write(r.randbytes(r.randrange(20000)))
        os.chmod(f.name, 0o600 + i % 64)
        os.utime(f.name, ns=(i * 10**9, i * 10**9 + 123456789))
    for i in range(0, FILES, 3):
        d = os.path.join(top, str(i % 20), str(i % 7))
        os.rename(os.path.join(d, "file %d" % i), os.path.join(d, "renamed %d" % i))
    for i in range(0, FILES, 5):
        d = os.path.join(top, str(i % 20), str(i % 7))
        name = ("renamed %d" if i % 3 == 0 else "file %d") % i
        os.link(os.path.join(d, name), os.path.join(d, "link %d" % i))
        os.symlink(name, os.path.join(d, "symlink %d" % i))
    for i in range(0, FILES, 15):
        os.unlink(os.path.join(top, str(i % 20), str(i % 7), "renamed %d" % i))


def tree(top):
    h = hashlib.sha256()
    n = 0
    for d, dirs, files in os.walk(top):
        dirs.sort()
        for name in sorted(files):
            p = os.path.join(d, name)
            s = os.lstat(p)
            h.update(("%s %o %d %d %d\n" % (os.path.relpath(p, top), s.st_mode, s.st_nlink, s.st_size, s.st_uid)).encode())
            if stat.S_ISREG(s.st_mode):
                h.update(str(s.st_mtime_ns).encode())
                h.update(open(p, "rb").read())
            elif stat.S_ISLNK(s.st_mode):
                h.update(os.readlink(p).encode())
            n += 1
    return "%d files, %s" % (n, h.hexdigest()[:16])


def one_file(top):
    r = random.Random(2)
    path = os.path.join(top, "one")
    model = bytearray(1 << 20)
    with open(path, "w+b") as f:
        f.truncate(len(model))
        with mmap.mmap(f.fileno(), 0) as m:
            for i in range(300):
                at = r.randrange(len(model) - 5000)
                data = r.randbytes(r.randrange(5000))
                if i % 3:
                    m[at : at + len(data)] = data
                else:
                    os.pwrite(f.fileno(), data, at)
                model[at : at + len(data)] = data
            m.flush()
        os.fsync(f.fileno())
        os.unlink(path)
        f.seek(0)
        return f.read() == model, digest(bytes(model)), os.fstat(f.fileno()).st_nlink


def locked(path, n):
    for _ in range(n):
        with open(path, "r+") as f:
            fcntl.lockf(f, fcntl.LOCK_EX)
            v = int(f.read() or 0)
            f.seek(0)
            f.write(str(v + 1))


def processes(top):
    path = os.path.join(top, "counter")
    open(path, "w").close()
    children = [multiprocessing.Process(target=locked, args=(path, 25)) for _ in range(4)]
    for c in children:
        c.start()
    for c in children:
        c.join()
    with multiprocessing.Pool(3) as pool:  # semaphores in /dev/shm
        total = sum(pool.map(abs, range(-1000, 1000)))
    return open(path).read(), total, subprocess.run(["sh", "-c", "echo $0 | rev; exit 3", "abc"], capture_output=True).returncode


def threads():
    with concurrent.futures.ThreadPoolExecutor(16) as e:
        done = list(e.map(lambda i: digest(bytes([i]) * 200000), range(64)))
    lock, n = threading.Lock(), [0]

    def count():
        for _ in range(1000):
            with lock:
                n[0] += 1

    ts = [threading.Thread(target=count) for _ in range(20)]
    for t in ts:
        t.start()
    for t in ts:
        t.join()
    return digest("".join(done).encode()), n[0]


def echo(family, address, peers, size):
    server = socket.socket(family, socket.SOCK_STREAM)
    server.bind(address)
    server.listen(peers)

    def serve(c):
        with c:
            while data := c.recv(65536):
                c.sendall(data)

    def accept():
        for _ in range(peers):
            threading.Thread(target=serve, args=(server.accept()[0],)).start()

    def client(i):
        sent = bytes([i]) * size
        got = b""
        with socket.socket(family, socket.SOCK_STREAM) as c:
            c.connect(server.getsockname())
            writer = threading.Thread(target=lambda: (c.sendall(sent), c.shutdown(socket.SHUT_WR)))
            writer.start()
            while data := c.recv(65536):
                got += data
            writer.join()
        return got == sent

    threading.Thread(target=accept).start()
    with concurrent.futures.ThreadPoolExecutor(peers) as e:
        good = list(e.map(client, range(peers)))
    server.close()
    return all(good), len(good)


def datagrams():
    a, b = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
    a.bind(("127.0.0.1", 0))
    b.connect(a.getsockname())
    sent = [b.send(bytes(i)) for i in range(0, 9000, 600)]
    return [len(a.recv(65536)) for _ in sent] == sent


def database(top):
    db = sqlite3.connect(os.path.join(top, "db"))
    db.execute("pragma journal_mode=wal")
    db.execute("create table t (k integer primary key, v text)")
    for i in range(10):
        with db:
            db.executemany("insert into t values (?, ?)", ((i * 100 + j, "x" * j) for j in range(100)))
    other = sqlite3.connect(os.path.join(top, "db"))
    return other.execute("select count(*), sum(length(v)) from t").fetchone(), db.execute("pragma integrity_check").fetchone()


def signals():
    got = []
    signal.signal(signal.SIGALRM, lambda *_: got.append("alarm"))
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    r, w = os.pipe()
    select.select([r], [], [], 0.5)
    return got


def archives(top):
    with tarfile.open(os.path.join(top, "t.tar.gz"), "w:gz") as t:
        t.add(os.path.join(top, "files"), "files")
    with tarfile.open(os.path.join(top, "t.tar.gz")) as t:
        t.extractall(os.path.join(top, "again"))
    shutil.copytree(os.path.join(top, "files"), os.path.join(top, "copy"), symlinks=True)
    before = len(os.listdir(os.path.join(top, "copy")))
    shutil.rmtree(os.path.join(top, "copy"))
    return before, os.path.exists(os.path.join(top, "copy"))


top = tempfile.mkdtemp(dir=sys.argv[1])
files = os.path.join(top, "files")
os.mkdir(files)
many_files(files)
print("files:", tree(files))
print("archives:", archives(top), tree(os.path.join(top, "again", "files")))
print("one file:", one_file(top))
print("database:", database(top))
print("processes:", processes(top))
print("threads:", threads())
print("tcp:", echo(socket.AF_INET, ("127.0.0.1", 0), 12, 300000))
print("tcp over IPv6:", echo(socket.AF_INET6, ("::1", 0), 4, 100000))
print("unix:", echo(socket.AF_UNIX, os.path.join(top, "socket"), 8, 300000))
print("datagrams:", datagrams())
print("signals:", signals())
shutil.rmtree(top)
print("left:", os.listdir(sys.argv[1]))
