//! `docs/limits.md` against the constants: every bound of the engine, of the program around it and of the store is in the table,
//! with its value, and every row has a time, which was measured or computed.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context as _, Result, bail, ensure};
use syn::{BinOp, Expr, Item, ItemConst, Lit, Visibility};
use tests::program::repository;

/// Bounds by name: a number, or milliseconds.
type Bounds = BTreeMap<String, u64>;

/// The section of the document, and where its constants are.
const SECTIONS: [(&str, &str); 3] = [
    ("## The store", "store/src/limits.rs"),
    ("## The engine", "engine/core/src/limits.rs"),
    (
        "## The program around the engine",
        "engine/base/src/limits.rs",
    ),
];

/// The public constants of a file, in any order; it may use those of `others`.
fn constants(file: &str, others: &Bounds) -> Result<Bounds> {
    let text = fs::read_to_string(repository().join(file))?;
    let mut known = others.clone();
    let mut found = Bounds::new();
    let items = syn::parse_file(&text)?.items;
    let mut left: Vec<_> = items
        .iter()
        .filter_map(|item| match item {
            Item::Const(item) if is_bound(item) => Some(item),
            _ => None,
        })
        .collect();
    while !left.is_empty() {
        let before = left.len();
        let mut last = None;
        left.retain(|item| match value(&item.expr, &known) {
            Ok(value) => {
                known.insert(item.ident.to_string(), value);
                found.insert(item.ident.to_string(), value);
                false
            }
            Err(error) => {
                last = Some(error.context(format!("{file}: {}", item.ident)));
                true
            }
        });
        if left.len() == before {
            return Err(last.context("what is left has an error")?);
        }
    }
    Ok(found)
}

/// A public constant that is a number or a time; one of several bounds together has them in it.
fn is_bound(item: &ItemConst) -> bool {
    matches!(item.vis, Visibility::Public(_)) && !matches!(*item.expr, Expr::Struct(_))
}

fn value(expression: &Expr, known: &Bounds) -> Result<u64> {
    Ok(match expression {
        Expr::Lit(literal) => match &literal.lit {
            Lit::Int(number) => number.base10_parse()?,
            _ => bail!("a literal of another kind"),
        },
        Expr::Paren(inner) => value(&inner.expr, known)?,
        Expr::Cast(cast) => value(&cast.expr, known)?,
        Expr::Path(path) => {
            let name = path.path.segments.last().context("an empty path")?;
            let name = name.ident.to_string();
            *known
                .get(&name)
                .with_context(|| format!("{name} is not known"))?
        }
        Expr::Binary(binary) => {
            let (left, right) = (value(&binary.left, known)?, value(&binary.right, known)?);
            match binary.op {
                BinOp::Add(_) => left + right,
                BinOp::Sub(_) => left - right,
                BinOp::Mul(_) => left * right,
                BinOp::Div(_) => left / right,
                BinOp::Shl(_) => left << right,
                _ => bail!("an operator that is not read"),
            }
        }
        Expr::Call(call) => {
            let Expr::Path(function) = &*call.func else {
                bail!("a call of no name");
            };
            let argument = value(call.args.first().context("no argument")?, known)?;
            let name = function.path.segments.last().context("an empty path")?;
            match name.ident.to_string().as_str() {
                "from_secs" => argument * 1000,
                "from_millis" => argument,
                other => bail!("{other} is not read"),
            }
        }
        _ => bail!("an expression that is not read"),
    })
}

/// The number at the start of a text, with its unit: `16 MiB`, `65 536`, `100 ms`.
fn number(text: &str) -> Option<u64> {
    let text = text.strip_prefix(' ')?;
    let end = text.find(|c: char| !c.is_ascii_digit() && c != ' ')?;
    let digits: String = text[..end].split(' ').collect();
    let unit: String = text[end..]
        .chars()
        .take_while(|c| c.is_alphabetic())
        .collect();
    let unit = match unit.as_str() {
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "s" => 1000,
        "min" => 60_000,
        _ => 1,
    };
    digits.parse::<u64>().ok().map(|number| number * unit)
}

/// What a section says of a name: each value that follows it.
fn said(section: &str, name: &str) -> Vec<u64> {
    let quoted = format!("`{name}`");
    let places = section.match_indices(&quoted);
    let values = places.filter_map(|(at, _)| {
        let mut rest = &section[at + quoted.len()..];
        // Several names with one value: "`A`, `B` 64 MiB each".
        while let Some((_, later)) = rest
            .strip_prefix(", `")
            .and_then(|rest| rest.split_once('`'))
        {
            rest = later;
        }
        number(rest)
    });
    values.collect()
}

#[test]
fn every_bound_is_in_the_table_with_its_value() -> Result<()> {
    let text = fs::read_to_string(repository().join("docs/limits.md"))?;
    let engine = constants(SECTIONS[1].1, &Bounds::new())?;
    let mut wrong = Vec::new();
    for (heading, file) in SECTIONS {
        let start = text
            .find(&format!("\n{heading}\n"))
            .with_context(|| heading.to_owned())?;
        let section = &text[start + 1..];
        let end = section[3..]
            .find("\n## ")
            .map_or(section.len(), |at| at + 3);
        let section = &section[..end];
        let bounds = constants(file, &engine)?;
        ensure!(bounds.len() > 20, "{file} was not read");
        for (name, value) in bounds {
            let said = said(section, &name);
            if said.is_empty() || said.iter().any(|said| *said != value) {
                wrong.push(format!(
                    "{file}: {name} is {value}, and {heading:?} has {said:?}"
                ));
            }
        }
    }
    ensure!(wrong.is_empty(), "docs/limits.md:\n{}", wrong.join("\n"));
    Ok(())
}

/// How a time was found: by measuring, or by computing it from the times of units. A limit that is a time has no other, and some bound
/// no work.
const TIME_SOURCES: [&str; 6] = [
    "(m",
    "(c)",
    "(a time)",
    "(times)",
    "(a rate)",
    "none of its own",
];

#[test]
fn every_limit_has_a_time() -> Result<()> {
    let text = fs::read_to_string(repository().join("docs/limits.md"))?;
    let (mut wrong, mut limits, mut is_table) = (Vec::new(), 0, false);
    for line in text.lines() {
        let Some(row) = line.strip_prefix('|') else {
            is_table = false;
            continue;
        };
        let row = row.strip_suffix('|').unwrap_or(row).replace("\\|", "");
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        if cells[0] == "limit" {
            is_table = true;
            ensure!(
                cells.len() == 5 && cells[3] == "time at the limit",
                "{line}"
            );
        } else if is_table && cells[0] != "---" {
            limits += 1;
            let has_source = |time: &&str| TIME_SOURCES.iter().any(|source| time.contains(source));
            if cells.len() != 5 || !cells.get(3).is_some_and(has_source) {
                wrong.push(line);
            }
        }
    }
    ensure!(limits > 150, "{limits} limits were read");
    ensure!(wrong.is_empty(), "without a time:\n{}", wrong.join("\n"));
    Ok(())
}

#[test]
fn numbers_are_read_as_people_write_them() {
    for (text, expected) in [
        (" 16 MiB of it", Some(16 << 20)),
        (" 65 536 |", Some(65_536)),
        (" 1 000 000, the default", Some(1_000_000)),
        (" 64 KiB/s after", Some(64 << 10)),
        (" 100 ms |", Some(100)),
        (" 2 s |", Some(2000)),
        (", once more", None),
    ] {
        assert_eq!(number(text), expected, "{text:?}");
    }
}
