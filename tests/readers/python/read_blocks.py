"""Decodes every block of CAR files with PyPI `dag-cbor`, written by others.

`read_blocks.py FILE...` prints "BLOCKS LEAVES" a file. dag-cbor is strict: it refuses what is not canonical, and what it
decodes it must encode to the same bytes. The CAR framing is read by hand, so that this shares nothing with the Go reader.
"""

import hashlib
import sys

import dag_cbor


def sections(data):
    at = 0
    while at < len(data):
        length = shift = 0
        while True:
            byte = data[at]
            at += 1
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        assert at + length <= len(data), "cut within a section"
        yield data[at : at + length]
        at += length


def read(path):
    with open(path, "rb") as file:
        header, *blocks = sections(file.read())
    header = dag_cbor.decode(header)
    assert header["version"] == 1 and len(header["roots"]) == 1
    assert bytes(header["roots"][0]) == blocks[0][:36], "the root is not first"
    leaves = 0
    for section in blocks:
        cid, block = section[:36], section[36:]
        assert cid[2:] == b"\x12\x20" + hashlib.sha256(block).digest(), "another hash"
        if cid[1] == 0x55:
            continue
        node = dag_cbor.decode(block)
        assert dag_cbor.encode(node) == block, "encodes to other bytes"
        is_page = isinstance(node, list) and node and isinstance(node[0], dict)
        leaves += len(node) if is_page else 0
    return len(blocks), leaves


for path in sys.argv[1:]:
    print(*read(path))
