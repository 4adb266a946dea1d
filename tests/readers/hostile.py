"""Hostile bodies with a canary under the name `password`: `hostile.py SEED COUNT` prints one JSON object a line.

Each body is made in the syntax that it names (JSON, form, multipart) with one or two of the tricks by which readers
differ, and some are damaged at random. The boundaries are those with which a receiver may read it.
"""

import json
import random
import sys
from urllib.parse import quote, quote_plus

CANARY = "CANARY7f3a"
NAME = "password"


def case(draw, text):
    return "".join(draw.choice((letter, letter, letter.upper())) for letter in text)


def percent(draw, text, share=0.2):
    return "".join("%%%02X" % ord(c) if draw.random() < share else c for c in text)


def json_name(draw):
    name = case(draw, NAME)
    if draw.random() < 0.3:
        at = draw.randrange(len(name))
        name = name[:at] + "\\u%04x" % ord(name[at]) + name[at + 1 :]
    return name


def json_value(draw, depth=0):
    kind = draw.randrange(9 if depth < 3 else 5)
    if kind == 0:
        return draw.choice(("1", "-2.5e3", "true", "null", '""', "NaN"))
    if kind <= 2:
        return json.dumps(draw.choice(STRINGS))
    if kind <= 4:
        return '"%s"' % draw.choice(("a", "\\u0041\\n", "\\\"", "é", "x=y"))
    if kind == 5:
        return "[" + ",".join(json_value(draw, depth + 1) for _ in range(draw.randrange(3))) + "]"
    members = ['"%s":%s' % (draw.choice("abc"), json_value(draw, depth + 1)) for _ in range(draw.randrange(3))]
    secret = '"%s":%s' % (json_name(draw), draw.choice(('"%s"', '{"x":"%s"}', '["%s"]')) % CANARY)
    members.insert(draw.randrange(len(members) + 1), secret)
    blank = draw.choice(("", " ", "\n", "\r\n\t"))
    return "{" + ("," + blank).join(members) + blank + "}"


STRINGS = (
    "x&password=" + CANARY,
    "http://h/?a=1&password=" + CANARY,
    "a=1;password=" + CANARY,
    "\r\n--B\r\nContent-Disposition: form-data; name=password\r\n\r\n" + CANARY + "\r\n--B--\r\n",
    "plain text",
)


def json_body(draw):
    documents = [json_value(draw) for _ in range(draw.choice((1, 1, 1, 2, 3)))]
    before = draw.choice(("",) * 8 + ("\ufeff", "\x1e", "\n", ")]}'\n", "1\n", '"a"\n', "\u00a0"))
    body = before + draw.choice(("\n", "", " ")).join(documents)
    if draw.random() < 0.1:
        # Line breaks that stand in a string as they are.
        body = body.replace("\\r", "\r").replace("\\n", "\n")
    return body


def field_name(draw):
    name = draw.choice(("%s",) * 5 + ("user[%s]", "user[%s][]", "a.%s", "%s[]", "a[b][%s]", "+%s", "%%20%s", "%s%%00", "?%s"))
    return name.replace("%%", "%") % percent(draw, case(draw, NAME)) if "%%" not in name else name % percent(draw, case(draw, NAME))


def form_value(draw, depth=0):
    kind = draw.randrange(8)
    if kind <= 2:
        return CANARY
    if kind == 3 and depth < 2:
        return quote_plus(form_body(draw, depth + 1))
    if kind == 4:
        return quote(json_body(draw))
    return draw.choice(("1", "", "x%20y", "a+b", "AA==", "%C3%A9", "%7Bx%7D"))


def form_body(draw, depth=0):
    pairs = []
    for _ in range(draw.randrange(1, 5)):
        is_secret = draw.random() < 0.4
        name = field_name(draw) if is_secret else draw.choice(("a", "b[c]", "d.e", "data", "x;y"))
        value = CANARY if is_secret else form_value(draw, depth).replace(CANARY, "x")
        if not is_secret and draw.random() < 0.5:
            nested = draw.choice(("x&%s=%s", "%s=%s", '{"%s":"%s"}', "\ufeff{\"%s\":\"%s\"}", '1\n{"%s":"%s"}'))
            value = quote(nested % (NAME, CANARY))
        pairs.append(name + "=" + value)
    body = pairs[0]
    for pair in pairs[1:]:
        body += draw.choice(("&", "&", "&", ";", "&&", "&amp;")) + pair
    return draw.choice(("",) * 6 + ("?", "\ufeff")) + body + draw.choice(("", "", "\r\n"))


