"""A forward pass run again, against the pass itself and against another pass at other weights."""

from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from emlc.meta.replay import Replay, copies
from emlc.networks.gate_teacher import Correction, Teacher


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Dropout(0.5)),
        *(nn.Flatten(), nn.Linear(64, 3)),
    )


def images(n: int = 6) -> Tensor:
    return torch.randn(n, 1, 6, 6)


def state(net: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in net.state_dict().items()}


def test_the_same_output_with_the_same_dropout_masks() -> None:
    net, x = network(), images()
    replay = Replay(net, x)
    expected = net(x)
    torch.rand(10)  # the generator moves on
    before = torch.get_rng_state()
    for _ in range(2):
        assert torch.equal(replay({}), expected)
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(net(x), expected)


def test_parameters_and_running_statistics_are_left_alone() -> None:
    net, x = network(), images()
    replay = Replay(net, x)
    net(x)
    before, kept = state(net), copies(replay.buffers)
    replay({})
    replay({"5.bias": torch.ones(3)})
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert all(torch.equal(tensor, kept[name]) for name, tensor in replay.buffers.items())
    assert kept["1.num_batches_tracked"] == 0


@pytest.mark.parametrize("training", [True, False])
def test_the_running_statistics_are_those_before_the_pass(training: bool) -> None:
    net, x = network().train(training), images()
    replay = Replay(net, x)
    expected = net(x)
    with torch.no_grad():
        for buffer in net.buffers():
            buffer.add_(1)
    assert torch.equal(replay({}), expected)


def test_at_other_weights() -> None:
    net, x = network(), images()
    other = deepcopy(net)
    with torch.no_grad():
        for p in other.parameters():
            p.add_(torch.rand_like(p))
    torch.manual_seed(3)
    replay = Replay(net, x)
    net(x)
    torch.manual_seed(3)
    expected = other(x)
    assert torch.equal(replay(dict(other.named_parameters())), expected)
    some = {"5.weight": other.get_parameter("5.weight")}
    torch.manual_seed(3)
    assert torch.equal(replay(some), functional_call(deepcopy(net), some, (x,)))
    assert not torch.equal(replay({}), expected)


def test_under_autocast_and_only_there() -> None:
    net, x = network(), images()
    with torch.autocast("cpu", torch.bfloat16):
        rough_replay = Replay(net, x)
        rough = net(x)
    plain_replay = Replay(net, x)
    plain = net(x)
    assert torch.equal(rough_replay({}), rough)
    assert rough.dtype == torch.bfloat16
    assert torch.is_autocast_enabled("cpu") is False
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(plain_replay({}), plain)
    assert plain.dtype == torch.float32


def test_under_autocast_no_cast_of_other_weights_is_taken() -> None:
    net, x = nn.Linear(5, 3), torch.randn(4, 5)
    with torch.autocast("cpu", torch.bfloat16):
        replay = Replay(net, x)
        before = net(x)
        weights = {name: p.detach().clone().requires_grad_() for name, p in net.named_parameters()}
        assert torch.equal(replay(weights), before)
        with torch.no_grad():
            for p in weights.values():
                p.mul_(2)
        assert torch.equal(replay(weights), 2 * before)


def test_a_batch_that_has_changed_is_refused() -> None:
    net, x, scale = nn.Bilinear(5, 5, 3), torch.randn(4, 5), torch.randn(4, 5)
    replay = Replay(net, x, scale)
    assert torch.equal(replay({}), net(x, scale))
    scale.add_(1)
    with pytest.raises(ValueError, match="modified in place"):
        replay({})


def test_a_mode_that_has_changed_is_refused() -> None:
    net = network()
    replay = Replay(net, images())
    net[3].eval()
    with pytest.raises(ValueError, match="train/eval modes differ"):
        replay({})
    net[3].train()
    replay({})


def test_gradients_of_a_network_of_several_inputs() -> None:
    teacher = Teacher(network()[:5], 64, 3, label_embedding_dim=3, gate_hidden_dim=4)
    x, y = images(), torch.randint(3, (6,))
    replay = Replay(teacher, x, y)
    expected = teacher(x, y)
    c = torch.randn(6, 3)
    gradients = torch.autograd.grad((c * expected.soft_labels).sum(), list(teacher.parameters()))
    with torch.no_grad():
        replay({})
    again = replay({})
    assert isinstance(again, Correction)
    assert all(torch.equal(one, other) for one, other in zip(again, expected, strict=True))
    (c * again.soft_labels).sum().backward()
    for p, gradient in zip(teacher.parameters(), gradients, strict=True):
        torch.testing.assert_close(p.grad, gradient, rtol=0, atol=0)


def test_copies_keep_layout_and_dtype_and_share_nothing() -> None:
    tensors = {
        "channels last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "double": torch.randn(3, dtype=torch.float64, requires_grad=True),
        "count": torch.tensor(7),
        "transposed": torch.randn(3, 4).T,
        "half": torch.randn(2).bfloat16(),
        "empty": torch.empty(0),
        "float": torch.randn(2, 2),
    }
    new = copies(tensors)
    assert list(new) == list(tensors)
    for name, tensor in tensors.items():
        copy = new[name]
        assert torch.equal(copy, tensor)
        assert (copy.dtype, copy.stride()) == (tensor.dtype, tensor.stride()), name
        assert not copy.requires_grad
    storages = [t.untyped_storage().data_ptr() for t in [*tensors.values(), *new.values()] if t.numel()]
    assert len(set(storages)) == len(storages)
    assert copies({}) == {}
