"""What goes in comes out: pandas, polars, xarray and torch, with their labels.

Prints:
                 cat       dog
    first     0.2689    0.7311
    second    0.9820    0.0180
    polars: ['cat', 'dog']
    xarray: ('photo',), first 2.3133
    torch: torch.bfloat16
"""

import numpy as np
import pandas as pd
import polars as pl
import xarray as xr

from fastsoftmax import logsumexp, softmax

values = np.array([[1.0, 2.0], [4.0, 0.0]])

frame = pd.DataFrame(values, index=["first", "second"], columns=["cat", "dog"])
print(softmax(frame, axis="columns").to_string(float_format="%9.4f"))

print("polars:", softmax(pl.DataFrame(values, schema=["cat", "dog"]), axis=1).columns)

photos = xr.DataArray(values, dims=["photo", "animal"], coords={"photo": ["first", "second"]})
log_total = logsumexp(photos, dim="animal")
print(f"xarray: {log_total.dims}, first {float(log_total.sel(photo='first')):.4f}")

try:
    import torch
except ModuleNotFoundError:
    print("torch: not installed")
else:
    print("torch:", softmax(torch.tensor(values, dtype=torch.bfloat16), -1).dtype)
