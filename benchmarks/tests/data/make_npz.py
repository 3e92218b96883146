"""Makes stored.npz and deflated.npz: numpy's own spelling of zip (64-bit sizes in local headers) and of headers.

usage: python make_npz.py    (numpy 2.4)
"""
import pathlib
import numpy as np

here = pathlib.Path(__file__).parent
x = (np.arange(2 * 3 * 4 * 1) * 7 % 256).astype(np.uint8).reshape(2, 3, 4, 1)
y = np.array([[4], [2]], dtype=">i2")
np.savez(here / "stored.npz", x=x, y=y)
np.savez_compressed(here / "deflated.npz", x=x, y=y)
