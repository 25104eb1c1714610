r"""The two scores in a judge's reply: one grammar for new replies and for recorded ones.

The scores are on the first line of the reply, and nothing else is:

    line      = [heading] pair | [heading] named separator named
    pair      = number separator number               both written in the same way
    named     = name [":" or "=" or " - " or "is"] number
    number    = 8, 7.5, 8/10, 8 out of 10, 8 points, or one of these in [brackets]
    separator = white space, a comma and white space, ";", "|", "&", "and", "vs"
    name      = Assistant 1, Answer B, the second answer, Score 2, ...: scores go by these names, in whichever order
    heading   = Scores:, The grades are, Final answer:, ...

Two named scores may also be on two lines, and a heading on its own. Markdown's emphasis, list marks and code fences,
quotes, brackets or one pair of tags around the line, brackets after the heading, a full stop at the end and a model's
end token make no difference. Not read, because they are ambiguous or not grades from 1 to 10: a third number, a sign, a
fraction of anything but 10, "8,5" (which is how many languages write one number), words after the scores, and numbers
in or after an explanation.

Thoughts precede the reply and hold no scores, whatever numbers they mention (`spoken`).
"""

import re
from itertools import islice

from diverseevol.evaluation.judges.base import FLOOR, TOP

Scores = tuple[float, float]

LONGEST_LINE = 300  # characters of a line with two scores

# --- thoughts
TAGS = r"(?:seed:)?think(?:ing)?|thoughts?|reasoning|reflection|analysis|scratchpad"
OPENING = rf"<\s*(?:{TAGS})\s*>|\[THINK\]|<\|START_THINKING\|>|◁think▷|<\|channel>(?:thought)?"
CLOSING = rf"<\s*/\s*(?:{TAGS})\s*>|\[/THINK\]|<\|END_THINKING\|>|◁/think▷|<channel\|>"
MARK = re.compile(rf"(?P<opening>{OPENING})|{CLOSING}", re.I)
# The channels of gpt-oss, as the model writes them and as they look where a server drops special tokens.
CHANNELS = re.compile(r"\s*(?:<\|start\|>\s*assistant\s*)?<\|channel\|>|\s*analysis(?=.*assistantfinal)", re.S)
FINAL = re.compile(r"<\|channel\|>\s*final\b[^<]*(?:<\|constrain\|>[^<]*)?<\|message\|>|assistantfinal")
AFTER_FINAL = re.compile(r"<\|(?:end|return|start)\|>")

# --- scores
VALUE = r"[0-9]+(?:\.[0-9]+)?"
PLAIN = re.compile(rf"({VALUE})(?:\s+|\s*,\s+)({VALUE})")
AUTHORS = re.compile(r"\s*(\d+(?:\.\d+)?)[\s,]+(\d+(?:\.\d+)?)\s*")
OF_TEN = r"(?:\s*/\s*10|\s+out\s+of\s+10)(?!\.?[0-9])"
NUMBER = (
    rf"(?:(?P<open#>[\[(]+)\s*)?(?P<value#>{VALUE})(?P<of_ten#>{OF_TEN})?(?P<points#>\s+(?:points?|pts))?"
    r"(?:\s*(?P<close#>[\])]+))?"
)
SEPARATOR = r"(?P<between>\s*,\s+(?:and\s+)?|\s*[;|&]\s*|\s+(?:and|vs\.?)\s+|\s+|,|(?<=[\])])(?=[\[(]))"
SCALE = r"(?:\s*\((?:from\s+)?(?:1\s*(?:-|–|to)\s*10|out\s+of\s+10|/\s*10)\)|\s+out\s+of\s+10)?"
HEADING = (
    r"(?:(?:here|these)\s+are\s+)?(?:the\s+|my\s+)?(?:final\s+|overall\s+|two\s+)*"
    rf"(?:(?:scores|grades|ratings){SCALE}(?:\s+are)?\s*[:=]?"
    rf"|(?:score|grade|rating|answer|result|verdict){SCALE}(?:\s+is)?\s*(?:[:=]|$))"
)
SUBJECT = r"(?:(?:ai\s+)?assistant|answer|model|response|reply)"
NAME = (
    r"(?:(?:the\s+)?(?:score|grade|rating)\s+(?:for|of)\s+)?(?:the\s+)?"
    rf"(?:(?:{SUBJECT}|score|grade|rating)[\s_#-]*(?P<index#>1|2|one|two|a|b)"
    rf"|(?P<place#>first|second)(?:\s+{SUBJECT})?|(?P<letter#>a|b)(?=\s*[:=]))"
    r"(?:['’]s)?(?:\s+(?:score|grade|rating))?(?:\s*(?:[:=→|]|[-=]>)\s*|\s+(?:[-–—]|is|gets|receives|scores)\s+|\s+)"
)


