"""Small Parquet files as Hugging Face writes them (pyarrow 26): `python make.py` in this folder."""
import io
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image


def png(level):
    out = io.BytesIO()
    Image.fromarray(np.full((4, 5), level, np.uint8)).save(out, "PNG")
    return out.getvalue()


image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
rows = [{"bytes": png(i * 10), "path": f"{i}.png"} for i in range(10)]
labels = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3]
table = pa.table({"image": pa.array(rows, image), "label": pa.array(labels, pa.int64())})
for packing in ["none", "snappy", "zstd", "gzip"]:
    pq.write_table(table, f"{packing}.parquet", compression=packing, row_group_size=4)
pq.write_table(table, "v2.parquet", data_page_version="2.0", row_group_size=3, version="2.6")
pq.write_table(table, "plain.parquet", use_dictionary=False, compression="snappy")
pq.write_table(table, "lz4.parquet", compression="lz4")
flat = pa.table({"img": pa.array(rows, image), "fine_label": pa.array(labels, pa.int32()), "coarse_label": pa.array([0] * 10)})
pq.write_table(flat, "cifar.parquet")
rows[2] = None
rows[5] = {"bytes": None, "path": "x"}
pq.write_table(pa.table({"image": pa.array(rows, image), "label": labels}), "holes.parquet")
pq.write_table(pa.table({"image": pa.array(rows, image), "label": pa.array([1, None] * 5)}), "nolabel.parquet")
