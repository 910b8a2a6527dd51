"""Writes the names that torchvision and timm have here into the catalog: `python -m purlkit.zoo.names`.

The API knows them without torch, and a test holds the files to the packages. Run it after raising either.
"""

from __future__ import annotations

from pathlib import Path

CATALOG = Path(__file__).with_name("catalog")


def torchvision_names() -> list[str]:
    """All of its classification networks."""
    from torchvision import models  # type: ignore[import-untyped]

    return sorted(models.list_models(module=models))


def timm_names() -> list[str]:
    """Without those that end in _enc, the eyes of language models: they answer with features, whatever the classes."""
    import timm

    return sorted(name for name in timm.list_models() if not name.endswith("_enc"))


def main() -> None:
    for provider, names in (("torchvision", torchvision_names()), ("timm", timm_names())):
        (CATALOG / f"{provider}.txt").write_text("\n".join(names) + "\n")


if __name__ == "__main__":
    main()
