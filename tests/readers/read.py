"""What readers of the Python library find in a text: one JSON object with `number` and `text` a line in, a list of `number`,
reader, name and value a line out, for each value under the name `password`."""

import email
import email.policy
import json
import sys
from urllib.parse import parse_qsl

NAME = "password"
BOUNDARIES = ("B", "P", "Q")


def is_name(name):
    last = name.replace("]", "").replace("[", ".").rstrip(".").split(".")[-1]
    return bare(last) == NAME


def bare(name):
    return name.strip(" \t\r\n\0\ufeff").lower()


def walk(value, found):
    if isinstance(value, dict):
        for name, inside in value.items():
            if bare(name) == NAME:
                found(name, json.dumps(inside, ensure_ascii=False))
            walk(inside, found)
    elif isinstance(value, list):
        for inside in value:
            walk(inside, found)


def read_json(text, found):
    bodies = [text, *text.splitlines(), *text.split("\x1e")]
    for body in bodies:
        for prefix in ("", "\ufeff", ")]}'\n"):
            if body.startswith(prefix):
                try:
                    walk(json.loads(body[len(prefix) :]), found)
                except (ValueError, RecursionError):
                    pass
    decoder, at = json.JSONDecoder(strict=False), 0
    while at < len(text):
        try:
            value, at = decoder.raw_decode(text, at)
            walk(value, found)
        except ValueError:
            at += 1
        except RecursionError:
            return


def read_form(text, found, depth=0):
    # Python split at both signs until 3.10, as PHP and Perl can.
    for form in dict.fromkeys((text, text.replace(";", "&"))):
        try:
            pairs = parse_qsl(form, keep_blank_values=True)
        except ValueError:
            continue
        for name, value in pairs:
            if is_name(name):
                found(name, value)
            inside(value, found, depth)


def inside(value, found, depth):
    """A field may be a document of its own."""
    if depth < 2:
        if value.lstrip("\ufeff \r\n\t01234\x1e").startswith(("{", "[")):
            read_json(value, found)
        read_form(value, found, depth + 1)


def read_multipart(text, boundary, policy, found):
    head = 'Content-Type: multipart/form-data; boundary="%s"\r\n\r\n' % boundary
    try:
        message = email.message_from_string(head + text, policy=policy)
        parts = list(message.walk())
    except Exception:  # The library itself fails on some heads.
        return
    for part in parts:
        try:
            name = part.get_param("name", header="content-disposition")
            if isinstance(name, tuple):
                name = name[2]
            content = part.get_payload(decode=True)
        except Exception:
            continue
        if part.is_multipart() or content is None:
            continue
        content = content.decode("utf-8", "replace")
        if name is not None and is_name(str(name)):
            found(str(name), content)
        if name is not None:
            inside(content, found, 0)


for line in sys.stdin:
    case = json.loads(line)
    number, text = case["number"], case["text"]

    def found_by(reader):
        return lambda name, value: print(json.dumps([number, reader, name, value]))

    read_json(text, found_by("json"))
    # In what is no form a field may be found, but not a document in a field.
    read_form(text, found_by("urllib.parse"), 2 if text.lstrip().startswith(("{", "[", '"', "-")) else 0)
    for boundary in BOUNDARIES:
        if "--" + boundary in text:
            read_multipart(text, boundary, email.policy.compat32, found_by("email"))
            read_multipart(text, boundary, email.policy.HTTP, found_by("email.policy.HTTP"))
