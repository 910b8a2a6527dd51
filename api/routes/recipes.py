"""The papers' runs as specs that can be posted."""

from __future__ import annotations

from pydantic import BaseModel, Field

from api import docs
from api.router import Router
from api.schemas import Listing
from purlkit.published import Published
from purlkit.recipes import Recipe, recipe, recipes
from purlkit.spec import JobSpec
from services.errors import NotFound

router = Router(tags=["catalog"])


class RecipeView(BaseModel):
    name: str
    source: str
    method: str = Field(description="whose numbers the paper has: a candidate of the job, or a method of the library")
    runs: str = Field(
        description="job, or library: the method is not raced in jobs, the rest of the spec is the paper's"
    )
    ours: str = Field(description="what the paper leaves open, and how the spec fills it in")
    published: tuple[Published, ...]
    spec: JobSpec


@router.get("/recipes", summary="Every published run, as a spec")
def list_recipes() -> Listing[RecipeView]:
    return Listing(data=[_view(one) for one in recipes().values()])


@router.get("/recipes/{name}/spec", summary="A body for POST /jobs", responses=docs.problems(p404="no such recipe"))
def recipe_spec(name: str) -> JobSpec:
    if name not in recipes():
        raise NotFound("recipe")
    return recipe(name).spec


def _view(one: Recipe) -> RecipeView:
    return RecipeView(**{name: getattr(one, name) for name in RecipeView.model_fields})
