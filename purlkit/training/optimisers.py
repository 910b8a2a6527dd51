"""torch's optimisers as they are, without its compiler: a process that trains is there two CPU seconds earlier.

torch loads `torch._dynamo` at an optimiser's first call, only to ask it to keep out. That takes as long as all the rest
of torch, and each runner and fine-tuning of a job would pay for it. So these are the methods that torch wrapped; where
nothing is compiled they do the same, bit for bit.
"""

from __future__ import annotations

from inspect import unwrap

import torch
from torch.optim import Optimizer


class _Uncompiled(Optimizer):
    add_param_group = unwrap(Optimizer.add_param_group)
    zero_grad = unwrap(Optimizer.zero_grad)
    state_dict = unwrap(Optimizer.state_dict)
    load_state_dict = unwrap(Optimizer.load_state_dict)


class SGD(_Uncompiled, torch.optim.SGD):
    step = torch.no_grad()(unwrap(torch.optim.SGD.step))


class Adam(_Uncompiled, torch.optim.Adam):
    step = torch.no_grad()(unwrap(torch.optim.Adam.step))
