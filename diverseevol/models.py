"""Foundation models by their public names."""

from typing import TYPE_CHECKING

from diverseevol.public import lazily

if TYPE_CHECKING:
    from diverseevol.engine.pretrained import Pretrained as Pretrained
    from diverseevol.engine.pretrained import TinyLlama as TinyLlama

__getattr__, __dir__ = lazily(__name__, __file__)
