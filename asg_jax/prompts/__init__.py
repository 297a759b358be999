"""What the roles are told, in the language of each backbone, and how their texts are read."""

from asg_jax.prompts.english import ENGLISH
from asg_jax.prompts.language import Language
from asg_jax.prompts.scenes import SCENES

LANGUAGES: dict[str, Language] = {"english": ENGLISH, "scenes": SCENES}
