"""Rows: located, read, checked, as text and as tokens; held-out rows among them."""

from typing import TYPE_CHECKING

from diverseevol.public import lazily

if TYPE_CHECKING:
    from diverseevol.data.conversation import Conversation as Conversation
    from diverseevol.data.conversation import Turn as Turn
    from diverseevol.data.conversation import exchange as exchange
    from diverseevol.data.dataset import Dataset as Dataset
    from diverseevol.data.dataset import load as load

__getattr__, __dir__ = lazily(__name__, __file__)
