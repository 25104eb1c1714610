"""Keys and addresses: what is refused before anything is sent, and what is never shown."""

import base64
import html
import importlib.util
import json
import logging
import signal
import ssl
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from chat_server import KEY, Answer, fails, letters, says

from diverseevol.cli import main
from diverseevol.cli.configuration import configure
from diverseevol.cli.mistakes import check_addresses, verdict
from diverseevol.errors import InputError
from diverseevol.evaluation.endpoints.access import check_address, hidden, read_key
from diverseevol.evaluation.endpoints.connection import BoundedClient

SHEET = letters(2)
BENCHMARK, ANSWERS = SHEET.benchmark, SHEET.answers
NEEDED = 4
SELF_SIGNED = Path(__file__).parent / "fixtures" / "self_signed.pem"  # for 127.0.0.1, with its key, to the year 2126
SECRET = "hunter2-hunter2"


@pytest.mark.parametrize(
    ("inside", "kind"),
    [
        ("\n", "a line break"), ("\r", "a line break"), ("\r\n", "a line break"), (" ", "white space"),
        ("\t", "white space"), ("\x1b", "a control character"), ("\x7f", "a control character"),
        ("é", "not an ASCII character"), ("\u200b", "not an ASCII character"), ("“", "not an ASCII character"),
        ("\udc80", "not an ASCII character"), ("\u00a0", "white space"),
    ],
)  # fmt: skip
def test_a_key_that_no_header_can_hold_is_refused_without_showing_it(make, monkeypatch, inside, kind):
    monkeypatch.setenv("OPENAI_API_KEY", f"sk-first-half{inside}second-half")
    with pytest.raises(InputError, match=rf"OPENAI_API_KEY cannot be a key: character 14 of \d+ is {kind}") as caught:
        make()
    assert "half" not in str(caught.value)


def test_white_space_around_a_key_is_not_a_part_of_it(monkeypatch):
    monkeypatch.setenv("K", f" {KEY}\r\n")
    assert read_key("K", "https://h/v1") == KEY


def test_a_file_in_place_of_a_key_is_refused_without_showing_it(monkeypatch):
    monkeypatch.setenv("K", "k" * 20_000)
    with pytest.raises(InputError, match="holds 20,000 characters, more than any key") as caught:
        read_key("K", "https://h/v1")
    assert "kkk" not in str(caught.value)


ENCODED: dict[str, str] = {
    "as it is": KEY,
    "in capitals": KEY.upper(),
    "its start": KEY[:12],
    "its end": KEY[-10:],
    "backwards": KEY[::-1],
    "percent-encoded": quote(KEY, safe="").replace("-", "%2D"),
    "percent-encoded throughout": "".join(f"%{ord(c):02x}" for c in KEY),
    "percent-encoded twice": quote("".join(f"%{ord(c):02x}" for c in KEY)),
    "HTML": html.escape(KEY).replace("-", "&#45;"),
    "HTML throughout": "".join(f"&#x{ord(c):x};" for c in KEY),
    "JSON": "".join(f"\\u{ord(c):04x}" for c in KEY),
    "JSON in JSON": "".join(f"\\\\u{ord(c):04x}" for c in KEY),
    "Python": "".join(f"\\x{ord(c):02x}" for c in KEY),
    "base64": base64.b64encode(KEY.encode()).decode(),
    "base64 of the header": base64.b64encode(f"Bearer {KEY}".encode()).decode(),
    "base64 of a user": base64.b64encode(f"me:{KEY}".encode()).decode(),
    "base64 for URLs": base64.urlsafe_b64encode(f"ab{KEY}".encode()).decode().rstrip("="),
    "hexadecimal": KEY.encode().hex(),
    "hexadecimal in capitals": KEY.encode().hex().upper(),
    "hexadecimal with colons": KEY.encode().hex(":"),
    "spaced": " ".join(KEY),
    "with dots": ".".join(KEY),
    "in two lines": f"{KEY[:6]}\n{KEY[6:12]}\n{KEY[12:]}",
}


def shows(text: str, key: str) -> bool:
    """Whether somebody could read so much of a key in a text, in any of the forms that hold nothing else."""
    forms = [form for name, form in ENCODED.items() if "of " not in name and "for " not in name]
    return any(form[i : i + 8].lower() in text.lower() for form in forms for i in range(len(form) - 7))


@pytest.mark.parametrize("form", ENCODED.values(), ids=list(ENCODED))
def test_a_key_is_hidden_in_whatever_form_it_is_quoted(form):
    said = hidden(f"Incorrect API key provided: {form}. Get another.", KEY)
    assert form not in said
    assert not shows(said, KEY)


