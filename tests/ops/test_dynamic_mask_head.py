"""The dynamic mask head against loops over instances, pixels and layers in float64."""

import itertools
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from condinst.ops.dynamic_mask_head import dynamic_mask_head, dynamic_mask_head_of_each, split_filters
from condinst.structures import FilterLayout

HEIGHT, WIDTH = 2, 3


@dataclass
class Case:
    """Arguments of one call, float64."""

    features: Tensor
    filters: Tensor
    image_index: Tensor
    locations: Tensor
    scales: Tensor
    layout: FilterLayout
    coordinates: str
    stride: int

    def run(self, dtype: torch.dtype = torch.float64) -> Tensor:
        return dynamic_mask_head(
            self.features.to(dtype),
            self.filters.to(dtype),
            self.image_index,
            self.locations.to(dtype),
            self.scales.to(dtype),
            self.layout,
            self.coordinates,  # type: ignore[arg-type]
            self.stride,
        )


def make(
    layout: FilterLayout,
    coordinates: str = "relative",
    stride: int = 4,
    images: tuple[int, ...] = (1, 0, 2, 1, 2),
    count: int = 3,
) -> Case:
    """Random numbers; `images` says which of `count` images each instance lies in."""
    torch.manual_seed(0)
    instances = len(images)
    return Case(
        torch.randn(count, layout.features, HEIGHT, WIDTH, dtype=torch.float64),
        torch.randn(instances, layout.count, dtype=torch.float64),
        torch.tensor(images, dtype=torch.int64),
        torch.rand(instances, 2, dtype=torch.float64) * 24,
        torch.tensor([64.0, 128, 256, 512, 1024], dtype=torch.float64)[torch.arange(instances) % 5],
        layout,
        coordinates,
        stride,
    )


