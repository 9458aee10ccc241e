#!/usr/bin/env python3
"""Checks an evidence bundle of Pinfold with Python's standard library and the `openssl` command; uses no network.
    python3 check.py X.evidence.tar --vkey log.vkey [--vkey recovery.vkey]
The vkey files hold public keys of the log, one a line, from another channel than the bundle: its first or its newest,
and its recovery key if you have it. Exit codes are those of `pinfold check`: 10 valid, 20 something is missing, 40
tampered, 50 cannot check, 2 wrong call. A copy of this file that came with the bundle proves nothing: take it from
Pinfold's source, where docs/evidence.md and proto/README.md say what is checked."""
import argparse, base64, hashlib, json, pathlib, re, subprocess, sys, tempfile
EXITS = {"valid": 10, "block-missing": 20, "offset-gap": 20, "unreachable": 50, "unknown-version": 50}
class Refused(Exception): pass

def need(sound, what, code="non-canonical"):
    if not sound:
        raise Refused(code, what)
def sha256(*pieces):
    return hashlib.sha256(b"".join(pieces)).digest()
def b64(text, size=None):
    raw = base64.b64decode(text, validate=True)
    need(base64.b64encode(raw).decode() == text and size in (None, len(raw)), "base64: its spelling or length")
    return raw
def pretty(value):
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()

def read_tar(data):  # plain files with zero times and owners, byte for byte as they are written
    files, again, at = {}, [], 0
    while any(data[at:at + 512]):
        name, size = data[at:at + 100].split(b"\0")[0].decode("ascii"), int(data[at + 124:at + 135], 8)
        need(re.fullmatch("[!-.0-~]{1,100}", name) and name[0] != "." and name not in files, "tar: a file name")
        head = name.encode().ljust(100, b"\0") + b"0000644\0" + b"0000000\0" * 2 + b"%011o\0" % size + b"00000000000\0"
        head = (head + b" " * 8 + b"0" + bytes(100) + b"ustar\00000").ljust(512, b"\0")
        files[name] = data[at + 512:at + 512 + size]
        again += [head[:148], b"%06o\0 " % sum(head), head[156:], files[name], bytes(-size % 512)]
        at += 512 + size + -size % 512
    need(files and b"".join(again) + bytes(1024) == data, "tar: not as it is written, or it ends early")
    return files

def cbor(data, at=0):  # one item of strict DAG-CBOR without floats, tags and negative numbers, and where it ends
    major, value, at = data[at] >> 5, data[at] & 31, at + 1
    if value > 23 and major < 7:
        width, least = {24: (1, 24), 25: (2, 1 << 8), 26: (4, 1 << 16), 27: (8, 1 << 32)}[value]
        value, at = int.from_bytes(data[at:at + width], "big"), at + width
        need(least <= value < 2**53, "cbor: not the shortest head")
    if major in (0, 7):
        return value if major == 0 else {20: False, 21: True, 22: None}[value], at
    if major in (2, 3):
        need(at + value <= len(data), "cbor: it ends early")
        return data[at:at + value] if major == 2 else data[at:at + value].decode(), at + value
    items = []
    for _ in range(value * {4: 1, 5: 2}[major]):
        item, at = cbor(data, at)
        items.append(item)
    keys = [(len(key.encode()), key.encode()) for key in items[::2]] if major == 5 else []
    need(all(a < b for a, b in zip(keys, keys[1:])), "cbor: keys out of order")
    return dict(zip(items[::2], items[1::2])) if major == 5 else items, at
def cbor_map(data, *fields):
    value, end = cbor(data)
    need(value.get("v", 1) == 1, "another version of the format", "unknown-version")
    need(end == len(data) and list(value) == list(fields), "a map with other fields, or bytes behind it")
    return value

def read_note(note):  # the signed text, and its lines as (key name, key id, signature)
    at = note.rfind("\n\n") + 1
    need(at and note[-1] == "\n" and not re.search("[\0-\t\v-\x1f]", note), "note: its form")
    lines = [re.fullmatch("\u2014 ([^ +]+) (\\S+)", line) for line in note[at + 1:-1].split("\n")]
    return note[:at], [(line[1], b64(line[2])[:4], b64(line[2])[4:]) for line in lines]

def signs(vkey, text, line):  # whether `line` is the Ed25519 signature of this vkey over `text`, by openssl
    name, key_id, key = vkey.split("+", 2)
    key = b64(key, 33)
    need(key[0] == 1 and sha256(name.encode(), b"\n", key)[:4].hex() == key_id, "vkey: its id or type")
    if line[:2] != (name, bytes.fromhex(key_id)):
        return False
    with tempfile.TemporaryDirectory() as tmp:
        der = bytes.fromhex("302a300506032b6570032100") + key[1:]
        for file, content in (("key", der), ("sig", line[2]), ("text", text.encode())):
            pathlib.Path(tmp, file).write_bytes(content)
        call = "openssl pkeyutl -verify -pubin -keyform DER -inkey key -rawin -in text -sigfile sig".split()
        return subprocess.run(call, cwd=tmp, capture_output=True).returncode == 0