def _numbered(pattern: str, number: int) -> str:
    return pattern.replace("#>", f"{number}>")


NAMED_SCORE = [_numbered(NAME + NUMBER, number) for number in (1, 2)]
PAIR = re.compile(rf"{_numbered(NUMBER, 1)}{SEPARATOR}{_numbered(NUMBER, 2)}", re.I)
NAMED_PAIR = re.compile(rf"{NAMED_SCORE[0]}(?:\s*[,;|&/]\s*|\s*\.\s+|\s+)(?:and\s+|vs\.?\s+)?{NAMED_SCORE[1]}", re.I)
NAMED_ALONE = re.compile(NAMED_SCORE[0], re.I)
HEADED = re.compile(rf"{HEADING}\s*", re.I)
FIRST = ("1", "one", "a", "first")

# --- what is ignored
FENCE = re.compile(r"(?:```|~~~)\s*\w*")
QUOTES = r"*_`\"“”„'‘’«»"  # around words; within them, as in 8*7, they mean something else
EMPHASIS = re.compile(rf"(?<![0-9A-Za-z])[{QUOTES}]+(?=[^\s{QUOTES}])|(?<=[^\s{QUOTES}])[{QUOTES}]+(?![0-9A-Za-z])")
LIST_MARK = re.compile(r"(?:(?:#+|>)\s*|(?:[-+*•]|[0-9]+[.)])\s+(?=[A-Za-z\"*_]))+")
BRACKETED = re.compile(r"([\[({|]+)([^\[\](){}]*)([\])}|]+)")
BRACED = re.compile(r"(?:\\boxed)?\{(.*)\}")  # JSON, which may hold a list, and LaTeX
TAG = re.compile(r"</?[A-Za-z_]\w*>")
TAGGED = re.compile(r"<([A-Za-z_]\w*)>(.*)</\1>")
END_TOKEN = re.compile(r"\s*(?:<\|[\w ]{1,40}\|>|</s>|<eos>|<end_of_turn>)$")
MIRROR = str.maketrans("[({", "])}")


def parse(reply: str) -> Scores | None:
    """The two scores of a reply, first answer first; None unless they are clear, and from 1 to 10."""
    scores = read(reply)
    return scores if scores is not None and all(FLOOR <= score <= TOP for score in scores) else None


def read(reply: str) -> Scores | None:
    """As `parse`, whatever the size of the scores."""
    readings = {scores for part in spoken(reply) if (scores := _first_line(part)) is not None}
    return readings.pop() if len(readings) == 1 else None


def spoken(reply: str) -> list[str]:
    """What a reply says after its thoughts.

    Thoughts are at the beginning, between tags such as <think> and </think>, or in channels before the final one; a
    nested opening has to be closed, too. A thought that does not end is followed by no reply. Where there is only a
    closing tag, because a chat template opened the thought, the reply may be on either side: a thought precedes the
    tag, or an answer quotes it. Both sides are returned, and where they hold different scores, neither is read.

    Returns:
        The parts that may be the reply; none where all of it is a thought.
    """
    if CHANNELS.match(reply):
        final = FINAL.search(reply)
        return [AFTER_FINAL.split(reply[final.end() :])[0]] if final else []
    text = reply.strip()
    while (mark := MARK.match(text)) and mark["opening"]:
        end = _end_of_thought(text)
        if end is None:
            return []
        text = text[end:].strip()
    ends = _unopened(text)
    return [text[start:stop] for start, stop in zip([0, *ends], [*ends, len(text)], strict=True)]


def answer_of(reply: str) -> str:
    """A reply without its thoughts, for people; empty where all of it is a thought."""
    parts = spoken(reply)
    readable = [i for i, part in enumerate(parts) if _first_line(part) is not None]
    return "".join(parts[readable[0] if readable else -1 :]).strip()


def thinks(reply: str) -> bool:
    """Whether a reply begins with a marked thought, complete or not."""
    mark = MARK.match(reply.strip())
    return CHANNELS.match(reply) is not None or (mark is not None and mark["opening"] is not None)


def opened_thought(prompt: str) -> str:
    """The opening tag that a prompt ends with, as some chat templates have it, with what follows; else nothing."""
    tail = prompt[-100:]
    marks = list(MARK.finditer(tail))
    if not marks or not marks[-1]["opening"] or tail[marks[-1].end() :].strip():
        return ""
    return tail[marks[-1].start() :]


