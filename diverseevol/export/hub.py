"""An exported folder on the Hugging Face hub. The token stays with `huggingface_hub`; it is in no message."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from diverseevol.data.hub import out_of_reach
from diverseevol.errors import InputError
from diverseevol.export.folder import FILES

KIND = "dataset"


def check_hub(name: str, replace: bool) -> None:
    """Check that a data set could be pushed under a name, before anything is done for it.

    Args:
        name: USER/NAME.
        replace: whether one that is there may get this version.

    Raises:
        InputError: the hub is out of reach, the user is not logged in, or there is such a data set already.
    """
    from huggingface_hub import HfApi, get_token  # slow imports, here and below

    if (reason := out_of_reach()) is not None:
        raise InputError(f"hub={name}: {reason}; leave hub out, and push the folder later with `hf upload`")
    if get_token() is None:
        raise InputError(f"hub={name}: you are not logged in to the hub; run `hf auth login`, or leave hub out")
    with _explained(name):
        HfApi().whoami()
        if not replace and HfApi().repo_exists(name, repo_type=KIND):
            raise InputError(
                f"hub={name}: is there already; give another name to keep it, or replace=true to have this one as its "
                f"next version"
            )


def push(folder: Path, name: str, private: bool) -> str:
    """Push an exported folder, and nothing that lies in it beside the export; where it is then.

    Of an earlier export that is there, nothing stays.

    Args:
        folder: the folder.
        name: USER/NAME.
        private: of a data set that is new there, whether only its owner sees it.

    Raises:
        InputError: the hub did not take it.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.utils.tqdm import disable_progress_bars

    disable_progress_bars()
    with _explained(name, f"; {folder} is complete, and `hf upload {name} {folder} --repo-type {KIND}` pushes it"):
        url = HfApi().create_repo(name, repo_type=KIND, private=private, exist_ok=True)
        HfApi().upload_folder(
            repo_id=name, repo_type=KIND, folder_path=folder, allow_patterns=list(FILES), delete_patterns=list(FILES)
        )
    return str(url)


@contextmanager
def _explained(name: str, remedy: str = "; check the name and your token's rights") -> Iterator[None]:
    """Say in a sentence what the hub answered."""
    from httpx import HTTPError
    from huggingface_hub.errors import HfHubHTTPError

    try:
        yield
    except (HfHubHTTPError, HTTPError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"hub={name}: the hub refused it ({reason:.300}){remedy}") from error
