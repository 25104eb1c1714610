"""Which turns make a conversation: the order of their roles, and what each must say."""

from collections.abc import Mapping, Sequence
from typing import get_args

from diverseevol.data.conversation import Role, Turn
from diverseevol.data.formats.base import BadRecord, checked_text

Place = tuple[str | None, int | None]  # the field of a record, and which turn of it, from 1
ROLES: tuple[Role, ...] = get_args(Role)
# What may follow a turn. A conversation may end after any of them: what follows the last answer is kept, not learned.
AFTER: dict[str, tuple[Role, ...]] = {
    "the beginning": ("system", "user"),
    "system": ("user",),
    "user": ("assistant",),
    "assistant": ("user",),
    "assistant (a call of tools)": ("tool", "user"),
    "tool": ("tool", "assistant"),
}


def check_turns(turns: Sequence[Turn], places: Sequence[Place] | None = None) -> None:
    """Check that turns make a conversation.

    Args:
        turns: the turns, whose texts may still be anything.
        places: where the record has each; None where it is not known.

    Raises:
        BadRecord: they do not, by the turn at fault.
    """
    places = places or [(None, number) for number in range(1, len(turns) + 1)]
    before = "the beginning"
    for turn, (field, number) in zip(turns, places, strict=True):
        if turn.role not in ROLES:
            raise BadRecord(field, f"has the role {turn.role!r:.80}, expected {_choice(ROLES)}", turn=number)
        if turn.role not in AFTER[before]:
            raise BadRecord(field, _out_of_order(turn.role, before), turn=number)
        if not isinstance(turn.more, Mapping):
            raise BadRecord(field, f"has the further fields {turn.more!r:.80}, expected a mapping", turn=number)
        for text, blank in ((turn.text, turn.role in ("system", "tool") or turn.calls_tools), (turn.input, True)):
            checked_text(text, field, number, blank=blank)
        before = "assistant (a call of tools)" if turn.calls_tools else turn.role
    if not any(turn.role == "assistant" for turn in turns):
        raise BadRecord(places[-1][0] if places else None, "has no turn of an assistant")


def _out_of_order(role: Role, before: str) -> str:
    if role == "tool":
        return "is a tool's result without a call before it"
    if role == "system":
        return "is a system turn, which only the first may be"
    return f"has the role {role}, expected {_choice(AFTER[before])} {'at' if before not in ROLES else 'after'} {before}"


def _choice(roles: Sequence[str]) -> str:
    return " or ".join(filter(None, [", ".join(roles[:-1]), roles[-1]]))