def is_mark(token: str) -> bool:
    """Whether a special token of a model is a mark of thoughts, which must be kept to recognise them."""
    harmony = token in ("<|start|>", "<|channel|>", "<|message|>", "<|end|>", "<|return|>")
    return harmony or MARK.fullmatch(token) is not None


def plain(reply: str) -> Scores | None:
    """Two bare numbers alone on the first line: the only form that was read up to version 0.1."""
    lines = reply.strip().splitlines()
    match = PLAIN.fullmatch(lines[0].strip()) if lines else None
    return (float(match[1]), float(match[2])) if match else None


def as_released(reply: str) -> Scores | None:
    """Two numbers on the first line, as the released judgements were read: a comma counts as a space."""
    match = AUTHORS.fullmatch(reply.split("\n", 1)[0])
    return (float(match[1]), float(match[2])) if match else None


def _end_of_thought(text: str) -> int | None:
    """Where a text continues after the thought that it begins with."""
    depth = 0
    for mark in MARK.finditer(text):
        depth += 1 if mark["opening"] else -1
        if depth == 0:
            return mark.end()
    return None


def _unopened(text: str) -> list[int]:
    """The ends of closing tags without an opening one."""
    ends, depth = [], 0
    for mark in MARK.finditer(text):
        if mark["opening"] or depth:
            depth += 1 if mark["opening"] else -1
        else:
            ends.append(mark.end())
    return ends


def _first_line(text: str) -> Scores | None:
    """The scores on the first line of a text, or named ones on the first two."""
    # Of a long text only the beginning is read: a heading and three lines decide.
    lines = list(islice(filter(None, map(_bare, text.splitlines())), 4))
    if lines and HEADED.fullmatch(lines[0]):
        del lines[0]
    if not lines:
        return None
    scores = _pair(lines[0])
    alone = [NAMED_ALONE.fullmatch(line) for line in lines[:3]]
    if scores is None and len(alone) > 1 and alone[0] and alone[1] and not any(alone[2:]):
        return _pair(f"{lines[0]}; {lines[1]}")
    return scores


def _bare(line: str) -> str:
    """A line without markup; empty where it holds no letter or digit, and "…" where it is too long."""
    line = line.strip(" \t\r\n\ufeff\u200b")
    if len(line) > LONGEST_LINE:
        return "…"
    if FENCE.fullmatch(line) or not any(map(str.isalnum, line)):
        return ""
    line = END_TOKEN.sub("", line)
    if MARK.match(line) is None:  # what the tags of thoughts hold is not a reply
        if TAG.fullmatch(line):
            return ""
        tagged = TAGGED.fullmatch(line)
        line = tagged[2].strip() if tagged else line
    line = EMPHASIS.sub("", LIST_MARK.sub("", line, count=1) if LIST_MARK.match(line) else line).strip()
    line = re.sub(r"\s*[.,;!]$", "", line)
    if (braced := BRACED.fullmatch(line)) is not None:
        line = braced[1].strip()
    return _unbracketed(line)


def _unbracketed(line: str) -> str:
    """A line without the brackets around it."""
    bracketed = BRACKETED.fullmatch(line)
    if bracketed and bracketed[1].translate(MIRROR) == bracketed[3][::-1]:
        return bracketed[2].strip()
    return line


def _pair(line: str) -> Scores | None:
    if (heading := HEADED.match(line)) is not None:
        line = _unbracketed(line[heading.end() :])
    if (match := PAIR.fullmatch(line)) is not None:
        forms = [(match[f"of_ten{i}"] is None, match[f"points{i}"] is None, match[f"open{i}"]) for i in (1, 2)]
        tight = match["between"] == "," and forms[0] == (True, True, None)
        if forms[0] != forms[1] or tight or not _closed(match, 1) or not _closed(match, 2):
            return None
        return float(match["value1"]), float(match["value2"])
    match = NAMED_PAIR.fullmatch(line)
    if match is None or not _closed(match, 1) or not _closed(match, 2):
        return None
    by_name = {_rank(match, i): float(match[f"value{i}"]) for i in (1, 2)}
    return (by_name[0], by_name[1]) if len(by_name) == 2 else None


def _closed(match: re.Match[str], number: int) -> bool:
    """Whether the brackets around a number are a pair."""
    opened, closed = match[f"open{number}"] or "", match[f"close{number}"] or ""
    return opened.translate(MIRROR) == closed[::-1]


def _rank(match: re.Match[str], number: int) -> int:
    name = match[f"index{number}"] or match[f"place{number}"] or match[f"letter{number}"]
    return 0 if name.lower() in FIRST else 1
