"""Small images and what Pillow makes of them: X.jpg and X.webp with X.png (decoded), resize-*.png of source.png.

Written with Pillow 13.0.0 (libjpeg-turbo 3.2.0): `python make.py` in this folder. Pillow up to 12 always resizes rows
before columns, and published results are theirs; 13 sometimes turns the order round, so the two passes are asked for
one by one.
"""
import io
import numpy as np
from PIL import Image

rng = np.random.default_rng(7)


def picture(w, h, channels=3):
    y, x = np.mgrid[0:h, 0:w]
    waves = [128 + 90 * np.sin((x * (k + 1) + y * (3 - k)) / 5.0 + k) for k in range(channels)]
    image = np.stack(waves, -1) + rng.normal(0, 25, (h, w, channels))
    image[h // 3 : h // 2, w // 4 : w // 2] = rng.integers(0, 256, channels)
    image = np.clip(image, 0, 255).astype(np.uint8)
    return Image.fromarray(image[..., 0] if channels == 1 else image, {1: "L", 3: "RGB", 4: "CMYK"}[channels])


def keep(name, data, ending="jpg"):
    open(f"{name}.{ending}", "wb").write(data)
    image = Image.open(io.BytesIO(data))
    if image.mode == "CMYK":
        image = image.convert("RGB")
    image.save(f"{name}.png")


def jpeg(image, **how):
    out = io.BytesIO()
    image.save(out, "JPEG", **how)
    return out.getvalue()


def sampled(data, factor):
    """The same bytes with another luma sampling of as many blocks: scrambled, but well-formed."""
    at = data.index(b"\xff\xc0")
    assert data[at + 10] == 1
    return data[: at + 11] + bytes([factor]) + data[at + 12 :]


sizes = [(1, 1), (2, 2), (3, 5), (4, 4), (5, 3), (17, 16), (37, 29), (64, 48)]
for w, h in sizes:
    for name, sub in [("444", 0), ("422", 1), ("420", 2)]:
        keep(f"base-{name}-{w}x{h}", jpeg(picture(w, h), quality=85, subsampling=sub))
    keep(f"grey-{w}x{h}", jpeg(picture(w, h, 1), quality=70))
    keep(f"progressive-{w}x{h}", jpeg(picture(w, h), quality=90, progressive=True))
big = picture(80, 48)
for quality in [1, 10, 50, 95, 100]:
    keep(f"quality-{quality}", jpeg(big, quality=quality, optimize=True))
    keep(f"progressive-quality-{quality}", jpeg(big, quality=quality, progressive=True, subsampling=quality % 3))
keep("progressive-grey", jpeg(picture(45, 33, 1), quality=80, progressive=True))
keep("restart-rows", jpeg(big, quality=80, restart_marker_rows=1))
keep("restart-blocks", jpeg(big, quality=80, restart_marker_blocks=2, progressive=True))
keep("rgb", jpeg(big, quality=90, keep_rgb=True))
keep("cmyk", jpeg(picture(33, 21, 4), quality=90))
keep("440", sampled(jpeg(picture(64, 64), quality=60, subsampling=1), 0x12))
keep("411", sampled(jpeg(picture(64, 64), quality=60, subsampling=2), 0x41))
keep("1x4", sampled(jpeg(picture(64, 64), quality=60, subsampling=2), 0x14))

for lossless in [True, False]:
    out = io.BytesIO()
    picture(37, 29).save(out, "WEBP", lossless=lossless, quality=80)
    keep(f"webp-{'lossless' if lossless else 'lossy'}", out.getvalue(), "webp")

source = picture(61, 43)
source.save("source.png")
filters = {"box": Image.BOX, "bilinear": Image.BILINEAR, "bicubic": Image.BICUBIC, "lanczos": Image.LANCZOS}
for name, how in filters.items():
    for w, h in [(30, 21), (61, 20), (17, 43), (128, 90), (224, 11), (1, 1), (60, 44)]:
        source.resize((w, source.height), how).resize((w, h), how).save(f"resize-{name}-{h}x{w}.png")
source = picture(21, 64, 1)
source.save("grey.png")
for name, how in filters.items():
    source.resize((32, source.height), how).resize((32, 32), how).save(f"greysize-{name}-32x32.png")