def test_what_does_not_quote_the_key_is_shown_as_it_is():
    for text in ("The model does not exist", "", "a%20b &amp; \\u0041", "é \0 İ", "test", "sk-", "0123456"):
        assert hidden(text, KEY) == text.replace("\0", " ")
        assert hidden(text, None) == text
    assert hidden("x is no model", "x") == "x is no model"


@pytest.mark.parametrize("status", [400, 401, 429, 200])
@pytest.mark.parametrize("form", ["as it is", "its start", "base64 of the header", "JSON", "HTML throughout", "spaced"])
def test_a_key_that_an_error_quotes_is_shown_nowhere(server, make, caplog, capfd, tmp_path, status, form):
    caplog.set_level(logging.DEBUG)
    body = json.dumps({"error": {"message": f"{'long ' * 50}{ENCODED[form]} is not a key", "type": "x"}}).encode()
    server.behaviour = lambda request: Answer(status, body)
    with pytest.raises((InputError, ConnectionError)) as caught:
        make(retries=0).judge(SHEET)
    files = b"".join(file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()).decode("utf-8", "replace")
    for text in (str(caught.value), caplog.text, *capfd.readouterr(), files):
        assert ENCODED[form] not in text
        assert KEY not in text


def test_a_key_that_a_reply_or_a_models_name_quotes_is_not_written_down(server, make, caplog, tmp_path):
    server.behaviour = lambda request: says(f"8 7\nYour key is {request.key}", model=f"gpt {request.key}")
    (first, *_) = make().judge(SHEET)
    assert first.reason == "8 7\nYour key is [key]"
    assert KEY not in caplog.text
    written = [file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()]
    assert any(b"8 7" in content for content in written), "the replies are kept"
    assert not any(KEY.encode() in content for content in written)


@pytest.mark.parametrize(
    ("address", "complaint"),
    [
        (f"http://me:{SECRET}@localhost:8000/v1", "holds a user name or a password"),
        (f"https://{SECRET}@localhost/v1", "holds a user name or a password"),
        (f"https://:{SECRET}@localhost/v1", "holds a user name or a password"),
        (f"//me:{SECRET}@localhost/v1", "holds a user name or a password"),
        (f"https://localhost/v1?key={SECRET}", r"has a part after '\?' or '#'"),
        (f"https://localhost/v1#{SECRET}", r"has a part after '\?' or '#'"),
        ("https://localhost/v1?", r"has a part after '\?' or '#'"),
        ("", "is not an http or https URL"),
        ("localhost:8000/v1", "is not an http or https URL"),
        ("ftp://localhost/v1", "is not an http or https URL"),
        ("file:///etc/passwd", "is not an http or https URL"),
        ("https://", "is not an http or https URL"),
        ("https:///v1", "is not an http or https URL"),
        ("https://local host/v1", "is not"),
        ("https://localhost/v1\x1b[31m", "is not an http or https URL"),
        (f"https://localhost:{SECRET}/v1", "its port is not a number"),
        ("https://localhost:99999/v1", "its port is not a number"),
        ("http://[::1/v1", "its host name is not valid"),
        ("http://a..b/v1", "its host name is not valid"),
        (f"http://{'a' * 64}/v1", "its host name is not valid"),
    ],
)
def test_an_address_that_is_none_or_holds_a_secret_is_refused_without_showing_it(make, address, complaint):
    with pytest.raises(InputError, match=rf"judge\.base_url .*{complaint}") as caught:
        make(base_url=address, max_calls=0)
    assert SECRET not in str(caught.value)


def test_addresses_lose_only_what_stands_around_them():
    assert check_address(" http://localhost:8000/v1// ") == "http://localhost:8000/v1"
    assert (
        check_address("https://[::1]:8000/openai/deployments/a@b/v1") == "https://[::1]:8000/openai/deployments/a@b/v1"
    )


@contextmanager
def sends_on(to: str, status: int) -> Iterator[tuple[str, list[str]]]:
    """A server that redirects all requests, and the keys that came with them."""
    keys: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            keys.append(self.headers["authorization"])
            self.send_response(status)
            self.send_header("location", to)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    with serving(Handler) as url:
        yield url, keys


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler], context: ssl.SSLContext | None = None) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"{'https' if context else 'http'}://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_to_another_server_is_refused_and_named(server, make, status):
    to = server.url.replace("//", f"//me:{SECRET}@") + f"/chat/completions?key={SECRET}"
    with sends_on(to, status) as (url, keys), pytest.raises(InputError, match="redirects to another server") as caught:
        make(base_url=url, concurrency=1).judge(SHEET)
    assert f"{server.url}/chat/completions (HTTP {status})" in str(caught.value)
    assert SECRET not in str(caught.value)
    assert server.requests == []
    assert len(keys) == 1