def enlarge(mask: np.ndarray, factor: int) -> np.ndarray:
    """Output pixel f·i + f/2 is input pixel i."""
    axes = [np.clip((np.arange(n * factor) - factor // 2) / factor, 0, n - 1) for n in mask.shape]
    rows = np.stack([np.interp(axes[0], np.arange(mask.shape[0]), column) for column in mask.T], axis=1)
    return np.stack([np.interp(axes[1], np.arange(mask.shape[1]), row) for row in rows])


def naive(case: Case) -> np.ndarray:
    """One instance, one pixel and one layer at a time; the filters are read off weights first, then biases."""
    layout = case.layout
    sizes = [layout.features + layout.coordinates] + [layout.width] * (layout.depth - 1) + [1]
    masks = []
    for k, numbers in enumerate(case.filters.numpy()):
        features = case.features[case.image_index[k]].numpy()
        height, width = features.shape[1:]
        mask = np.zeros((height, width))
        for v, u in itertools.product(range(height), range(width)):
            x, y = 8 * u + 4, 8 * v + 4
            position = {
                "relative": (case.locations[k].numpy() - (x, y)) / case.scales[k].item(),
                "only": (case.locations[k].numpy() - (x, y)) / case.scales[k].item(),
                "absolute": np.array([x / (8 * width) * 2 - 1, y / (8 * height) * 2 - 1]),
                "none": np.zeros(0),
            }[case.coordinates]
            values = np.concatenate([position, features[:, v, u]])
            weight_at, bias_at = 0, sum(a * b for a, b in itertools.pairwise(sizes))
            for layer, (inputs, outputs) in enumerate(itertools.pairwise(sizes)):
                weight = numbers[weight_at : weight_at + inputs * outputs].reshape(outputs, inputs)
                values = weight @ values + numbers[bias_at : bias_at + outputs]
                weight_at, bias_at = weight_at + inputs * outputs, bias_at + outputs
                if layer < len(sizes) - 2:
                    values = np.maximum(values, 0)
            mask[v, u] = values[0]
        masks.append(enlarge(mask, 8 // case.stride))
    return np.array(masks)


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
@pytest.mark.parametrize(
    ("coordinates", "features"),
    [*itertools.product(("relative", "absolute", "none"), (1, 8, 16)), ("only", 0)],
)
def test_naive_loop(depth: int, coordinates: str, features: int) -> None:
    for width, stride in ((8, 4), (2, 8), (16, 2), (1, 4)):
        layout = FilterLayout(features, 0 if coordinates == "none" else 2, depth, width)
        case = make(layout, coordinates, stride)
        expected = naive(case)
        assert expected.shape == (5, HEIGHT * 8 // stride, WIDTH * 8 // stride)
        np.testing.assert_allclose(case.run().numpy(), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
@pytest.mark.parametrize(("coordinates", "features"), [("relative", 8), ("absolute", 3), ("none", 8), ("only", 0)])
def test_of_each_by_the_naive_loop(depth: int, coordinates: str, features: int) -> None:
    """As many instances in each image, as exported programs have them: float32 against loops in float64."""
    layout = FilterLayout(features, 0 if coordinates == "none" else 2, depth, 8)
    case = make(layout, coordinates, 8, images=(0, 0, 1, 1, 2, 2))
    expected = naive(case)
    numbers = (case.filters, case.locations, case.scales)
    found = dynamic_mask_head_of_each(
        case.features.float(),
        *(number.float().reshape(3, 2, *number.shape[1:]) for number in numbers),
        layout,
        coordinates,  # type: ignore[arg-type]
    )
    assert found.dtype == torch.float32
    assert found.shape == (3, 2, HEIGHT, WIDTH)
    np.testing.assert_allclose(found.flatten(0, 1).numpy(), expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
    torch.testing.assert_close(found.flatten(0, 1), case.run(torch.float32), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("images", [(0, 0, 0), (2, 2), (1, 0, 1, 0), ()])
def test_images_without_instances(images: tuple[int, ...]) -> None:
    case = make(FilterLayout(), images=images)
    found = case.run()
    assert found.shape == (len(images), 4, 6)
    np.testing.assert_allclose(found.numpy(), naive(case).reshape(found.shape), rtol=1e-9, atol=1e-9)


def test_one_image_takes_the_same_way() -> None:
    case = make(FilterLayout(), images=(0, 0, 0), count=1)
    np.testing.assert_allclose(case.run().numpy(), naive(case), rtol=1e-9, atol=1e-9)
    assert make(FilterLayout(), images=(), count=1).run().shape == (0, 4, 6)


def test_single_precision_far_from_the_origin() -> None:
    """The first layer is computed as one affine map of absolute positions: what that costs 1300 pixels out."""
    case = make(FilterLayout(8, 2, 3, 8))
    case.features = torch.randn(3, 8, 100, 168, dtype=torch.float64)
    case.locations = torch.tensor([[1300.0, 780.0]], dtype=torch.float64).repeat(5, 1)
    exact, single = case.run(), case.run(torch.float32)
    assert single.dtype == torch.float32
    assert (single - exact).abs().max() < 1e-5 * exact.abs().max()


def test_split_by_hand() -> None:
    """Weights of all layers come first, (out, in) row-major, then all biases."""
    layers = split_filters(torch.arange(11.0)[None], FilterLayout(features=1, coordinates=2, depth=2, width=2))
    assert layers[0].weight.tolist() == [[[0, 1, 2], [3, 4, 5]]]
    assert layers[1].weight.tolist() == [[[6, 7]]]
    assert layers[0].bias.tolist() == [[[8], [9]]]
    assert layers[1].bias.tolist() == [[[10]]]


@pytest.mark.parametrize(
    ("layout", "count"),
    [
        *((FilterLayout(depth=depth), n) for depth, n in ((1, 11), (2, 97), (3, 169), (4, 241))),
        *((FilterLayout(width=width), n) for width, n in ((2, 31), (4, 69), (8, 169), (16, 465))),
        *((FilterLayout(features=features), n) for features, n in ((1, 113), (2, 121), (4, 137), (8, 169), (16, 233))),
        (FilterLayout(coordinates=0), 153),
        (FilterLayout(features=0), 105),
        (FilterLayout(features=16, width=16), 593),
    ],
)
def test_published_counts(layout: FilterLayout, count: int) -> None:
    assert layout.count == count
    assert sum(part.numel() for layer in split_filters(torch.zeros(1, count), layout) for part in layer) == count


def test_published_layout() -> None:
    assert FilterLayout().weight_counts == [80, 64, 8]
    assert FilterLayout().sizes[1:] == [8, 8, 1]


@pytest.mark.parametrize(("depth", "coordinates"), [(1, "relative"), (3, "relative"), (2, "absolute"), (3, "none")])
def test_gradient(depth: int, coordinates: str) -> None:
    case = make(FilterLayout(2, 0 if coordinates == "none" else 2, depth, 3), coordinates, 4, (1, 0, 1), 2)

    def run(features: Tensor, filters: Tensor) -> Tensor:
        case.features, case.filters = features, filters
        return case.run()

    assert gradcheck(run, (case.features.requires_grad_(), case.filters.requires_grad_()))


def tiles_of(pixels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a tile be as small as this."""
    monkeypatch.setattr("condinst.ops.dynamic_mask_head.CACHED_NUMBERS", 0)
    monkeypatch.setattr("condinst.ops.dynamic_mask_head.FEWEST_PIXELS", pixels)


@pytest.mark.parametrize("pixels", [1, 4, 6, 7])
@pytest.mark.parametrize("depth", [1, 3])
def test_tiles(pixels: int, depth: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """2 × 3 pixels in tiles that do and do not divide them, values and gradients."""
    tiles_of(pixels, monkeypatch)
    case = make(FilterLayout(2, 2, depth, 3), images=(1, 0, 1), count=2)
    np.testing.assert_allclose(case.run().numpy(), naive(case), rtol=1e-9, atol=1e-9)

    def run(features: Tensor, filters: Tensor, locations: Tensor) -> Tensor:
        case.features, case.filters, case.locations = features, filters, locations
        return case.run()

    assert gradcheck(run, tuple(t.requires_grad_() for t in (case.features, case.filters, case.locations)))


@pytest.mark.parametrize("wanted", ["features", "filters"])
def test_gradient_of_one_alone(wanted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tiles_of(4, monkeypatch)
    case, other = make(FilterLayout()), make(FilterLayout())
    getattr(case, wanted).requires_grad_()
    other.features.requires_grad_()
    other.filters.requires_grad_()
    case.run().square().sum().backward()
    other.run().square().sum().backward()
    assert torch.equal(getattr(case, wanted).grad, getattr(other, wanted).grad)


def test_nothing_between_the_layers_is_kept() -> None:
    """What autograd holds on to is less than a tenth of one hidden layer."""
    case = make(FilterLayout(), images=(0,) * 20, count=1)
    case.features = torch.randn(1, 8, 50, 60, dtype=torch.float64, requires_grad=True)
    case.filters.requires_grad_()
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        case.run()
    assert 0 < sum(kept.values()) < 0.1 * 8 * (20 * 8 * 50 * 60)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype: torch.dtype) -> None:
    """Far from the origin the error is that of writing the result down, whatever the coordinates."""
    case = make(FilterLayout(), images=(0,) * 5, count=1)
    case.features = torch.randn(1, 8, 100, 168, dtype=torch.float64).to(dtype).double()
    case.filters = case.filters.to(dtype).double()
    case.locations = torch.tensor([[1300.0, 780.0]], dtype=torch.float64).repeat(5, 1)
    case.locations = case.locations.to(dtype).double()
    exact, half = case.run(), case.run(dtype)
    assert half.dtype == dtype
    rounding = torch.finfo(dtype).eps / 2
    assert ((half.double() - exact).abs() <= 1.01 * rounding * exact.abs() + 1e-5 * exact.abs().max()).all()


def test_autocast_changes_nothing() -> None:
    case, again = make(FilterLayout()), make(FilterLayout())
    case.filters.requires_grad_()
    again.filters.requires_grad_()
    expected = case.run(torch.float32)
    expected.sum().backward()
    with torch.autocast("cpu", torch.bfloat16):
        found = again.run(torch.float32)
        found.sum().backward()
    assert torch.equal(found, expected)
    assert again.filters.grad is not None
    assert torch.equal(again.filters.grad, case.filters.grad)


class Module(torch.nn.Module):
    def forward(self, features: Tensor, filters: Tensor, index: Tensor, locations: Tensor, scales: Tensor) -> Tensor:
        return dynamic_mask_head(features, filters, index, locations, scales, FilterLayout(), "relative", 4)


def test_export_and_compile() -> None:
    """Any number of instances and any size, from one program of plain operations."""
    case, other = make(FilterLayout(), images=(0,) * 4, count=1), make(FilterLayout(), images=(0,) * 3, count=1)
    other.features = torch.randn(1, 8, 5, 4, dtype=torch.float64)
    inputs, others = ((c.features, c.filters, c.image_index, c.locations, c.scales) for c in (case, other))
    size = torch.export.Dim.DYNAMIC
    dynamic = ({2: size, 3: size}, *({0: size} for _ in range(4)))
    program = torch.export.export(Module(), inputs, dynamic_shapes=dynamic)
    assert torch.allclose(program.module()(*others), other.run(), atol=1e-12)
    targets = {str(node.target) for node in program.graph.nodes}
    assert "aten.baddbmm.default" in targets
    assert not any(word in target for target in targets for word in ("autocast", "autograd"))
    compiled = torch.compile(Module(), backend="eager", fullgraph=True)
    assert torch.allclose(compiled(*inputs), case.run(), atol=1e-12)


@pytest.mark.parametrize("count", [1, 3])
def test_no_instance_gives_zero_gradients(count: int) -> None:
    case = make(FilterLayout(), images=(), count=count)
    case.features.requires_grad_()
    case.filters.requires_grad_()
    case.run().sum().backward()
    assert case.features.grad is not None
    assert not case.features.grad.any()
    assert case.filters.grad is not None


def test_mirrored() -> None:
    """Mirrored features and locations, with the weight of dx negated, draw the mirrored masks."""
    case = make(FilterLayout(), stride=8)
    plain = case.run()
    case.features = case.features.flip(3)
    case.locations[:, 0] = 8 * WIDTH - case.locations[:, 0]
    case.filters[:, 0:80:10] *= -1
    assert torch.allclose(case.run(), plain.flip(2), atol=1e-12)