def root_of(node, index, size, path):  # the root an inclusion proof leads to: RFC 9162, section 2.1.3
    need(index < size and bool(path) == (size > 1), "a proof of another length", "leaf-hash")
    if not path:
        return node
    half = 1 << (size - 1).bit_length() - 1
    pair = [root_of(node, index % half, half if index < half else size - half, path[:-1]), path[-1]]
    return sha256(b"\1", *(pair if index < half else pair[::-1]))

def read_entry(name, data, checkpoint, origin, size, root):  # the leaf of a proof that holds, and the part disclosed
    form = "c2sp.org/tlog-proof@v1\nextra (.+)\nindex (.+)((?:\n.+)*)\n\n" + re.escape(checkpoint)
    extra, index, path = re.fullmatch(form, data).groups()
    extra = cbor_map(b64(extra), *(["leaf"] if b64(extra)[0] == 0xA1 else ["r", "body", "leaf", "part"]))
    leaf = cbor_map(extra["leaf"], "v", "seq", "src", "kind", "prev", "clear", "parts")
    need(index == str(leaf["seq"]) and name == index + ".tlog-proof", f"{name}: of another entry", "seq-gap")
    found = root_of(sha256(b"\0", extra["leaf"]), leaf["seq"], size, [b64(line, 32) for line in path.split()])
    need(found == root, f"{name}: not in the tree", "leaf-hash")
    if "part" in extra:
        place = sha256(origin.encode()) + leaf["seq"].to_bytes(8, "big") + extra["part"].to_bytes(4, "big")
        opened = sha256(b"pinfold/v1/commit\0", place, extra["r"], extra["body"])
        need(opened == leaf["parts"][extra["part"]][0], f"{name}: the part says something else", "commitment")
    return leaf, extra.get("part")

def key_history(origin, leaves, held):  # as the entries name them; `held` must vouch for the first or the last
    opened, ours = leaves[0]["clear"], [key for key in held if key.startswith(origin + "/recovery+")]
    need(leaves[0]["kind"] == 1 and opened["origin"] == origin, "the first entry opens no such log", "wrong-origin")
    need(ours in ([], [opened["recovery"]]), "the recovery vkey is another one", "unknown-key")
    need(len(held) > len(ours), "no vkey of the log", "unreachable")
    rows, is_unsure = [{"seq": 0, "by": "log-opened", "vkey": opened["vkey"]}], False
    for leaf in (leaf for leaf in leaves if leaf["kind"] == 8):
        text, lines = read_note(leaf["clear"]["note"])
        step, old, said = leaf["clear"]["step"], rows[-1]["vkey"], text.split("\n")
        at, new = said[2:4] if step else [str(leaf["seq"])], said[-2]
        form = ["pinfold/v1/" + ("rotate", "revoke")[step], origin, *at, old, new, ""]
        need(said == form and new.startswith(origin + "+"), "a change of key from another key or entry", "unknown-key")
        need(not step or int(at[0]) <= leaf["seq"], "a revocation that vouches for later entries", "root-mismatch")
        signers = [old if not step else ours[0] if ours else None, new]
        is_unsure |= signers[0] is None
        sound = [key is None or signs(key, text, line) for key, line in zip(signers, lines)]
        need(len(lines) == 2 and all(sound), "a change of key not signed by the keys it needs", "bad-signature")
        rows.append({"seq": leaf["seq"], "by": ("rotated", "revoked")[step], "vkey": new})
    if rows[-1]["vkey"] not in held:
        need(rows[0]["vkey"] in held, "the vkey is neither the first nor the newest", "unknown-key")
        need(not is_unsure, "a revocation, and no recovery vkey to check it by", "unreachable")
    return {"keys": rows, "recovery": opened["recovery"]}

def completeness(first, end, leaves):  # every offset from the first to the last is an entry, or declared and why
    spans, rows = {}, []
    for leaf in (leaf for leaf in leaves if leaf["seq"] < end):
        src = [[*leaf["src"], leaf["src"][2], None]] if leaf["src"] and leaf["seq"] >= first else []
        for topic, partition, low, high, reason in leaf["clear"]["ranges"] if leaf["kind"] == 3 else src:
            spans.setdefault((topic, partition), []).append((low, high, leaf["seq"], reason))
    for (topic, partition), all_of in sorted(spans.items()):
        start = at = min((low for low, _, seq, _ in all_of if seq >= first), default=2**53)
        entries, last, declared = 0, -1, []
        for low, high, seq, why in sorted((max(low, start), high, *of) for low, high, *of in all_of if high >= start):
            need(low >= at and (why is not None or seq > last), "an offset twice, or out of order", "offset-overlap")
            need(low == at or why is not None, f"topic {topic}, partition {partition}: no offset {at}", "offset-gap")
            if why is None:
                at, entries, last = at + 1, entries + 1, seq
            elif low == at:
                at, declared = high + 1, declared + [{"seq": seq, "first": low, "last": high, "reason": why}]
        if start < 2**53:
            rows.append({"topic_no": topic, "partition": partition, "first": start, "next": at, "entries": entries,
                         "declared": declared})
    return rows