@pytest.mark.parametrize("to", ["https://127.0.0.1:1/v1", "//example.invalid/v1", "http://[", "file:///etc/passwd"])
def test_redirects_to_odd_places_are_refused(make, to):
    with sends_on(to, 307) as (url, keys), pytest.raises(InputError, match="redirects to"):
        make(base_url=url, concurrency=1).judge(SHEET)
    assert len(keys) == 1


def test_a_redirect_within_the_server_is_followed_where_it_keeps_the_prompt(server, make):
    def behaviour(status: int) -> Callable[[Any], Answer]:
        return lambda request: says("8 7") if request.seen else Answer(status, headers={"location": "?again"})

    server.behaviour = behaviour(307)
    assert all(j.parsed for j in make().judge(SHEET))
    assert len(server.requests) == 2 * NEEDED
    server.behaviour = behaviour(302)
    with pytest.raises(InputError, match="which drops the prompt"):
        make(model="other").judge(SHEET)


def test_redirects_in_a_circle_come_to_an_end(server, make):
    server.behaviour = lambda request: Answer(307, headers={"location": "?again"})
    with pytest.raises(ConnectionError, match="redirects"):
        make(concurrency=1, retries=1).judge(SHEET)
    assert len(server.requests) <= 8


class Says(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        body = json.dumps(says("8 7").body).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


def test_a_certificate_that_is_not_trusted_is_named_at_once_with_the_remedy_which_works(make, monkeypatch, capfd):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(SELF_SIGNED)
    with serving(Says, context) as url:
        with pytest.raises(InputError, match=r"certificate is not trusted \(self-signed certificate.*SSL_CERT_FILE"):
            make(base_url=url, backoff=60.0).judge(SHEET)  # which would wait minutes before another try
        monkeypatch.setenv("SSL_CERT_FILE", str(SELF_SIGNED))
        assert all(j.parsed for j in make(base_url=url).judge(SHEET))


def test_a_server_without_tls_is_said_so_at_once(server, make):
    with pytest.raises(InputError, match=r"no secure connection .*http://"):
        make(base_url=server.url.replace("http:", "https:"), backoff=60.0).judge(SHEET)


@pytest.mark.parametrize("address", ["http://127.0.0.1:9/v1", "http://no-such-host.invalid/v1"])
def test_an_endpoint_that_was_never_reached_is_given_up_after_three_tries(make, address):
    judge = make(base_url=address, retries=50, concurrency=1)
    with pytest.raises(ConnectionError, match=r"no connection .*requests sent: 3\); check judge\.base_url"):
        judge.judge(SHEET)
    assert judge.account.spent == 0


def test_a_server_that_takes_no_connection_up_is_given_up_after_three_tries(make, monkeypatch):
    transport = sys.modules[BoundedClient.__mro__[2].__module__.partition(".")[0]]

    async def nobody(client: BoundedClient, request: Any, **options: Any) -> None:
        raise transport.ConnectTimeout("", request=request)

    monkeypatch.setattr(BoundedClient, "send", nobody)
    judge = make(concurrency=1, retries=50, price=[1, 1])
    with pytest.raises(ConnectionError, match=r"no connection \(nobody answers\) \(requests sent: 3\)"):
        judge.judge(SHEET)
    assert judge.account.spent == 0


@pytest.mark.parametrize("encoding", ["hex", "undefined", "rot13", "idna", "utf-7", "x\u00e9"])
def test_no_encoding_that_a_server_names_ends_in_a_traceback(server, make, encoding):
    header = {"content-type": f"text/plain; charset={encoding}"}
    server.behaviour = lambda request: Answer(400, "the context length, é".encode(), header)
    judgements = make(max_unparsed=1).judge(SHEET)
    assert {j.reason for j in judgements} == {"HTTP 400: the context length, é"}


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("OPENAI_ORG_ID", "é"),
        ("OPENAI_PROJECT_ID", "a\nb"),
        ("OPENAI_CUSTOM_HEADERS", f"authorization: Bearer {SECRET}é"),
    ],
)
def test_what_no_header_can_hold_from_the_clients_own_variables_is_refused(make, monkeypatch, variable, value):
    monkeypatch.setenv(variable, value)
    with pytest.raises(InputError, match=f"the header .* such as .*{variable}") as caught:
        make().judge(SHEET)
    assert SECRET not in str(caught.value)


def test_an_endpoint_that_was_reached_before_is_tried_as_often_as_the_user_says(server, make):
    server.behaviour = lambda request: fails(503) if request.seen < 4 else says("8 7")
    assert all(j.parsed for j in make(retries=4).judge(SHEET))


