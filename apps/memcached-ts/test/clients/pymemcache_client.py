"""pymemcache, a pure Python client of the text protocol. Usage: pymemcache_client.py PORT; prints "ok" at its end."""

import sys
from concurrent.futures import ThreadPoolExecutor

from pymemcache.client.base import Client, PooledClient
from pymemcache.exceptions import MemcacheError

ADDRESS = ("127.0.0.1", int(sys.argv[1]))
client = Client(ADDRESS, timeout=30, no_delay=True)

# Values and flags.
every_byte = bytes(range(256))
assert client.set("bytes", every_byte, noreply=False)
assert client.get("bytes") == every_byte
assert client.set("empty", b"", noreply=False)
assert client.get("empty") == b""
assert client.set("flags", b"x", noreply=False, flags=4294967295)
assert client.get("nothing") is None
assert client.get("k" * 250) is None

# Near 1 MiB, and too large.
large = bytes((i * 7) & 255 for i in range(1_048_000))
assert client.set("large", large, noreply=False)
assert client.get("large") == large
try:
    client.set("large", bytes(1_048_577), noreply=False)
    raise SystemExit("a value that is too large was taken")
except MemcacheError:
    pass
assert client.get("large") is None

# Stores that depend on what is there.
client.delete("key", noreply=False)
assert not client.replace("key", b"x", noreply=False)
assert client.add("key", b"b", noreply=False)
assert not client.add("key", b"x", noreply=False)
assert client.append("key", b"c", noreply=False)
assert client.prepend("key", b"a", noreply=False)
value, cas = client.gets("key")
assert value == b"abc"
assert client.cas("key", b"new", cas) is True
assert client.cas("key", b"newer", cas) is False
assert client.cas("nothing", b"x", cas) is None

# Numbers.
client.set("n", b"18446744073709551615", noreply=False)
assert client.incr("n", 1, noreply=False) == 0
assert client.incr("n", 12, noreply=False) == 12
assert client.decr("n", 13, noreply=False) == 0
assert client.incr("nothing", 1, noreply=False) is None

# Life time.
assert client.touch("n", 100, noreply=False)
assert not client.touch("nothing", 100, noreply=False)
assert client.set("past", b"x", expire=-1, noreply=False)
assert client.get("past") is None
assert client.delete("n", noreply=False)
assert not client.delete("n", noreply=False)

# Many keys in one go, and requests without a reply.
pairs = {f"multi{i}": b"%d" % i for i in range(1000)}
assert client.set_many(pairs, noreply=False) == []
assert client.get_many(list(pairs) + ["nothing"]) == pairs
assert len(client.gets_many(list(pairs))) == len(pairs)
for i in range(1000):
    client.set(f"quiet{i}", b"%d" % i, noreply=True)
assert client.get("quiet999") == b"999"
assert client.delete_many(list(pairs), noreply=False)
assert client.get_many(list(pairs)) == {}

# Many at once.
pool = PooledClient(ADDRESS, max_pool_size=16, timeout=30, no_delay=True)


def one(i):
    key, text = f"many{i}", b"value %d " % i * (i % 200)
    return pool.set(key, text, noreply=False) and pool.get(key) == text


with ThreadPoolExecutor(16) as threads:
    assert all(threads.map(one, range(2000)))

stats = client.stats()
assert int(stats[b"curr_items"]) > 2000, stats
assert client.version().startswith(b"1.6.")
assert client.flush_all(noreply=False)
assert client.get("many1") is None
client.quit()
print("ok")
