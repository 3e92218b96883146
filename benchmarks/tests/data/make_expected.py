"""Checksums of what Pillow and torchvision's rules make of the shared sample sets, for `data.rs`.

`python make_expected.py SHARED_DATA`: prints CRC-32 over all pixels (u8, row by row, RGB) in the order of the samples.
Pillow up to 12 resizes rows before columns; the two passes are asked for one by one, as 13 may turn them round.
"""
import glob
import os
import sys
import tarfile
import tempfile
import zlib
import numpy as np
from PIL import Image

root = sys.argv[1]
with tempfile.TemporaryDirectory() as tmp:
    for name in ["cifar10/test.tar.gz", "imagenet-sample/val100.tar.gz"]:
        tarfile.open(os.path.join(root, name)).extractall(tmp, filter="data")

    crc = total = 0
    for path in sorted(glob.glob(f"{tmp}/test/*/*.jpg")):
        pixels = np.asarray(Image.open(path).convert("RGB"))
        crc, total = zlib.crc32(pixels.tobytes(), crc), total + int(pixels.sum(dtype=np.int64))
    print("cifar10 test", hex(crc), total)

    for how, name in [(Image.BILINEAR, "bilinear"), (Image.BICUBIC, "bicubic")]:
        crc = 0
        for path in sorted(glob.glob(f"{tmp}/val/*/*.JPEG")):
            image = Image.open(path).convert("RGB")
            w, h = image.size
            nw, nh = (180, int(180 * h / w)) if w <= h else (int(180 * w / h), 180)
            image = image.resize((nw, h), how).resize((nw, nh), how)
            top, left = int(round((nh - 160) / 2.0)), int(round((nw - 160) / 2.0))
            crc = zlib.crc32(np.asarray(image.crop((left, top, left + 160, top + 160))).tobytes(), crc)
        print("imagenet", name, hex(crc))
