//! Bodies that readers read in different ways: what one of them finds under a masked name does not leave.

use super::{check, masked, parsed};

const MASK: &str = "/request_body:$..password/ remove";

/// The mask removes the secret, whatever else becomes of the body.
#[track_caller]
fn hidden(rules: &str, body: &str) {
    let left = masked(&parsed(rules), body).unwrap_or_default();
    assert!(!left.contains("SECRET"), "{body:?} -> {left:?}");
}

/// A multipart body with one part with this head and this content.
fn part(head: &str, content: &str) -> String {
    format!("--B\r\n{head}\r\n\r\n{content}\r\n--B--\r\n")
}

#[test]
fn fields_as_other_readers_split_and_name_them() {
    for body in [
        "a=1;password=SECRET",
        "a=1&b;password=SECRET;c",
        "a;password;x=1&password=SECRET;y",
        "a=1&amp;password=SECRET",
        "a=1&+password=SECRET",
        "a=1&%20password=SECRET",
        "?password=SECRET",
        "password%00=SECRET",
        "password%00x=SECRET",
        "%EF%BB%BFpassword=SECRET",
        "\u{feff}password=SECRET",
        "password%A0=SECRET",
        "user[+password+]=SECRET",
        "user[password=SECRET",
        "a[b][;password]=SECRET",
        "%22password%22=SECRET",
        "data=x%26password%3DSECRET",
        "data=password%3DSECRET",
        "data=a%3D1%2526password%253DSECRET",
        "next=http%3A%2F%2Fh%2F%3Fpassword%3DSECRET",
        "data=%EF%BB%BF%7B%22password%22%3A%22SECRET%22%7D",
        "data=1%0A%7B%22password%22%3A%22SECRET%22%7D",
        "data=x(%7B%22password%22%3A%22SECRET%22%7D)",
        "data=--Q%0AContent-Disposition:form-data;name=password%0A%0ASECRET%0A--Q--",
    ] {
        hidden(MASK, body);
    }
    hidden("/request_body:$..pass_word/ remove", "pass.word=SECRET");
    hidden("/request_body:$..pass_word/ remove", "pass+word=SECRET");
    hidden("/request_body:$..pass_word/ remove", "pass[word=SECRET");
    hidden("/request_body:$.password/ remove", "a=1;password=SECRET");
    hidden("/request_body:$.data[1]/ remove", "data=1%0A[1,\"SECRET\"]");
    // What no reader takes for a masked field stays.
    for body in [
        "a=1;b=2&c=x%3Dy%26z",
        "text=Hello+%5Bname%5D,+password+reset",
        "image=AAAA%3D%3D",
    ] {
        check(MASK, body, Some(body));
        check("/request_body:$.*.w/ remove", body, Some(body));
    }
}

