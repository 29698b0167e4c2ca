#!/usr/bin/env python3
"""Verifies proofs, bundles and evidence files by a checkpoint, with the standard library alone.

    verify_proof.py "SIZE ROOT" FILE...

It shares no code with the crate. Its output is a JSON list with one object for each file:

    holds      whether everything in the file leads to the checkpoint
    why        the first thing that does not hold, or null
    kind       "proof", "range", "selection" or "part"
    entries    for each entry: seq, action (null if it is withheld), metadata as they are stored, without what is withheld,
               and withheld, the number of fields that are

A signature is not verified: whoever has the checkpoint from elsewhere needs none. The exit code is 0 if every file holds, else 1.
The construction is described in the crate's module `ledger`.
"""
import base64
import gzip
import hashlib
import json
import struct
import sys
import uuid

LABEL = b"tracing-audit/entry@v1\n"
PART = b"tracing-audit/part@v1\n"
SEAL = b"tracing-audit/seal@v1\n"
CORE, MEMBER, METADATA, PROBLEMS = 1, 8, 7, 6


class Refused(Exception):
    pass


def need(truth, why):
    if not truth:
        raise Refused(why)


def h(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def node(left, right):
    return h(b"\1", left, right)


def unbase64(text, length=None):
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError:
        raise Refused("no base64") from None
    # One spelling each.
    need(base64.b64encode(data).decode() == text, "no base64")
    need(length is None or len(data) == length, "a wrong length")
    return data


def leaf_of(fields):
    data = [LABEL]
    for field in fields:
        tag = bytes([field[0]])
        if len(field) == 3:
            data += [tag, h(b"\2", tag, unbase64(field[1], 16), unbase64(field[2]))]
        else:
            need(len(field) == 2, "a field of two or three parts")
            data += [tag, unbase64(field[1], 32)]
    return h(b"\0", *data)


def included(leaf, index, size, path, root):
    """RFC 9162, section 2.1.3.2."""
    if index >= size:
        return False
    at, last, found = index, size - 1, leaf
    for beside in path:
        if last == 0:
            return False
        if at & 1 or at == last:
            found = node(beside, found)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            found = node(found, beside)
        at, last = at >> 1, last >> 1
    return last == 0 and found == root


def consistent(size, to, root, to_root, path):
    """RFC 9162, section 2.1.4.2; every tree begins with the empty one."""
    if size > to:
        return False
    if size == 0:
        return not path and root == h(b"")
    if size == to:
        return not path and root == to_root
    if not path:
        return False
    path = ([root] if size & (size - 1) == 0 else []) + path
    at, last = size - 1, to - 1
    while at & 1:
        at, last = at >> 1, last >> 1
    earlier = later = path[0]
    for beside in path[1:]:
        if last == 0:
            return False
        if at & 1 or at == last:
            earlier, later = node(beside, earlier), node(beside, later)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            later = node(later, beside)
        at, last = at >> 1, last >> 1
    return last == 0 and earlier == root and later == to_root


class Tree:
    """The right edge of a tree: the roots of its full subtrees, the largest first."""

    def __init__(self, size, peaks):
        need(len(peaks) == bin(size).count("1"), "as many hashes as the size has one-bits")
        self.size, self.peaks = size, list(peaks)

    def push(self, leaf):
        at = self.size
        while at & 1:
            leaf, at = node(self.peaks.pop(), leaf), at >> 1
        self.peaks.append(leaf)
        self.size += 1

    def root(self):
        if not self.peaks:
            return h(b"")
        found = self.peaks[-1]
        for peak in reversed(self.peaks[:-1]):
            found = node(peak, found)
        return found


def action_of(core):
    """The action in the bytes of a core."""
    need(len(core) >= 73, "a core")
    at = 73 + (8 if core[72] else 0)
    length = struct.unpack(">I", core[at:at + 4])[0]
    return core[at + 4:at + 4 + length].decode()


def shown(seq, fields):
    found = {"seq": seq, "action": None, "metadata": None, "withheld": sum(len(field) == 2 for field in fields)}
    members = []
    for field in (field for field in fields if len(field) == 3):
        value = unbase64(field[2])
        if field[0] == CORE:
            found["action"] = action_of(value)
        elif field[0] == METADATA:
            found["metadata"] = value.decode()
        elif field[0] == MEMBER:
            members.append(value.decode())
    if found["metadata"] is None:
        found["metadata"] = "{" + ",".join(members) + "}"
    return found


def workspace_of(core):
    """The id of the workspace in the bytes of a core."""
    need(len(core) >= 73, "a core")
    return core[56:72]


def sealed_by(first, size, root):
    """The number of entries of the workspace that the entry of the seal is for; it must lead to the checkpoint."""
    seal, sealed = first["seal"], first["sealed"]
    path = [unbase64(hash, 32) for hash in sealed["path"]]
    need(included(leaf_of(sealed["fields"]), sealed["seq"], size, path, root), "the entry of the seal leads to another root")
    entry = shown(sealed["seq"], sealed["fields"])
    need(entry["action"] == "audit.sealed" and all(field[0] != PROBLEMS for field in sealed["fields"]), "no seal of the log itself")
    declared = json.loads(entry["metadata"])
    need([declared["until"], declared["workspaces"], declared["root"]] == [first["until"], seal["size"], seal["root"]], "another seal")
    need(first["until"] <= sealed["seq"], "a seal over itself")


def all_of(first, tree):
    """Whether the tree is that of all entries of the workspace."""
    seal, workspace = first["seal"], uuid.UUID(first["workspace"]).bytes
    need(tree.size == first["entries"], "the number of entries of the workspace")
    leaf = h(b"\0", SEAL, workspace, unbase64(seal["blind"], 16), struct.pack(">Q", tree.size), tree.root())
    path = [unbase64(hash, 32) for hash in seal["path"]]
    need(included(leaf, seal["index"], seal["size"], path, unbase64(seal["root"], 32)), "not all entries of the workspace")


def checkpoint_of(note, trusted):
    """The size and the root of a checkpoint, which must be the trusted one."""
    lines = note.split("\n\n")[0].removesuffix("\n").split("\n")
    need(len(lines) == 3, "a checkpoint of three lines")
    wrong = not lines[0] or lines[0].startswith("tracing-audit/") or any(c.isspace() or c < " " or c == "+" for c in lines[0])
    need(not wrong, "the name of a ledger")
    size, root = int(lines[1]), unbase64(lines[2], 32)
    need(str(size) == lines[1], "a decimal number")
    need(f"{size} {lines[2]}" == trusted, "another checkpoint than the trusted one")
    return lines[0], size, root


def proof(text, trusted):
    need(text.endswith("\n") and "\n\n" in text, "cut off")
    head, note = text.split("\n\n", 1)
    lines = head.split("\n")
    need(len(lines) >= 3 and lines[0] == "c2sp.org/tlog-proof@v1", "no proof")
    need(lines[1].startswith("extra ") and lines[2].startswith("index "), "no proof")
    extra, index = unbase64(lines[1].removeprefix("extra ")).decode(), int(lines[2].removeprefix("index "))
    need(lines[2] == f"index {index}", "a decimal number")
    opening = json.loads(extra)
    need(json.dumps(opening, separators=(",", ":"), ensure_ascii=False) == extra, "spelled in another way")
    need(list(opening) == ["tracing-audit", "fields"] and opening["tracing-audit"] == "opening@v1", "no opening")
    _, size, root = checkpoint_of(note, trusted)
    path = [unbase64(line, 32) for line in lines[3:]]
    need(included(leaf_of(opening["fields"]), index, size, path, root), "it leads to another root")
    return "proof", [shown(index, opening["fields"])]


def bundle(data, trusted):
    need(data.endswith(b"\n"), "cut off")
    lines = data.removesuffix(b"\n").split(b"\n")
    need(len(lines) >= 2, "cut off")
    last = json.loads(lines[-1])
    need(lines[-1].startswith(b'{"entries":') and list(last) == ["entries", "sha256"], "its last line is missing")
    before = data[:len(data) - len(lines[-1]) - 1]
    need(last == {"entries": len(lines) - 2, "sha256": hashlib.sha256(before).hexdigest()}, "not what its last line is of")
    need(json.dumps(last, separators=(",", ":")).encode() == lines[-1], "spelled in another way")
    first = json.loads(lines[0])
    need(first["tracing-audit"] == "bundle@v1" and first["kind"] in ("range", "selection", "part"), "an unknown kind")
    origin, size, root = checkpoint_of(first["checkpoint"], trusted)
    need(origin == first["origin"], "of another ledger")
    is_range, is_part = first["kind"] == "range", first["kind"] == "part"
    tree = Tree(first["from"], [unbase64(hash, 32) for hash in first["start"]]) if is_range or is_part else None
    if is_part:
        sealed_by(first, size, root)
    entries, after = [], 0
    for line in lines[1:-1]:
        line = json.loads(line)
        seq = line["seq"]
        need(("fields" in line) != ("leaf" in line), "fields, or the hash of a leaf")
        leaf = leaf_of(line["fields"]) if "fields" in line else unbase64(line["leaf"], 32)
        if is_range:
            need(seq == tree.size and "path" not in line, f"entry {tree.size} is missing")
            tree.push(leaf)
        elif is_part:
            need(after <= seq < first["until"] and "path" not in line, "the order of the numbers, before the seal")
            for field in line.get("fields", []):
                is_other = len(field) == 3 and field[0] == CORE and workspace_of(unbase64(field[2])) != uuid.UUID(first["workspace"]).bytes
                need(not is_other, f"entry {seq} is of another workspace")
            need(line.get("fields") != [], f"{seq} has no entry")
            tree.push(h(b"\0", PART, struct.pack(">Q", seq), leaf))
        else:
            need(seq >= after, "the order of the numbers")
            need(included(leaf, seq, size, [unbase64(hash, 32) for hash in line["path"]], root), f"entry {seq} leads to another root")
        after = seq + 1
        entries.append(shown(seq, line.get("fields", [])))
    if is_range:
        need(tree.size == first["until"], "the end of the range")
        path = [unbase64(hash, 32) for hash in first["proof"]]
        need(consistent(tree.size, size, tree.root(), root, path), "the entries lead to another root")
    if is_part:
        all_of(first, tree)
    return first["kind"], entries


def within(page):
    """The lines of the bundle in an evidence file."""
    lines, is_inside = [], False
    all_lines = [line + b"\n" for line in page.removesuffix(b"\n").split(b"\n")]
    for line in all_lines:
        if line == b'<script type="application/jsonl" class="bundle">\n':
            is_inside = True
        elif line == b"</script>\n":
            is_inside = False
        elif is_inside:
            lines.append(line)
    last = all_lines[-1]
    digest = hashlib.sha256(page[:len(page) - len(last)]).hexdigest()
    need(last == f"<!--sha256 {digest}-->\n".encode(), "the bytes of the page are not those that its last line is of")
    return b"".join(lines)


def verify(path, trusted):
    try:
        with open(path, "rb") as file:
            data = file.read()
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
        if data.startswith(b"<!DOCTYPE html>"):
            data = within(data)
        kind, entries = proof(data.decode(), trusted) if data.startswith(b"c2sp") else bundle(data, trusted)
    except Refused as why:
        return {"holds": False, "why": str(why), "kind": None, "entries": []}
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, struct.error, EOFError, OSError) as why:
        return {"holds": False, "why": f"malformed: {why!r}", "kind": None, "entries": []}
    return {"holds": True, "why": None, "kind": kind, "entries": entries}


def main(trusted, paths):
    said = [verify(path, trusted) for path in paths]
    print(json.dumps(said))
    return 0 if all(file["holds"] for file in said) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
