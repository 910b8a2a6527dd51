"""What the papers report, so that a result can be laid beside it. All numbers are theirs, in percent; none is ours.

The sources: "PuRL", Learning to Prune Deep Neural Networks via Fast Reinforcement Learning, its tables and the numbers
that it quotes of AMC and of The State of Sparsity; "Global MP", global magnitude pruning with a minimum threshold.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from purlkit.spec import Record

Source = Literal["PuRL", "Global MP"]

# What a sparsity is a share of, in each source.
PRUNABLE = "weights of convolutions and linear layers"
COLUMNS = "none: the ranks (rW, rU) say how many columns of FastGRNN's two low-rank matrices are left"
NOT_SAID = "not said"


class Published(Record):
    """One row of a paper's table. Accuracies are top-1 in percent, and so are sparsities and FLOPs."""

    source: Source
    model: str = Field(description="a name of GET /models")
    data: str = Field(description="a name of GET /datasets")
    method: str = Field(description="in the words of our spec where we have the method")
    recipe: str = Field(description="the run as a job: a name of purlkit.recipes")
    detail: str = Field("", description="what sets the row apart from the others of its method")
    sparsity: float | None = Field(description="null where the paper gives none")
    sparsity_spread: float | None = None
    denominator: str = PRUNABLE
    dense_accuracy: float | None = Field(description="of the dense network; null where the table has none")
    accuracy: float = Field(description="after pruning, and after fine-tuning unless detail says otherwise")
    accuracy_spread: float | None = None
    flops_pruned: float | None = Field(None, description="compares with Cost.flops_pruned times 100")
    epochs: int | None = Field(None, description="of fine-tuning")
    episodes: int | None = Field(None, description="of the search")


def find(*, model: str | None = None, data: str | None = None, method: str | None = None) -> tuple[Published, ...]:
    """The rows with all that is given, in the papers' order.

    >>> [(row.source, row.accuracy) for row in find(model="resnet50", data="imagenet", method="purl")][-2:]
    [('PuRL', 75.26), ('PuRL', 75.37)]
    """
    return tuple(
        row
        for row in PUBLISHED
        if model in (None, row.model) and data in (None, row.data) and method in (None, row.method)
    )


def _ablation(
    model: str, data: str, recipe: str, detail: str, sparsity: tuple[float, float], accuracy: tuple[float, float]
) -> Published:
    return Published(
        source="PuRL",
        model=model,
        data=data,
        method="purl",
        recipe=recipe,
        detail=detail,
        sparsity=sparsity[0],
        sparsity_spread=sparsity[1],
        dense_accuracy=None,
        accuracy=accuracy[0],
        accuracy_spread=accuracy[1],
    )


def _purl(
    model: str,
    data: str,
    method: str,
    recipe: str,
    sparsity: float | None,
    dense: float,
    accuracy: float,
    **more: object,
) -> Published:
    row = {"source": "PuRL", "model": model, "data": data, "method": method, "recipe": recipe, "sparsity": sparsity}
    return Published.model_validate({**row, "dense_accuracy": dense, "accuracy": accuracy, **more})


_SUFFIX = {"global": "", "global-mt": "-mt", "global-gradual": "-gradual"}


def _global_mp(
    model: str, data: str, method: str, dense: float, sparsity: float, accuracy: float, **more: object
) -> Published:
    recipe = f"global-mp-{model}-{sparsity:g}{_SUFFIX[method]}"
    row = {"source": "Global MP", "model": model, "data": data, "method": method, "recipe": recipe}
    return Published.model_validate(
        {**row, "sparsity": sparsity, "dense_accuracy": dense, "accuracy": accuracy, **more}
    )


_CIFAR = ("resnet50-cifar", "cifar10")
_IMAGENET = ("resnet50", "imagenet")

