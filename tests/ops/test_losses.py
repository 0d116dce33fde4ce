"""Each loss and its gradient against hand-worked values, float64 formulas, torch and torchvision."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck
from torch.nn import functional as F
from torchvision.ops import generalized_box_iou, generalized_box_iou_loss

from condinst.ops import losses

Loss = Callable[[Tensor, Tensor], Tensor]
BOX_LOSSES = [
    losses.giou_loss,
    losses.plain_giou_loss,
    losses.clamped_giou_loss,
    losses.iou_loss,
    losses.smooth_l1_loss,
]
MASK_LOSSES = [losses.dice_loss, losses.mask_cross_entropy, losses.projection_loss]


def distances(count: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.rand(count, 4, dtype=dtype) * 5 + 0.1, torch.rand(count, 4, dtype=dtype) * 5 + 0.1


def test_focal_by_hand() -> None:
    found = losses.focal(torch.zeros(2), torch.tensor([1.0, 0.0]))
    assert found.tolist() == pytest.approx([0.25 * 0.25 * math.log(2), 0.75 * 0.25 * math.log(2)])


def test_classification_losses_are_their_formulas() -> None:
    logits = np.random.default_rng(0).normal(size=(5, 7)) * 3
    targets = (np.arange(35).reshape(5, 7) % 3 == 0).astype(float)
    p = 1 / (1 + np.exp(-logits))
    right = np.where(targets == 1, p, 1 - p)
    entropy = -np.log(right)
    focal = np.where(targets == 1, 0.25, 0.75) * (1 - right) ** 2 * entropy
    found = (torch.from_numpy(logits), torch.from_numpy(targets))
    np.testing.assert_allclose(losses.cross_entropy(*found), entropy, rtol=1e-9)
    np.testing.assert_allclose(losses.focal(*found), focal, rtol=1e-9)


def test_overlap_by_hand() -> None:
    """Areas 8 and 8, common 2·2, union 12, hull 4·4."""
    predicted, target = torch.tensor([[1.0, 2, 1, 2]]), torch.tensor([[2.0, 1, 2, 1]])
    iou, giou = losses.box_overlap(predicted, target)
    assert iou.item() == pytest.approx(5 / 13)
    assert giou.item() == pytest.approx(5 / 13 - 4 / 16)
    assert losses.giou_loss(predicted, target).item() == pytest.approx(1 - 5 / 13 + 0.25)
    assert losses.iou_loss(predicted, target).item() == pytest.approx(math.log(13 / 5))
    for loss in BOX_LOSSES:
        assert loss(target, target).item() == pytest.approx(0, abs=1e-7)


def test_quality_focal_gradients() -> None:
    targets = torch.tensor([[0.7, 0.0, 0.0], [0.0, 0.2, 0.0]], dtype=torch.float64)
    logits = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda x: losses.quality_focal(x, targets), logits)


def test_smooth_l1_by_hand() -> None:
    predicted, target = torch.tensor([[0.5, 3.0, 1.0, 0.0]]), torch.tensor([[1.0, 1.0, 1.0, 1.0]])
    assert losses.smooth_l1_loss(predicted, target).tolist() == [0.125 + 1.5 + 0 + 0.5]
    predicted, target = distances(20)
    expected = F.huber_loss(predicted, target, reduction="none").sum(dim=1)
    torch.testing.assert_close(losses.smooth_l1_loss(predicted, target), expected)


def test_giou_differs_from_torchvision_by_the_added_ones() -> None:
    """Published: one is added above and below the fraction of the IoU, and nowhere else."""
    predicted, target = distances(50)
    location = torch.tensor([7.0, 9.0], dtype=torch.float64)
    boxes = [torch.cat((location - d[:, :2], location + d[:, 2:]), dim=1) for d in (predicted, target)]
    common = torch.minimum(predicted, target)
    intersection = (common[:, 0] + common[:, 2]) * (common[:, 1] + common[:, 3])
    areas = [(b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1]) for b in boxes]
    union = areas[0] + areas[1] - intersection
    one = (intersection + 1) / (union + 1) - intersection / union
    iou, giou = losses.box_overlap(predicted, target)
    torch.testing.assert_close(giou, generalized_box_iou(*boxes).diagonal() + one)
    torch.testing.assert_close(iou, intersection / union + one)
    torch.testing.assert_close(losses.giou_loss(predicted, target), generalized_box_iou_loss(*boxes, eps=0) - one)


def test_clamped_giou_by_hand() -> None:
    """Two boxes with a gap of a quarter of the hull, two of no size in one place, one of no size inside another."""
    predicted = torch.tensor([[-1.0, 1, 2, 0], [0.0, 0, 0, 0], [1.0, 1, 1, 1]])
    target = torch.tensor([[2.0, 1, 0, 0], [0.0, 0, 0, 0], [0.0, 0, 0, 0]])
    found = losses.clamped_giou_loss(predicted, target)
    assert found.tolist() == pytest.approx([1 + 1 / 4, 1, 1])


def test_clamped_giou_is_torchvisions_where_boxes_have_a_size() -> None:
    predicted, target = distances(50)
    predicted, target = predicted - 1, target - 1.5
    predicted[:, 2:] += 3
    target[:, 2:] += 3
    corners = [torch.cat((-d[:, :2], d[:, 2:]), dim=1) for d in (predicted, target)]
    expected = generalized_box_iou_loss(*corners, eps=0)
    torch.testing.assert_close(losses.clamped_giou_loss(predicted, target), expected)
    assert (predicted < 0).any()
    assert (expected > 1).any()
    assert gradcheck(lambda p: losses.clamped_giou_loss(p, target), predicted.requires_grad_())


def test_quality_focal_is_its_formula() -> None:
    logits = np.random.default_rng(0).normal(size=(5, 7)) * 3
    targets = np.where(np.arange(35) % 4 == 0, np.random.default_rng(1).uniform(size=35), 0).reshape(5, 7)
    p = 1 / (1 + np.exp(-logits))
    expected = -(targets * np.log(p) + (1 - targets) * np.log(1 - p)) * (targets - p) ** 2
    found = losses.quality_focal(torch.from_numpy(logits), torch.from_numpy(targets))
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_dice_by_hand() -> None:
    """Two pixels at probability one half, one of them true: 1 − 2·0.5 / (0.25 + 0.25 + 1)."""
    truth = torch.tensor([[[True, False]], [[True, True]], [[False, False]], [[True, False]]])
    logits = torch.tensor([[[0.0, 0.0]], [[50.0, 50.0]], [[0.0, 0.0]], [[-50.0, 50.0]]])
    expected = [1 - 1 / (1.5 + 1e-5), 1 - 4 / (4 + 1e-5), 1, 1]
    assert losses.dice_loss(logits, truth).tolist() == pytest.approx(expected, abs=1e-6)


def test_mask_cross_entropy_by_hand() -> None:
    truth = torch.tensor([[[True, False]], [[False, False]]])
    logits = torch.tensor([[[0.0, 0.0]], [[0.0, -100.0]]])
    assert losses.mask_cross_entropy(logits, truth).tolist() == pytest.approx([math.log(2), math.log(2) / 2])
    logits, truth = torch.randn(3, 4, 5), torch.rand(3, 4, 5) > 0.5
    each = [F.binary_cross_entropy(m.sigmoid(), t.float()) for m, t in zip(logits, truth, strict=True)]
    torch.testing.assert_close(losses.mask_cross_entropy(logits, truth), torch.stack(each))


def test_projection_by_hand() -> None:
    """Columns' largest values ½ and 1 against 1 and 0, rows' 1 and ½ against 1 and 1."""
    truth = torch.tensor([[[True, False], [True, False]]])
    logits = torch.tensor([[[0.0, 50.0], [0.0, 0.0]]])
    columns = 1 - 2 * 0.5 / (0.25 + 1 + 1 + 1e-5)
    rows = 1 - 2 * 1.5 / (1 + 0.25 + 2 + 1e-5)
    assert losses.projection_loss(logits, truth).tolist() == pytest.approx([columns + rows])


def test_projection_asks_for_no_more_than_the_box() -> None:
    """A cross that touches all four sides is as good as the filled box; a mask beyond the box is not."""
    box = torch.zeros(1, 9, 9, dtype=torch.bool)
    box[:, 2:7, 2:7] = True
    cross = torch.full((1, 9, 9), -50.0)
    cross[:, 4, 2:7] = cross[:, 2:7, 4] = 50
    beyond = cross.clone()
    beyond[:, 4, 7] = 50
    assert losses.projection_loss(cross, box).item() == pytest.approx(0, abs=1e-5)
    assert losses.projection_loss(beyond, box).item() > 0.05


def test_disagreement_equals_its_formula() -> None:
    grid = torch.linspace(-12, 12, 25, dtype=torch.float64)
    one, other = torch.meshgrid(grid, grid, indexing="ij")
    p, q = one.sigmoid(), other.sigmoid()
    expected = -(p * q + (1 - p) * (1 - q)).log()
    torch.testing.assert_close(losses.disagreement(one, other), expected, rtol=1e-8, atol=1e-12)
    assert losses.disagreement(torch.zeros(()), torch.zeros(())).item() == pytest.approx(math.log(2))


def test_disagreement_far_out() -> None:
    """In float32, where 1 − p is lost: a relative error of 1e-4 even of the smallest values, and finite gradients."""
    values = torch.tensor([-300.0, -80, -30, -3, 0, 3, 30, 80, 300])
    one, other = (grid.clone().requires_grad_() for grid in torch.meshgrid(values, values, indexing="ij"))
    found = losses.disagreement(one, other)
    p, q = one.detach().double().numpy(), other.detach().double().numpy()
    p, not_p, q, not_q = (1 / (1 + np.exp(-logit)) for logit in (p, -p, q, -q))
    differ, same = p * not_q + not_p * q, p * q + not_p * not_q
    exact = np.where(differ < 0.5, -np.log1p(-np.minimum(differ, 0.5)), -np.log(same))
    np.testing.assert_allclose(found.detach(), exact, rtol=1e-4, atol=1e-30)
    found.sum().backward()
    for side in (one, other):
        assert side.grad is not None
        assert side.grad.isfinite().all()
        assert side.grad.abs().max() <= 1


def test_disagreement_gradients() -> None:
    one, other = (torch.randn(4, 3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    assert gradcheck(losses.disagreement, (one, other))


@pytest.mark.parametrize("loss", BOX_LOSSES)
def test_box_gradients(loss: Loss) -> None:
    predicted, target = distances(6)
    assert gradcheck(lambda p: loss(p, target), predicted.requires_grad_())


@pytest.mark.parametrize("loss", MASK_LOSSES)
def test_mask_gradients(loss: Loss) -> None:
    truth = torch.rand(3, 2, 3) > 0.5
    assert gradcheck(lambda m: loss(m, truth), torch.randn(3, 2, 3, dtype=torch.float64, requires_grad=True))


@pytest.mark.parametrize("loss", [losses.focal, losses.cross_entropy, losses.quality_focal])
def test_classification_gradients(loss: Loss) -> None:
    targets = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], dtype=torch.float64)
    assert gradcheck(lambda x: loss(x, targets), torch.randn(2, 3, dtype=torch.float64, requires_grad=True))


@pytest.mark.parametrize("loss", BOX_LOSSES)
def test_boxes_of_no_size(loss: Loss) -> None:
    """The head starts with distances of 0 where the ReLU cuts: loss and gradient stay finite."""
    predicted = torch.zeros(2, 4, requires_grad=True)
    found = loss(predicted, torch.tensor([[1.0, 2, 3, 4], [0.0, 0, 0, 0]]))
    found.sum().backward()
    assert found.isfinite().all()
    assert predicted.grad is not None
    assert predicted.grad.isfinite().all()


@pytest.mark.parametrize("size", [1e3, 1e-3])
def test_masks_far_out(size: float) -> None:
    truth = torch.tensor([[[True, False]]])
    for loss in MASK_LOSSES:
        logits = torch.tensor([[[-size, size]]], requires_grad=True)
        loss(logits, truth).sum().backward()
        assert logits.grad is not None
        assert logits.grad.isfinite().all()


def test_nothing_given() -> None:
    for loss in BOX_LOSSES:
        assert loss(torch.empty(0, 4), torch.empty(0, 4)).shape == (0,)
    for loss in MASK_LOSSES:
        assert loss(torch.empty(0, 3, 3), torch.empty(0, 3, 3, dtype=torch.bool)).shape == (0,)
