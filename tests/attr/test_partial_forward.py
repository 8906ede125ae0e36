from __future__ import annotations

import warnings

import pytest
import torch
import torch.nn.functional as F
from helpers import Boom, ConvNet, left_unchanged
from torch import nn
from transformers.modeling_outputs import BaseModelOutput

from captum_neuroinspect._core.sites import Site
from captum_neuroinspect.attr._partial_forward import recorded_front, skipped

X = torch.randn(3, 4, generator=torch.Generator().manual_seed(1))


def _square(seed):
    layer = nn.Linear(4, 4)
    generator = torch.Generator().manual_seed(seed)
    layer.weight.data = torch.randn(4, 4, generator=generator)
    return layer


class Net(nn.Module):
    """A forward function around five modules; ``site`` is the layer."""

    def __init__(self, function, **modules) -> None:
        super().__init__()
        self.a, self.b, self.site, self.c = map(_square, range(4))
        self.relu = nn.ReLU(inplace=True)
        self.function = function
        for name, module in modules.items():
            setattr(self, name, module)

    def forward(self, x):
        return self.function(self, x)


class Gives(nn.Module):
    """What a function makes of its arguments, as a module with a weight."""

    def __init__(self, function) -> None:
        super().__init__()
        self.inner, self.function = _square(7), function

    def forward(self, *args):
        return self.function(self, *args)


def _inplace_shortcut(net, x):
    y = net.a(x)
    z = net.relu(y)  # which changes y as well
    return net.c(net.site(net.b(z))) + y


def _changed_after(net, x):
    y = net.a(x)
    z = net.site(y)
    y.add_(1)
    return net.c(z) * y


def _view_changed_in_place(net, x):
    y = net.a(x)
    net.view(y).mul_(3)  # Flatten's view of y: y itself is changed
    return net.c(net.site(y)) + y


def _view_of_an_outer_module(net, x):
    y = net.a(x)
    net.outer(y).mul_(3)
    return net.c(net.site(y)) + y


def _shared(net, x):
    y = net.a(net.a(x).tanh())
    return net.a(net.c(net.site(y)).tanh() + net.a(x))


def _shared_inplace(net, x):
    y = net.a(x)
    z = net.relu(net.b(net.relu(y)))
    return net.relu(net.c(net.site(z))) + y + net.a(y)


def _sometimes_inplace(net, x):
    y = net.outer(x, True)
    z = net.outer(x, False)
    return net.c(net.site(z)) + y + z + x


def _appends(net, x):
    found = []
    net.outer(x, found)
    return net.c(net.site(found[0]))


def _container(net, x):
    output = net.outer(x)
    first = output["last_hidden_state"]
    z = net.site(net.b(first))
    first.add_(1)
    return net.c(z) + output["last_hidden_state"]


def _aliased_outputs(net, x):
    first, rest = net.outer(x)
    first.mul_(2)
    return net.c(net.site(first)) + rest[-1]


CASES = {
    "in-place module before": Net(_inplace_shortcut),
    "in-place after": Net(_changed_after),
    "a view": Net(_view_changed_in_place, view=nn.Flatten(0)),
    "a view by a container": Net(_view_of_an_outer_module, outer=nn.Sequential(nn.Flatten(0))),
    "shared before and after": Net(_shared),
    "shared in-place module": Net(_shared_inplace),
    "sometimes in place": Net(
        _sometimes_inplace, outer=Gives(lambda m, x, flag: x.add_(1) if flag else m.inner(x))
    ),
    "appends to an argument": Net(
        _appends, outer=Gives(lambda m, x, found: found.append(m.inner(x)) or x.new_ones(1))
    ),
    "model output": Net(
        _container, outer=Gives(lambda m, x: BaseModelOutput(last_hidden_state=m.inner(x)))
    ),
    "dictionary": Net(_container, outer=Gives(lambda m, x: {"last_hidden_state": m.inner(x)})),
    "one tensor twice": Net(_aliased_outputs, outer=Gives(lambda m, x: (y := m.inner(x), [y]))),
    "an object": Net(
        lambda net, x: net.c(net.site(net.outer(x)())), outer=Gives(lambda m, x: lambda: m.inner(x))
    ),
}