#[test]
fn parts_as_other_readers_delimit_and_name_them() {
    let named = |name: &str| format!("Content-Disposition: form-data; {name}");
    for head in [
        "name = \"password\"",
        "name= \"password\"",
        "name =password",
        "name=\"pass\\word\"",
        "name=\"pass%77ord\"",
        "name='password'",
        "name=\" password\"",
        "name=\"password\u{0}\"",
        "name*0=pass; name*1=word",
        "name=\"=?utf-8?q?pass?=word\"",
        "name=(x)password",
        "(x) name=\"password\"",
        "name=\"a\"; filename=\"x; name=password\"",
        "filename=\"a\\\"; name=password; x=\"; name=\"a\"",
        "name=\"a;name=password\"",
        "name=\"a\";\r\n name=\"password\"",
        "name=\"a\"\rContent-Disposition: form-data; name=\"password\"",
        "name=\"a\"\nContent-Disposition: form-data; name=\"password\"",
        "name=\"a\"\r\nContent-Disposition : form-data; name=\"password\"",
        "name=\"a\"\r\nContent-Type: multipart/mixed; boundary=C",
        "name=\"a\"\r\nContent-Type: message/rfc822",
        "name=\"a\"\r\nContent-Type: application/json; charset=utf-16",
        "name=\"a\"\r\nContent-Transfer-Encoding: quoted-printable",
    ] {
        hidden(MASK, &part(&named(head), "SECRET"));
    }
    for content in [
        "{\"password\":\"SECRET\"}",
        "\u{feff}{\"password\":\"SECRET\"}",
        "1\n{\"password\":\"SECRET\"}",
        "\u{1e}{\"password\":\"SECRET\"}",
        "a=1&password=SECRET",
        "password=SECRET",
        "a=1\r\npassword=SECRET",
        "--Q\r\nContent-Disposition: form-data; name=\"password\"\r\n\r\nSECRET\r\n--Q--",
        "--Q\ncontent-disposition: form-data; name=\"password\"\n\nSECRET\n--Q--",
        "1\n--B\nContent-Disposition: form-data; name=\"password\"\n\nSECRET\n--B--\n",
        "1\r--B\rContent-Disposition: form-data; name=\"password\"\r\rSECRET",
        "1\n--Bx\nContent-Disposition: form-data; name=\"password\"\n\nSECRET",
    ] {
        hidden(MASK, &part(&named("name=\"a\""), content));
        hidden(
            "/request_body:$.password/ remove\n/request_body:$.a.password/ remove",
            &part(&named("name=\"a\""), content),
        );
    }
    let body = part(
        &format!(
            "{}\r\nContent-Type: text/plain; charset=UTF-8",
            named("name=\"a\"; filename=\"C:\\x;y.txt\"")
        ),
        "-- \r\nHello {name},\r\n---\r\na=b",
    );
    check(MASK, &body, Some(&body));
}

#[test]
fn json_as_other_readers_read_it() {
    for body in [
        r#"{"password\u0000":"SECRET"}"#,
        r#"{" password\n":"SECRET"}"#,
        r#"{"pass\ud800word":"SECRET"}"#,
        r#"{"m":"{\"password\":\"SECRET\"}"}"#,
        r#"{"m":" [{\"pass\\u0077ord\":\"SECRET\"}]"}"#,
        r#"{"m":"{\"x\":\"{\\\"password\\\":\\\"SECRET\\\"}\"}"}"#,
        r#"{"m":"\ufeff{\"password\":\"SECRET\"}"}"#,
        r#"{"m":"{password:'SECRET'}"}"#,
        "{\"a\":\"\r\n--B\r\nContent-Disposition: form-data; name=password\r\n\r\nSECRET\r\n--B--\"}",
        "\"\r\n--B\r\nContent-Disposition: form-data; name=password\r\n\r\nSECRET\r\n--B--\"",
        "[\n--B\n,1]",
        r#"{"a":"x&password=SECRET"}"#,
        r#"{"a":"x;password=SECRET"}"#,
        r#"{"a":"http://h/?password=SECRET"}"#,
        r#"{"x&password=SECRET":1}"#,
        r#"{"x":1,"a":["http://h/?b=1&%70assword=SECRET"]}"#,
        r#"{"a":x&password=SECRET,"b":1}"#,
        r#""x&password=SECRET""#,
        r#""password=SECRET""#,
        "data=%7B%22a%22%3A%22x%26password%3DSECRET%22%7D",
    ] {
        hidden(MASK, body);
    }
    check(
        MASK,
        r#"{"a":"http://h/?b=1&password=4","b":"/?page=2&c=3","c":"x=="}"#,
        Some(r#"{"b":"/?page=2&c=3","c":"x=="}"#),
    );
    check(
        MASK,
        r#"{"m":"{\"a\":1}","n":"{name} is [here]"}"#,
        Some(r#"{"m":"{\"a\":1}","n":"{name} is [here]"}"#),
    );
    check(
        "/request_body:$..*/ replace /4/, /5/",
        r#"{"a":"/?b=4&c=4","d":"[4]"}"#,
        Some(r#"{"a":"/?b=5&c=5","d":"[5]"}"#),
    );
    check("/request_body:$..*/ replace /4/, /5/", "a=b%3D4&c={4", None);
    check(
        "/request_body:$..*/ replace /4/, /5/",
        "a=b%3D4&c=x%7B4:",
        Some("a=b%3D5&c=x%7B5%3A"),
    );
}
