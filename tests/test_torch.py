"""torch's tensors on the host: tensors in, tensors out, with NumPy's bits and no copy."""

import sys

import ml_dtypes
import numpy as np
import pytest

from fastsoftmax import entropy, log_softmax, logsumexp, softmax

torch = pytest.importorskip("torch", reason="torch is not installed")

FUNCTIONS = [softmax, log_softmax, logsumexp, entropy]
TYPES = ["float16", "bfloat16", "float32", "float64"]
X = np.random.default_rng(0).standard_normal((3, 4, 5)).astype(np.float32)


def bits(tensor):
    """A tensor's memory as NumPy's array."""
    if tensor.dtype is torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return tensor.numpy()


def same(got, wanted):
    assert isinstance(got, torch.Tensor)
    assert str(got.dtype) == f"torch.{wanted.dtype.name}"
    np.testing.assert_array_equal(
        bits(got).astype(np.float64), np.asarray(wanted).astype(np.float64)
    )
    assert tuple(got.shape) == np.shape(wanted)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("dtype", [*TYPES, "int32", "bool"])
def test_tensors_come_back_as_tensors(function, dtype):
    whole = torch.tensor(X).to(getattr(torch, dtype))
    for x in (
        whole,
        whole.permute(2, 0, 1),
        whole[:, ::2],
        whole[0, 0, 0],
        whole[:0],
        whole[:0, 0],
    ):
        for axis in (None, *range(x.ndim)):
            same(function(x, axis), function(bits(x), axis))


@pytest.mark.parametrize("function", FUNCTIONS)
def test_an_axis_of_a_tensor_may_be_called_dim_as_torch_does(function):
    x = torch.tensor(X)
    for dim in (0, -1, (0, 2), [1, -1], ()):
        same(function(x, dim=dim), function(X, tuple(dim) if isinstance(dim, list) else dim))
    same(function(x[0, 0, 0], dim=-1), function(X[0, 0, 0], -1))
    for dim, error, words in (
        ("c", TypeError, "^dim must be an int or several where {} is a tensor, got 'c'$"),
        (1.0, TypeError, "got 1.0$"),
        ((0, None), TypeError, r"got \(0, None\)$"),
        (3, np.exceptions.AxisError, "^dim: axis 3 is out of bounds for array of dimension 3$"),
        ((1, -2), ValueError, r"^dim must not name a dimension twice, got \(1, -2\)$"),
    ):
        with pytest.raises(error, match=words.format("a" if function is logsumexp else "x")):
            function(x, dim=dim)
    with pytest.raises(ValueError, match=r"^give axis or dim, not both: got axis=1 and dim=1$"):
        function(x, 1, dim=1)


def test_a_scalar_result_is_a_tensor_of_no_dimensions():
    for dtype in TYPES:
        assert logsumexp(torch.tensor(X).to(getattr(torch, dtype))).shape == ()


def test_masks_and_temperatures_and_weights_may_be_tensors():
    x, mask, heat = torch.tensor(X), torch.tensor(X > 0), torch.ones(3, 4, 1).bfloat16() * 2
    got = softmax(x, -1, where=mask, temperature=heat)
    same(got, softmax(X, -1, where=X > 0, temperature=2.0))
    weighted = logsumexp(x, -1, b=torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0]))
    same(weighted, logsumexp(X, -1, b=np.arange(1, 6, dtype=np.float32)))
    value, sign = logsumexp(x, -1, b=-torch.ones(2, 1, 1, 5), return_sign=True)
    assert isinstance(value, torch.Tensor)
    assert (sign == -1).all()
    assert type(softmax(X, -1, where=mask)) is np.ndarray


@pytest.mark.parametrize("dtype", TYPES)
def test_out_is_written_and_returned(dtype):
    x, out = torch.tensor(X), torch.zeros(X.shape, dtype=getattr(torch, dtype))
    before = out._version
    assert softmax(x, -1, out=out) is out
    same(out, softmax(X, -1, out=np.zeros(X.shape, bits(out).dtype)))
    assert out._version > before
    assert softmax(X, -1, out=out) is out
    into = np.zeros_like(X)
    assert softmax(x, -1, out=into) is into
    assert softmax(x, -1, out=x) is x
    same(x, softmax(X, -1))


@pytest.mark.parametrize("dtype", TYPES)
def test_dtype_may_be_torchs(dtype):
    wanted = getattr(torch, dtype)
    assert softmax(torch.tensor(X), -1, dtype=wanted).dtype is wanted
    assert softmax(X, -1, dtype=wanted).dtype.name == dtype


def test_nothing_is_copied_where_the_layout_allows(monkeypatch):
    from fastsoftmax.cpu import plan

    seen = []
    monkeypatch.setattr(plan, "compute", lambda formula, x, *rest: seen.append(x.ctypes.data))
    for dtype in TYPES:
        x = torch.tensor(X).to(getattr(torch, dtype))
        softmax(x, -1)
        softmax(x.permute(2, 1, 0), 0)
        assert seen[-2:] == [x.data_ptr()] * 2


def test_what_is_conjugated_or_negated_where_it_is_read():
    negated = torch._neg_view(torch.tensor(X))
    same(softmax(negated, -1), softmax(-X, -1))
    numbers = torch.tensor(X + 1j)
    got = logsumexp(numbers.conj(), -1)
    np.testing.assert_array_equal(got.numpy(), logsumexp(np.conj(numbers.numpy()), -1))


def test_tensors_that_cannot_be_read_are_refused_with_what_to_do():
    x, leaf = torch.tensor(X), torch.tensor(X, requires_grad=True)
    words = "{0} requires gradients, of which none come: pass {0}.detach\\(\\)"
    for name, function, given in (
        ("x", softmax, {"x": leaf}),
        ("a", logsumexp, {"a": leaf}),
        ("where", softmax, {"x": x, "where": leaf}),
        ("temperature", softmax, {"x": x, "temperature": leaf}),
        ("out", softmax, {"x": x, "out": leaf}),
    ):
        with pytest.raises(TypeError, match=f"^{words.format(name)}"):
            function(**given)
    softmax(leaf.detach(), -1)
    with pytest.raises(TypeError, match=r"^x must be an array or make one, .*to_dense"):
        softmax(x.to_sparse())
    with pytest.raises(TypeError, match=r"^x must be an array or make one, .*meta"):
        softmax(torch.zeros(3, device="meta"))
    with pytest.raises(TypeError, match=r"^dtype must be a floating-point type, got dtype"):
        softmax(x, dtype=torch.int32)
    with pytest.raises(TypeError, match=r"^dtype must be one of torch's, got"):
        softmax(x, dtype=np.longdouble)
    assert (
        softmax(x, dtype=np.longdouble, out=np.zeros(X.shape, np.longdouble)).dtype == "longdouble"
    )


def test_bfloat16_without_ml_dtypes_says_what_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(TypeError, match=r"x must be .*: bfloat16 needs ml_dtypes here: pip inst"):
        softmax(torch.zeros(3).bfloat16())
