"""The CPU target: kernels on lanes, and what compiles, keeps and chooses them."""