HEADS = (
    'name="%s"',
    "name=%s",
    'name = "%s"',
    'name= "%s"',
    'NAME="%s"',
    "name='%s'",
    'filename="x"; name="%s"',
    'filename="a\\"; name=x; y="; name="%s"',
    'filename="a; name=x"; name="%s"',
    'name="x"; filename="a; name=%s"',
    'name="x"; name="%s"',
    "name*=utf-8''%s",
    "name*0=%s",
    'name="=?utf-8?q?%s?="',
    'name=(c)"%s"',
    '(c) name="%s"',
    'name="%s" ; filename=y',
    'name="%s";',
    'name="a";\r\n name="%s"',
)


def part(draw, end):
    lines = []
    secret = draw.random() < 0.5
    name = case(draw, NAME) if secret else draw.choice(("a", "b[c]", "data"))
    disposition = "Content-Disposition: form-data; "
    head = draw.choice(HEADS) if draw.random() < 0.5 else HEADS[0]
    lines.append(draw.choice((disposition, disposition, disposition.lower(), "Content-Disposition:form-data;")) + head % name)
    if draw.random() < 0.3:
        lines.insert(
            draw.randrange(2),
            draw.choice(
                (
                    "Content-Type: text/plain; charset=utf-8",
                    "Content-Type: multipart/mixed; boundary=Q",
                    "Content-Type: application/x-www-form-urlencoded",
                    "Content-Type: message/rfc822",
                    "Content-Transfer-Encoding: base64",
                    "Content-Transfer-Encoding: 8bit",
                    "X: y\rContent-Disposition: form-data; name=password",
                    "X: &password=" + CANARY,
                    "Content-Disposition : form-data; name=password",
                )
            ),
        )
    if secret:
        content = CANARY
    else:
        content = draw.choice(
            (
                "1",
                CANARY,
                form_body(draw),
                json_body(draw),
                "a\r\n\r\nb",
                "-- \r\n--\r\nx",
                "--Q{0}Content-Disposition: form-data; name=password{0}{0}%s{0}--Q--".format(end) % CANARY,
                "1\n--B\nContent-Disposition: form-data; name=password\n\n%s\n" % CANARY,
                "1\r--B\rContent-Disposition: form-data; name=password\r\r%s" % CANARY,
                "x--B{0}Content-Disposition: form-data; name=password{0}{0}%s".format(end) % CANARY,
            )
        )
    return end.join(lines) + end + end + content


def multipart_body(draw):
    end = draw.choice(("\r\n",) * 6 + ("\n", "\r"))
    body = draw.choice(("",) * 8 + ("preamble" + end, end, "--Q" + end, "--P" + end + "x" + end))
    for _ in range(draw.randrange(1, 4)):
        this_end = end if draw.random() < 0.9 else draw.choice(("\r\n", "\n", "\r"))
        body += "--B" + draw.choice(("",) * 8 + (" ", "\t", "x")) + this_end + part(draw, this_end) + end
    return body + draw.choice(("--B--" + end,) * 6 + ("--B--", "--B", "", "--B--" + end + part(draw, end)))


def damaged(draw, body):
    pieces = ("", '"', "\\", "&", ";", "=", "\r", "\n", "\0", "%", "--B", "{", "}", "[", ",", ":", " ", "\ufeff", "%00", "\t")
    for _ in range(draw.choice((0, 0, 0, 1, 2))):
        at = draw.randrange(len(body) + 1)
        body = body[:at] + draw.choice(pieces) + body[at + draw.randrange(3) :]
    return body


def main():
    seed, count = int(sys.argv[1]), int(sys.argv[2])
    draw = random.Random(seed)
    for number in range(count):
        kind, make = draw.choice((("json", json_body), ("form", form_body), ("multipart", multipart_body)))
        body = damaged(draw, make(draw))
        print(json.dumps({"number": number, "kind": kind, "text": body}))


main()