def _replays(net, site, new, x=X):
    """The pass with a replaced activation three times: plainly, then twice with the front."""
    with torch.no_grad(), left_unchanged(net):
        with site.visited(lambda _: new.clone()):
            plain = net(x.clone())
        with recorded_front(net, site) as front:
            net(x.clone())
        outputs = [plain]
        with skipped(front) as restart, site.visited(lambda _: new.clone()):
            for _ in range(2):
                restart()
                outputs.append(net(x.clone()))
    return outputs


@pytest.mark.parametrize("at_input", [True, False])
@pytest.mark.parametrize("net", CASES.values(), ids=CASES)
def test_skipped_changes_nothing(net, at_input):
    """Whatever modules do in place, share or hand out: bit for bit the plain pass, each time."""
    plain, first, second = _replays(net, Site(net.site, at_input), torch.randn(3, 4))
    assert torch.equal(first, plain)
    assert torch.equal(second, plain)


def test_skipped_with_users_hooks():
    """Hooks that change inputs and outputs act once a pass, not once more on what was kept."""
    net = Net(lambda net, x: net.c(net.site(net.b(y := net.a(x)))) + y)
    handles = [
        net.a.register_forward_hook(lambda m, args, output: output * 2 + 1),
        net.b.register_forward_pre_hook(lambda m, args: args[0].mul_(3)),
        net.site.register_forward_hook(lambda m, args, output: output.add_(1)),
    ]
    for at_input in (True, False):
        plain, first, second = _replays(net, Site(net.site, at_input), torch.randn(3, 4))
        assert torch.equal(first, plain)
        assert torch.equal(second, plain)
    assert len(handles) == 3


def test_skipped_modules_do_not_run():
    """A chain before the layer is not computed again, and nor is the layer for its output."""
    calls = []
    net = nn.Sequential(*(Gives(lambda m, x: calls.append(m) or m.inner(x)) for _ in range(4)))
    for at_input, rest in ((True, [2, 3]), (False, [3])):
        site = Site(net[2], at_input)
        with torch.no_grad(), recorded_front(net, site) as front:
            net(X)
        with skipped(front):
            calls.clear()
            net(X)
        assert [[*net].index(m) for m in calls] == rest


def test_skipped_is_only_the_outermost_module():
    """Weights inside a skipped module are not asked for."""
    net = ConvNet().eval()
    with recorded_front(net, Site(net.head, True)) as front:
        with torch.no_grad():
            net(torch.rand(2, 3, 8, 8))
    assert [*front] == [net.backbone]


def test_skipped_leaves_instance_forwards_alone():
    """Some libraries wrap `forward` on the instance: their wrapper runs and stays."""
    net = nn.Sequential(_square(0), _square(1))
    own = net[0].forward
    wrapped = net[0].forward = lambda x: own(x) * 2
    with recorded_front(net, Site(net[1], True)) as front, torch.no_grad():
        expected = net(X)
    with skipped(front):
        torch.testing.assert_close(net(X), expected)
        assert vars(net[0])["forward"] is not wrapped
    assert vars(net[0])["forward"] is wrapped


def test_skipped_unpatches_after_an_error():
    net = nn.Sequential(_square(0), _square(1), Gives(lambda m, x: 1 / 0))
    with recorded_front(net, Site(net[1], True)) as front, pytest.raises(ZeroDivisionError):
        net(X)
    with left_unchanged(net), pytest.raises(ZeroDivisionError), skipped(front):
        net(X)


def test_skipped_leaves_scripted_modules_alone():
    """A scripted module has no `forward` to take the place of: it runs again."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = nn.Sequential(torch.jit.trace(_square(0), X), _square(1), _square(2))
    with recorded_front(net, Site(net[2], True)) as front, torch.no_grad():
        expected = net(X)
    with skipped(front):
        assert torch.equal(net(X), expected)
    assert torch.equal(net(X + 1), F.linear(net[1](net[0](X + 1)), net[2].weight, net[2].bias))


@pytest.mark.parametrize("error", [Boom, KeyboardInterrupt])
def test_recorded_front_unhooks_a_network_that_raises(error):
    def fails(net, x):
        net.a(x)
        raise error

    net = Net(fails)
    with left_unchanged(net), pytest.raises(error), recorded_front(net, Site(net.site, True)):
        net(X)


def test_front_is_empty_where_the_layer_is_not_reached():
    net = Net(lambda net, x: net.c(net.a(x)))
    with recorded_front(net, Site(net.site, True)) as front:
        net(X)
    assert front == {}
    with skipped(front) as restart:
        restart()
        assert torch.equal(net(X), net.c(net.a(X)))
