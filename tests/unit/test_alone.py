"""The library by itself: with Ray, the web and the database out of reach it imports, searches and prunes."""

from __future__ import annotations

import subprocess
import sys

ALONE = """
import sys

class OutOfReach:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"ray", "fastapi", "starlette", "sqlalchemy", "alembic", "services", "workers", "api"}:
            raise ModuleNotFoundError(f"{name} is out of reach", name=name)

sys.meta_path.insert(0, OutOfReach())
try:
    import ray
except ModuleNotFoundError:
    pass
else:
    sys.exit("ray is within reach")

import importlib, pkgutil
import torch, purlkit
for module in pkgutil.walk_packages(purlkit.__path__, "purlkit."):
    importlib.import_module(module.name)
x = torch.randn(100, 4, generator=torch.Generator().manual_seed(0))
model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
result = purlkit.search(model, (x, (x.sum(1) > 0).long()), sparsity=0.5, episodes=2)
result.apply(model)
zeros = sum(int((layer.weight == 0).sum()) for layer in (model[0], model[2]))
assert zeros == 24, zeros
"""


def test_it_needs_no_ray_and_no_service() -> None:
    done = subprocess.run([sys.executable, "-c", ALONE], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
