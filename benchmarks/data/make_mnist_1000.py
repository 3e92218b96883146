"""Makes mnist-1000.gz: the first 1,000 MNIST test images and labels as two IDX files end to end, gzip'd.

usage: python make_mnist_1000.py DIR    (DIR holds t10k-images-idx3-ubyte.gz and t10k-labels-idx1-ubyte.gz)
"""
import gzip, pathlib, struct, sys

N = 1000
source, here = pathlib.Path(sys.argv[1]), pathlib.Path(__file__).parent
images = gzip.decompress((source / "t10k-images-idx3-ubyte.gz").read_bytes())
labels = gzip.decompress((source / "t10k-labels-idx1-ubyte.gz").read_bytes())
assert struct.unpack(">4I", images[:16]) == (0x803, 10000, 28, 28) and struct.unpack(">2I", labels[:8]) == (0x801, 10000)
packed = struct.pack(">4I", 0x803, N, 28, 28) + images[16 : 16 + N * 784] + struct.pack(">2I", 0x801, N) + labels[8 : 8 + N]
(here / "mnist-1000.gz").write_bytes(gzip.compress(packed, 9, mtime=0))