def check(data, held):
    files = read_tar(data)
    need(files.keys() >= {"manifest.json", "manifest.note"}, "the manifest is missing", "block-missing")
    manifest, (text, signed) = json.loads(files["manifest.json"]), read_note(files["manifest.note"].decode())
    said = [manifest["origin"], manifest["size"], base64.b64encode(sha256(files["manifest.json"])).decode()]
    need(text == "pinfold/v1/evidence\n%s\n%s\n%s\n" % (*said,), "manifest.note: of another manifest", "block-hash")
    need(manifest["format"] == "pinfold-evidence/1", "another version of the manifest", "unknown-version")
    need(pretty(manifest) == files["manifest.json"], "manifest: its form")
    names = [file["name"] for file in manifest["files"]] + ["manifest.json", "manifest.note"]
    need(set(files) <= set(names), "a file that the manifest does not list", "block-extra")
    need(set(names) <= set(files), "a file of the manifest is missing", "block-missing")
    need(list(files) == names, "files in another order")
    for file in manifest["files"]:
        found = {"name": file["name"], "bytes": len(files[file["name"]]), "sha256": sha256(files[file["name"]]).hex()}
        need(file == found, file["name"], "block-hash")
    checkpoint = files["checkpoint"].decode()
    head, lines = read_note(checkpoint)
    origin, size, root, _ = head.split("\n")
    need(head == f"{origin}\n{int(size)}\n{root}\n", "checkpoint: not origin, size and root")
    need([*said[:2], manifest["root"]] == [origin, int(size), root], "manifest.json: of another checkpoint")
    tree = (checkpoint, origin, int(size), b64(root, 32))
    proofs = [read_entry(name, files[name].decode(), *tree) for name in names if name.endswith(".tlog-proof")]
    leaves = [leaf for leaf, _ in proofs]
    need(all(a["seq"] < b["seq"] for a, b in zip(leaves, leaves[1:])), "proofs that do not stand by seq")
    keys = key_history(origin, leaves, held)
    signer = keys["keys"][-1]["vkey"]
    own = [line for line in lines if line[:2] == (origin, bytes.fromhex(signer.split("+")[1]))]
    need(len(own) == 1 and signs(signer, head, own[0]), "checkpoint: its signature", "bad-signature")
    need(len(signed) == 1 and signs(signer, text, signed[0]), "manifest.note: its signature", "bad-signature")
    first, end = manifest["first"], manifest["next"]
    entries = [(leaf, part) for leaf, part in proofs if first <= leaf["seq"] < end]
    need([leaf["seq"] for leaf, _ in entries] == [*range(first, end)] != [], "an entry is missing", "seq-gap")
    need(files["keys.json"] == pretty(keys), "keys.json is not what the entries say")
    need(files["completeness.json"] == pretty(completeness(first, end, leaves)), "completeness.json: not what they say")
    told = [line.rpartition(" ")[::2] for line in files["undisclosed.txt"].decode().split("\n")[:-1]]
    closed = [(leaf["seq"], at, digest.hex()) for leaf, part in entries for at, (_, digest) in
              enumerate(leaf["parts"]) if at != part]
    need([line for line, _ in told] == ["%d %d %s" % row for row in closed], "undisclosed.txt is not what they say")
    need({why for _, why in told} <= {"not-asked", "not-held", "no-payload"}, "undisclosed.txt: a reason")
    return f"entries {first} to {end - 1} of {origin}, {sum(part is not None for _, part in entries)} disclosed"
def main():
    parser = argparse.ArgumentParser(description="Checks an evidence bundle of Pinfold.")
    parser.add_argument("bundle", type=argparse.FileType("rb"))
    parser.add_argument("--vkey", type=argparse.FileType(), action="append", default=[], metavar="F")
    args = parser.parse_args()
    try:
        held = [line.strip() for file in args.vkey for line in file if line.strip()]
        code, what = "valid", check(args.bundle.read(), held)
    except (Refused, OSError, ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError) as error:
        kind = "unreachable" if isinstance(error, OSError) else "non-canonical"
        code, what = error.args if isinstance(error, Refused) else (kind, repr(error))
    print(f"{code}: {what}")
    return EXITS.get(code, 40)

if __name__ == "__main__":
    sys.exit(main())
