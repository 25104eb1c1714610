"""A judge's endpoint: one prompt in, one reply out.

Retries are our own (`Asking`): they pass the account one by one, wait as long as the server asks, and also follow
errors that come with HTTP 200.
"""

from dataclasses import replace

from diverseevol.evaluation.endpoints.access import PART
from diverseevol.evaluation.endpoints.bodies import Concern, ReportedError, UnusableError, read_refusal
from diverseevol.evaluation.endpoints.connection import LONGEST_QUOTE, Connection, PassingError
from diverseevol.evaluation.judges.budget import FRAME_TOKENS
from diverseevol.evaluation.judges.openai_judge import OpenAI
from diverseevol.evaluation.judges.reply_cache import Reply, encodable
from diverseevol.evaluation.judges.responses import read_reply


class DoubtfulError(Exception):
    """The endpoint does not answer this prompt, and does not say whether it would answer another one.

    Attributes:
        verdict: the error if the endpoint does not answer another prompt either.
        passing: whether the failure may be temporary, although all retries were used.
    """

    def __init__(self, words: str, verdict: Exception, *, passing: bool = False) -> None:
        super().__init__(words)
        self.verdict = verdict
        self.passing = passing


class Endpoint(Connection):
    """Where a judge's model answers.

    Args:
        judge: what the user says of the endpoint, and how patiently it is asked.
    """

    def __init__(self, judge: OpenAI) -> None:
        self.judge = judge
        super().__init__("judge", judge.base_url, judge.key(), judge.key_variable, judge.timeout)

    async def ask(self, text: str) -> Reply:
        """Send one request.

        Returns:
            The reply, or why this prompt cannot be answered, however often it is asked.

        Raises:
            PassingError: there is no reply, and another request may bring one.
            DoubtfulError: this prompt is not answered, and perhaps no other.
            InputError: the key, the model or the request is not accepted.
        """
        response = await self.send(
            lambda client: client.chat.completions.with_raw_response.create(
                model=self.judge.model, messages=[{"role": "user", "content": encodable(text)}],
                extra_body=self.judge.limits(),
            )
        )  # fmt: skip
        if response.status != 200:
            return self._refused(response.status, response.body.decode("utf-8", "replace"), response.wait)
        return self._reply(response.body, len(text.encode("utf-8", "replace")) + FRAME_TOKENS)

    def _reply(self, body: bytes, most_prompt_tokens: int) -> Reply:
        """The reply that a body with HTTP 200 holds, without the key."""
        try:
            reply = read_reply(body, most_prompt_tokens, self.judge.max_tokens)
        except UnusableError as error:
            start = self.clean(body[: 4 * LONGEST_QUOTE].decode("utf-8", "replace"))
            words = f"{error}: {start[:100]!r}" if start else f"{error}: it is empty"
            raise PassingError(words, prompt=True, unusable=True) from None
        except ReportedError as error:
            return self._refused(error.status, error.body, None, "HTTP 200 with an error")
        if reply.unanswered:
            return replace(reply, text=self.clean(f"HTTP 200: {reply.text}"))
        model = None if reply.model is None else self.clean(reply.model)
        # The text stays as it came, except for the key.
        text = reply.text.replace(self.key, "[key]") if self.key and len(self.key) >= PART else reply.text
        return replace(reply, text=text, model=model)

    def _refused(self, status: int, body: str, wait: float | None, kind: str | None = None) -> Reply:
        """Why this prompt alone is not answered, at no cost, by an HTTP status and a body; all else is raised.

        `kind` is what to call it in a message; None is the status.
        """
        self.reached = True
        refusal = read_refusal(status, body)
        words = f"{kind or f'HTTP {status}'}: {self.clean(refusal.words) or 'the server gives no reason'}"
        if refusal.concern is Concern.PROMPT:
            return Reply(words, prompt_tokens=0, completion_tokens=0, unanswered=True)
        # `from None`: the client's own error quotes the server, which may quote the key.
        if refusal.concern is Concern.PASSING:
            # Too many requests say nothing of the prompt; a server that fails may fail because of this one.
            raise PassingError(words, wait, kind is not None, prompt=status >= 500 or status == 408) from None
        unknown = refusal.concern in (Concern.REQUEST, Concern.DOUBT)
        if unknown and status < 400 and kind is not None:  # an error in place of a reply, and no word of its kind
            raise PassingError(words, wait, prompt=True, unusable=True) from None
        verdict = self.verdict(refusal.concern, words, self.judge.model)
        raise (DoubtfulError(words, verdict) if refusal.concern is Concern.DOUBT else verdict) from None
