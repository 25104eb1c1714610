"""The Hugging Face hub: checked once for an answer, before its libraries try for most of a minute."""

import functools
import logging
import os
import sys
from pathlib import Path

from huggingface_hub import constants, get_session

from diverseevol.data.hub_names import MODEL_ID

log = logging.getLogger(__name__)

ANSWER_SECONDS = 10.0
UNREACHED = "the hub cannot be reached"


def may_be_on_hub(name: str) -> bool:
    """Whether a model's path is no folder here and may be a name on the hub."""
    return not Path(name).exists() and MODEL_ID.fullmatch(name) is not None


@functools.cache
def out_of_reach() -> str | None:
    """Why the hub cannot be asked, or None where it answers, whatever it says.

    If it does not answer, its libraries are set to use only what they downloaded before.
    """
    logging.getLogger("huggingface_hub").handlers.clear()  # or each of its lines comes twice
    if constants.is_offline_mode():
        return f"{UNREACHED} (HF_HUB_OFFLINE is set)"
    try:
        get_session().head(constants.ENDPOINT, timeout=ANSWER_SECONDS)
    except Exception as error:  # of any HTTP library: there is no answer
        reason = " ".join(str(error).split()) or type(error).__name__
        constants.HF_HUB_OFFLINE = True
        os.environ["HF_HUB_OFFLINE"] = "1"  # of processes that are started later
        if (datasets := sys.modules.get("datasets")) is not None:
            datasets.config.HF_HUB_OFFLINE = True
        return f"{UNREACHED} ({constants.ENDPOINT}: {reason})"
    return None


@functools.cache
def say_that_a_cache_is_used(name: str) -> None:
    """Warn, once a name, that the hub was not asked for it; no warning if the user set that."""
    if "HF_HUB_OFFLINE is set" not in (reason := out_of_reach() or ""):
        log.warning("%s; using %s as it was downloaded before", reason, name)
