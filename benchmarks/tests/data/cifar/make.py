"""Two images of each CIFAR batch as Python pickles them, for `published.rs`: `python make.py` in this folder.

Protocol 2 is written as Python 2 and NumPy 1 did when the sets were published: strings, not unicode, and the old module
name; protocol 4 as Python 3 does today.
"""
import io
import pickle
import pickletools
import struct
import numpy as np


def u(text):
    text = text.encode()
    return b"U" + bytes([len(text)]) + text


def old(labels, images, key="labels"):
    """By hand: no Python 3 writes this any more."""
    out = b"\x80\x02}q\x01(" + u("data") + b"q\x02cnumpy.core.multiarray\n_reconstruct\nq\x03cnumpy\nndarray\nq\x04"
    out += b"K\x00\x85" + u("b") + b"\x87Rq\x05(K\x01K" + bytes([len(images)]) + b"M" + struct.pack("<H", 3072) + b"\x86"
    out += b"cnumpy\ndtype\nq\x06" + u("u1") + b"K\x00K\x01\x87Rq\x07(K\x03" + u("|") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
    out += b"T" + struct.pack("<I", images.size) + images.tobytes() + b"tb"
    out += u(key) + b"]q\x08(" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    out += u("batch_label") + u("testing batch 1 of 1") + b"u."
    pickletools.dis(out, io.StringIO())
    return out


rng = np.random.default_rng(3)
images = rng.integers(0, 256, (2, 3072), dtype=np.uint8)
images[:, 0] = [11, 22]
images[:, 3071] = [33, 44]
open("test_batch.p2", "wb").write(old([3, 8], images))
new = {b"data": images, b"labels": [3, 8], "filenames": ["a.png", "b.png"], "half": 0.5, "yes": True, "none": None}
open("test_batch.p4", "wb").write(pickle.dumps(new, protocol=4))
open("test_batch.p3", "wb").write(pickle.dumps(new, protocol=3))
open("test_batch.bin", "wb").write(b"".join(bytes([l]) + i.tobytes() for l, i in zip([3, 8], images)))
hundred = {"data": images, "fine_labels": [42, 99], "coarse_labels": [7, 19]}
open("test.p4", "wb").write(pickle.dumps(hundred, protocol=4))
open("test.bin", "wb").write(b"".join(bytes(l) + i.tobytes() for l, i in zip([(7, 42), (19, 99)], images)))
names = {"label_names": [f"class {i}" for i in range(10)]}
open("batches.meta.p2", "wb").write(pickle.dumps(names, protocol=2))
meta = {"fine_label_names": [f"fine {i}" for i in range(100)], "coarse_label_names": [f"coarse {i}" for i in range(20)]}
open("meta.p4", "wb").write(pickle.dumps(meta, protocol=4))
