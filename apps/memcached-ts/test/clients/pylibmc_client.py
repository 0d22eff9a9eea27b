"""pylibmc, libmemcached for Python, over both protocols. Usage: pylibmc_client.py PORT; prints "ok" at its end."""

import sys
from threading import Thread

import pylibmc

PORT = int(sys.argv[1])


def refused(store, *arguments):
    """What was not stored is False in one protocol, and in the other an exception."""
    try:
        return not store(*arguments)
    except (pylibmc.NotFound, pylibmc.DataExists):
        return True


def check(binary):
    behaviors = {"tcp_nodelay": True, "cas": True, "receive_timeout": 30_000_000, "send_timeout": 30_000_000}
    client = pylibmc.Client([f"127.0.0.1:{PORT}"], binary=binary, behaviors=behaviors)
    client.flush_all()

    for value in (b"bytes \0\r\n\xff", "text", 42, 2**70, [1, {"a": None}], b""):
        assert client.set("value", value)
        assert client.get("value") == value
    assert client.get("nothing") is None

    large = bytes((i * 7) & 255 for i in range(1_048_000))
    assert client.set("large", large)
    assert client.get("large") == large

    if binary:
        # The text protocol has no room for such a key, and the library refuses it there.
        assert client.set(b"with blank\t", b"x")
        assert client.get(b"with blank\t") == b"x"

    client.delete("key")
    assert refused(client.replace, "key", b"x")
    assert client.add("key", b"b")
    assert refused(client.add, "key", b"x")
    assert client.append("key", b"c")
    assert client.prepend("key", b"a")
    value, cas = client.gets("key")
    assert value == b"abc"
    assert client.cas("key", b"new", cas)
    assert refused(client.cas, "key", b"newer", cas)

    client.set("n", 40)
    assert client.incr("n", 2) == 42
    assert client.decr("n", 50) == 0
    try:
        client.incr("nothing")
        raise SystemExit("incr of nothing")
    except pylibmc.NotFound:
        pass
    assert client.touch("n", 100)
    assert client.delete("n")
    assert not client.delete("n")

    pairs = {f"multi{i}": b"%d" % i for i in range(1000)}
    assert client.set_multi(pairs) == []
    assert client.get_multi(list(pairs) + ["nothing"]) == pairs
    assert client.delete_multi(list(pairs))
    assert client.get_multi(list(pairs)) == {}

    failures = []

    def one(number):
        mine = client.clone()
        for i in range(100):
            key, text = f"many{number}-{i}", f"value {i} " * i
            if not mine.set(key, text) or mine.get(key) != text:
                failures.append(key)

    threads = [Thread(target=one, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == [], failures

    stats = client.get_stats()
    assert len(stats) == 1 and int(stats[0][1]["curr_items"]) > 0
    client.disconnect_all()


check(binary=False)
check(binary=True)
print("ok")