@pytest.mark.parametrize(
    "arguments",
    [
        ["judge", "folder=.", "judge.base_url=http://me:{}@localhost/v1"],
        ["judge", "folder=.", "judge.base_url=http://localhost/v1?key={}"],
        ["judge", "folder=.", "judge.base_url='http://me:{}@localhost/v1'", "--cfg", "job"],
        ["evolve", "judge=openai", "judge.base_url=http://me:{}@localhost/v1", "--cfg", "job"],
        ["evolve", "judge=openai", "+judge.base_url=http://me:{}@localhost/v1", "--info"],
        ["evolve", "-m", "judge=openai", "judge.base_url=http://localhost/v1,http://me:{}@localhost/v1"],
        ["evolve", "judge=openai", "judge.base_url=http://localhost/v1#{}"],
        ["evolve", "judge=openai", "judge.base_url=http://{},{}@localhost/v1"],
        ["evolve", "judge=openai", "judge.base_url=HTTPS://me:x/{}@localhost/v1", "--cfg", "job"],
        ["evolve", "-m", "judge=openai", "judge.base_url=choice(http://localhost/v1,http://me:{}@localhost/v1)"],
    ],
)
def test_a_secret_in_an_address_reaches_neither_the_screen_nor_the_disk(arguments, tmp_path, monkeypatch, capfd):
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["diverseevol", *(text.replace("{}", SECRET) for text in arguments)])
    with pytest.raises(SystemExit) as stopped:
        main()
    for number, handler in before.items():
        signal.signal(number, handler)
    out, err = capfd.readouterr()
    assert (stopped.value.code, out) == (2, "")
    assert "judge.base_url" in err
    assert SECRET not in err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "value",
    ["http://[::1]:8000/v1", "http://localhost/v1,http://127.0.0.1/v1", "'http://localhost/v1'", "http://${host:}/v1",
     "choice(http://localhost/v1,http://[::1]/a@b/v1)", "null", "[]", "https://localhost/openai/deployments/a@b"],
)  # fmt: skip
def test_addresses_without_secrets_pass_the_command_line(value):
    check_addresses(["folder=x", f"judge.base_url={value}", "judge.model=a?b@c"])


def test_a_secret_in_an_address_from_the_environment_reaches_neither(monkeypatch):
    monkeypatch.setenv("THE_URL", f"http://me:{SECRET}@localhost/v1")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with pytest.raises(Exception, match="holds a user name or a password") as caught:
        configure("judge", ["folder=.", "judge.base_url=${oc.env:THE_URL}"]).part("judge")
    code, sentence = verdict(caught.value, "judge")
    assert code == 2
    assert SECRET not in sentence


@pytest.mark.parametrize("place", ["missing.pem", ".", "empty.pem"])
def test_certificates_that_cannot_be_read_are_refused_with_the_variable(server, make, monkeypatch, tmp_path, place):
    (tmp_path / "empty.pem").touch()
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / place))
    with pytest.raises(InputError, match=r"^SSL_CERT_FILE=.*: no certificates can be read there \(.*or unset it$"):
        make().judge(SHEET)
    assert not server.requests


@pytest.mark.parametrize(
    ("variable", "address"),
    [
        ("HTTP_PROXY", "ftp://user:password@host"),
        ("HTTPS_PROXY", "http://user:password@host:port"),
        ("ALL_PROXY", "http://user:password@host\n"),
        ("http_proxy", "http://user:password@["),
        ("https_proxy", "http://user:password@host:99999"),
        ("all_proxy", "http://"),
    ],
)
def test_a_proxy_that_is_none_is_refused_without_its_password(server, make, monkeypatch, variable, address):
    monkeypatch.setenv(variable, address)
    with pytest.raises(InputError, match=rf"variable {variable.upper()} is not the address of a proxy") as caught:
        make().judge(SHEET)
    assert "password" not in str(caught.value)
    assert not server.requests


def test_a_socks_proxy_says_what_is_missing(server, make, monkeypatch):
    if importlib.util.find_spec("socksio") is not None:
        pytest.skip("socksio is installed")
    monkeypatch.setenv("ALL_PROXY", "socks5://user:password@host:1080")
    with pytest.raises(InputError, match=r"ALL_PROXY names a SOCKS proxy.*pip install socksio") as caught:
        make().judge(SHEET)
    assert "password" not in str(caught.value)


@pytest.mark.parametrize("address", ["user:password@host/v1", "http:/user:password@host", "ftp:user:password@host"])
def test_what_is_no_url_is_not_repeated_where_it_may_hold_a_password(make, address):
    with pytest.raises(InputError, match=r"judge\.base_url is not an http or https URL") as caught:
        make(base_url=address)
    assert "password" not in str(caught.value)