PUBLISHED: tuple[Published, ...] = (
    # PuRL: what each design choice is worth. Targets 60 % sparsity and 95 % accuracy on CIFAR-10.
    _ablation(
        *_CIFAR,
        "purl-resnet50-cifar10-sparse-rewards",
        "sparse rewards, 3-number state, step 0.1",
        (66.1, 12.7),
        (68.0, 13.9),
    ),
    _ablation(
        *_CIFAR,
        "purl-resnet50-cifar10-dense-rewards",
        "dense rewards, the baseline of the rows below",
        (70.1, 2.3),
        (91.8, 2.0),
    ),
    _ablation(*_CIFAR, "purl-resnet50-cifar10-magnitude-target", "magnitude target", (60.3, 0.8), (86.6, 3.9)),
    _ablation(*_CIFAR, "purl-resnet50-cifar10-reward-2", "reward R2", (68.3, 2.2), (91.4, 0.7)),
    _ablation(*_CIFAR, "purl-resnet50-cifar10-reward-3", "reward R3", (69.4, 2.9), (90.7, 0.2)),
    _ablation(*_CIFAR, "purl-resnet50-cifar10-step-0.2", "step 0.2", (70.6, 0.6), (92.2, 0.5)),
    _ablation(*_CIFAR, "purl-resnet50-cifar10-state-2n", "2n-number state", (72.2, 4.5), (78.9, 8.6)),
    _ablation(
        *_IMAGENET,
        "purl-resnet50-imagenet-state-3",
        "3-number state, step 0.2, before fine-tuning",
        (87.4, 1.3),
        (47.6, 2.3),
    ),
    _ablation(
        *_IMAGENET,
        "purl-resnet50-imagenet-state-2n",
        "2n-number state, step 0.2, before fine-tuning",
        (82.0, 2.0),
        (51.0, 0.3),
    ),
    # PuRL: its results, and those that it compares with.
    _purl("wrn-28-10", "cifar100", "uniform", "purl-wrn-28-10-cifar100", 93.50, 82.63, 72.42),
    _purl("wrn-28-10", "cifar100", "purl", "purl-wrn-28-10-cifar100", 93.90, 82.63, 80.63),
    _purl(*_IMAGENET, "amc", "amc-resnet50-imagenet", 80.0, 76.13, 76.11, epochs=120, episodes=400),
    _purl(
        *_IMAGENET,
        "gmp",
        "state-of-sparsity-resnet50-imagenet",
        80.0,
        76.69,
        76.52,
        epochs=153,
        detail="The State of Sparsity",
    ),
    _purl(*_IMAGENET, "purl", "purl-resnet50-imagenet-90-epochs", 80.27, 76.13, 75.26, epochs=90, episodes=55),
    _purl(*_IMAGENET, "purl", "purl-resnet50-imagenet-120-epochs", 80.27, 76.13, 75.37, epochs=120),
    _purl(
        "mobilenet_v2",
        "imagenet",
        "amc",
        "amc-mobilenet_v2-imagenet",
        None,
        71.8,
        70.8,
        flops_pruned=30.0,
        denominator=NOT_SAID,
    ),
    _purl("mobilenet_v2", "imagenet", "purl", "purl-mobilenet_v2-imagenet", 43.3, 71.9, 69.8, flops_pruned=47.9),
    _purl("efficientnet_b2", "imagenet", "uniform", "purl-efficientnet_b2-imagenet", 59.0, 79.8, 68.9),
    _purl("efficientnet_b2", "imagenet", "purl", "purl-efficientnet_b2-imagenet", 59.5, 79.8, 74.5),
    # Global MP.
    *(
        _global_mp(*_IMAGENET, "global", 77.0, sparsity, accuracy, flops_pruned=flops, detail="one-shot", epochs=100)
        for sparsity, accuracy, flops in (
            (80.0, 76.84, 72.4),
            (90.0, 75.28, 82.8),
            (95.3, 71.56, 89.3),
            (98.05, 61.80, 93.7),
        )
    ),
    *(
        _global_mp(*_IMAGENET, "global-gradual", 77.0, sparsity, accuracy, flops_pruned=flops, detail="gradual")
        for sparsity, accuracy, flops in (
            (80.0, 76.12, 76.7),
            (90.0, 74.83, 87.8),
            (95.3, 72.14, 93.1),
            (98.05, 66.57, 96.2),
        )
    ),
    _global_mp("mobilenet_v1", "imagenet", "global", 71.95, 75.28, 70.74, flops_pruned=68.9, epochs=120),
    _global_mp("mobilenet_v1", "imagenet", "global", 71.95, 90.0, 59.49, flops_pruned=83.7, epochs=120),
    _global_mp(
        "mobilenet_v1",
        "imagenet",
        "global-mt",
        71.95,
        90.0,
        63.94,
        flops_pruned=72.9,
        epochs=120,
        detail="minimum threshold 0.2 % of all prunable weights",
    ),
    *(
        _global_mp("wrn-28-8", "cifar10", "global", 96.06, sparsity, accuracy, epochs=200)
        for sparsity, accuracy in ((90.0, 96.30), (95.0, 96.16), (97.5, 95.68))
    ),
    *(
        _global_mp("resnet32-cifar", "cifar10", "global", 93.83, sparsity, accuracy, epochs=300)
        for sparsity, accuracy in ((90.0, 92.67), (95.0, 90.65))
    ),
    _global_mp("mobilenet_v2-cifar", "cifar10", "global", 94.15, 98.0, 10.0, detail="collapse"),
    _global_mp(
        "mobilenet_v2-cifar",
        "cifar10",
        "global-mt",
        94.15,
        98.0,
        82.97,
        accuracy_spread=0.57,
        detail="minimum threshold 0.02 % of all prunable weights",
    ),
    _global_mp("wrn-22-8", "cifar10", "global", 94.07, 99.9, 67.68, accuracy_spread=0.78),
    *(
        Published(
            source="Global MP",
            model="fastgrnn",
            data="har2",
            method="columns",
            recipe=f"global-mp-fastgrnn-{input_rank}-{state_rank}",
            detail=f"(rW, rU) from (9, 80) to ({input_rank}, {state_rank})",
            sparsity=None,
            denominator=COLUMNS,
            dense_accuracy=96.10,
            accuracy=accuracy,
        )
        for input_rank, state_rank, accuracy in ((9, 8, 95.89), (9, 7, 95.72), (8, 7, 95.62))
    ),
)
